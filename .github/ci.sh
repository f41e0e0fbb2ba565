#!/usr/bin/env bash
# `npm run ci [-- push | pull_request | tag vX.Y.Z] [options of act]`: the workflow as it stands, on this machine, by act.
# It pushes to $REGISTRY, or to a registry that is started for this run and removed after it.
set -euo pipefail
cd "$(dirname "$0")/.."

die() { printf 'ci: %s\n' "$*" >&2; exit 1; }

event=${1:-push} version=${2:-}
case $event in
  push | pull_request) shift $(($# > 0)) ;;
  tag) [[ $version == v[0-9]* ]] && shift 2 ;;
  *) false ;;
esac || die 'usage: npm run ci [-- push | pull_request | tag vX.Y.Z] [options of act]'
act=${ACT_BINARY:-$(.github/tools.sh --find 2>/dev/null || true)/act}
"$act" --version >/dev/null 2>&1 || die 'act is missing: npm run tools, or set ACT_BINARY'
jq --version >/dev/null 2>&1 || die 'jq is missing: https://jqlang.org/download'
arch=$(docker version --format '{{.Server.Arch}}') || die 'Docker does not answer'

# The jobs get no settings of the app that this shell has, nothing of npm, and nothing of a runner that runs this.
# shellcheck disable=SC2046 # names of variables
unset $(compgen -e | grep -E '^(npm_|GITHUB_|RUNNER_|ACTIONS_|INIT_CWD$|LISTEN$|WEB_CONCURRENCY$|WORKER_TIMEOUT$|GRACEFUL_TIMEOUT$|MAX_REQUESTS|REDIS_|LOG_LEVEL$|RELOAD$|COMPOSE_|PORT$|(APP|NGINX)_IMAGE$)')

run=ci-$$-$RANDOM # names everything that this run makes
own=              # the registry of this run, if it has one
folder=$(mktemp -d)
clean_up() { # whatever state the jobs were left in. What the engine has cached of the builds stays.
  docker compose --project-name "$run" down --volumes --remove-orphans --timeout 1
  [ -z "$own" ] || docker rm --force --volumes "$run-registry"
  docker image ls --digests --filter "reference=$run-*" --filter 'reference=vsc-hostexecutor-*' \
    ${own:+--filter "reference=$own/*/*" --filter "reference=$own/*/*/*"} \
    --format '{{.Repository}}{{if eq .Tag "<none>"}}@{{.Digest}}{{else}}:{{.Tag}}{{end}}' | xargs -r docker image rm
  rm -rf "$folder"
}
trap 'clean_up >"$folder/log" 2>&1' EXIT

if [ -z "${REGISTRY:-}" ]; then
  docker run --detach --name "$run-registry" --publish 127.0.0.1::5000 registry:2 >/dev/null
  own=$(docker port "$run-registry" 5000/tcp | sed -n '1s/.*:/localhost:/p') # plain HTTP is spoken to localhost alone
fi
# The images are named as on GitHub, where the clone is from there.
repository=$(git remote get-url origin 2>/dev/null | sed -nE 's#(\.git)?/*$##; s#^.*[/@]github\.com[:/]([^/]+/[^/]+)$#\1#p') || true

run_act() { # EVENT PAYLOAD [OPTION...]
  printf %s "$2" >"$folder/event.json"
  # One machine has one architecture. The stack is not the one that the developer has open.
  "$act" "$1" --eventpath "$folder/event.json" --action-cache-path "$folder/act" --matrix "arch:$arch" --env "ARCHES=$arch" \
    --env "COMPOSE_PROJECT_NAME=$run" --env "GITHUB_REPOSITORY=${repository:-local/service}" --var "REGISTRY=${REGISTRY:-$own}" "${@:3}"
}
main='{"ref": "refs/heads/main"}'
case $event in
  push) run_act push "$main" "$@" ;;
  tag) # gives names to what a push has tested, so an empty registry needs the push first
    [ -z "$own" ] || run_act push "$main" "$@"
    run_act push "{\"ref\": \"refs/tags/$version\"}" "$@"
    ;;
  pull_request) run_act pull_request '{"number": 1, "pull_request": {"number": 1, "head": {"ref": "branch"}, "base": {"ref": "main"}}}' "$@" ;;
esac
