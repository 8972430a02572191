"""Records of requests to IB and their answers: SQLite in the store. Draws no conclusions."""
