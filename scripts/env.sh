# shellcheck shell=bash
# Sourced by the scripts beside it: where built things live, and how the scripts speak.
# Sourcing it in a shell of your own (`. scripts/env.sh`) makes plain `cargo` share the scripts' builds.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# An empty HOME would put caches at the file system's root; without the variable, bash and cargo ask
# the account database.
[[ -n ${HOME:-} ]] || unset HOME
HOME_DIR=~

absolute_path() {
  case $1 in
    /*) printf '%s\n' "$1" ;;
    *) printf '%s/%s\n' "$PWD" "$1" ;;
  esac
}

CACHE_DIR=$(absolute_path "${DENO_APP_ENGINE_CACHE:-${XDG_CACHE_HOME:-$HOME_DIR/.cache}/deno-app-engine}")

# Outside the clone, so that a second clone builds on what the first one built.
CARGO_TARGET_DIR=$(absolute_path "${CARGO_TARGET_DIR:-$CACHE_DIR/target}")
export CARGO_TARGET_DIR

# ---- messages: to stderr, coloured only on a terminal ----------------------------------------------

if [[ -t 2 && -z ${NO_COLOR:-} && ${TERM:-dumb} != dumb ]]; then
  _bold=$'\e[1m' _red=$'\e[31m' _yellow=$'\e[33m' _plain=$'\e[0m'
else
  _bold='' _red='' _yellow='' _plain=''
fi

say() { printf '%s\n' "$*" >&2; }
step() { printf '%s%s%s\n' "$_bold" "$*" "$_plain" >&2; }
warn() { printf '%swarning:%s %s\n' "$_yellow" "$_plain" "$*" >&2; }
die() {
  printf '%serror:%s %s\n' "$_red" "$_plain" "$*" >&2
  exit 1
}

# The comment at the head of a script, up to the first empty line, is its --help.
print_usage() { sed -n '2,/^$/s/^# \{0,1\}//p' "$1"; }

# ---- commands --------------------------------------------------------------------------------------

has() { command -v "$1" >/dev/null 2>&1; }

# sha256_of FILE
sha256_of() {
  if has sha256sum; then sha256sum "$1"; else shasum -a 256 "$1"; fi | cut -d' ' -f1
}

# npm_package NAME@VERSION SHA256 FOLDER: unpacks a package from the npm registry there. Without a sum,
# npm's own check against the registry is the only one.
npm_package() {
  local package=$1 sum=$2 folder=$3 file
  mkdir -p "$folder"
  file=$folder/$(cd "$folder" && npm pack "$package" --silent 2>/dev/null | tail -n 1)
  [[ -f $file ]] || die "npm could not fetch $package: is the registry within reach (npm ping)?"
  [[ -z $sum || $(sha256_of "$file") == "$sum" ]] || die "$package is not the file it should be (sha256 $sum)"
  tar -xzf "$file" -C "$folder" --strip-components 1
  rm -f "$file"
}

# need COMMAND REMEDY
need() { has "$1" || die "$1 is missing. $2"; }

# Debian packages can be had without asking only as root; anyone else is told what to install.
can_apt() { [[ $(id -u) == 0 ]] && has apt-get; }

apt_install() {
  local log
  log=$(mktemp)
  say "installing with apt-get: $*"
  # The lock time-out is for machines where another apt-get is at work.
  if ! { apt-get -o DPkg::Lock::Timeout=300 update -qq &&
    DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "$@"; } \
    >"$log" 2>&1 </dev/null; then
    tail -n 20 "$log" >&2
    rm -f "$log"
    return 1
  fi
  rm -f "$log"
}

# The load generator of the measuring scripts.
need_wrk() {
  if ! has wrk && can_apt; then apt_install wrk; fi
  need wrk 'Debian, Ubuntu: sudo apt-get install wrk.'
}

# ---- Python ------------------------------------------------------------------------------------------

python_version() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])'; }

# environment_for NAME PYTHON REQUIREMENTS…: prints the interpreter of an environment that has what these
# files of the repository list. It is made once, in the cache.
environment_for() {
  local name=$1 python=$2 version folder
  shift 2
  local files=("${@/#/$ROOT/}")
  version=$(python_version "$python")
  folder=$CACHE_DIR/$name/$version-$(cat "${files[@]}" | cksum | cut -d' ' -f1)
  if [[ ! -f $folder/complete ]]; then
    step "Python $version: installing the packages of $*"
    if ! "$python" -c 'import ensurepip' 2>/dev/null && can_apt; then apt_install python3-venv; fi
    rm -rf "$folder"
    "$python" -m venv "$folder" >&2
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --prefer-binary \
      "${files[@]/#/--requirement=}" >&2 || die "pip could not install the packages of $*"
    touch "$folder/complete"
  fi
  printf '%s\n' "$folder/bin/python"
}

# ---- cargo -------------------------------------------------------------------------------------------

# Cargo and rustc, also where rustup has put them without this shell knowing, or where HOME has been
# pointed elsewhere: rustup's cargo looks for toolchains in $HOME/.rustup and, without any, does not run.
find_rust() {
  local cargo home=$HOME_DIR
  if ! has cargo && [[ -x ${CARGO_HOME:-$home/.cargo}/bin/cargo ]]; then
    PATH=${CARGO_HOME:-$home/.cargo}/bin:$PATH
  fi
  cargo=$(command -v cargo) || return 0
  if [[ -z ${RUSTUP_HOME:-} && ! -d $home/.rustup/toolchains ]]; then
    home=$(cd "$(dirname "$cargo")/../.." && pwd)
    if [[ -d $home/.rustup/toolchains ]]; then export RUSTUP_HOME=$home/.rustup; fi
  fi
}
find_rust

# rustup goes by names: it would fetch the version of rust-toolchain.toml although `stable` is just that.
use_stable_if_pinned() {
  local pinned
  if ! has rustup || [[ -n ${RUSTUP_TOOLCHAIN:-} ]]; then return; fi
  pinned=$(sed -n 's/^channel = "\(.*\)"/\1/p' "$ROOT/rust-toolchain.toml")
  if [[ $'\n'$(rustup toolchain list) != *$'\n'"$pinned-"* &&
    $(rustup run stable rustc --version 2>/dev/null) == "rustc $pinned "* ]]; then
    export RUSTUP_TOOLCHAIN=stable
  fi
}
use_stable_if_pinned

# cargo, run where it finds this repository's .cargo/config.toml, wherever the user stands.
cargo_here() { (cd "$ROOT" && exec cargo "$@"); }

# built_engine: sets this clone up, builds the release profile, and prints where the binary is.
built_engine() {
  local binary
  "$ROOT/scripts/setup.sh" >&2
  binary=$(built release)
  if [[ ! -x $binary ]]; then say 'building: the first build takes a while (see README.md)'; fi
  cargo_here build --release --locked --package deno-app-engine --package cpython-host >&2
  printf '%s\n' "$binary"
}

# built PROFILE: where cargo leaves the binary of that profile.
built() { printf '%s\n' "$CARGO_TARGET_DIR${CARGO_BUILD_TARGET:+/$CARGO_BUILD_TARGET}/$1/deno-app-engine"; }
