#!/usr/bin/env bash
# Usage: scripts/start-hypha-server.sh [--host HOST] [--port PORT] [--workspace NAME] [--load-apps] [flags of `serve`]
#
# Sets this clone up, builds the engine (release profile) and starts it where clients of the original's embedded Hypha
# server look for it: /NAME/services/deno-app-engine/{method}, over HTTP. No Hypha server is needed, and none is in it:
# WebSocket clients need a real one, see start-hypha-service.sh.
#   --host HOST        address to listen on (HYPHA_CORE_HOST; default localhost)
#   --port PORT        port to listen on (HYPHA_CORE_PORT; default 9527)
#   --workspace NAME   the workspace in the address that is printed (HYPHA_CORE_WORKSPACE; default "default");
#                      requests may name any that their token is for
#   --load-apps        run the apps that are published on a Hypha server
#
# `serve --help` has all other flags.

set -euo pipefail
# shellcheck source=scripts/env.sh
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

host=${HYPHA_CORE_HOST:-localhost} port=${HYPHA_CORE_PORT:-9527} workspace=${HYPHA_CORE_WORKSPACE:-default}
flags=()
while (($# > 0)); do
  case $1 in
    -h | --help)
      print_usage "${BASH_SOURCE[0]}"
      exit 0
      ;;
    --host=* | --port=* | --workspace=*)
      set -- "${1%%=*}" "${1#*=}" "${@:2}"
      ;;
    --host | --port | --workspace)
      (($# > 1)) || die "$1 needs a value (see --help)"
      printf -v "${1#--}" '%s' "$2"
      shift 2
      ;;
    *)
      flags+=("$1")
      shift
      ;;
  esac
done
[[ $host != localhost ]] || host=127.0.0.1
if [[ -n ${HYPHA_CORE_JWT_SECRET:-} ]]; then
  warn 'HYPHA_CORE_JWT_SECRET is not used: tokens are those of ENGINE_TOKENS_FILE (deno-app-engine tokens add NAME)'
fi

binary=$(built_engine)

say "the service will be at http://$host:$port/$workspace/services/deno-app-engine"
# In the caller's folder, so that a relative --data-dir is theirs.
exec "$binary" serve --host "$host" --port "$port" "${flags[@]}"
