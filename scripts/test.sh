#!/usr/bin/env bash
# Usage: scripts/test.sh [--fast] [arguments of `cargo test`]
#
# Sets this clone up and checks everything: formatting, clippy without warnings, the tests.
#   --fast    only the tests
#
# CPython kernels are tested with the interpreter CPYTHON_EXECUTABLE (IPython, numpy, pandas and
# matplotlib installed), else with an environment that is made of python3 (3.11 or newer). Tests of
# npm packages take their archives from the folder NPM_TEST_PACKAGES, else from one that is filled
# with the packages of tests/npm-packages.txt.
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
  step 'cargo clippy'
  cargo_here clippy --locked --workspace --all-targets -- -D warnings
}

# The shared library of python3, which Debian packs separately.
has_libpython() {
  python3 -c 'import ctypes, os, sysconfig
name = sysconfig.get_config_var("INSTSONAME")
try: ctypes.CDLL(os.path.join(sysconfig.get_config_var("LIBDIR"), name))
except OSError: ctypes.CDLL(name)' >/dev/null 2>&1
}

cpython_for_tests() {
  local requirements=$ROOT/tests/cpython-requirements.txt version folder
  need python3 'Debian, Ubuntu: sudo apt-get install python3-venv.'
  version=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  if ! has_libpython && can_apt; then apt_install "libpython$version" || true; fi
  has_libpython || die "python3 ($version) has no shared library: install libpython$version, or name another with CPYTHON_EXECUTABLE"
  folder=$CACHE_DIR/cpython-tests/$version-$(cksum <"$requirements" | cut -d' ' -f1)
  if [[ ! -f $folder/complete ]]; then
    step "CPython $version: installing the packages of the tests"
    if ! python3 -c 'import ensurepip' 2>/dev/null && can_apt; then apt_install python3-venv; fi
    rm -rf "$folder"
    python3 -m venv "$folder"
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check -r "$requirements" >&2 ||
      die 'pip could not install the packages of tests/cpython-requirements.txt'
    touch "$folder/complete"
  fi
  CPYTHON_EXECUTABLE=$folder/bin/python
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

"$ROOT/scripts/setup.sh"
if [[ $fast == false ]]; then check_style; fi
[[ -n ${CPYTHON_EXECUTABLE:-} ]] || cpython_for_tests
export CPYTHON_EXECUTABLE
[[ -n ${NPM_TEST_PACKAGES:-} ]] || npm_packages_for_tests
export NPM_TEST_PACKAGES
step 'cargo test'
cargo_here test --locked --workspace "$@"
