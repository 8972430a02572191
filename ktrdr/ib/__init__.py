"""The one connection to IB: its life, pace and requests. Only `client.py` knows IB's library."""
