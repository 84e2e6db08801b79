"""Faults on purpose, on real programs: see `python -m benchmarks.faults --help` and docs/faults.md."""
