#!/usr/bin/env bash
# Publishes the template, for `devcontainer templates apply` and the lists of editors:
#
#   test/template/publish.sh push REGISTRY OWNER/REPOSITORY [COMMIT]    under no tag; the last line is its reference
#   test/template/publish.sh tag REGISTRY OWNER/REPOSITORY REFERENCE    at last X.Y.Z; before it X.Y, X and latest, unless
#                                                                       they name a higher version
#
# Log in with `docker login` before. It needs jq, curl and GNU tar. What travels is what `git archive` gives of the
# commit, by default HEAD: .gitattributes is the one list of what does not. The version is that in its package.json.
#
# It does what `devcontainer templates publish` does (containers.dev/implementors/templates-distribution), but by calls
# of the registry alone, because it runs beside a token that can write, where no package of npm may. And it leaves the
# package OWNER/REPOSITORY alone, whose `latest` is the image of the app.
set -euo pipefail
cd "$(dirname "$0")/../.."

die() { printf 'publish: %s\n' "$*" >&2; exit 1; }
[ $# -ge 3 ] || die 'usage: test/template/publish.sh push REGISTRY OWNER/REPOSITORY [COMMIT], or tag … REFERENCE'
step=$1 registry=$2
collection=$(tr '[:upper:]' '[:lower:]' <<<"$3")/templates

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
case $registry in localhost:* | 127.*) server=http://$registry ;; *) server=https://$registry ;; esac
manifest_type=application/vnd.oci.image.manifest.v1+json

# One call of the registry. What it must not show to `ps` is in a file.
ask() { curl --fail-with-body --silent --show-error --config "$work/curl" "$@" || die "$registry refused: ${*: -1}"; }

# For what follows, in one of its repositories. A registry says itself whom it believes: the user, or a token that
# another server gives him (distribution.github.io/distribution/spec/auth/token).
authorize() { # REPOSITORY
  local challenge basic realm service
  repository=$1 api=$server/v2/$1
  (umask 077; : >"$work/curl")
  challenge=$(curl --silent --show-error --output "$work/said" --dump-header - "$server/v2/" | tr -d '\r' | sed -n 's/^www-authenticate: //Ip')
  [ -n "$challenge" ] || return 0
  basic=$(jq --raw-output --arg registry "$registry" '.auths[$registry].auth // empty' "${DOCKER_CONFIG:-$HOME/.docker}/config.json")
  [ -n "$basic" ] || die "log in first: docker login $registry (what a credential helper keeps is not read)"
  printf 'header = "Authorization: Basic %s"\n' "$basic" >"$work/curl"
  case $challenge in [Bb]earer\ *) ;; *) return 0 ;; esac
  realm=$(sed -E 's/.*realm="([^"]*)".*/\1/' <<<"$challenge")
  service=$(sed -E 's/.*service="([^"]*)".*/\1/' <<<"$challenge")
  ask --get --data-urlencode "service=$service" --data-urlencode "scope=repository:$repository:pull,push" "$realm" |
    jq --raw-output '"header = \"Authorization: Bearer \(.token // .access_token)\""' >"$work/token"
  mv "$work/token" "$work/curl"
}

digest() { echo "sha256:$(sha256sum "$1" | cut -d ' ' -f 1)"; }

