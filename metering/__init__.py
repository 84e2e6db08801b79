"""Token-economics metering and chargeback: count every inference call, charge it, explain it."""
