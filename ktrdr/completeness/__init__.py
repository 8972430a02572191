"""Which bars are missing, why, and whether that is verified: rules as pure functions."""
