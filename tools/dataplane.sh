#!/usr/bin/env bash
# Builds the native data plane and installs its wheel into .venv, where there is a Rust toolchain. A stamp beside the
# environment says from which sources, so that unchanged ones cost nothing. Without a toolchain it says what follows.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

venv=.venv
stamp=$venv/.stamp-dataplane
wheels=build/wheels

if ! command -v cargo >/dev/null; then
  if "$venv/bin/python" -c 'import parley_dataplane._native' 2>/dev/null; then
    echo "There is no Rust toolchain: the installed native data plane is used as it is."
  else
    echo "There is no Rust toolchain (cargo): the SFU uses its reference engine, which is slower. To build the native"
    echo "data plane, install Rust $(sed -n 's/^channel = "\(.*\)"/\1/p' dataplane/rust-toolchain.toml) with rustup and start again."
  fi
  exit 0
fi

digest() {
  { find dataplane/core/src dataplane/udp/src dataplane/python -type f -not -path '*/target/*' -not -name '*.so' \
      -not -name '*.pyc' -print0; printf '%s\0' dataplane/Cargo.toml dataplane/Cargo.lock dataplane/rust-toolchain.toml \
      dataplane/core/Cargo.toml dataplane/udp/Cargo.toml; } | LC_ALL=C sort -z | xargs -0 cksum | cksum
}

[ "$(cat "$stamp" 2>/dev/null || true)" != "$(digest)" ] || exit 0

echo "Building the native data plane (once; this takes a minute or two)"
rm -rf "$wheels"
if ! "$venv/bin/maturin" build --quiet --release --locked --manifest-path dataplane/python/Cargo.toml \
  --interpreter "$venv/bin/python" --out "$wheels"; then
  echo "The native data plane could not be built; what is above says why. The SFU uses its reference engine."
  [ -z "${CI:-}" ] || exit 1
  exit 0
fi
"$venv/bin/python" -m pip install --quiet --no-index --no-deps --force-reinstall "$wheels"/*.whl
digest >"$stamp"
