#!/usr/bin/env bash
# Usage: tests/hypha/server.sh start DIR [PID] | stop DIR | env DIR
#
# A real Hypha server for tests, on free ports of 127.0.0.1: Hypha, the S3 server that its artifact
# manager needs (moto, in memory), and the published apps of seed.py.
#   start   starts what does not run, and prints the environment of its clients; with PID, everything
#           ends and DIR is removed when that process ends
#   stop    ends everything; what was published is gone
#   env     prints the environment of the clients
#
# DIR holds what it keeps: `env` (NAME=value lines), and a log and a pid file of each server. When only
# Hypha has ended, `start` brings it back at the same address, with its data and its tokens.
#
# Environment:
#   HYPHA_TEST_PYTHON   Python with the packages of tests/hypha/requirements.txt (scripts/test.sh
#                       makes one)

set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# Most seconds until a server answers. An idle machine needs less than ten.
readonly PATIENCE=180

say() { printf '%s\n' "$*" >&2; }
die() {
  say "error: $*"
  exit 1
}
usage() { sed -n '2,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }

# ---- processes -------------------------------------------------------------------------------------

# started PID: when it started, in clock ticks since boot, unless it has ended. Numbers of processes
# are used again.
started() {
  local stat
  { stat=$(<"/proc/$1/stat"); } 2>/dev/null || return 1
  read -ra stat <<<"${stat##*) }"
  [[ ${stat[0]} != [ZX] ]] && printf '%s\n' "${stat[19]}"
}

# launch NAME COMMAND...: in the background, in a session of its own. It must not hold the lock.
launch() {
  local name=$1
  shift
  (cd "$DIR" && exec setsid "$@") >"$DIR/$name.log" 2>&1 </dev/null 9>&- &
  printf '%s %s\n' "$!" "$(started "$!")" >"$DIR/$name.pid"
}

# pid_of NAME: its process, when it runs.
pid_of() {
  local pid when
  [[ -f $DIR/$1.pid ]] || return 1
  read -r pid when <"$DIR/$1.pid" || return 1
  [[ -n $when && $(started "$pid") == "$when" ]] || return 1
  printf '%s\n' "$pid"
}

alive() { pid_of "$1" >/dev/null; }

end() {
  local pid deadline=$((SECONDS + 10))
  if pid=$(pid_of "$1"); then
    kill "$pid" 2>/dev/null || true
    while alive "$1" && ((SECONDS < deadline)); do sleep 0.05; done
    if alive "$1"; then kill -KILL "$pid" 2>/dev/null || true; fi
  fi
  rm -f "$DIR/$1.pid"
}

# wait_until_ready NAME PORT PATH
wait_until_ready() {
  local pid
  pid=$(pid_of "$1") && "$PYTHON" - "$1" "$pid" "http://127.0.0.1:$2$3" "$PATIENCE" <<'PY' && return
import sys, time, urllib.request

name, pid, url, patience = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))

def ended():
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(") ")[2][0] in "ZX"
    except OSError:
        return True

begin = reported = time.monotonic()
while True:
    try:
        direct.open(url, timeout=2)
        break
    except OSError:
        pass
    if ended():
        sys.exit(f"{name} has ended")
    now = time.monotonic()
    if now - begin > patience:
        sys.exit(f"{name} did not answer within {patience} s")
    if now - reported >= 5:
        reported = now
        print(f"{name} is starting: {now - begin:.0f} s", file=sys.stderr)
    time.sleep(0.1)
if ended():
    sys.exit(f"something else than {name} answers at {url}")
print(f"{name} answers after {time.monotonic() - begin:.1f} s", file=sys.stderr)
PY
  tail -n 30 "$DIR/$1.log" >&2
  return 1
}

# ---- the servers -----------------------------------------------------------------------------------

free_port() {
  "$PYTHON" -c 'import socket
with socket.socket() as s:
    s.bind(("127.0.0.1", 0))
    print(s.getsockname()[1])'
}

# A secret is kept while DIR is: tokens are valid as long as the JWT secret stays the same.
secret() {
  [[ -s $DIR/$1 ]] || (umask 077 && "$PYTHON" -c 'import secrets; print(secrets.token_hex(40))' >"$DIR/$1")
  cat "$DIR/$1"
}

