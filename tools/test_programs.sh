#!/usr/bin/env bash
# Installs the programs that tests drive, from Debian packages, where that is possible (root and apt-get); with `bench`
# also those that benches compare with. What is missing elsewhere is named; the tests that need it are skipped, or fail
# where CI=1, and a bench has no number for it.
set -euo pipefail

# has <command> [file pattern]: whether a program is there.
has() {
  command -v "$1" >/dev/null || { [ -n "${2:-}" ] && compgen -G "$2" >/dev/null; }
}

missing=()
has postgres '/usr/lib/postgresql/*/bin/postgres' || missing+=(postgresql)
has chromium || missing+=(chromium)
has ffmpeg || missing+=(ffmpeg)
has espeak-ng || missing+=(espeak-ng)
has turnserver || missing+=(coturn)
has ip || missing+=(iproute2)
has nft || missing+=(nftables)
has squid || missing+=(squid)
if [ "${1:-}" = bench ]; then
  has janus || missing+=(janus)
fi
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "Not installed here: ${missing[*]}. The tests that need them are skipped."
  echo "On Debian: sudo apt-get install ${missing[*]}"
  exit 0
fi

echo "Installing ${missing[*]} (once)"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq || echo "The package lists could not be updated; trying with those at hand."
for package in "${missing[@]}"; do
  # RUNLEVEL=1 keeps the package from starting a server of the machine's own.
  RUNLEVEL=1 apt-get install -qq -y --no-install-recommends "$package" >/dev/null ||
    echo "$package could not be installed. The tests that need it are skipped, or fail where CI=1."
done
