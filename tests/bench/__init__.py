"""Benches: speed and memory, measured in one run, as ratios where a machine's speed would show. `make bench`."""
