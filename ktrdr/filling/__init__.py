"""Filling: requests for missing bars, and the handling of answers. Does not talk to IB itself."""
