"""What a person can do about a bar file that cannot be read, by the text found there. No I/O."""

from __future__ import annotations

import math
import re
import shlex
from collections import Counter
from datetime import date, datetime

from ktrdr.store.columns import COLUMNS, HEADER, OTHER_NAMES
from ktrdr.store.missing_values import is_missing

EXAMPLE = "2026-11-20 14:30:00+00:00"

_MOVE = "or move the file away"
_WEB_PAGE = "it is a web page, such as the error of a download: download the bars again"
_OTHER_FORMATS = (
    (b"\x1f\x8b", "it is compressed (gzip): decompress it"),
    (b"BZh", "it is compressed (bzip2): decompress it"),
    (b"\xfd7zXZ", "it is compressed (xz): decompress it"),
    (b"\x28\xb5\x2f\xfd", "it is compressed (zstd): decompress it"),
    (b"7z\xbc\xaf", "it is an archive (7z): decompress it"),
    (b"PK\x03\x04", "it is a zip archive or a spreadsheet: write its table as CSV"),
    (b"\xd0\xcf\x11\xe0", "it is a spreadsheet: write its table as CSV"),
    (b"PAR1", "it is a Parquet file: write its table as CSV"),
    (b"ARROW1", "it is a Feather file: write its table as CSV"),
    (b"\xff\xfe", "it is UTF-16: save it as UTF-8"),
    (b"\xfe\xff", "it is UTF-16: save it as UTF-8"),
    *((begin, _WEB_PAGE) for begin in (b"<!", b"<html", b"<HTML", b"<?xml")),
    (b"{", "it is JSON: write its bars as CSV"),
    (b"[", "it is JSON: write its bars as CSV"),
)
"""How a file begins → what it is, and what to do."""
_SEPARATORS = {";": "';'", "\t": "a tab", "|": "'|'"}
_UNITS = {13: ("milliseconds", 1_000), 16: ("microseconds", 10**6), 19: ("nanoseconds", 10**9)}
"""How many digits a time of these years has."""


def check_command(name: str) -> str:
    """The command that checks the file `name` of a series: `.venv/bin/ktrdr check AAPL 1m`."""
    symbol, _, timeframe = name.removesuffix(".csv").rpartition("_")
    which = f" {shlex.quote(symbol)} {timeframe}" if symbol else ""
    return f".venv/bin/ktrdr check{which}"


def by_hand(name: str, advice: str) -> str:
    """A hint for a row that a person has to correct."""
    return f"{advice}; {check_command(name)} names each such line"


def by_fix(name: str, how: str) -> str:
    """A hint for a row that `ktrdr check --fix` corrects; `how` is how it does that."""
    return f"{check_command(name)} --fix {how}, and keeps the old file in .ktrdr/replaced"


# The first line.


def other_format(head: bytes) -> str:
    """What a file is that begins so, and what to do; empty: it may be text."""
    begun = (advice for begin, advice in _OTHER_FORMATS if head.lstrip().startswith(begin))
    return next(begun, "")


def header_hint(line: bytes, text: str, columns: tuple[str, ...]) -> str:
    """What to do about a first line that is not a header; `text` and `columns` are what it has."""
    if advice := other_format(line):
        return f"{advice}, with the first line {HEADER}; {_MOVE}"
    if b"\0" in line:
        return f"it begins with zero bytes, as after a power failure: restore it, {_MOVE}"
    for separator, shown in _SEPARATORS.items():
        if text.count(separator) > text.count(","):
            what = f"separate its columns by ',' and not by {shown}, with decimal points"
            return f"{what}, and begin with the first line {HEADER}; {_MOVE}"
    if _is_row(columns):
        return f"it begins with a row: add the first line, such as {HEADER}; {_MOVE}"
    if len(columns) == 1 or text.lower().startswith(("#", "sep=")):
        return f"remove what is before the header, so that {HEADER} is the first line; {_MOVE}"
    return f"correct its first line: {'; '.join(_corrections(columns))}; {_MOVE}"


