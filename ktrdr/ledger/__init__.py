"""The ledger: records of requests to IB and their answers, in SQLite. Draws no conclusions."""
