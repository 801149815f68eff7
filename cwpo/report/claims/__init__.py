"""The claims ledger: what the paper says, the comparison that tests each statement, and a verdict computed from results."""
