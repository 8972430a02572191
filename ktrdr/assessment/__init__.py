"""What each series and each contract is known to be, and what a series lacks. Requests nothing."""
