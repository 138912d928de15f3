#!/usr/bin/env bash
# Usage: scripts/setup.sh [--help]
#
# Prepares this clone for cargo: checks the build tools, points cargo at the prebuilt V8, at what Python
# kernels start from, at the local embedding model and at the modules that kernels have, and names the
# command `cargo xtask`. Running it again changes nothing;
# scripts/start-server.sh and scripts/test.sh run it first.
#
# Build tools: Rust (see rust-version in Cargo.toml), a C compiler, make, libclang, npm, pip. On Debian
# and Ubuntu, as root, all but Rust are installed with apt-get when they are missing.
#
# Environment:
#   DENO_APP_ENGINE_CACHE   where V8 and builds are kept (default: ~/.cache/deno-app-engine)
#   CARGO_TARGET_DIR        where cargo builds (default: the folder `target` in there)
#   RUSTY_V8_ARCHIVE        a V8 archive of your own, instead of the one in third_party/v8

set -euo pipefail
# shellcheck source=scripts/env.sh
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

case ${1:-} in
  '') ;;
  -h | --help)
    print_usage "${BASH_SOURCE[0]}"
    exit 0
    ;;
  *) die "unknown argument '$1' (see scripts/setup.sh --help)" ;;
esac

readonly V8_TARGET=x86_64-unknown-linux-gnu
readonly V8_FILE=librusty_v8_simdutf_release_$V8_TARGET.a.gz
readonly V8_SHA256=0d2b1cd18ffa22e882d5d122a27f5dbdc95415327ae20bc59f7a9c7f2cb6aced
readonly V8_SOURCE=$ROOT/third_party/v8/$V8_FILE
readonly V8_CACHED=$CACHE_DIR/v8/$V8_SHA256/$V8_FILE

readonly CONFIG=$ROOT/.cargo/config.toml
readonly CONFIG_MARK='# Written by scripts/setup.sh.'

# ---- build tools -----------------------------------------------------------------------------------

check_rust() {
  local remedy='Install Rust with rustup (https://rustup.rs), then run this again.'
  local wanted found
  need cargo "$remedy"
  need rustc "$remedy"
  found=$(cd "$ROOT" && rustc --version 2>/dev/null | cut -d' ' -f2) || true
  [[ -n $found ]] || die "rustc is on the PATH but does not run. With rustup: rustup default stable"
  wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$ROOT/Cargo.toml")
  at_least "$found" "${wanted:-0}" ||
    die "Rust $found is too old, $wanted or newer is needed. With rustup: rustup update stable"
  say "Rust $found"
}

# at_least FOUND WANTED, by major and minor number
at_least() {
  local found_major found_minor wanted_major wanted_minor rest
  IFS=. read -r found_major found_minor rest <<<"$1.0"
  IFS=. read -r wanted_major wanted_minor rest <<<"$2.0"
  : "$rest"
  ((found_major > wanted_major || (found_major == wanted_major && found_minor >= wanted_minor)))
}

has_cc() { has "${CC:-cc}"; }
has_pip() { python3 -m pip --version >/dev/null 2>&1; }

