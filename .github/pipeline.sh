#!/usr/bin/env bash
# The steps of workflows/pipeline.yml that are more than one command. Each can be typed: npm run pipeline -- STEP
set -euo pipefail
cd "$(dirname "$0")/.."

# What the runner sets. At a prompt: the nearest equivalent.
REGISTRY=${REGISTRY:-ghcr.io}
REPOSITORY=${GITHUB_REPOSITORY:-local/$(basename "$PWD")}
COMMIT=${GITHUB_SHA:-$(git rev-parse HEAD)}
ARCH=${ARCH:-$(docker version --format '{{.Server.Arch}}')}
ARCHES=${ARCHES:-amd64 arm64}
export COMPOSE_PROJECT_NAME=${COMPOSE_PROJECT_NAME:-pipeline}

die() { printf 'pipeline: %s\n' "$*" >&2; exit 1; }
summary() { printf '%s\n' "$*" | tee -a "${GITHUB_STEP_SUMMARY:-/dev/null}"; }
output() { printf '%s\n' "$*" | tee -a "${GITHUB_OUTPUT:-/dev/null}"; }

case $REGISTRY in
  docker.io | *.docker.io | *.docker.com)
    die "Docker Hub takes names of two parts, and these have more: OWNER/REPOSITORY/nginx. Set REGISTRY to another registry" ;;
esac
# The repository's name in lower case, because registries accept no capitals.
app=$(tr '[:upper:]' '[:lower:]' <<<"$REGISTRY/$REPOSITORY")
images='app nginx redis'
# The staging package: what is built lies here, by digest, until it is tested.
export CANDIDATES=$app/candidate

name() { # IMAGE: what its tested builds are called
  case $1 in app) echo "$app" ;; *) echo "$app/$1" ;; esac
}
image_of() { # IMAGE OBJECT: its reference
  jq --exit-status --raw-output ".$1" <<<"$2" || die "no $1 in $2"
}
with_image() { # IMAGE REFERENCE OBJECT
  jq --compact-output --arg image "$1" --arg reference "$2" '.[$image] = $reference' <<<"$3"
}

# Prints nothing if there is no such image. Any other failure ends the step: a registry that does not answer must not look
# like one that is empty.
inspect() { # FORMAT REFERENCE
  local error
  { error=$(docker buildx imagetools inspect --format "$1" "$2" 2>&1 >&3); } 3>&1 && return
  case $error in
    *': not found' | *'manifest unknown'* | *'name unknown'*) ;;
    *) die "$2: $error" ;;
  esac
}
digest_of() { inspect '{{json .Manifest}}' "$1" | jq --raw-output .digest; }
commit_of() { # the commit that an image was built from. Several architectures: an image each, of the same commit
  inspect '{{json .Image}}' "$1" |
    jq --raw-output '[.. | objects | select(has("config")) | .config.Labels["org.opencontainers.image.revision"] // empty] | first // "unknown"'
}

chown_workspace() { # The dev container's user gets the uid of the person who opens it, unless that is root.
  [ "$(id -u)" != 0 ] || chown -R 1000:1000 .
}

login() {
  case $REGISTRY in
    ghcr.io) docker login ghcr.io --username "${GITHUB_ACTOR:?}" --password-stdin <<<"${GITHUB_TOKEN:?}" ;;
    # GitHub's token is sent to GitHub alone. Another registry has a token of its own, or needs none.
    *) [ -z "${REGISTRY_TOKEN:-}" ] ||
      docker login "$REGISTRY" --username "${REGISTRY_USER:-}" --password-stdin <<<"$REGISTRY_TOKEN" ;;
  esac
}

logout() { # so that no package of npm finds the token. Under act the login is that of the person who types it
  [ -n "${ACT:-}" ] || docker logout "$REGISTRY"
}

