#!/usr/bin/env bash
# Publishes the template, for `devcontainer templates apply` and the lists of editors:
#
#   test/template/publish.sh ghcr.io OWNER/REPOSITORY [COMMIT]
#
# Its tags are the version in package.json, X.Y, X and latest. Log in with `docker login` before. What travels is what
# `git archive` gives of the commit, by default HEAD: .gitattributes is the one list of what does not.
set -euo pipefail
cd "$(dirname "$0")/../.."
[ $# -ge 2 ] || { echo 'usage: test/template/publish.sh REGISTRY OWNER/REPOSITORY [COMMIT]' >&2; exit 1; }

payload=$(mktemp -d)
trap 'rm -rf "$payload"' EXIT
git archive "${3:-HEAD}" | tar --extract --directory "$payload"

# `apply` leaves the root's README out, because every project has one of its own. So it travels as a page of docs.
sed -e 's#](\([.A-Z]\)#](../\1#g' -e 's#](docs/#](#g' "$payload/README.md" >"$payload/docs/README.md"
rm "$payload/README.md"

# `apply` rewrites each file as text.
binary=$(find "$payload" -type f ! -empty ! -exec grep --quiet --binary-files=without-match '' {} \; -print)
[ -z "$binary" ] || { printf 'publish: a binary file would be broken:\n%s\n' "$binary" >&2; exit 1; }

node -e '
  const { name, description, template } = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
  const documentationURL = template.repository || undefined;
  const { version } = template;
  console.log(JSON.stringify({ id: name, name: "Koa service", description, version, documentationURL, platforms: ["Any"] }));
' <"$payload/package.json" >"$payload/devcontainer-template.json"

npx devcontainer templates publish "$payload" --registry "$1" --namespace "$2"
