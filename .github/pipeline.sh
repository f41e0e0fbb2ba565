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
nginx=$app/nginx
redis=$app/redis
services=(app nginx redis) # each an image, and a variable with its name
names="$app $nginx $redis"
# What is built and tested here has a tag that never leaves this machine.
candidate=$COMPOSE_PROJECT_NAME-candidate
export APP_IMAGE=$app:$candidate NGINX_IMAGE=$nginx:$candidate REDIS_IMAGE=$redis:$candidate PORT=0

# Of an image in the registry: the digest that a tag points at (its own comes before those of what it lists), and
# the commit that it was built from, empty when there is no such image.
digest() {
  docker buildx imagetools inspect --format '{{json .Manifest}}' "$1" | grep -o 'sha256:[0-9a-f]*' | sed q
}
revision() {
  local image
  image=$(docker buildx imagetools inspect --format '{{json .Image}}' "$1" 2>/dev/null) || return 0
  sed -n 's/.*image\.revision": *"\([^"]*\)".*/\1/p' <<<"$image" | sed q
}
image_id() { docker image inspect --format '{{.Id}}' "$1"; }
point() { docker buildx imagetools create --tag "$1" "$2"; } # TAG SOURCE: one call a tag

start() { # npm start answers. Under act the developer may have port 8080 in use.
  local url=http://localhost:8080/ curl=(curl --fail --silent --show-error) directory log pid
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

build() {
  [ "$ARCH" = "$(docker version --format '{{.Server.Arch}}')" ] || die "this engine does not build for $ARCH"
  # What was tested for this commit stays what it is: run again, the pipeline tests it again and changes nothing.
  if [ -n "${PUSH:-}" ] && [ -z "${FRESH:-}" ] && pull_tested; then return; fi
  docker buildx bake --file docker-compose.yml --load --provenance false \
    ${FRESH:+--pull --no-cache} \
    --set "*.labels.org.opencontainers.image.revision=$COMMIT" \
    --set "*.labels.org.opencontainers.image.source=${GITHUB_SERVER_URL:-https://github.com}/$REPOSITORY" \
    --set '*.cache-to=type=inline' \
    --set "app.cache-from=type=registry,ref=$app:edge" --set "app.tags=$APP_IMAGE" \
    --set "nginx.cache-from=type=registry,ref=$nginx:edge" --set "nginx.tags=$NGINX_IMAGE" \
    --set "redis.cache-from=type=registry,ref=$redis:edge" --set "redis.tags=$REDIS_IMAGE" \
    "${services[@]}"
}

pull_tested() {
  local name
  for name in $names; do
    docker pull --quiet "$name:sha-$COMMIT-$ARCH" 2>/dev/null || return 1
    docker tag "$name:sha-$COMMIT-$ARCH" "$name:$candidate"
  done
  echo "built and tested before: sha-$COMMIT-$ARCH"
}

boot() { # left running until it is pushed: its containers are the proof of which image was tested
  docker compose up --detach --wait --no-build
  curl --fail --silent --show-error "http://$(docker compose port nginx 8080)"
}

suite() { # against exactly these images. On a laptop the part that is about the images; the rest builds its own.
  npm run test:containers -- ${ACT:+images configuration}
}

tested_id() { # SERVICE: the image that its running container was made from
  docker inspect --format '{{.Image}}' "$(docker compose ps --quiet "$1")"
}

push() {
  local service name tag pushed
  say "| $ARCH | digest | size | tested |" '
| --- | --- | --- | --- |'
  for service in "${services[@]}"; do
    name=${!service}
    tag=$name:sha-$COMMIT-$ARCH
    docker tag "$(tested_id "$service")" "$tag"
    docker push --quiet "$tag"
    pushed=$name@$(digest "$tag")
    docker pull --quiet "$pushed"
    [ "$(image_id "$pushed")" = "$(tested_id "$service")" ] || die "$pushed is not the image that was tested"
    say "| \`$tag\` | \`${pushed#*@}\` | $(size "$pushed") | in Compose with Redis, by the container suite |"
  done
}

size() { docker image inspect --format '{{.Size}}' "$1" | awk '{ printf "%.0f MB", $1 / 1e6 }'; }

index() { # the tested images of all architectures under one digest; then the tags that say which that is
  local service name arch sources
  say '| tag | digest |
| --- | --- |'
  for service in "${services[@]}"; do
    name=${!service}
    sources=()
    for arch in $ARCHES; do sources+=("$name@$(digest "$name:sha-$COMMIT-$arch")"); done
    docker buildx imagetools create --tag "$name:sha-$COMMIT" "${sources[@]}"
    say "| \`$name:sha-$COMMIT\` | \`$(digest "$name:sha-$COMMIT")\` |"
    output "$service=$name"
    output "$service-digest=$(digest "$name:sha-$COMMIT")"
  done
  # `edge` never goes back: a run that was overtaken by a newer commit's leaves it alone
  local newest
  newest=$(revision "$app:edge")
  if [ "$newest" != "$COMMIT" ] && git merge-base --is-ancestor "$COMMIT" "${newest:-none}" 2>/dev/null; then
    say "\`edge\` stays at the newer $newest"
    return
  fi
  for name in $names; do point "$name:edge" "$name:sha-$COMMIT"; done
  say "\`edge\` is this commit"
}

release() {
  local version=${GITHUB_REF_NAME#v} until=$((SECONDS + ${RELEASE_WAIT:-2700})) released tested name source tag
  [[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$ ]] || die "v$version is not vX.Y.Z"
  released=$(revision "$app:$version")
  case $released in
    '') tested=sha-$COMMIT ;;
    "$COMMIT") tested=$version ;; # run again, it names the same digest
    *) die "$version was released from $released: a version is not moved" ;;
  esac
  for name in $names; do
    until digest "$name:$tested" >/dev/null 2>&1; do
      [ $SECONDS -lt $until ] || die "no tested image $name:$tested. Is the commit on main, and its pipeline green? $(digest "$name:$tested" 2>&1)"
      sleep 5
    done
  done
  say '| tag | digest |
