"""The one connection to IB: its states, pacing and requests. Only `client.py` uses IB's library."""
