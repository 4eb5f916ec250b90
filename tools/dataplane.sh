#!/usr/bin/env bash
# Builds the native data plane and installs its wheel into .venv, where there is a Rust toolchain. A stamp beside the
# environment says from which sources, so that unchanged ones cost nothing. Where it cannot be built, the system runs
# with the reference engine, and this says so; where CI=1 that is a failure.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

venv=.venv
stamp=$venv/.stamp-dataplane
wheels=build/wheels

is_installed() {
  compgen -G "$venv/lib/python3*/site-packages/parley_dataplane/_native*.so" >/dev/null
}

# digest: of all that the wheel is made from.
digest() {
  {
    find dataplane/core/src dataplane/udp/src dataplane/python -type f -not -name '*.pyc' -not -name '*.so' -print0
    printf '%s\0' dataplane/Cargo.{toml,lock} dataplane/rust-toolchain.toml dataplane/{core,udp}/Cargo.toml
  } | LC_ALL=C sort -z | xargs -0 cksum | cksum
}

# go_on <why>: what follows from having no fresh wheel.
go_on() {
  if is_installed; then
    echo "The native data plane is not rebuilt, since $1: the installed one is used as it is."
  else
    echo "The native data plane is not built, since $1. The SFU uses its reference engine, which is slower."
  fi
  [ -z "${CI:-}" ] || exit 1
  exit 0
}

if is_installed && [ "$(cat "$stamp" 2>/dev/null || true)" = "$(digest)" ]; then
  exit 0
fi

why=$(tools/rust.sh --missing)
[ -z "$why" ] || go_on "$why"

echo "Building the native data plane (once; this takes a minute or two)"
rm -rf "$wheels"
mkdir -p "$wheels"
if ! tools/rust.sh maturin build --release --locked --manifest-path python/Cargo.toml \
  --interpreter "$PWD/$venv/bin/python" --out "$PWD/$wheels" >"$wheels/log" 2>&1; then
  tail -n 40 "$wheels/log" >&2
  go_on "its build failed as told above"
fi
"$venv/bin/python" -m pip install --quiet --no-index --no-deps --force-reinstall "$wheels"/*.whl
digest >"$stamp"
