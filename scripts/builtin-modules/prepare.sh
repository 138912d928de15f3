#!/usr/bin/env bash
# Usage: scripts/builtin-modules/prepare.sh [--help]
#
# Fetches the JavaScript modules that are part of the binary, and prints the folder they lie in: hypha-rpc, the client
# of Hypha, as its authors bundle it. scripts/setup.sh runs this; with nothing changed it does nothing.

set -euo pipefail
# shellcheck source=scripts/env.sh
. "$(dirname "${BASH_SOURCE[0]}")/../env.sh"

case ${1:-} in
  '') ;;
  -h | --help)
    print_usage "${BASH_SOURCE[0]}"
    exit 0
    ;;
  *) die "unknown argument '$1' (see scripts/builtin-modules/prepare.sh --help)" ;;
esac

readonly HYPHA_RPC=hypha-rpc@0.21.40
readonly HYPHA_RPC_SHA256=d16aa21c32b5c6c0e1ebc2dd7ec3473dfd0d50efeff9aaeeef31b43a2d9a982b

prepare() {
  local target=$1 work
  work=$(mktemp -d "$CACHE_DIR/builtin-modules/.work.XXXXXX")
  # shellcheck disable=SC2064 # the folder of now
  trap "rm -rf '$work'" EXIT
  step 'modules: fetching hypha-rpc'
  npm_package "$HYPHA_RPC" "$HYPHA_RPC_SHA256" "$work/hypha-rpc"
  mkdir "$work/out"
  # The map is not embedded.
  sed '/^\/\/# sourceMappingURL=/d' "$work/hypha-rpc/dist/hypha-rpc-websocket.min.mjs" >"$work/out/hypha-rpc.mjs"
  # Another set-up may have been faster.
  mv "$work/out" "$target" 2>/dev/null || [[ -d $target ]]
}

mkdir -p "$CACHE_DIR/builtin-modules"
target=$CACHE_DIR/builtin-modules/$(sha256_of "${BASH_SOURCE[0]}" | cut -c1-16)
if [[ -d $target ]]; then
  say 'modules: prepared'
else
  need npm 'Debian, Ubuntu: sudo apt-get install npm.'
  prepare "$target"
fi
printf '%s\n' "$target"
