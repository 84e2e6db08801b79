"""From the spool to the ledger, exactly once. The only room of the sidecar that knows the ledger."""
