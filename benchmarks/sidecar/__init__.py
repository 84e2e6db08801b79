"""What the sidecar costs beside nginx, a direct connection and its peers: `python -m benchmarks.sidecar`."""