s3_ready() { wait_until_ready s3 "$(cat "$DIR/s3.port")" /moto-api/; }
hypha_ready() { wait_until_ready hypha "$(cat "$DIR/hypha.port")" /health/readiness; }

start_s3() {
  free_port >"$DIR/s3.port"
  launch s3 "$PYTHON" -m moto.server -H 127.0.0.1 -p "$(cat "$DIR/s3.port")"
  s3_ready
}

start_hypha() {
  local s3
  s3=http://127.0.0.1:$(cat "$DIR/s3.port")
  # Apps need no browser here.
  HYPHA_DISABLE_INPROCESS_BROWSER_WORKER=true JWT_SECRET=$(secret jwt_secret) launch hypha "$PYTHON" -m hypha.server \
    --host 127.0.0.1 --port "$(cat "$DIR/hypha.port")" --root-token "$(secret root_token)" \
    --database-uri "sqlite+aiosqlite:///$DIR/hypha.db" \
    --enable-server-apps --enable-s3 --s3-admin-type generic --endpoint-url "$s3" --endpoint-url-public "$s3" \
    --access-key-id testing --secret-access-key testing --region-name us-east-1
  hypha_ready
}

start_hypha_anywhere() {
  free_port >"$DIR/hypha.port"
  start_hypha
}

# Another process may take a free port before its server does.
try_again() {
  local attempt
  for attempt in 1 2 3; do
    if "$@"; then return; fi
    say "attempt $attempt failed"
  done
  return 1
}

seed() {
  HYPHA_SERVER_URL=http://127.0.0.1:$(cat "$DIR/hypha.port") JWT_SECRET=$(secret jwt_secret) \
    HYPHA_ROOT_TOKEN=$(secret root_token) "$PYTHON" "$HERE/seed.py" seed "$DIR/env"
}

start() {
  if ! alive s3 || ! s3_ready; then
    end hypha
    end s3
    # The database names files that were in the memory of the S3 server.
    rm -f "$DIR"/hypha.db* "$DIR/env"
    try_again start_s3 || die "the S3 server does not start, see $DIR/s3.log"
  fi
  if [[ ! -f $DIR/env ]]; then
    end hypha
    rm -f "$DIR"/hypha.db*
    try_again start_hypha_anywhere || die "Hypha does not start, see $DIR/hypha.log"
    seed || die 'the apps could not be published'
  elif ! alive hypha || ! hypha_ready; then
    start_hypha || die "Hypha does not start again at its address, see $DIR/hypha.log"
  fi
  if [[ -n $OWNER ]]; then
    end owner
    # shellcheck disable=SC2016 # expanded by the shell that waits
    launch owner bash -c 'tail --pid="$1" -f /dev/null; "$2" stop "$3"; cd "$3" &&
      rm -f env lock root_token jwt_secret hypha.* s3.* owner.* && rmdir "$3"' \
      _ "$OWNER" "$HERE/server.sh" "$DIR"
  fi
}

stop() {
  # Whoever waits for the owner's end may be the one who calls.
  if [[ $(pid_of owner) != "$PPID" ]]; then end owner; fi
  end hypha
  end s3
  rm -f "$DIR/env"
}

COMMAND=${1:-} DIR=${2:-} OWNER=${3:-} PYTHON=${HYPHA_TEST_PYTHON:-}
case $COMMAND in
  -h | --help)
    usage
    exit 0
    ;;
  start | stop | env) [[ -n $DIR ]] || die "$COMMAND needs the folder DIR (see $0 --help)" ;;
  *)
    usage >&2
    exit 2
    ;;
esac
if [[ $COMMAND == start ]]; then
  [[ -x $PYTHON ]] || die 'HYPHA_TEST_PYTHON is not an interpreter: scripts/test.sh makes one and sets it'
  mkdir -p "$DIR"
fi
[[ -d $DIR ]] || die "there is no folder $DIR"
DIR=$(cd "$DIR" && pwd)
exec 9>"$DIR/lock"
flock 9
case $COMMAND in
  start)
    start
    cat "$DIR/env"
    ;;
  stop) stop ;;
  env) cat "$DIR/env" 2>/dev/null || die "no server was started in $DIR" ;;
esac
