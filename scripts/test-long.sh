#!/usr/bin/env bash
# Usage: scripts/test-long.sh [--only PART] [CASES]
#
# Runs what takes too long for scripts/test.sh:
#   properties   the property tests with CASES inputs each (default: 20000), where scripts/test.sh tries a few hundred: frames
#                and descriptors of the kernel protocol, rewritten cells, paths, filters, headers, cookies and manifests
#   outages      kills a Hypha server ten times, and lets it, the engine, and both be away for two minutes
#   density      1,000 TypeScript and 300 Pyodide kernels of one server at once, made, used, listed and deleted, with the goals of
#                docs/performance.md; of the release profile. Needs wrk, and 8 GiB of free memory
# --only PART runs one of them.

set -euo pipefail
# shellcheck source=scripts/env.sh
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

only='' cases=20000
while (($#)); do
  case $1 in
    -h | --help)
      print_usage "${BASH_SOURCE[0]}"
      exit 0
      ;;
    --only)
      [[ ${2:-} =~ ^(properties|outages|density)$ ]] || die '--only needs one of properties, outages, density'
      only=$2
      shift
      ;;
    *)
      [[ $1 =~ ^[0-9]+$ ]] || die "unknown argument '$1' (see scripts/test-long.sh --help)"
      cases=$1
      ;;
  esac
  shift
done

wanted() { [[ -z $only || $only == "$1" ]]; }

if wanted properties; then
  "$ROOT/scripts/setup.sh"
  export PROPTEST_CASES=$cases
  step "property tests, $PROPTEST_CASES inputs each"
  cargo_here test --locked --package kernel-protocol --test properties
  cargo_here test --locked --package kernels --package v8-host --package vector-index --package apps \
    --package app-proxy --lib -- properties
fi
if wanted outages; then
  step 'outages of Hypha and the engine'
  HYPHA_TEST_RESTARTS=10 HYPHA_TEST_OUTAGE_SECONDS=120 "$ROOT/scripts/test.sh" --fast --test it hypha_outages
fi
if wanted density; then
  need_wrk
  binary=$(built_engine)
  step '1,300 kernels at once'
  python3 "$ROOT/scripts/bench/density.py" --binary "$binary" --rounds 1 --check
fi
