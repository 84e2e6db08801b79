"""Append-only segments on local disk: every count durable before its call ends, whatever dies in between."""
