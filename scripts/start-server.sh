#!/usr/bin/env bash
# Usage: scripts/start-server.sh [flags of `deno-app-engine serve`]
#
# Sets this clone up, builds the engine (release profile) and starts it. Flags go to `serve`:
#   --host HOST       address to listen on (default 127.0.0.1)
#   --port PORT       port to listen on (default 8000)
#   --data-dir DIR    where the engine keeps its files
#   --no-auth         allow an address other than loopback without tokens
#
# `serve --help` has all of them; docs/configuration.md says more of each, and of the environment
# variables that mean the same.

set -euo pipefail
# shellcheck source=scripts/env.sh
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

case ${1:-} in
  -h | --help)
    print_usage "${BASH_SOURCE[0]}"
    exit 0
    ;;
esac

binary=$(built_engine)

# In the caller's folder, so that a relative --data-dir is theirs.
exec "$binary" serve "$@"
