"""Bar files (CSV), read into columns and written from rows. Uses no market."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from ktrdr.errors import MalformedFile
from ktrdr.sim.market.bars import Bars
from ktrdr.sim.market.market import Row

HEADER = "timestamp,open,high,low,close,volume"


def read_rows(path: Path) -> Bars:
    """The file's bars, each with its start as its end: a file does not contain lengths.

    MalformedFile names the line that cannot be read, or that is not later than the one before.
    """
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if not set(HEADER.split(",")) <= set(reader.fieldnames or []):
            raise MalformedFile(f"{path.name}: expected the columns {HEADER}")
        rows = [_row(path, reader.line_num, row) for row in reader]
    start = np.array([row.start for row in rows], np.int64)
    if (late := np.flatnonzero(np.diff(start) <= 0)).size:
        raise MalformedFile(f"{path.name}: line {late[0] + 3} is not later than the line before")
    opens, highs, lows, closes = (
        np.array([row[side] for row in rows], np.float64) for side in range(1, 5)
    )
    volume = np.array([row.volume for row in rows], np.int64)
    return Bars(start, start, opens, highs, lows, closes, volume)


def _row(path: Path, line: int, row: dict[str, str]) -> Row:
    try:
        opens, high, low, close = (float(row[side]) for side in ("open", "high", "low", "close"))
        return Row(_start(row["timestamp"]), opens, high, low, close, _volume(row["volume"]))
    except (ValueError, TypeError) as error:
        raise MalformedFile(f"{path.name}: line {line}: {error}") from error


def _start(text: str) -> int:
    stamp = datetime.fromisoformat(text)
    if stamp.tzinfo is None:
        raise ValueError(f"{text} has no zone")
    return int(stamp.timestamp())


def _volume(text: str) -> int:
    volume = float(text)
    if not volume.is_integer():
        raise ValueError(f"volume {text}: only whole ones can be served")
    return int(volume)


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write a file of these bars, with the shortest exact prices and whole volumes."""
    lines = [HEADER, *map(_line, rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _line(row: Row) -> str:
    stamp = datetime.fromtimestamp(row.start, UTC).isoformat(sep=" ")
    prices = ",".join(repr(price) for price in row[1:5])
    return f"{stamp},{prices},{row.volume}"
