#!/usr/bin/env bash
# Runs a command in dataplane/ with the Rust toolchain that rust-toolchain.toml names: `rust.sh cargo test`. Without one
# it says so, and that the command is skipped; where CI=1 that is a failure. `rust.sh --missing` only prints what is
# missing, and nothing where all is there. Programs of .venv are found too.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../dataplane"

venv=$PWD/../.venv
# rustup's folder is often only on the PATH of a login shell.
export PATH="$venv/bin:$PATH:${CARGO_HOME:-${HOME:-}/.cargo}/bin"
# pyo3 asks an interpreter; the abi3 wheel fits every one from 3.11 on.
[ ! -x "$venv/bin/python" ] || export PYO3_PYTHON="$venv/bin/python"

# value <key> <file>: what a TOML file gives a key that occurs once.
value() {
  sed -n "s/^$1 = \"\(.*\)\"\$/\1/p" "$2"
}

# missing: what the toolchain lacks, or nothing. rustup fetches the pinned toolchain here when it is first asked.
missing() {
  local found needed
  needed=$(value rust-version Cargo.toml)
  if ! command -v cargo >/dev/null || ! command -v rustc >/dev/null; then
    echo "there is no Rust toolchain (cargo)"
  elif ! command -v cc >/dev/null; then
    echo "there is no C compiler (cc), which Rust links with"
  elif ! found=$(rustc --version) || ! cargo --version >/dev/null; then
    echo "Rust $(value channel rust-toolchain.toml) could not be set up"
  else
    found=${found#rustc }
    found=${found%% *}
    if [ "$(printf '%s\n' "$needed" "$found" | sort -V | head -n 1)" != "$needed" ]; then
      echo "Rust $found is older than $needed"
    fi
  fi
}

why=$(missing)
if [ "${1:-}" = --missing ]; then
  echo "$why"
elif [ -z "$why" ]; then
  exec "$@"
else
  echo "Skipped, since $why: $*"
  echo "Rust $(value channel rust-toolchain.toml) comes with rustup, in a minute and without root."
  [ -z "${CI:-}" ] || exit 1
fi
