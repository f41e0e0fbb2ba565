#!/usr/bin/env bash
# `npm run lint`: the files that are not code: workflows, shell scripts, the Dockerfile. Needs `npm run tools` and no
# engine. With --if-there it is no error on a developer's machine that the tools are not there; in CI it is.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! bin=$(.github/tools.sh --find); then
  if [ "${1:-}" != --if-there ] || [ -n "${CI:-}" ]; then exit 1; fi
  echo 'lint: skipped workflows, shell scripts and Dockerfile'
  exit
fi
PATH=$bin:$PATH

files=$(git ls-files --cached --others --exclude-standard) || exit 1
scripts=()
while read -r file; do
  head -n 1 "$file" 2>/dev/null | LC_ALL=C grep -aqE '^#!.*\b(ba)?sh\b' && scripts+=("$file")
done <<<"$files"

failed=0
check() { # what is found is shown, and nothing of a tool that finds nothing
  local found
  found=$("$@" 2>&1) || { printf 'lint: %s\n%s\n' "$1" "$found" >&2; failed=1; }
}
check actionlint
check zizmor --offline --quiet --no-progress .github
check shellcheck --external-sources "${scripts[@]}"
check hadolint --config .github/hadolint.yaml deploy/Dockerfile .github/sbom/Dockerfile

[ $failed = 1 ] || echo "lint: workflows, ${#scripts[@]} shell scripts, Dockerfile: nothing found"
exit $failed
