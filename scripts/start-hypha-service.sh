#!/usr/bin/env bash
# Usage: scripts/start-hypha-service.sh [flags of `deno-app-engine hypha`]
#
# Sets this clone up, builds the engine (release profile) and starts it as the service deno-app-engine of a Hypha
# server. Which server, as whom, say HYPHA_SERVER_URL, HYPHA_WORKSPACE, HYPHA_TOKEN and HYPHA_CLIENT_ID, in the
# environment or in .env of the working directory. Flags go to `hypha`:
#   --load-apps       run the apps that are published on the server
#   --port PORT       serve HTTP too, on this port
#   --data-dir DIR    where the engine keeps its files
#   --env-file FILE   variables, instead of those in .env
#
# `hypha --help` has all of them.

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

# In the caller's folder, so that .env and a relative --data-dir are theirs.
exec "$binary" hypha "$@"
