#!/usr/bin/env bash
# The steps of workflows/pipeline.yml that are more than one command. Each can be typed: npm run pipeline -- STEP
set -euo pipefail
cd "$(dirname "$0")/.."

# What the runner says; at a prompt, what amounts to it.
REGISTRY=${REGISTRY:-ghcr.io}
REPOSITORY=${GITHUB_REPOSITORY:-local/$(basename "$PWD")}
COMMIT=${GITHUB_SHA:-$(git rev-parse HEAD)}
ARCH=${ARCH:-$(docker version --format '{{.Server.Arch}}')}
ARCHES=${ARCHES:-amd64 arm64}
export COMPOSE_PROJECT_NAME=${COMPOSE_PROJECT_NAME:-pipeline}

die() { printf 'pipeline: %s\n' "$*" >&2; exit 1; }
say() { printf '%s\n' "$*" | tee -a "${GITHUB_STEP_SUMMARY:-/dev/null}"; }
output() { printf '%s\n' "$*" | tee -a "${GITHUB_OUTPUT:-/dev/null}"; }

# The repository's name in lower case: registries know no other.
app=$(tr '[:upper:]' '[:lower:]' <<<"$REGISTRY/$REPOSITORY")
images='app nginx redis'
# A package that nobody uses: what is built lies here, by digest, until it is tested.
export CANDIDATES=$app/candidate

name() { # IMAGE: what its tested builds are called
  case $1 in app) echo "$app" ;; *) echo "$app/$1" ;; esac
}

# Asks the registry. Prints nothing if there is no such image; any other failure ends the step, because a registry that
# does not answer must not look like one that is empty.
look() { # FORMAT REFERENCE
  local errors said
  errors=$(mktemp)
  if docker buildx imagetools inspect --format "$1" "$2" 2>"$errors"; then rm "$errors"; return; fi
  said=$(<"$errors")
  rm "$errors"
  case $said in
    *': not found' | *'manifest unknown'* | *'name unknown'*) ;;
    *) die "$2: $said" ;;
  esac
}
digest() { look '{{json .Manifest}}' "$1" | jq --raw-output .digest; }
revision() { # the commit that an image was built from. Several architectures: an image each, of the same commit
  look '{{json .Image}}' "$1" |
    jq --raw-output '[.. | objects | select(has("config")) | .config.Labels["org.opencontainers.image.revision"] // empty] | first // "unknown"'
}
upper() { tr '[:lower:]' '[:upper:]' <<<"$1"; }
point() { docker buildx imagetools create --tag "$1" "$2"; } # TAG SOURCE: one call a tag

start() { # npm start answers. Under act the developer may have port 8080 in use.
  local url=http://localhost:8080/livez curl=(curl --noproxy '*' --fail --silent --show-error) directory log pid
  directory=$(mktemp -d)
  log=$directory/log
  if [ -n "${ACT:-}" ]; then
    export LISTEN=$directory/socket
    curl+=(--unix-socket "$LISTEN")
  fi
  set -m # a process group of its own: npm, its shell, the app and its workers end together
  npm start >"$log" 2>&1 &
  pid=$!
  # shellcheck disable=SC2064 # as they are now
  trap "rm -r '$directory'; kill -TERM -- -$pid; wait" EXIT
  for _ in $(seq 300); do
    if "${curl[@]}" "$url" 2>/dev/null; then return; fi
    kill -0 $pid 2>/dev/null || break
    sleep 0.1
  done
  cat "$log" >&2
  die 'npm start does not answer'
}

share() { # The dev container's user gets the uid of whoever opens it, unless that is root: then the folder is given to him.
  [ "$(id -u)" != 0 ] || chown -R 1000:1000 .
}

login() {
  case $REGISTRY in
    ghcr.io) docker login ghcr.io --username "${GITHUB_ACTOR:?}" --password-stdin <<<"${GITHUB_TOKEN:?}" ;;
    # GitHub's token is shown to GitHub alone; another registry has its own, or asks for none
    *) [ -z "${REGISTRY_TOKEN:-}" ] ||
      docker login "$REGISTRY" --username "${REGISTRY_USER:-}" --password-stdin <<<"$REGISTRY_TOKEN" ;;
  esac
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

suite() { # against the images of the running stack. On a laptop the part that is about the images; the rest builds its own.
  local image id reference variable
  for image in $images; do
    id=$(docker compose ps --quiet "$image")
    reference=$(docker inspect --format '{{.Config.Image}}' "$id")
    id=$(docker inspect --format '{{.Image}}' "$id")
    case $reference in
      *@*) docker image inspect --format '{{join .RepoDigests "\n"}}' "$id" | grep --quiet --line-regexp --fixed-strings "$reference" ||
        die "$image runs $id, which is not $reference" ;;
    esac
    say "- $(uname -m): tested \`$reference\`, $(docker image inspect --format '{{.Size}}' "$id" | awk '{ printf "%.0f MB", $1 / 1e6 }')"
    variable=$(upper "$image")_IMAGE
    export "$variable=$reference"
  done
  npm test -- containers ${ACT:+images configuration}
}

