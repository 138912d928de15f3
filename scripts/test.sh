#!/usr/bin/env bash
# Usage: scripts/test.sh [--fast] [arguments of `cargo test`]
#
# Sets this clone up and checks everything: formatting, clippy without warnings, the tests.
#   --fast    only the tests
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
  cargo_here fmt --check
  step 'cargo clippy'
  cargo_here clippy --locked --all-targets -- -D warnings
}

"$ROOT/scripts/setup.sh"
if [[ $fast == false ]]; then check_style; fi
step 'cargo test'
cargo_here test --locked "$@"
