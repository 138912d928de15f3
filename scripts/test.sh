#!/usr/bin/env bash
# Usage: scripts/test.sh [--fast] [arguments of `cargo test`]
#
# Sets this clone up and checks everything: formatting, clippy without warnings, the tests.
#   --fast    only the tests
#
# CPython kernels are tested with the interpreter CPYTHON_EXECUTABLE (IPython, numpy, pandas and
# matplotlib installed), else with an environment that is made of python3 (3.11 or newer).
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

"$ROOT/scripts/setup.sh"
if [[ $fast == false ]]; then check_style; fi
[[ -n ${CPYTHON_EXECUTABLE:-} ]] || cpython_for_tests
export CPYTHON_EXECUTABLE
step 'cargo test'
cargo_here test --locked --workspace "$@"