push() { # docker-compose.yml says what is built, docker-bake.hcl how it is labelled and called
  local metadata
  [ "$ARCH" = "$(docker version --format '{{.Server.Arch}}')" ] || die "this engine does not build for $ARCH"
  metadata=$(mktemp)
  COMMIT=$COMMIT ARCH=$ARCH SOURCE=${GITHUB_SERVER_URL:-https://github.com}/$REPOSITORY \
    docker buildx bake --push --provenance false --metadata-file "$metadata"
  output "$ARCH=$(jq --compact-output 'map_values(env.CANDIDATES + "@" + .["containerimage.digest"])' "$metadata")"
  rm "$metadata"
}

test_pages() { # in the runner's Chromium; act's image has none
  if command -v google-chrome || command -v chromium; then npm test -- browser; else summary 'no Chromium here: the pages are not tested'; fi
}

test_images() { # of the running stack: what judges them, and nothing that builds its own. On a laptop the least
  local image id reference more=(stack redis)
  for image in $images; do
    id=$(docker compose ps --quiet "$image")
    reference=$(docker inspect --format '{{.Config.Image}}' "$id")
    id=$(docker inspect --format '{{.Image}}' "$id")
    case $reference in
      *@*) docker image inspect --format '{{join .RepoDigests "\n"}}' "$id" | grep --quiet --line-regexp --fixed-strings "$reference" ||
        die "$image runs $id, which is not $reference" ;;
    esac
    summary "- $(uname -m): tested \`$reference\`, $(docker image inspect --format '{{.Size}}' "$id" | awk '{ printf "%.0f MB", $1 / 1e6 }')"
    export "$(tr '[:lower:]' '[:upper:]' <<<"$image")_IMAGE=$reference"
  done
  [ -z "${ACT:-}" ] || more=()
  npm test -- containers images configuration "${more[@]}"
}

index() { # PUSHED: the outputs of `push`, by architecture. The builds of an image for all of them get one digest
  local image arch source sources content digest indexes='{}'
  for image in $images; do
    sources=()
    for arch in $ARCHES; do
      source=$(jq --exit-status --raw-output ".$arch | fromjson | .$image" <<<"${PUSHED:?}") || die "no $image for $arch"
      sources+=("$source")
    done
    # The digest is computed here: a tag that is read again may have been moved meanwhile.
    content=$(docker buildx imagetools create --dry-run "${sources[@]}")
    digest=sha256:$(printf %s "$content" | sha256sum | cut -d ' ' -f 1)
    docker buildx imagetools create --tag "$CANDIDATES:$image-$COMMIT" "${sources[@]}"
    docker buildx imagetools inspect "$CANDIDATES@$digest" >/dev/null
    indexes=$(with_image "$image" "$CANDIDATES@$digest" "$indexes")
  done
  output "images=$indexes"
}

subjects() { # IMAGES, IMAGE: the index and what it lists, as actions/attest reads it
  local reference
  reference=$(image_of "${IMAGE:?}" "${IMAGES:?}")
  { echo "${reference#*@}"; docker buildx imagetools inspect --raw "$reference" | jq --raw-output '.manifests[].digest'; } |
    sed "s|^sha256:\(.*\)|\1  $(name "$IMAGE")|"
}

sbom() { # ARCH, IMAGES, IMAGE: lists everything in the image of that architecture, in the folder sbom
  local reference digest
  reference=$(image_of "${IMAGE:?}" "${IMAGES:?}")
  digest=$(docker buildx imagetools inspect --raw "$reference" |
    jq --exit-status --raw-output --arg arch "$1" '.manifests[] | select(.platform.architecture == $arch) | .digest')
  IMAGE=${reference%@*}@$digest docker buildx bake --file docker-bake.hcl sbom
  output "name=$(name "$IMAGE")"
  output "digest=$digest"
}

# REFERENCE: this workflow of main has built it from this commit, on GitHub's own machines. A private repository has no
# signatures: there the commit's statuses have the digests that were tested. Only those who may push can write them.
verify() {
  case ${UNSIGNED:-false} in
    true) summary "- ⚠ not verified, since there are no signatures here: \`$1\`"; return ;;
    private)
      gh api --paginate "repos/$REPOSITORY/commits/$COMMIT/statuses" --jq '.[] | "\(.context)@\(.description)"' |
        grep --line-regexp --fixed-strings --quiet "$1" || die "$1 is not what the pipeline has tested for $COMMIT"
      return ;;
  esac
  gh attestation verify "oci://$1" --repo "$REPOSITORY" --signer-workflow "$REPOSITORY/.github/workflows/pipeline.yml" \
    --source-ref refs/heads/main --source-digest "$COMMIT" --deny-self-hosted-runners ||
    die "$1 has no signature of this pipeline for $COMMIT"
}

record() { # REFERENCES: what was tested, where `verify` reads it
  local reference
  for reference in $(jq --raw-output '.[]' <<<"$1"); do
    gh api --silent "repos/$REPOSITORY/statuses/$COMMIT" --field state=success \
      --field "context=${reference%@*}" --field "description=${reference#*@}"
  done
}