gate() { # RESULTS: a job and its result a line. What an image needs to be published, has to be green.
  # Once a week the commit is an old one: only the base images are new. What checks files does not hold them back.
  case $EVENT in
    schedule) judge 'test push image' 'test push image' ;;
    *) judge 'test lint devcontainer push image' ;;
  esac
}

index() { # AMD64, ARM64: what `push` has pushed there. The images of all architectures under one digest
  local image arch variable source sources content digest pushed='{}'
  for image in $images; do
    sources=()
    for arch in $ARCHES; do
      variable=$(upper "$arch")
      source=$(jq --exit-status --raw-output ".$image" <<<"${!variable:-"{}"}") || die "no $image for $arch"
      sources+=("$source")
    done
    # The digest is computed here: a tag that is read again may have been moved meanwhile.
    content=$(docker buildx imagetools create --dry-run "${sources[@]}")
    digest=sha256:$(printf %s "$content" | sha256sum | cut -d ' ' -f 1)
    docker buildx imagetools create --tag "$CANDIDATES:$image-$COMMIT" "${sources[@]}"
    docker buildx imagetools inspect "$CANDIDATES@$digest" >/dev/null
    pushed=$(add "$image" "$CANDIDATES@$digest" <<<"$pushed")
  done
  output "images=$pushed"
}

add() { # IMAGE REFERENCE: to the object that is read
  jq --compact-output --arg image "$1" --arg reference "$2" '.[$image] = $reference'
}

of() { # IMAGE OBJECT: its reference
  jq --exit-status --raw-output ".$1" <<<"$2" || die "no $1 in $2"
}

subjects() { # IMAGES, IMAGE: the index and what it lists, as actions/attest reads it
  local reference
  reference=$(of "${IMAGE:?}" "${IMAGES:?}")
  { echo "${reference#*@}"; docker buildx imagetools inspect --raw "$reference" | jq --raw-output '.manifests[].digest'; } |
    sed "s|^sha256:\(.*\)|\1  $(name "$IMAGE")|"
}

sbom() { # ARCH, IMAGES, IMAGE: everything in the image of that architecture, into the folder sbom
  local reference digest
  reference=$(of "${IMAGE:?}" "${IMAGES:?}")
  digest=$(docker buildx imagetools inspect --raw "$reference" |
    jq --exit-status --raw-output --arg arch "$1" '.manifests[] | select(.platform.architecture == $arch) | .digest')
  IMAGE=${reference%@*}@$digest docker buildx bake --file docker-bake.hcl sbom
  output "name=$(name "$IMAGE")"
  output "digest=$digest"
}

verify() { # REFERENCE: this workflow of main has built it from this commit, on GitHub's own machines
  [ "${UNSIGNED:-false}" != true ] || { echo "not signed here, so not verified: $1"; return; }
  gh attestation verify "oci://$1" --repo "$REPOSITORY" --signer-workflow "$REPOSITORY/.github/workflows/pipeline.yml" \
    --source-ref refs/heads/main --source-digest "$COMMIT" --deny-self-hosted-runners ||
    die "$1 has no signature of this pipeline for $COMMIT"
}

publish() { # IMAGES: what `index` has pushed. All is looked at and verified before the first tag is put
  local image reference there newest tag=sha-$COMMIT tags references='{}'
  for image in $images; do
    reference=$(of "$image" "${IMAGES:?}")
    verify "$reference"
    there=$(digest "$(name "$image"):sha-$COMMIT")
    if [ -n "$there" ] && [ "$there" != "${reference#*@}" ]; then
      [ "${FIRST:-}" != true ] || die "$(name "$image"):sha-$COMMIT is there already, and this run has not built it"
      tag=sha-$COMMIT-${GITHUB_RUN_ID:-0}-${GITHUB_RUN_ATTEMPT:-1} # built again: the first one keeps its tag
    fi
    references=$(add "$image" "$(name "$image")@${reference#*@}" <<<"$references")
  done
  tags="$tag edge"
  # `edge` never goes back: a run that was overtaken by a newer commit's leaves it alone
  newest=$(revision "$app:edge")
  if [ "$newest" != "$COMMIT" ] && git merge-base --is-ancestor "$COMMIT" "${newest:-none}" 2>/dev/null; then
    say "\`edge\` stays at the newer $newest"
    tags=$tag
  fi
  put "$tags" "$IMAGES"
  output "images=$references"
}

put() { # TAGS IMAGES
  local tag image reference
  say '| tag | digest |
| --- | --- |'
  for tag in $1; do
    for image in $images; do
      reference=$(of "$image" "$2")
      point "$(name "$image"):$tag" "$reference"
      say "| \`$(name "$image"):$tag\` | \`${reference#*@}\` |"
    done
  done
}

