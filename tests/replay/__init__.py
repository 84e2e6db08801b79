"""Recorded exchanges, served again: through the sidecar and direct, by plain bytes and by the providers' own SDKs."""
