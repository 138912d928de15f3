#!/usr/bin/env bash
# Usage: scripts/dist.sh [--help]
#
# Builds the binary to hand out (profile dist: link-time optimised, stripped) and packs it, with the
# licence texts of everything in it, as
#   dist/deno-app-engine-VERSION-TARGET.tar.gz
# and its checksum beside it. Needs python3. Takes much longer than a release build.

set -euo pipefail
# shellcheck source=scripts/env.sh
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

case ${1:-} in
  '') ;;
  -h | --help)
    print_usage "${BASH_SOURCE[0]}"
    exit 0
    ;;
  *) die "unknown argument '$1' (see scripts/dist.sh --help)" ;;
esac

need python3 'It collects the licence texts.'
"$ROOT/scripts/setup.sh"

target=${CARGO_BUILD_TARGET:-$(cd "$ROOT" && rustc -vV | sed -n 's/^host: //p')}
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT

say 'building with link-time optimisation'
cargo_here build --profile dist --locked --package deno-app-engine --package cpython-host

cargo_here metadata --locked --format-version 1 --filter-platform "$target" >"$stage/metadata.json"
version=$(python3 -c '
import json, sys
metadata = json.load(sys.stdin)
print(next(p["version"] for p in metadata["packages"] if p["id"] == metadata["resolve"]["root"]))
' <"$stage/metadata.json")
name=deno-app-engine-$version-$target

mkdir "$stage/$name"
cp "$(built dist)" "$(dirname "$(built dist)")/cpython-host" "$ROOT/LICENSE" "$ROOT/README.md" "$stage/$name/"
say 'collecting licence texts'
python3 "$ROOT/scripts/third_party_licenses.py" "$ROOT/scripts/licenses/v8.txt" \
  "$ROOT/scripts/licenses/local-model.txt" \
  "$ROOT/scripts/licenses/hypha-rpc.txt" \
  "$ROOT/third_party/sqlite-vec/LICENSE-MIT" \
  <"$stage/metadata.json" >"$stage/$name/THIRD_PARTY_LICENSES"

mkdir -p "$ROOT/dist"
say 'packing'
# Nobody's account belongs in the archive; only GNU tar has the options for it.
owner=()
if tar --version 2>/dev/null | grep -q GNU; then owner=(--owner=0 --group=0 --numeric-owner); fi
tar -C "$stage" ${owner[@]+"${owner[@]}"} -czf "$ROOT/dist/$name.tar.gz" "$name"
cd "$ROOT/dist"
if has sha256sum; then sha256sum "$name.tar.gz"; else shasum -a 256 "$name.tar.gz"; fi >"$name.tar.gz.sha256"
step "dist/$name.tar.gz ($(du -h "$name.tar.gz" | cut -f1))"
