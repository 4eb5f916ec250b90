#!/bin/sh
# Fuzzes the data plane: run.sh SECONDS [target...]
#
# Builds all targets once with the pinned stable toolchain (no sanitizer: that needs nightly; debug assertions and
# overflow checks are on), then runs each for SECONDS from its seeds. New inputs go to build/fuzz/corpus and are used
# again by the next run. Fails on a crash, a hang or a leap of memory, and prints where the input is that caused it.
set -eu

usage="usage: run.sh SECONDS [target...]"
seconds=${1:?$usage}
shift
case $seconds in *[!0-9]* | 0) echo "$usage" >&2; exit 2 ;; esac

cd "$(dirname "$0")"
root=$(cd ../.. && pwd)
tools=$root/build/cargo-tools
work=$root/build/fuzz
target_dir=${CARGO_TARGET_DIR:-$work/target}
triple=$(rustc -vV | sed -n 's/^host: //p')

if [ ! -x "$tools/bin/cargo-fuzz" ]; then
    cargo install cargo-fuzz --version 0.13.2 --locked --root "$tools" --target-dir "$target_dir"
fi
"$tools/bin/cargo-fuzz" build --fuzz-dir . --sanitizer none --target-dir "$target_dir"

[ $# -gt 0 ] || set -- $("$tools/bin/cargo-fuzz" list --fuzz-dir .)
failed=
for target in "$@"; do
    corpus=$work/corpus/$target
    artifacts=$work/artifacts/$target
    mkdir -p "$corpus" "$artifacts"
    echo "== $target: $seconds s =="
    if ! "$target_dir/$triple/release/$target" "$corpus" "seeds/$target" \
        -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 \
        -artifact_prefix="$artifacts/" >"$artifacts/log" 2>&1; then
        tail -n 40 "$artifacts/log"
        failed="$failed $target"
        continue
    fi
    grep -E '^(Done|stat::(number_of_executed_units|new_units_added|peak_rss_mb))' "$artifacts/log"
done

for target in $failed; do
    reproducer=$(ls -t "$work/artifacts/$target"/*-* 2>/dev/null | head -n 1)
    echo "failed: $target; reproducer: ${reproducer:-none, see $work/artifacts/$target/log}" >&2
done
[ -z "$failed" ]