publish() { # IMAGES: what `index` has pushed. All are checked and verified before the first tag is set
  local image reference existing newest tag=sha-$COMMIT tags references='{}'
  for image in $images; do
    reference=$(image_of "$image" "${IMAGES:?}")
    [ "${UNSIGNED:-}" = private ] || verify "$reference"
    existing=$(digest_of "$(name "$image"):sha-$COMMIT")
    if [ -n "$existing" ] && [ "$existing" != "${reference#*@}" ]; then
      [ "${FIRST:-}" != true ] || die "$(name "$image"):sha-$COMMIT is there already, and this run has not built it"
      tag=sha-$COMMIT-${GITHUB_RUN_ID:-0}-${GITHUB_RUN_ATTEMPT:-1} # built again: the first one keeps its tag
    fi
    references=$(with_image "$image" "$(name "$image")@${reference#*@}" "$references")
  done
  tags="$tag edge"
  # `edge` never goes back: a run that was overtaken by that of a newer commit leaves it alone
  newest=$(commit_of "$app:edge")
  if [ "$newest" != "$COMMIT" ] && git merge-base --is-ancestor "$COMMIT" "${newest:-none}" 2>/dev/null; then
    summary "\`edge\` stays at the newer $newest"
    tags=$tag
  fi
  [ "${UNSIGNED:-}" != private ] || record "$references"
  tag_all "$tags" "$IMAGES"
  output "images=$references"
}

tag_all() { # TAGS IMAGES
  local tag image reference
  summary '| tag | digest |
| --- | --- |'
  for tag in $1; do
    for image in $images; do
      reference=$(image_of "$image" "$2")
      docker buildx imagetools create --tag "$(name "$image"):$tag" "$reference" # one call a tag
      summary "| \`$(name "$image"):$tag\` | \`${reference#*@}\` |"
    done
  done
}

version() { # of the tag that is released
  local version=${GITHUB_REF_NAME#v}
  [[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$ ]] || die "v$version is not vX.Y.Z"
  echo "$version"
}

wait_for_images() { # until the commit is published; its own pipeline may still be testing it
  local until=$((SECONDS + ${RELEASE_WAIT:-2700})) image found
  version
  for image in $images; do
    until found=$(digest_of "$(name "$image"):sha-$COMMIT") && [ -n "$found" ]; do
      [ $SECONDS -lt $until ] || die "no tested image $(name "$image"):sha-$COMMIT. Is the commit on main, and its pipeline green?"
      sleep 5
    done
  done
}

release() { # All are checked and verified before the first tag is set: a failure until then changes nothing
  local version image name released tested references='{}' tags
  version=$(version)
  for image in $images; do
    name=$(name "$image")
    released=$(commit_of "$name:$version")
    case $released in
      '') tested=$(digest_of "$name:sha-$COMMIT") ;;
      "$COMMIT") tested=$(digest_of "$name:$version") ;; # run again, it names the same digest
      *) die "$name:$version was released from $released: a version is not moved" ;;
    esac
    [ -n "$tested" ] || die "no tested image $name:sha-$COMMIT"
    verify "$name@$tested"
    references=$(with_image "$image" "$name@$tested" "$references")
  done
  tags=$(version_tags "$version")
  tag_all "$tags" "$references"
  output "images=$references"
}

version_tags() { # X.Y, X and latest name the highest version of theirs; a pre-release has its own tag alone
  local version=$1 minor=${1%.*} major=${1%%.*}
  echo "$version"
  case $version in *-*) return ;; esac
  if is_highest "$version" "$minor"; then echo "$minor"; fi
  if is_highest "$version" "$major"; then echo "$major"; fi
  if is_highest "$version" '[0-9]+'; then echo latest; fi
}

is_highest() { # VERSION LINE: no higher version of that line is released. A tag of Git alone is no release.
  local other found
  while read -r other; do
    [ "$other" != "$1" ] || return 0
    found=$(digest_of "$app:$other") || exit 1 # where errexit does not reach
    [ -z "$found" ] || return 1
  done < <({ git tag | sed -nE "s/^v($2(\.[0-9]+)+)$/\1/p" | grep -xE '[0-9]+\.[0-9]+\.[0-9]+'; echo "$1"; } | sort -rVu)
}