| --- | --- |'
  for name in $names; do
    source=$name@$(digest "$name:$tested")
    for tag in $(version_tags "$version"); do
      point "$name:$tag" "$source"
      say "| \`$name:$tag\` | \`$(digest "$name:$tag")\` |"
    done
  done
}

version_tags() { # X.Y, X and latest name the highest version of theirs; a pre-release is named by its own tag alone
  local version=$1 minor=${1%.*} major=${1%%.*}
  highest() { { git tag --list "v$1" | grep -v -e -; echo "v$version"; } | sort -V | tail -n 1; }
  echo "$version"
  case $version in *-*) return ;; esac
  [ "$(highest "$minor.*")" != "v$version" ] || echo "$minor"
  [ "$(highest "$major.*")" != "v$version" ] || echo "$major"
  [ "$(highest '*.*.*')" != "v$version" ] || echo latest
}

verify() { # the README's command, on what this run has signed
  gh attestation verify "oci://${APP:?}@${APP_DIGEST:?}" --repo "$REPOSITORY"
  gh attestation verify "oci://${APP:?}@${APP_DIGEST:?}" --repo "$REPOSITORY" --predicate-type https://spdx.dev/Document/v2.3
  gh attestation verify "oci://${NGINX:?}@${NGINX_DIGEST:?}" --repo "$REPOSITORY"
  gh attestation verify "oci://${REDIS:?}@${REDIS_DIGEST:?}" --repo "$REPOSITORY"
}

verdict() { # RESULTS: a job and its result a line. What this event must have run has to be green, nothing may be red.
  local job result required red=0
  case $GITHUB_REF in
    refs/tags/*) required=' release ' ;;
    refs/heads/main) required=' bare lint devcontainer image publish ' ;;
    *) required=' bare lint devcontainer image ' ;;
  esac
  while read -r job result; do
    case $required,$result in
      *,success | *,failure | *,cancelled) ;;
      *" $job "*,skipped) result='skipped, but required' ;;
      *,skipped) result='not part of this event' ;;
    esac
    case $result in success | 'not part of this event') ;; *) red=1 ;; esac
    say "- $job: $result"
  done <<<"${RESULTS%$'\n'}"
  return $red
}

close() { # whatever a failed step left open
  docker ps --all --quiet --filter "label=devcontainer.local_folder=$PWD" | xargs -r docker rm --force --volumes
  docker compose down --volumes --remove-orphans --timeout 1
}

step=${1:-}
case $step in
  start | share | login | build | boot | suite | push | index | release | verify | verdict | close) "$@" ;;
  *) die 'steps: start share login build boot suite push index release verify verdict close' ;;
esac
