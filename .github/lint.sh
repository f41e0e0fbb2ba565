#!/usr/bin/env bash
# `npm run lint`: the files that are not code: workflows, shell scripts, the Dockerfile, Kubernetes' manifests. And
# secrets, in all files. Needs `npm run tools` and no engine. With --if-there it is no error on a developer's machine that
# the tools are not there; in CI it is.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! bin=$(.github/tools.sh --find); then
  if [ "${1:-}" != --if-there ] || [ -n "${CI:-}" ]; then exit 1; fi
  echo 'lint: skipped workflows, shell scripts, Dockerfile, manifests and secrets'
  exit
fi
PATH=$bin:${bin%bin}lint:$PATH

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

# shellcheck disable=SC2329 # called by check
secrets() { # Private keys, and keys of known services by their prefixes. Only names of files are printed: logs are read by many.
  ! git grep --untracked -lIE -e '-----BEGIN ([A-Z]+ )?PRIVATE KEY-----$' \
    -e '\b((AKIA|ASIA)[A-Z0-9]{16}|(gh[pousr]|npm)_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{82}|glpat-[A-Za-z0-9_-]{20}|[rs]k_live_[A-Za-z0-9]{24}|AIza[A-Za-z0-9_-]{35}|xox[abp]-[A-Za-z0-9-]{20,})'
}
check secrets

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

[ $failed = 1 ] || echo "lint: workflows, ${#scripts[@]} shell scripts, Dockerfile, manifests, secrets: nothing found"
exit $failed
