#!/usr/bin/env bash
# Emulators of Azure's services, as local/emulators/package-lock.json says: `emulators.sh` installs them where that has not
# happened yet; `emulators.sh azurite ARGUMENT...` (or cosmosdb-server, azurite-blob, ...) also starts one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

folder=local/emulators
digest=$(cksum <"$folder/package-lock.json")
stamp=$folder/node_modules/.stamp
if [ "$(cat "$stamp" 2>/dev/null || true)" != "$digest" ]; then
  echo "Installing the emulators of Azure's services (once; this takes a minute)" >&2
  if tools/node.sh npm --prefix "$folder" ci --ignore-scripts --silent >&2; then
    echo "$digest" >"$stamp"
  else
    echo "They could not be installed. The tests that need them are skipped, or fail where CI=1." >&2
    [ $# -eq 0 ] && exit 0
    exit 1
  fi
fi
[ $# -gt 0 ] || exit 0

program=$folder/node_modules/.bin/$1
shift
[ -e "$program" ] || {
  echo "There is no such emulator: $(basename "$program")" >&2
  exit 2
}
exec tools/node.sh node "$program" "$@"