# One crate (libnghttp2) makes its bindings while it builds: that takes libclang and clang's own
# headers. The places are those that bindgen looks in.
has_libclang() {
  [[ -z ${LIBCLANG_PATH:-} ]] || return 0
  case $(uname -s) in
    Darwin) any_file /Library/Developer/CommandLineTools/usr/lib/libclang.dylib \
      /Applications/Xcode.app/Contents/Developer/Toolchains/XcodeDefault.xctoolchain/usr/lib/libclang.dylib \
      /usr/local/opt/llvm*/lib/libclang.dylib /opt/homebrew/opt/llvm*/lib/libclang.dylib ;;
    *) any_file /usr/lib*/libclang*.so* /usr/lib*/*/libclang*.so* /usr/lib*/*/*/libclang*.so* /usr/local/lib*/libclang*.so* &&
      any_file /usr/lib*/clang/*/include/stddef.h /usr/lib*/*/lib*/clang/*/include/stddef.h /usr/local/lib*/clang/*/include/stddef.h ;;
  esac
}

any_file() {
  local file
  for file; do
    if [[ -e $file ]]; then return 0; fi
  done
  return 1
}

# The Debian packages of what is missing.
missing_packages() {
  local packages=()
  has_cc || packages+=(gcc libc6-dev)
  has make || packages+=(make)
  has_libclang || packages+=(libclang-dev)
  has npm || packages+=(npm)
  has_pip || packages+=(python3-pip)
  printf '%s' "${packages[*]-}"
}

check_tools() {
  local missing
  missing=$(missing_packages)
  if [[ -n $missing ]] && can_apt; then
    # shellcheck disable=SC2086 # a list of package names
    apt_install $missing || die "apt-get could not install $missing; install them by hand, then run this again."
    missing=$(missing_packages)
  fi
  [[ -z $missing ]] || die "build tools are missing. Debian, Ubuntu: sudo apt-get install $missing." \
    "Fedora: sudo dnf install gcc make clang-devel npm python3-pip. macOS: xcode-select --install; brew install node python."
  say 'C compiler, make, libclang, npm and pip: found'
}

# ---- V8 --------------------------------------------------------------------------------------------

is_the_archive() { [[ -f $1 && $(sha256_of "$1") == "$V8_SHA256" ]]; }

# Cargo builds the v8 crate anew when the archive's path changes, so every clone uses one place.
place_archive() {
  if is_the_archive "$V8_CACHED"; then
    say 'V8: archive in place'
    return
  fi
  is_the_archive "$V8_SOURCE" || die "third_party/v8/$V8_FILE is missing or not the file it should be" \
    "(sha256 $V8_SHA256). Restore it: git checkout -- third_party/v8"
  local folder
  folder=$(dirname "$V8_CACHED")
  mkdir -p "$folder" || die "cannot create $folder. Set DENO_APP_ENGINE_CACHE to a folder that can be written."
  copy=$(mktemp "$folder/.copy.XXXXXX")
  trap 'rm -f "$copy"' EXIT
  cp "$V8_SOURCE" "$copy"
  chmod 644 "$copy"
  is_the_archive "$copy" || die "the copy in $folder is damaged: is that disk full?"
  # A rename, so that another set-up at the same moment never sees half a file.
  mv -f "$copy" "$V8_CACHED"
  say "V8: archive verified and copied to $folder"
}

toml_escape() {
  local text=${1//\\/\\\\}
  printf '%s' "${text//\"/\\\"}"
}

# What cargo must know, a line each: NAME = "value".
settings=()
set_for_cargo() { settings+=("$1 = \"$(toml_escape "$2")\""); }
readonly ALIAS='xtask = "run --quiet --package xtask --"'
config_text() {
  printf '%s\n[env]\n' "$CONFIG_MARK"
  printf '%s\n' "${settings[@]}"
  printf '\n[alias]\n%s\n' "$ALIAS"
}

config_is_ours() { [[ -f $CONFIG && $(head -n 1 "$CONFIG") == "$CONFIG_MARK" ]]; }

write_config() {
  if [[ -f $CONFIG ]] && ! config_is_ours; then
    local setting
    for setting in "${settings[@]}"; do
      grep -q "^ *${setting%% =*}" "$CONFIG" ||
        die ".cargo/config.toml is not from this script, so it stays as it is. Add to it, under [env]:"$'\n'"$setting"
    done
    say 'cargo: .cargo/config.toml is your own and has all that is needed'
    # The scripts do without it.
    grep -q "^ *${ALIAS%% =*} *=" "$CONFIG" || say "cargo: for \`cargo xtask\`, add to it, under [alias]: $ALIAS"
  elif [[ -f $CONFIG && $(cat "$CONFIG") == "$(config_text)" ]]; then
    say 'cargo: .cargo/config.toml in place'
  else
    mkdir -p "$(dirname "$CONFIG")"
    config_text >"$CONFIG.new"
    mv -f "$CONFIG.new" "$CONFIG"
    say 'cargo: .cargo/config.toml written'
  fi
}

set_up_v8() {
  local target
  target=${CARGO_BUILD_TARGET:-$(cd "$ROOT" && rustc -vV | sed -n 's/^host: //p')}
  if [[ -n ${RUSTY_V8_ARCHIVE:-} ]]; then
    # Cargo lets the environment win over its configuration.
    say "V8: RUSTY_V8_ARCHIVE is set, $RUSTY_V8_ARCHIVE is used"
  elif [[ $target == "$V8_TARGET" ]]; then
    place_archive
    set_for_cargo RUSTY_V8_ARCHIVE "$V8_CACHED"
  else
    say "V8: no archive for $target here, the v8 crate downloads its own"
  fi
}

check_rust
check_tools
set_up_v8
python_files=$("$ROOT/scripts/pyodide/prepare.sh")
set_for_cargo PYODIDE_DIST_DIR "$python_files"
model_files=$("$ROOT/scripts/local-model/prepare.sh")
set_for_cargo LOCAL_MODEL_DIR "$model_files"
module_files=$("$ROOT/scripts/builtin-modules/prepare.sh")
set_for_cargo BUILTIN_MODULES_DIR "$module_files"
# One cpython-host serves every CPython: none is looked for while building.
set_for_cargo PYO3_NO_PYTHON 1
write_config
