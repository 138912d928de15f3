#!/usr/bin/env bash
# Usage: scripts/bench.sh [--binary PATH] [--json-dir DIR] [--no-write]
#
# Builds the release profile, measures it and writes the table into docs/performance.md. Takes about
# a quarter of an hour after the build; let nothing else run meanwhile.
#   --binary PATH     measure this binary, build nothing
#   --json-dir DIR    keep the raw measurements and the servers' logs there
#   --no-write        only print the table
#
# Needs python3, the measuring scripts (BENCH_DIR, default ../shared/bench beside the repository) and,
# for executions a second, wrk (installed with apt-get when missing, as root).

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

bench_dir=${BENCH_DIR:-$ROOT/../shared/bench}

find_wrk() {
  if ! has wrk && can_apt; then apt_install wrk || true; fi
  command -v wrk || warn 'wrk is missing (Debian: apt-get install wrk), so executions a second are not measured'
}

free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# What the caller has set for an engine of theirs must not shape what is measured.
clear_settings() {
  local name
  for name in $(compgen -e); do
    case $name in
      ENGINE_* | KERNEL_* | LOGS_* | ALLOWED_KERNEL_TYPES | MAX_BODY_BYTES | LOG) unset "$name" ;;
    esac
  done
}

# measure NAME SETTINGS ARGUMENTS…: one run of measure_engine.py on a server of its own.
measure() {
  local name=$1 settings=$2 port
  shift 2
  port=$(free_port)
  step "$name: $settings"
  if ! python3 -B "$bench_dir/measure_engine.py" --base "http://127.0.0.1:$port" --langs typescript \
    --start "env $settings $(printf '%q' "$binary") serve --host 127.0.0.1 --port $port --data-dir $(printf '%q' "$out/data-$name")" \
    --server-log "$out/$name.log" --json "$out/$name.json" "$@" >/dev/null ||
    ! python3 -c 'import json, sys; sys.exit("error" in json.load(open(sys.argv[1]))["start"])' "$out/$name.json"; then
    tail -n 20 "$out/$name.log" >&2
    die "the server did not come up; its last lines stand above"
  fi
}

need python3 'The measuring scripts are written in it.'
[[ -f $bench_dir/measure_engine.py ]] ||
  die "no measure_engine.py in $bench_dir. Set BENCH_DIR to the folder of the measuring scripts."

if [[ -z $binary ]]; then
  "$ROOT/scripts/setup.sh"
  cargo_here build --release --locked --workspace --bins
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
python3 -B "$ROOT/scripts/bench_more.py" --bench-dir "$bench_dir" --binary "$binary" \
  --server-log "$out/more.log" --wrk "$wrk" --json "$out/more.json"

target=()
if [[ $write == true ]]; then target=(--write "$ROOT/docs/performance.md"); fi
python3 -B "$ROOT/scripts/bench_table.py" --cold "$out/cold.json" --pool "$out/pool.json" --more "$out/more.json" \
  --root "$ROOT" --load-before "$load_before" ${target[@]+"${target[@]}"}

step 'Apps'
python3 -B "$ROOT/scripts/bench_apps.py" --binary "$binary" ${target[@]+"${target[@]}"}

# peers NAME PIP_ARGUMENTS…: prints the Python of an environment that holds these packages.
peers() {
  local folder=$CACHE_DIR/$1
  shift
  if [[ ! -f $folder/complete ]]; then
    rm -rf "$folder"
    python3 -m venv "$folder"
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
    touch "$folder/complete"
  fi
  echo "$folder/bin/python"
}

step 'Python kernels, and ipykernel beside them'
python=$(peers bench-peer -r "$ROOT/tests/cpython-requirements.txt" ipykernel jupyter_client websockets)
"$python" -B "$ROOT/scripts/bench_python.py" --bench-dir "$bench_dir" --binary "$binary" ${target[@]+"${target[@]}"}

step 'Vectors, and other stores beside them (ten minutes)'
python=$(peers bench-vector-peers numpy orjson apsw sqlite-vec chromadb usearch faiss-cpu)
"$python" -B "$ROOT/scripts/bench_vectors.py" --bench-dir "$bench_dir" --binary "$binary" ${target[@]+"${target[@]}"}
