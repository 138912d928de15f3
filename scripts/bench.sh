#!/usr/bin/env bash
# Usage: scripts/bench.sh [--binary PATH] [--json-dir DIR] [--no-write]
#
# Builds the release profile, measures it and writes the table into docs/performance.md. Takes about
# a quarter of an hour after the build; let nothing else run meanwhile.
#   --binary PATH     measure this binary, build nothing
#   --json-dir DIR    keep the raw measurements and the servers' logs there
#   --no-write        only print the table
#
# Needs python3 and, for executions a second, wrk (installed with apt-get when missing, as root). What it
# compares with (ipykernel and vector stores) is installed with pip into environments in the cache. The
# scripts are in scripts/bench/; engine.py measures any server with this HTTP API.

set -euo pipefail
# shellcheck source=scripts/env.sh
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

binary='' json_dir='' write=true
while (($#)); do
  case $1 in
    -h | --help)
      print_usage "${BASH_SOURCE[0]}"
      exit 0
      ;;
    --binary | --json-dir)
      [[ -n ${2:-} ]] || die "$1 needs a value (see scripts/bench.sh --help)"
      if [[ $1 == --binary ]]; then binary=$(absolute_path "$2"); else json_dir=$(absolute_path "$2"); fi
      shift
      ;;
    --no-write) write=false ;;
    *) die "unknown argument '$1' (see scripts/bench.sh --help)" ;;
  esac
  shift
done

readonly BENCH=$ROOT/scripts/bench

find_wrk() {
  if ! has wrk && can_apt; then apt_install wrk || true; fi
  command -v wrk || warn 'wrk is missing (Debian: apt-get install wrk), so executions a second are not measured'
}

# What the caller has set for an engine of theirs must not shape what is measured.
clear_settings() {
  local name
  for name in $(compgen -e); do
    case $name in
      ENGINE_* | KERNEL_* | LOGS_* | APPS_* | HYPHA_* | VECTORDB_* | ALLOWED_KERNEL_TYPES | LOAD_APPS | \
        MAX_BODY_BYTES | MAX_VECTOR_DB_INSTANCES | PYODIDE_PACKAGES_DIR | DENO_CACHED_ONLY | LOG) unset "$name" ;;
    esac
  done
}

# measure NAME SETTINGS ARGUMENTS…: one run of engine.py on a server of its own.
measure() {
  local name=$1 settings=$2 port
  shift 2
  port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  step "$name: $settings"
  if ! python3 "$BENCH/engine.py" --base "http://127.0.0.1:$port" \
    --start "env $settings $(printf '%q' "$binary") serve --host 127.0.0.1 --port $port --data-dir $(printf '%q' "$out/data-$name")" \
    --server-log "$out/$name.log" "$@" >"$out/$name.json" ||
    ! python3 -c 'import json, sys; sys.exit("error" in json.load(open(sys.argv[1]))["start"])' "$out/$name.json"; then
    tail -n 20 "$out/$name.log" >&2
    die "the server did not come up; its last lines stand above"
  fi
}

need python3 'The measuring scripts are written in it.'

if [[ -z $binary ]]; then
  "$ROOT/scripts/setup.sh"
  cargo_here build --release --locked --package deno-app-engine --package cpython-host
  binary=$(built release)
fi
[[ -x $binary ]] || die "no program at $binary"
wrk=$(find_wrk)

out=$json_dir
if [[ -z $out ]]; then
  out=$(mktemp -d)
  trap 'rm -rf "$out"' EXIT
fi
mkdir -p "$out"
clear_settings
load_before=$(cut -d' ' -f1 /proc/loadavg 2>/dev/null || echo '?')

# So that the first start does not wait for the disk.
cat "$binary" >/dev/null

measure cold KERNEL_POOL_ENABLED=false --only start,http,density,create,exec,stream,interrupt,throughput,api
# The density section is there for its four idle seconds, in which the pool fills up.
measure pool 'KERNEL_POOL_PRELOAD_CONFIGS=worker-typescript KERNEL_POOL_SIZE=16' --only start,density,create --density 1

step 'more: wrk, interrupts, restarts'
python3 "$BENCH/more.py" --binary "$binary" --server-log "$out/more.log" --wrk "$wrk" >"$out/more.json"

target=()
if [[ $write == true ]]; then target=(--write "$ROOT/docs/performance.md"); fi
python3 "$BENCH/table.py" --cold "$out/cold.json" --pool "$out/pool.json" --more "$out/more.json" \
  --root "$ROOT" --load-before "$load_before" ${target[@]+"${target[@]}"}

step 'Apps'
python3 "$BENCH/apps.py" --binary "$binary" ${target[@]+"${target[@]}"}

step 'Agents'
python3 "$BENCH/agents.py" --binary "$binary" ${target[@]+"${target[@]}"}

step 'Python kernels, and ipykernel beside them'
python=$(environment_for bench-python python3 tests/cpython-requirements.txt scripts/bench/python.txt)
"$python" "$BENCH/python.py" --binary "$binary" ${target[@]+"${target[@]}"}

step 'The local embedding model'
python3 "$BENCH/embedding.py" --binary "$binary" ${target[@]+"${target[@]}"}

step 'Vectors, and other stores beside them (ten minutes)'
python=$(environment_for bench-vectors python3 scripts/bench/vectors.txt)
"$python" "$BENCH/vectors.py" --binary "$binary" ${target[@]+"${target[@]}"}
