#!/usr/bin/env bash
# `npm run lint`: the files that are not code: workflows, shell scripts, the Dockerfile, Kubernetes' manifests. Needs
# `npm run tools` and no engine. With --if-there it is no error on a developer's machine that the tools are not there; in
# CI it is.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! bin=$(.github/tools.sh --find); then
  if [ "${1:-}" != --if-there ] || [ -n "${CI:-}" ]; then exit 1; fi
  echo 'lint: skipped workflows, shell scripts, Dockerfile and manifests'
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

rendered=$(mktemp -d)
trap 'rm -r "$rendered"' EXIT
# shellcheck disable=SC2329 # called by check
manifests() { # by the schema of the oldest Kubernetes that they are for; in production every image by its digest
  local overlay found=0
  for overlay in deploy/kubernetes/overlays/*/; do
    kubectl kustomize "$overlay" >"$rendered/$(basename "$overlay").yaml" || return
  done
  kubernetes-validate --kubernetes-version 1.30 --strict --quiet "$rendered"/*.yaml \
    deploy/kubernetes/components/*/[!k]*.yaml || found=1
  ! grep -E '\bimage: ' "$rendered/production.yaml" | grep -vE '@sha256:[0-9a-f]{64}$' || found=1
  return "$found"
}
[ ! -d deploy/kubernetes ] || check manifests # a copy may have left them out

[ $failed = 1 ] || echo "lint: workflows, ${#scripts[@]} shell scripts, Dockerfile, manifests: nothing found"
exit $failed
