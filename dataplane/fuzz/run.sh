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
work=$root/build/fuzz
target_dir=${CARGO_TARGET_DIR:-$work/target}
triple=$(rustc -vV | sed -n 's/^host: //p')

if ! command -v c++ >/dev/null; then
    echo "Skipped: fuzzing needs a C++ compiler (c++) for libFuzzer."
    [ -z "${CI:-}" ]
    exit
fi
if ! command -v cargo-fuzz >/dev/null; then
    # .venv has one; this is for whoever runs the script by itself.
    PATH=$root/build/cargo-tools/bin:$PATH
    [ -x "$root/build/cargo-tools/bin/cargo-fuzz" ] ||
        cargo install cargo-fuzz --version 0.13.2 --locked --root "$root/build/cargo-tools" --target-dir "$target_dir"
fi
cargo fuzz build --fuzz-dir . --sanitizer none --target-dir "$target_dir"

[ $# -gt 0 ] || set -- $(cargo fuzz list --fuzz-dir .)
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