version() { # of the tag that is released
  local version=${GITHUB_REF_NAME#v}
  [[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$ ]] || die "v$version is not vX.Y.Z"
  echo "$version"
}

await() { # until the commit is published; its own pipeline may still be testing it
  local until=$((SECONDS + ${RELEASE_WAIT:-2700})) image found
  version
  for image in $images; do
    until found=$(digest "$(name "$image"):sha-$COMMIT") && [ -n "$found" ]; do
      [ $SECONDS -lt $until ] || die "no tested image $(name "$image"):sha-$COMMIT. Is the commit on main, and its pipeline green?"
      sleep 5
    done
  done
}

release() { # All is looked at and verified before the first tag is put: a failure up to there changes nothing
  local version image name released tested references='{}' tags
  version=$(version)
  for image in $images; do
    name=$(name "$image")
    released=$(revision "$name:$version")
    case $released in
      '') tested=$(digest "$name:sha-$COMMIT") ;;
      "$COMMIT") tested=$(digest "$name:$version") ;; # run again, it names the same digest
      *) die "$name:$version was released from $released: a version is not moved" ;;
    esac
    [ -n "$tested" ] || die "no tested image $name:sha-$COMMIT"
    verify "$name@$tested"
    references=$(add "$image" "$name@$tested" <<<"$references")
  done
  tags=$(version_tags "$version")
  put "$tags" "$references"
  output "images=$references"
}

# For deploy/deploy: the commit of the images, what they are called together, and the reference of each. VERSION is a tag
# of theirs; without it they are those of IMAGES.
verified() { # IMAGE...
  local image reference references=() digest
  for image; do
    if [ -n "${VERSION:-}" ]; then
      digest=$(digest "$(name "$image"):$VERSION")
      [ -n "$digest" ] || die "no image $(name "$image"):$VERSION"
      reference=$(name "$image")@$digest
    else
      reference=$(of "$image" "${IMAGES:?or a version: which images}")
    fi
    references+=("$reference")
  done
  COMMIT=$(revision "${references[0]}")
  for reference in "${references[@]}"; do
    [ "$(revision "$reference")" = "$COMMIT" ] || die "$reference is not of the commit $COMMIT, as ${references[0]} is"
    verify "$reference" >&2
  done
  printf '%s\n' "$COMMIT" "$(tr . - <<<"${app##*/}")" "${references[@]}"
}

version_tags() { # X.Y, X and latest name the highest version of theirs; a pre-release is named by its own tag alone
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
    found=$(digest "$app:$other") || exit 1 # where errexit does not reach
    [ -z "$found" ] || return 1
  done < <({ git tag | sed -nE "s/^v($2(\.[0-9]+)+)$/\1/p" | grep -xE '[0-9]+\.[0-9]+\.[0-9]+'; echo "$1"; } | sort -rVu)
}

verdict() { # RESULTS: a job and its result a line. What this event must have run has to be green, nothing may be red.
  case $GITHUB_REF,$EVENT in
    refs/tags/*) judge 'gate release' && target production ;;
    *,schedule) judge 'test lint devcontainer push image index publish audit long' ;;
    refs/heads/main,*) judge 'test lint devcontainer push image index publish' && target staging ;;
    *) judge 'test lint devcontainer image' ;;
  esac
}

judge() { # REQUIRED [JUDGED]: of the jobs that are judged, by default all, none may be red, and the required have run
  local job result red=0
  while read -r job result; do
    case " $1 ,$result" in
      *,success | *,failure | *,cancelled) ;;
      *" $job "*,skipped) result='skipped, but required' ;;
      *,skipped) result='not part of this event' ;;
    esac
    case $result in
      success | 'not part of this event') ;;
      *) case " ${2:-$job} " in *" $job "*) red=1 ;; *) result+=', which does not matter here' ;; esac ;;
    esac
    say "- $job: $result"
  done <<<"${RESULTS%$'\n'}"
  return $red
}

target() { # JOB: where all is green and it was skipped, it has nowhere to go
  if grep -q "^ *$1 skipped" <<<"$RESULTS"; then
    say "- $1: there is no target. To deploy, set the repository's variable $(upper "$1"): docs/deploy.md"
  fi
}

close() { # the dev containers of this folder, whatever a failed step left open
  docker ps --all --quiet --filter "label=devcontainer.local_folder=$PWD" | xargs -r docker rm --force --volumes
  docker compose down --volumes --remove-orphans --timeout 1
}

step=${1:-}
case $step in
  start | share | login | push | suite | gate | index | subjects | sbom | publish | await | release | verified | verdict | close) "$@" ;;
  *) die 'steps: start share login push suite gate index subjects sbom publish await release verified verdict close' ;;
esac
