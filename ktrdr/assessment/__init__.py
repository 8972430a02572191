"""The known state of each series and contract, and which bars are missing. Requests nothing."""
