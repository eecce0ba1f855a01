"""Benchmarks: medians, each with a raw baseline beside it in the same run. `python -m bench.NAME --json`."""
