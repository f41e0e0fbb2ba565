#!/usr/bin/env bash
# Makes a version of the template: a commit and a signed tag on it. Nothing is pushed.
#
#   test/template/release.sh X.Y.Z
#
# CHANGELOG.md says what a version brings. Where it has no section for this one, a draft is made of the subjects of all
# commits since the last version, for you to edit.
set -euo pipefail
cd "$(dirname "$0")/../.."

die() { printf 'release: %s\n' "$*" >&2; exit 1; }
section() { awk -v title="## $version" '/^## / { inside = $0 == title; next } inside' CHANGELOG.md; }

version=${1:-}
[[ $version =~ ^(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*)){2}$ ]] || die 'usage: test/template/release.sh X.Y.Z'
[ "$(git symbolic-ref --short --quiet HEAD)" = main ] || die 'versions are made on main: git switch main'
[ -z "$(git status --porcelain -- . ':!CHANGELOG.md')" ] || die 'there are changes that are not committed: git commit, or git stash'
# Copies get their upgrades from there, those of people without a key, too.
repository=$(git remote get-url origin | sed -E 's#^git@([^:]+):#https://\1/#') ||
  die 'there is no origin, where copies get their upgrades from: git remote add origin URL'
last=$(git tag --list 'v[0-9]*' --sort=-version:refname | sed -n 1p)
[ "v$version" != "$last" ] && [ "$(printf '%s\n' "$version" "${last#v}" | sort --version-sort | tail -n 1)" = "$version" ] ||
  die "$version is not higher than the last version, $last"
# Copies verify by the list of the version that they have: a new key is added one version before it signs.
signers=.github/allowed_signers
[ -s $signers ] || die "copies could not verify it: sed 's/^/* /' YOUR-PUBLIC-KEY >$signers, and commit it"

if [ -z "$(section)" ]; then
  draft=$(
    sed '/^## /,$d' CHANGELOG.md
    printf '## %s\n\n' "$version"
    git log --no-merges --reverse --format='- %s' ${last:+"$last.."}
    echo
    sed -n '/^## /,$p' CHANGELOG.md
  )
  printf '%s\n' "$draft" >CHANGELOG.md
  die "CHANGELOG.md has a draft for $version: edit it, and run this again"
fi

npm pkg set "template.version=$version" "template.repository=$repository"
git diff --quiet HEAD || git commit --quiet --all --message "Release $version"
{ printf 'v%s\n' "$version"; section; } | git tag --sign --cleanup=whitespace --file - "v$version"
trusted=$(mktemp)
git show "$last:$signers" >"$trusted" 2>/dev/null || cp $signers "$trusted"
git -c gpg.ssh.allowedSignersFile="$trusted" verify-tag "v$version" ||
  { git tag --delete "v$version" && die "copies would refuse it: sign with a key of their list, $last:$signers"; }
echo "release: v$version. What is left: git push --atomic origin main v$version"
