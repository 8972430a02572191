"""Requests for missing bars, and what their answers lead to. Does not talk to IB itself."""
