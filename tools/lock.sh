#!/usr/bin/env bash
# Writes the lock files from pyproject.toml: what the Functions app needs in Azure, `make run`, and `make test`.
# The versions at hand are kept where they still fit; `lock.sh --upgrade` takes the newest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# compile <file> <extra> [uv's options...]
compile() {
  local file=$1 extra=$2
  shift 2
  echo "Writing $file"
  .venv/bin/uv pip compile pyproject.toml --quiet --generate-hashes --no-emit-index-url --no-header \
    --universal --python-version 3.11 --extra "$extra" --output-file "$file" "$@" >/dev/null
}

compile requirements.txt functions "$@"
compile requirements/run.txt local "$@"
compile requirements/azurite.txt azurite "$@"
compile requirements/dev.txt dev "$@"
