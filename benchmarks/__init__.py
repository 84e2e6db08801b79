"""Measurements that prove a bar. Each runs as `python -m benchmarks.NAME --output json|table [--quick]`."""
