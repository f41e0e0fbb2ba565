#!/usr/bin/env bash
# `.github/pin.sh`: writes beside the tag of each base image the digest that it has today, again if it is run again. From
# then on Dependabot renews both. It needs Docker's client and the registries, not an engine.
set -euo pipefail
cd "$(dirname "$0")/.."

git ls-files '*Dockerfile' | while read -r file; do
  # A stage's name has no tag.
  sed -nE 's/^FROM ([^ @]+:[^ @/]+)(@[^ ]+)?( .*)?$/\1/p' "$file" | sort --unique | while read -r image; do
    digest=$(docker buildx imagetools inspect --format '{{json .Manifest}}' "$image" | jq --exit-status --raw-output .digest)
    sed -i.old -E "s|^FROM $image(@[^ ]+)?( .*)?$|FROM $image@$digest\2|" "$file" && rm "$file.old"
    echo "$file: $image@$digest"
  done
done
