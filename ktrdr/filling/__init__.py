"""Requests for what is missing, and what comes of the answers. IB itself is never met here."""
