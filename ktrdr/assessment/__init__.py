"""Assessment: the known state of each series and contract, and its gaps. Requests nothing."""
