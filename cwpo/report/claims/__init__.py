"""The claims ledger: the paper's statements, the comparison that tests each of them, and a verdict computed from results."""