blob() { # FILE
  local place
  place=$(ask --request POST --output "$work/said" --dump-header - "$api/blobs/uploads/" | tr -d '\r' | sed -n 's/^location: //Ip')
  case $place in /*) place=$server$place ;; esac
  case $place in *\?*) place+='&' ;; *) place+='?' ;; esac
  ask --request PUT --header 'Content-Type: application/octet-stream' --data-binary "@$1" "${place}digest=$(digest "$1")"
}

manifest() { # FILE TAG-OR-DIGEST
  ask --request PUT --header "Content-Type: $manifest_type" --data-binary "@$1" "$api/manifests/$2"
}

# FILE LAYER TYPE TITLE [METADATA]: pushes the layer, and writes the manifest that names it
artifact() {
  printf '{}' >"$work/config"
  blob "$work/config"
  blob "$2"
  jq --null-input --compact-output --arg manifest $manifest_type --arg config "$(digest "$work/config")" \
    --arg type "application/vnd.devcontainers.$3" --arg digest "$(digest "$2")" --argjson size "$(stat --format %s "$2")" \
    --arg title "$4" --arg metadata "${5:-}" '{
      schemaVersion: 2, mediaType: $manifest,
      config: { mediaType: "application/vnd.devcontainers", digest: $config, size: 2 },
      layers: [{ mediaType: $type, digest: $digest, size: $size, annotations: { "org.opencontainers.image.title": $title } }]
    } + if $metadata == "" then {} else { annotations: { "dev.containers.metadata": $metadata } } end' >"$1"
}

push() { # [COMMIT]
  local payload=$work/payload binary version metadata id
  mkdir "$payload"
  git archive "${1:-HEAD}" | tar --extract --directory "$payload"

  # `apply` leaves the root's README out, because every project has one of its own. So it travels as a page of docs.
  # `apply` also rewrites each file as text. So the README's picture stays behind, and no other binary file may travel.
  sed -e '/](docs\/picture.png)/d' -e 's#](\([.[:alpha:]]\)#](../\1#g' -e 's#](../docs/#](#g' "$payload/README.md" >"$payload/docs/README.md"
  rm "$payload/README.md" "$payload/docs/picture.png"
  binary=$(find "$payload" -type f ! -empty ! -exec grep --quiet --binary-files=without-match '' {} \; -print)
  [ -z "$binary" ] || die "a binary file would be broken:"$'\n'"$binary"

  version=v$(jq --raw-output .template.version "$payload/package.json")
  case ${GITHUB_REF:-} in
    refs/tags/"$version") ;;
    refs/tags/*) die "package.json says that this is $version, and the tag says $GITHUB_REF" ;;
  esac
  jq '{
    id: .name, name: "Koa service", description, version: .template.version, platforms: ["Any"],
    optionalPaths: ["deploy/kubernetes/*", "test/faults/*"]
  } + (.template | if .repository == "" then {} else {
    documentationURL: .repository, licenseURL: "\(.repository)/blob/v\(.version)/LICENSE"
  } end)' "$payload/package.json" >"$payload/devcontainer-template.json"
  metadata=$(cd "$payload" && find . -type f -printf '%P\n' | sort |
    jq --raw-input --null-input --compact-output --slurpfile template devcontainer-template.json \
      '[inputs] | $template[0] + { type: "dockerCompose", files: ., fileCount: length, featureIds: [] }')
  id=$(jq --raw-output .id <<<"$metadata")

  # The same bytes for the same commit, wherever it is packed.
  tar --create --file "$work/layer" --directory "$payload" --sort name --owner 0 --group 0 --numeric-owner \
    --mtime "@$(git log -1 --format=%ct "${1:-HEAD}")" --mode u+rwX,go+rX,go-w .
  authorize "$collection/$id"
  artifact "$work/manifest" "$work/layer" layer.v1+tar "devcontainer-template-$id.tgz" "$metadata"
  manifest "$work/manifest" "$(digest "$work/manifest")"
  echo "$registry/$repository@$(digest "$work/manifest")"
}

fetch() { # TAG: the manifest that it names, to $work/there; false where it names none
  local code
  code=$(curl --silent --show-error --config "$work/curl" --header "Accept: $manifest_type" --output "$work/there" \
    --write-out '%{http_code}' "$api/manifests/$1")
  case $code in 200) ;; 404) return 1 ;; *) die "$registry answers $code to the question whether there is a version $1" ;; esac
}

metadata() { jq --raw-output '.annotations["dev.containers.metadata"]' "$1"; } # FILE

is_highest() { # VERSION TAG: the tag names no higher one
  ! fetch "$2" || { metadata "$work/there" | jq --raw-output .version; echo "$1"; } | sort --version-sort --check=silent
}

tag() { # REFERENCE
  local reference=${1#"$registry/"} version tag tags
  authorize "${reference%@*}"
  ask --header "Accept: $manifest_type" --output "$work/manifest" "$api/manifests/${reference#*@}"
  [ "$(digest "$work/manifest")" = "${reference#*@}" ] || die "$registry gave something else for $1"
  version=$(metadata "$work/manifest" | jq --raw-output .version)
  if fetch "$version"; then
    cmp --silent "$work/manifest" "$work/there" || die "$version is published already, with other files: a version is not moved"
    echo "publish: $version is published already"
    return
  fi
  tags=("$version")
  for tag in "${version%.*}" "${version%%.*}" latest; do
    ! is_highest "$version" "$tag" || tags=("$tag" "${tags[@]}")
  done

  if [ "${tags[0]}" = latest ]; then # what lists of templates read
    authorize "$collection"
    metadata "$work/manifest" |
      jq '{ sourceInformation: { source: "publish.sh" }, templates: [.] }' >"$work/collection"
    artifact "$work/list" "$work/collection" collection.layer.v1+json devcontainer-collection.json
    manifest "$work/list" latest
    authorize "${reference%@*}"
  fi

  # The version comes last: while it is not there, all is done again.
  for tag in "${tags[@]}"; do
    manifest "$work/manifest" "$tag"
    echo "publish: $registry/$repository:$tag"
  done
}

case $step in
  push | tag) "$step" "${@:4}" ;;
  *) die "no such step: $step" ;;
esac
