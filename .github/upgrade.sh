#!/usr/bin/env bash
# `npm run upgrade [vX.Y.Z]`: brings the template's changes since this copy's version, as one commit on a branch of its
# own. It is git's cherry-pick of the difference between two tagged trees. Nothing is pushed. See docs/upgrading.md.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'upgrade: %s\n' "$*"; }
die() { say "$@" >&2; exit 1; }
template() { node -p "JSON.parse(fs.readFileSync('package.json')).template?.$1 ?? ''"; }

versions() { # of those that are named, the newest first; a pre-release is older than its release
  git -c versionsort.suffix=- for-each-ref --format='%(refname:lstrip=2)' --sort=-version:refname "$@"
}

# What the owner has changed in src/app and test/app since OLD. Where that includes the service itself, what NEW adds there
# has no place in it either.
owned() { # OLD NEW
  git -c core.quotePath=false diff --no-renames --name-only "$1" HEAD -- src/app test/app
  git diff --quiet "$1" HEAD -- src/app/service.ts ||
    git -c core.quotePath=false diff --no-renames --name-only --diff-filter=A "$1" "$2" -- src/app test/app
}

# The tree of a tag without what does not travel (export-ignore in .gitattributes), what is `owned`, and the lock file, which
# npm makes anew.
tree() {
  local GIT_INDEX_FILE
  GIT_INDEX_FILE=$(mktemp -u) && export GIT_INDEX_FILE
  git read-tree "$1"
  git archive --verbose "$1" 2>&1 >/dev/null | sort >"$GIT_INDEX_FILE.kept"
  git -c core.quotePath=false ls-files | sort | comm -23 - "$GIT_INDEX_FILE.kept" |
    { cat && printf '%s\n' "${owned[@]}" package-lock.json; } | git update-index --force-remove --stdin
  git write-tree
  rm -f "$GIT_INDEX_FILE" "$GIT_INDEX_FILE.kept"
}

# Stops unless NEW is signed, under that name, by a key that this copy trusts already. Keys of OpenPGP are not in its list.
verify() { # NEW
  local signers=.github/allowed_signers
  [ -e $signers ] || { say "it is not verified who made $1: this copy has no $signers"; return; }
  [ "$(git -c gpg.ssh.allowedSignersFile=$signers -c gpg.openpgp.program=false -c gpg.x509.program=false \
    verify-tag --format='%(tag)' "refs/template/$1")" = "$1" ] ||
    die "$1 is not signed by a key of $signers: nothing is changed. See docs/upgrading.md"
}

lock() { # package-lock.json as package.json now asks for it; what is locked already stays where it satisfies
  [ -e package-lock.json ] || return 0
  npm install --package-lock-only --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null && git add package-lock.json
}

main() {
  local repository=${TEMPLATE:-$(template repository)} old new owned=() branch commit path unlocked=
  old=v$(template version)
  [ -n "$repository" ] || die 'package.json does not say where the template is: TEMPLATE=<its address> npm run upgrade'
  git symbolic-ref --quiet HEAD >/dev/null || die 'no branch is checked out: git switch <branch>'
  ! git rev-parse --quiet --verify CHERRY_PICK_HEAD >/dev/null || die 'one is under way: git cherry-pick --continue, or --abort'
  [ -z "$(git status --porcelain --untracked-files=no)" ] || die 'there are changes that are not committed: git commit, or git stash'

  git fetch --quiet --no-tags "$repository" 'refs/tags/v*:refs/template/v*'
  new=${1:-$(versions refs/template | grep -v -e - | sed q)}
  for path in "$old" "$new"; do
    git rev-parse --quiet --verify "refs/template/$path" >/dev/null || die "the template has no version $path"
  done
  [ "$(versions "refs/template/$old" "refs/template/$new" | sed q)" != "$old" ] || { say "nothing to do: this copy has $old"; return; }
  verify "$new"

  branch=template-$new
  ! git rev-parse --quiet --verify "$branch" >/dev/null || git merge-base --is-ancestor "$branch" HEAD ||
    die "the branch $branch has an upgrade already: git switch $branch, or git branch -D $branch"
  mapfile -t owned < <(owned "refs/template/$old" "refs/template/$new")
  commit=$(git commit-tree "$(tree "refs/template/$old")" -m "$old")
  commit=$(git commit-tree "$(tree "refs/template/$new")" -p "$commit" -m "Upgrade the template from $old to $new")
  git switch --quiet -C "$branch"
  if git cherry-pick "$commit" >/dev/null 2>&1; then
    lock || unlocked=1
    git diff --cached --quiet || git commit --quiet --amend --no-edit
  else
    git rev-parse --quiet --verify CHERRY_PICK_HEAD >/dev/null || { # it has not begun, and says why
      git cherry-pick "$commit" || git switch --quiet -
      git branch --quiet -D "$branch" && return 1
    }
    git status --porcelain -z | while IFS= read -r -d '' path; do # DU: deleted by us, changed in the template
      case $path in 'DU '*) say "stays deleted: ${path#DU }" && git rm --quiet -- "${path#DU }" ;; esac
    done
    [ -n "$(git ls-files --unmerged package.json)" ] || lock || unlocked=1
    [ -z "$(git ls-files --unmerged)" ] || {
      git status --short
      say "the conflicts are marked in the files above. When they are resolved:
  git add <files> && npm install && git add package-lock.json && git cherry-pick --continue
or, to have all as it was: git cherry-pick --abort && git switch - && git branch -d $branch"
      return 1
    }
    git -c core.editor=true cherry-pick --continue >/dev/null
  fi
  say "$old → $new, on the branch $branch: git show --stat"
  [ -z "$unlocked" ] || die 'package-lock.json could not be made anew: npm install, then git commit --amend --all'
}

# Read to its end before it runs: it may replace this very file.
main "$@"; exit
