"""The columns of a bar file."""

from __future__ import annotations

COLUMNS = ("timestamp", "open", "high", "low", "close", "volume")
HEADER = ",".join(COLUMNS)
