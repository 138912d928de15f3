#!/usr/bin/env bash
# Usage: scripts/test-long.sh [CASES]
#
# Runs the property tests with CASES inputs each (default: 20000), where scripts/test.sh tries a few hundred: frames
# and descriptors of the kernel protocol, rewritten cells, paths, filters, headers, cookies and manifests. Then kills
# a Hypha server ten times, and lets it, the engine, and both be away for two minutes, where scripts/test.sh takes seconds.

set -euo pipefail
# shellcheck source=scripts/env.sh
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

case ${1:-} in
  -h | --help)
    print_usage "${BASH_SOURCE[0]}"
    exit 0
    ;;
esac

"$ROOT/scripts/setup.sh"
export PROPTEST_CASES=${1:-20000}
step "property tests, $PROPTEST_CASES inputs each"
cargo_here test --locked --package kernel-protocol --test properties
cargo_here test --locked --package kernels --package v8-host --package vector-index --package apps \
  --package app-proxy --lib -- properties
step 'outages of Hypha and the engine'
HYPHA_TEST_RESTARTS=10 HYPHA_TEST_OUTAGE_SECONDS=120 "$ROOT/scripts/test.sh" --fast --test it hypha_outages