def _corrections(columns: tuple[str, ...]) -> list[str]:
    """What to do with the columns, one by one."""
    steps = [
        f"the column {name!r} is there {count} times: remove or rename the others"
        for name, count in Counter(columns).items()
        if count > 1
    ]
    there = {name.lower().strip("<>\"'"): name for name in reversed(columns)}
    renamed, missing = [], []
    for column, others in OTHER_NAMES.items():
        found = next((there[name] for name in (column, *others) if name in there), None)
        if found is None:
            missing.append(column)
        elif found != column and column not in columns:
            renamed.append(f"{found!r} to {column}")
    if renamed:
        steps.append(f"rename {', '.join(renamed)}")
    if {"date", "time"} <= there.keys():
        dates, times = there["date"], there["time"]
        steps.append(f"join {dates!r} and {times!r} in one column timestamp, such as {EXAMPLE}")
    elif any(one.endswith(" to timestamp") for one in renamed):
        steps.append("times without an offset count as UTC")
    if missing:
        volume = " (a volume that is not known is -1)" if "volume" in missing else ""
        steps.append(f"add {', '.join(missing)}{volume}")
    return steps


def _is_row(columns: tuple[str, ...]) -> bool:
    """It has numbers where a header has names."""
    return sum(map(_is_number, columns)) >= len(COLUMNS) - 2


# Rows.


def time_hint(name: str, text: str) -> str:
    """What to do about a time that cannot be read."""
    cell = text.strip()
    if not cell:
        advice = by_fix(name, "drops empty lines")
        return f"{advice}; add the time to a row without one, or remove the row"
    if cell == COLUMNS[0]:
        return by_fix(name, "drops a repeated header")
    if cell[0] in "\"'":
        return by_hand(name, "write it without quotes")
    if cell.isascii() and cell.isdigit():
        unit, divisor = _UNITS.get(len(cell), ("", 0))
        if unit:
            advice = f"it is in {unit}: write seconds, {int(cell) // divisor}"
            return by_hand(name, f"{advice}, or a time such as {EXAMPLE}")
    if "\0" in cell:
        return by_hand(name, "zero bytes are left by a power failure: remove the line")
    return by_hand(name, f"write it like {EXAMPLE}, or remove the row")


def fraction_hint(name: str) -> str:
    """What to do about a time with a fraction of a second."""
    return by_hand(name, "a bar begins at a whole minute: correct the time, or remove the row")


def place_hint(name: str, text: str, *, is_daily: bool) -> str:
    """What to do about a time at which no bar begins."""
    if not is_daily:
        return fraction_hint(name)
    day = _day(text)
    example = f", such as {day.isoformat()}" if day else ""
    return by_hand(name, f"write the trading day alone{example}")


def order_hint(name: str, *, is_double: bool, is_alike: bool | None, is_newest_first: bool) -> str:
    """What to do about a row that is not later than the one before.

    `is_alike`: two rows of the same time are the same; None: not known.
    """
    if is_newest_first:
        return by_fix(name, "sorts rows that are the newest first")
    if not is_double:
        return by_fix(name, "sorts the rows by time")
    keeps = by_fix(name, "keeps a row once that is there twice")
    choose = "of two different rows for one time, remove the wrong one"
    if is_alike is None:
        return f"{keeps}; {choose}"
    return keeps if is_alike else by_hand(name, choose)


def missing_value_hint(name: str, line: int) -> str:
    """What to do about rows that lack a value, the first of them in this line."""
    how = by_fix(name, "removes such rows")
    return f"line {line}: {how}; then IB's bars are requested in their place"


def values_hint(name: str, line: str, width: int) -> str:
    """What to do about a row whose values are not numbers, or not as many as the header has."""
    remove = "remove the row, so that IB's bar is requested"
    fields = line.split(",")
    if "\0" in line:
        return by_hand(name, "zero bytes are left by a power failure: remove the line")
    if '"' in line:
        return by_hand(name, "write numbers without quotes and without ',' between digits")
    if len(fields) != width:
        return by_hand(name, f"it has {len(fields)} fields, and the header has {width}: {remove}")
    others = [field for field in fields[1:] if not is_missing(field.encode())]
    wrong = next((field.strip() for field in others if not _is_number(field)), "")
    return by_hand(name, f"write a number instead of {wrong!r}, or {remove}")


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text)) and "_" not in text
    except ValueError:
        return False


def _day(text: str) -> date | None:
    """The day with which a time begins, as it stands there."""
    match = re.match(r"(\d{4})-?(\d\d)-?(\d\d)", text, re.ASCII)
    try:
        return datetime.strptime("".join(match.groups()), "%Y%m%d").date() if match else None  # noqa: DTZ007  only its day is used
    except ValueError:
        return None
