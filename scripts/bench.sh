#!/usr/bin/env bash
# Usage: scripts/bench.sh [--binary PATH] [--before PATH] [--only LIST] [--rounds N] [--set NAME=VALUE] [--set-before NAME=VALUE]
#                         [--json-dir DIR] [--no-write]
#
# Builds the release profile, measures it beside its peers and writes the tables into docs/performance.md: goal, ours,
# best peer, ratio. Takes an hour and a half after the build, and an hour more with --before. Let nothing else run meanwhile, above
# all nothing of the same binary, with which the measured servers would share memory.
#   --binary PATH             measure this binary, build nothing
#   --before PATH             another build: rounds of kernels, density, sizes, apps and embedding take turns with it, and their
#                             tables get its figures and the ratio
#   --only LIST               of conformance,kernels,density,sizes,apps,agents,embedding,vectors, separated by commas (all)
#   --rounds N                how often those five are measured; the median counts (kernels and apps: 10, the others: 3)
#   --set NAME=VALUE          a setting of their servers, such as KERNEL_ZYGOTE=true; may be given again
#   --set-before NAME=VALUE   the same for --before
#   --json-dir DIR            keep the values of all rounds there
#   --no-write                only print the tables
#
# Each step is a script of its own in scripts/bench/ with more options (--help), for example for a short run:
#   kernels.py   start, memory, creation, cells, output and computing of each kind of kernel
#   density.py   1,000 TypeScript and 300 Pyodide kernels at once
#   sizes.py     what things cost over their size: kernels 1 to 1,000, output 1 KB to 100 MB, apps 1 to 100
#   apps.py      apps: start, recovery, requests through the engine
# agents.py, embedding.py and vectors.py measure what they are named after; conformance.py checks the API, of any server.
#
# Needs python3 and wrk (installed with apt-get when missing, as root). The peers are fetched into the cache: ipykernel, Deno,
# Monty and vector stores with pip, workerd with npm. A peer that cannot be had is named under its table.

set -euo pipefail
# shellcheck source=scripts/env.sh
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

readonly BENCH=$ROOT/scripts/bench
readonly STEPS=conformance,kernels,density,sizes,apps,agents,embedding,vectors
readonly WORKERD_VERSION=1.20261117.1

binary='' before='' only=$STEPS json_dir='' write=true
# Of the scripts that measure in rounds.
rounds=()
while (($#)); do
  case $1 in
    -h | --help)
      print_usage "${BASH_SOURCE[0]}"
      exit 0
      ;;
    --binary | --before | --only | --rounds | --set | --set-before | --json-dir)
      [[ -n ${2:-} ]] || die "$1 needs a value (see scripts/bench.sh --help)"
      case $1 in
        --binary) binary=$(absolute_path "$2") ;;
        --before) before=$(absolute_path "$2") ;;
        --only) only=$2 ;;
        --json-dir) json_dir=$(absolute_path "$2") ;;
        *) rounds+=("$1" "$2") ;;
      esac
      shift
      ;;
    --no-write) write=false ;;
    *) die "unknown argument '$1' (see scripts/bench.sh --help)" ;;
  esac
  shift
done

for name in ${only//,/ }; do
  [[ ,$STEPS, == *,$name,* ]] || die "--only: there is no step $name; choose from $STEPS"
done

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

# Prints where workerd is, and fetches it first if need be; nothing where it cannot be had.
find_workerd() {
  local kind sum='' folder=$CACHE_DIR/workerd/$WORKERD_VERSION
  case $(uname -sm) in
    'Linux x86_64') kind=linux-64 sum=b7fa7bcbde8fc42e97cab6e6e72967b518e71f787e74d1599ee36c0f1c019bb9 ;;
    'Linux aarch64') kind=linux-arm64 ;;
    'Darwin arm64') kind=darwin-arm64 ;;
    *) return 0 ;;
  esac
  if [[ ! -x $folder/bin/workerd ]]; then
    if ! has npm || ! (npm_package "@cloudflare/workerd-$kind@$WORKERD_VERSION" "$sum" "$folder"); then
      warn 'workerd cannot be had (is npm there, and its registry within reach?), so nothing is compared with it'
      return 0
    fi
  fi
  printf '%s\n' "$folder/bin/workerd"
}

# step_of NAME TITLE PYTHON ARGUMENTS…: runs a script of scripts/bench/.
step_of() {
  local name=$1 title=$2 python=$3
  shift 3
  step "$title"
  "$python" "$BENCH/$name.py" --binary "$binary" "$@" ${target[@]+"${target[@]}"}
}

# in_rounds NAME TITLE PYTHON: the same for one that measures in rounds.
in_rounds() {
  local options=(${rounds[@]+"${rounds[@]}"})
  if [[ -n $before ]]; then options+=(--before "$before"); fi
  if [[ -n $json_dir ]]; then options+=(--json "$json_dir/$1.json"); fi
  step_of "$1" "$2" "$3" ${options[@]+"${options[@]}"}
}

wanted() { [[ ,$only, == *,$1,* ]]; }

need python3 'The measuring scripts are written in it.'
need_wrk

if [[ -z $binary ]]; then
  "$ROOT/scripts/setup.sh"
  cargo_here build --release --locked --package deno-app-engine --package cpython-host
  binary=$(built release)
fi
for program in "$binary" ${before:+"$before"}; do
  [[ -x $program ]] || die "no program at $program"
done
if [[ -n $json_dir ]]; then mkdir -p "$json_dir"; fi
clear_settings
target=()
if [[ $write == true ]]; then target=(--write "$ROOT/docs/performance.md"); fi

if wanted conformance; then
  step 'The API, call by call'
  python3 "$BENCH/conformance.py" --binary "$binary"
fi
if wanted kernels || wanted sizes; then
  BENCH_WORKERD=$(find_workerd)
  export BENCH_WORKERD
  python=$(environment_for bench-kernels python3 tests/cpython-requirements.txt scripts/bench/kernels.txt)
fi
if wanted kernels; then in_rounds kernels 'Servers and kernels, beside their peers' "$python"; fi
if wanted density; then in_rounds density '1,000 TypeScript and 300 Pyodide kernels at once' python3; fi
if wanted sizes; then in_rounds sizes 'Costs over size' "$python"; fi
if wanted apps; then in_rounds apps Apps python3; fi
if wanted agents; then step_of agents Agents python3; fi
if wanted embedding; then in_rounds embedding 'The local embedding model' python3; fi
if wanted vectors; then
  python=$(environment_for bench-vectors python3 scripts/bench/vectors.txt)
  step_of vectors 'Vectors, and other stores beside them (ten minutes)' "$python"
fi
