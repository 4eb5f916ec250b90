#!/usr/bin/env bash
# The static checks of the data plane, each from its lock file as it stands (--locked): format, clippy, licences, bans
# and sources of all crates, and documentation without warnings. `tools/rust.sh ../tools/check_rust.sh` runs it with the
# toolchain. Advisories are left out: their database is a download of the day, and a check has to say the same tomorrow.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../dataplane"

status=0
# check <what> <command...>: runs it and says what failed; the rest is checked all the same.
check() {
  local what=$1
  shift
  "$@" || { echo "The data plane's $what: failed" >&2; status=1; }
}

for manifest in Cargo.toml fuzz/Cargo.toml; do
  check "format" cargo fmt --manifest-path "$manifest" --all --check
  check "lints" cargo clippy --quiet --manifest-path "$manifest" --workspace --all-targets --locked -- -D warnings
  check "licences, bans and sources" cargo-deny --log-level error --locked --config deny.toml --manifest-path "$manifest" \
    check --hide-inclusion-graph bans licenses sources
done
RUSTDOCFLAGS="-D warnings" check "documentation" cargo doc --quiet --workspace --no-deps --locked
exit "$status"
