#!/usr/bin/env bash
# Usage: scripts/pyodide/prepare.sh [--help]
#
# Prepares what a Python kernel in V8 starts from, and prints the folder it lies in: the Pyodide
# distribution, the packages of wheels/requirements.txt and python/ in one archive, a memory
# snapshot of an interpreter that has imported them, and the wheels of wheels/on_demand.txt; each
# gzipped, for embedding in the binary.
# scripts/setup.sh runs this; with nothing changed it does nothing.

set -euo pipefail
# shellcheck source=scripts/env.sh
. "$(dirname "${BASH_SOURCE[0]}")/../env.sh"

case ${1:-} in
  '') ;;
  -h | --help)
    print_usage "${BASH_SOURCE[0]}"
    exit 0
    ;;
  *) die "unknown argument '$1' (see scripts/pyodide/prepare.sh --help)" ;;
esac

# One release of Pyodide belongs to one CPython and one ABI: see js/python.js for its CDN.
readonly PYODIDE=pyodide@314.0.7
readonly PYODIDE_SHA256=66b7949e5a0cba2250b586d7e368bf12fb482800748d182c4618254b685ffaa0
# Any recent Deno makes the snapshot; it is not part of the engine.
readonly DENO_VERSION=2.9.6
readonly WHEELS=$ROOT/wheels/requirements.txt
readonly ON_DEMAND=$ROOT/wheels/on_demand.txt
# The ABI of that release, as its pyodide-lock.json names it.
readonly ABI=pyemscripten_2026_0_wasm32

# The npm package with Deno's binary for this machine, and its sum.
deno_package() {
  case $(uname -s)-$(uname -m) in
    Linux-x86_64) printf '@deno/linux-x64-glibc@%s %s' "$DENO_VERSION" \
      a6596af07f3570b4f1ffa6783bfee9942aac14a719a601baa6bf5b71bf0105e2 ;;
    Linux-aarch64) printf '@deno/linux-arm64-glibc@%s' "$DENO_VERSION" ;;
    Darwin-arm64) printf '@deno/darwin-arm64@%s' "$DENO_VERSION" ;;
    Darwin-x86_64) printf '@deno/darwin-x64@%s' "$DENO_VERSION" ;;
    *) die "no Deno for $(uname -s) $(uname -m) to make the Python snapshot with" ;;
  esac
}

# Everything the result depends on.
inputs() {
  printf '%s\n%s\n' "$PYODIDE_SHA256" "$DENO_VERSION"
  cd "$ROOT"
  find python wheels js/pyodide_boot.js scripts/pyodide -type f ! -path '*/__pycache__/*' | LC_ALL=C sort |
    while read -r file; do
      printf '%s\n' "$file"
      cat "$file"
    done
}

# fetch_wheels REQUIREMENTS FOLDER OPTIONS…: exactly these files.
fetch_wheels() {
  local requirements=$1 folder=$2
  shift 2
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes \
    --only-binary=:all: --python-version 3.14 "$@" -r "$requirements" -d "$folder" >&2 ||
    die "pip could not fetch the wheels of ${requirements#"$ROOT/"}"
}

prepare() {
  local target=$1 work deno
  work=$(mktemp -d "$CACHE_DIR/pyodide/.work.XXXXXX")
  # shellcheck disable=SC2064 # the folder of now
  trap "rm -rf '$work'" EXIT
  step 'Python: fetching Pyodide, Deno and wheels'
  npm_package "$PYODIDE" "$PYODIDE_SHA256" "$work/pyodide"
  read -r -a deno <<<"$(deno_package)"
  npm_package "${deno[0]}" "${deno[1]:-}" "$work/deno"
  fetch_wheels "$WHEELS" "$work/wheels"
  fetch_wheels "$ON_DEMAND" "$work/on_demand" --platform "$ABI" --implementation cp --abi cp314
  step 'Python: making the memory snapshot'
  mkdir "$work/out"
  DENO_DIR=$work/deno_dir "$work/deno/deno" run --quiet --no-remote --allow-read --allow-write \
    "$ROOT/scripts/pyodide/make.mjs" "$work/pyodide" "$work/wheels" "$work/on_demand" "$ROOT/python" "$work/out" >&2
  local name
  for name in pyodide.mjs pyodide.asm.mjs pyodide.asm.wasm python_stdlib.zip; do
    cp "$work/pyodide/$name" "$work/out/"
  done
  gzip -9 -n "$work"/out/*
  # Another set-up may have been faster.
  mv "$work/out" "$target" 2>/dev/null || [[ -d $target ]]
}

mkdir -p "$CACHE_DIR/pyodide"
target=$CACHE_DIR/pyodide/$(inputs | { if has sha256sum; then sha256sum; else shasum -a 256; fi; } | cut -c1-16)
if [[ -d $target ]]; then
  say 'Python: prepared'
else
  need npm 'Debian, Ubuntu: sudo apt-get install npm.'
  need python3 'Debian, Ubuntu: sudo apt-get install python3-pip.'
  prepare "$target"
fi
printf '%s\n' "$target"
