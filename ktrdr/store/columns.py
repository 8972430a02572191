"""The columns of a bar file."""

from __future__ import annotations

import re
from collections.abc import Sequence

COLUMNS = ("timestamp", "open", "high", "low", "close", "volume")
HEADER = ",".join(COLUMNS)

OTHER_NAMES = {
    "timestamp": (
        "datetime", "date/time", "date time", "ts_event", "ts", "unix", "unix timestamp",
        "open time", "open_time", "opentime", "gmt time", "time (utc)", "local time",
        "date", "time", "",
    ),
    "open": ("o", "open price"),
    "high": ("h", "high price"),
    "low": ("l", "low price"),
    "close": ("c", "last", "close price", "close/last"),
    "volume": ("v", "vol", "vol.", "tick volume", "tickvol", "tick_volume"),
}  # fmt: skip
"""Columns → other names for them in files of other programs, in small letters; the first counts."""

_UNNAMED = re.compile(r"|Unnamed: \d+")
"""The names of the index of a DataFrame, as pandas writes it, and as it reads that again."""
_NUMBER = re.compile(r"\s*\d+(\.0)?\s*", re.ASCII)


def has_row_numbers(columns: Sequence[str], line: str) -> bool:
    """Whether the first of these columns numbers the rows, as an index of pandas does.

    `line`: one of the rows. New rows could not go on with the numbers.
    """
    first, _, _ = line.partition(",")
    return bool(_UNNAMED.fullmatch(columns[0]) and _NUMBER.fullmatch(first))
