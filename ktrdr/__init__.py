"""Keeps a folder of OHLCV CSV files complete from Interactive Brokers."""

__version__ = "0.2.0"
