#!/usr/bin/env bash
# Compares the stub of the native module with the compiled module (mypy's stubtest); needs the wheel, else says so.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if .venv/bin/python -c 'import parley_dataplane._native' 2>/dev/null; then
  MYPYPATH=dataplane/python exec .venv/bin/python -m mypy.stubtest parley_dataplane._native --concise
fi
echo "Skipped: the stub of parley_dataplane._native is not compared, since the native data plane is not installed."
[ -z "${CI:-}" ] || exit 1
