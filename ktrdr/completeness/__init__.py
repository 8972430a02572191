"""Which bars are missing, why, and whether that is proven: pure functions, no requests."""