# For deploy/deploy: {"commit": …, "project": …, "images": {IMAGE: REFERENCE, …}}. VERSION is a tag of the images; without
# it they are those of IMAGES.
verified() { # IMAGE...
  local image reference digest found commit='' wanted='{}'
  for image; do
    if [ -n "${VERSION:-}" ]; then
      digest=$(digest_of "$(name "$image"):$VERSION")
      [ -n "$digest" ] || die "no image $(name "$image"):$VERSION"
      reference=$(name "$image")@$digest
    else
      reference=$(image_of "$image" "${IMAGES:?or a version: which images}")
    fi
    found=$(commit_of "$reference")
    COMMIT=${commit:=$found}
    [ "$found" = "$commit" ] || die "$reference is not of the commit $commit, as $1 is"
    verify "$reference" >&2
    wanted=$(with_image "$image" "$reference" "$wanted")
  done
  jq --null-input --compact-output --arg commit "$commit" --arg project "$(tr . - <<<"${app##*/}")" --argjson images "$wanted" '$ARGS.named'
}

scan() { # what is known of the packages in `edge` and `latest`, and has a fix: an issue says it, and is closed when it is gone
  local tag image digest number found='' title='Known vulnerabilities in the images'
  go install github.com/anchore/grype/cmd/grype@v0.121.2 # Go verifies it by the hash in its public log
  for tag in edge latest; do
    for image in $images; do
      digest=$(digest_of "$(name "$image"):$tag")
      [ -n "$digest" ] || continue
      IMAGE=$image IMAGES=$(with_image "$image" "$(name "$image")@$digest" '{}') sbom "$ARCH"
      found+=$(env -u GH_TOKEN "$(go env GOPATH)/bin/grype" --quiet --only-fixed --output json sbom:sbom/sbom.spdx.json |
        jq --raw-output --arg image "$image:$tag" '[.matches[] | select(.vulnerability.severity | IN("Critical", "High")) |
          "\n- \($image): \(.artifact.name) \(.artifact.version), \(.vulnerability.id), fixed in \(.vulnerability.fix.versions | join(", "))"] | unique | add // empty')
    done
  done
  number=$(gh issue list --search "in:title \"$title\"" --json number --jq '.[0].number // empty')
  case ${found:+found},${number:+open} in
    found,) gh issue create --title "$title" --body "$found" ;;
    found,open) gh issue edit "$number" --body "$found" ;;
    ,open) gh issue close "$number" ;;
  esac
}

verdict() { # RESULTS: GitHub's `needs`
  local target=''
  summary "$(jq --raw-output 'to_entries[] | "- \(.key): \(.value.result)"' <<<"${RESULTS:?}")"
  case $GITHUB_REF in
    refs/tags/*) require gate release; target=production ;;
    refs/heads/main) require test lint devcontainer push image index publish; target=staging ;;
    *) require test lint devcontainer image ;;
  esac
  if [ -n "$target" ] && jq --exit-status ".$target.result == \"skipped\"" <<<"$RESULTS" >/dev/null; then
    summary "- $target: there is no target. To deploy, set the repository's variable $(tr '[:lower:]' '[:upper:]' <<<$target): docs/deploy.md"
  elif [ "$GITHUB_REF" != refs/heads/main ] && [ "$GITHUB_REF" = "refs/heads/${DEFAULT_BRANCH:-}" ]; then
    summary "- Nothing was published, because only \`main\` is. The default branch is \`$DEFAULT_BRANCH\`: rename it under Settings → General"
  fi
}

require() { # JOB...: these have run, and no job is red
  local red
  red=$(jq --raw-output '[to_entries[] | select(.value.result == "success" or
    (.value.result == "skipped" and (.key | IN($ARGS.positional[]) | not)) | not) | .key] | join(", ")' --args "$@" <<<"$RESULTS")
  [ -z "$red" ] || die "not green: $red"
}

guarded() { # the ENVIRONMENT: somebody has said who may use it. Otherwise each branch can read its secrets
  local rules
  case ${UNPROTECTED:-false},${UNSIGNED:-} in true,* | *,true) summary "- ⚠ who may use the environment \`$ENVIRONMENT\` is not checked"; return ;; esac
  rules=$(gh api "repos/$REPOSITORY/environments/$ENVIRONMENT" --jq '[.protection_rules[]?, .deployment_branch_policy | values] | length') ||
    die "GitHub does not say how the environment $ENVIRONMENT is protected"
  [ "$rules" -gt 0 ] || die "the environment $ENVIRONMENT is not protected: Settings → Environments → $ENVIRONMENT, and restrict its branches and tags \
or require reviewers (docs/pipeline.md). To go without, set the repository's variable UNPROTECTED to true"
}

close() { # the dev containers of this folder, also where a step before has failed
  docker ps --all --quiet --filter "label=devcontainer.local_folder=$PWD" | xargs -r docker rm --force --volumes
  docker compose down --volumes --remove-orphans --timeout 1
}

steps='chown_workspace login logout test_pages push test_images index subjects sbom publish wait_for_images release verified guarded scan verdict close'
case " $steps " in
  *" ${1:-} "*) "$@" ;;
  *) die "steps: $steps" ;;
esac
