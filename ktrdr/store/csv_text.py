"""The text of a bar file: its header, its rows, their times as numbers. Opens no file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from itertools import compress
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic_core import from_json

from ktrdr.errors import MalformedFile
from ktrdr.market.bars import Bar
from ktrdr.market.sessions import BoolArray, Int64Array
from ktrdr.market.timeframes import DAY_S, Timeframe
from ktrdr.store.columns import COLUMNS, HEADER
from ktrdr.store.file_advice import (
    EXAMPLE,
    by_hand,
    fraction_hint,
    header_hint,
    order_hint,
    place_hint,
    time_hint,
    values_hint,
)
from ktrdr.store.missing_values import is_missing, lacks_value
from ktrdr.store.time_spelling import EPOCH_DIGITS, Spell, spell_time, spelling_like

_BOM = b"\xef\xbb\xbf"
_COMMA, _NEWLINE, _COLON, _SPACE = b",\n: "
_NUMBER_BYTES = b"0123456789.-eE,\r\n"
_BLOCK_BYTES = 64 * 1024
"""Looked at together: what is made of it stays in the processor's cache."""
_VIEWED = 32
"""Bytes at the beginning of a row that are read as columns; a shorter row is parsed by itself."""
_FIRST_YEAR, _MONTH_COUNT = 1900, 12 * 300
"""Times in these months are read as columns, others are parsed one by one."""
_MONTHS = np.frombuffer(
    b"".join(b"%04d-%02d-" % (_FIRST_YEAR + i // 12, i % 12 + 1) for i in range(_MONTH_COUNT))
    + b"\xff" * 8,
    ">u8",
).astype(np.uint64)
"""Number of a month → `YYYY-MM-` as a number, ascending; and an invalid one."""
_MONTH_STARTS = DAY_S * (
    np.datetime64(f"{_FIRST_YEAR}-01", "M") + np.arange(_MONTH_COUNT + 2).clip(max=_MONTH_COUNT)
).astype("M8[D]").astype(np.int64)  # fmt: skip
"""Number of a month → its beginning, UTC seconds; the invalid one has no days."""
_NEVER = -(2**28)
_SECONDS = np.frombuffer(b":00+00:0", "<u8")[0]
_ZONE = np.frombuffer(b"0+00:00,", "<u8")[0]
_END = np.frombuffer(b"0,\0\0\0\0\0\0", "<u8")[0]
_SPACE_AND_COLON = np.frombuffer(b"\0\0 \0\0:\0\0", "<u8")[0]


def _two_digits(first: int, end: int, unit_s: int) -> NDArray[np.int32]:
    """Two bytes as a number → seconds, `_NEVER` for all but the digits of `[first, end)`."""
    table = np.full(2**16, _NEVER, np.int32)
    for number in range(first, end):
        table[int.from_bytes(b"%02d" % number, "little")] = (number - first) * unit_s
    return table


_DAYS, _HOURS, _MINUTES = (
    _two_digits(1, 32, DAY_S),
    _two_digits(0, 24, 3600),
    _two_digits(0, 60, 60),
)


@dataclass(frozen=True)
class Layout:
    """The layout of a file's rows, by its first line."""

    columns: tuple[str, ...] = COLUMNS
    newline: bytes = b"\n"
    begin: int = 0
    """Where the first row's line begins."""
    is_whole: bool = False
    """There is a header, and its line has an end."""

    @property
    def has_header(self) -> bool:
        """There is one, with or without an end."""
        return self.begin > len(_BOM)

    @property
    def time_place(self) -> int:
        """Which column the timestamp is."""
        return self.columns.index("timestamp")

    @property
    def value_places(self) -> list[int]:
        """Which columns open, high, low, close and volume are."""
        return [self.columns.index(name) for name in COLUMNS[1:]]


_USUAL = HEADER.encode() + b"\n"
_USUAL_LAYOUT = Layout(begin=len(_USUAL), is_whole=True)


@dataclass(frozen=True)
class Rows:
    """Consecutive rows of a file."""

    layout: Layout
    starts: Int64Array
    """UTC seconds, ascending, without duplicates."""
    raw: bytes
    offsets: Int64Array
    """Where each row's line begins in `raw`, and where the last one ends."""
    name: str = ""
    """The file's."""

    @property
    def text(self) -> bytes:
        """The lines, exactly as in the file."""
        return self.raw[self.offsets[0] : self.offsets[-1]]

    def between(self, start: int, end: int) -> Rows:
        """The rows of the bars that start in `[start, end)`."""
        first, last = np.searchsorted(self.starts, [start, end]).tolist()
        last = max(first, last)
        offsets = self.offsets[first : last + 1]
        return Rows(self.layout, self.starts[first:last], self.raw, offsets, self.name)

    def complete(self) -> Rows:
        """Those with all values: the same rows, unless one lacks a value (`missing_values`)."""
        if _is_plain(self.layout, self.text):
            return self
        width, places = len(self.layout.columns), self.layout.value_places
        lines = [
            self.raw[begin:end]
            for begin, end in zip(
                self.offsets[:-1].tolist(), self.offsets[1:].tolist(), strict=True
            )
        ]
        kept = [not lacks_value(line, width, places) for line in lines]
        if all(kept):
            return self
        lines = list(compress(lines, kept))
        offsets = np.cumsum([0, *map(len, lines)], dtype=np.int64)
        return Rows(self.layout, self.starts[kept], b"".join(lines), offsets, self.name)

    def bars(self, starts: Iterable[int] | None = None) -> list[Bar]:
        """The rows as bars; only of these starts, if given. MalformedFile: not numbers.

        Starts without rows are ignored.
        """
        chosen = np.arange(len(self.starts))
        if starts is not None:
            wanted = np.fromiter(starts, dtype=np.int64)
            chosen = np.flatnonzero(np.isin(self.starts, wanted))
        begins, ends = self.offsets[:-1][chosen].tolist(), self.offsets[1:][chosen].tolist()
        lines = [self.raw[begin:end] for begin, end in zip(begins, ends, strict=True)]
        times = self.starts[chosen].tolist()
        columns = _columns_of(lines) if self.layout.columns == COLUMNS else None
        if columns is None:
            return list(map(self._bar, times, lines))
        return list(map(Bar._make, zip(times, *columns, strict=True)))

    def _bar(self, start: int, line: bytes) -> Bar:
        fields = line.split(b",")
        try:
            values = [float(fields[place]) for place in self._places]
        except (ValueError, IndexError):
            text = line.decode(errors="replace").rstrip()
            hint = values_hint(self.name, text, len(self.layout.columns))
            raise broken(self.name, None, text[:200], "prices as numbers", hint) from None
        return Bar(start, *values)

    @cached_property
    def _places(self) -> list[int]:
        return self.layout.value_places


def _columns_of(lines: list[bytes]) -> list[list[float]] | None:
    """The numbers of rows with the usual columns, all at once; None: each is to be parsed."""
    fields = [line.partition(b",")[2] for line in lines]
    if b"".join(fields).translate(None, _NUMBER_BYTES):
        return None
    try:
        rows: list[list[float]] = from_json(b"[[" + b"],[".join(fields) + b"]]")
        if set(map(len, rows)) != {len(COLUMNS) - 1}:
            return None
        columns: list[list[float]] = np.array(rows, np.float64).T.tolist()
    except (ValueError, OverflowError):  # spelled otherwise than in JSON, or very large
        return None
    return columns


@dataclass(frozen=True)
class Lines:
    """Consecutive lines of a file, whole, which were not parsed."""

    name: str
    """The file's."""
    layout: Layout
    timeframe: Timeframe
    raw: bytes

    @property
    def is_usual(self) -> bool:
        """Valid lines are as in a file of ours: usual columns, and spelling of times."""
        layout, length = self.layout, len(EXAMPLE)
        if layout.columns != COLUMNS or layout.newline != b"\n" or len(self.raw) <= length:
            return False
        buffer = np.frombuffer(self.raw, dtype=np.uint8)
        begins = np.concatenate([[0], (buffer == _NEWLINE).nonzero()[0][:-1] + 1])
        if begins[-1] + length >= len(self.raw):
            return False
        every_place = np.ndarray((len(self.raw) - 7,), "V8", self.raw, 0, (1,))
        zones = every_place[begins + length - 7].view("<u8")
        return bool((zones == _ZONE).all() and (buffer[begins + 10] == _SPACE).all())

    def rows(self) -> Rows:
        """The same as rows. MalformedFile."""
        return read_rows(self.name, self.layout, self.raw, self.timeframe)


class Window(NamedTuple):
    """The lines of a file with the rows of an interval, and some around them."""

    size: int
    """Of all of them, in bytes; a last line without an end counts, and is left out."""
    pieces: Iterator[Lines]
    """In order, some lines at a time."""


def read_layout(name: str, head: bytes) -> Layout:
    """The layout by the beginning of a file; an empty file has the usual columns."""
    end = head.find(b"\n") + 1
    if head[:end] == _USUAL:
        return _USUAL_LAYOUT
    line = head[:end] if end else head
    text = line.removeprefix(_BOM).decode(errors="replace").rstrip("\r\n")
    if not text:
        return Layout(begin=len(line) if line == _BOM else 0)
    columns = tuple(part.strip() for part in text.split(","))
    if set(COLUMNS) - set(columns) or len(set(columns)) != len(columns):
        expected = f"the header {HEADER}, further columns allowed, each name once"
        hint = header_hint(line, text, columns)
        raise MalformedFile(f"{name} line 1: {text[:200]!r}: expected {expected}", hint=hint)
    newline = b"\r\n" if line.endswith(b"\r\n") else b"\n"
    return Layout(columns, newline, len(line), is_whole=bool(end))


def read_rows(
    name: str, layout: Layout, raw: bytes, timeframe: Timeframe, *, line: int | None = None
) -> Rows:
    """The rows in a piece of a file that begins where a line does; times checked, values not.

    A last line without an end is not a row yet, and is left out. `line` is the number of the
    first one, for MalformedFile, which names the line and what was expected there.
    """
    starts, offsets, parsed = _read_starts(name, layout, raw, line)
    rows = Rows(layout, starts, raw, offsets, name)
    _check_order(rows, line)
    if timeframe.is_daily or not parsed.all():  # parsed ones are on whole minutes
        _check_places(rows, timeframe, line)
    return rows


def read_starts(name: str, layout: Layout, raw: bytes) -> tuple[Int64Array, Int64Array]:
    """The times of these rows in any order, and where their lines begin, as in `Rows`.

    MalformedFile: one cannot be read.
    """
    return _read_starts(name, layout, raw, None)[:2]


def _read_starts(
    name: str, layout: Layout, raw: bytes, line: int | None
) -> tuple[Int64Array, Int64Array, BoolArray]:
    """The same, and which of the times have the usual spelling."""
    buffer = np.frombuffer(raw, dtype=np.uint8)
    ends = (buffer == _NEWLINE).nonzero()[0]
    offsets = np.zeros(len(ends) + 1, np.int64)
    np.add(ends, 1, out=offsets[1:])
    starts, parsed = _view_starts(raw, offsets[:-1], layout)
    if not parsed.all():
        for row in (~parsed).nonzero()[0].tolist():
            text = raw[offsets[row] : offsets[row + 1]]
            starts[row] = line_start(name, layout, text, _number(line, row))
    return starts, offsets, parsed


def line_start(name: str, layout: Layout, line: bytes, number: int | None) -> int:
    """The start of one row. MalformedFile: its time cannot be read."""
    return _parse_start(name, number, _time_in(layout, line))


def _time_in(layout: Layout, line: bytes) -> str:
    """The time of a row as text."""
    place = layout.time_place
    fields = line.split(b",", place + 1)
    return fields[place].decode(errors="replace").strip() if place < len(fields) else ""


def left_out(starts: Int64Array, complete: Int64Array) -> Int64Array:
    """The starts of rows that are not among those of the complete ones, by `Rows.complete`."""
    return starts[:0] if complete is starts else np.setdiff1d(starts, complete)


def complete_lines(layout: Layout, raw: bytes) -> bytes:
    """Whole lines of a file without those that lack a value (`missing_values`)."""
    if _is_plain(layout, raw):
        return raw
    width, places = len(layout.columns), layout.value_places
    lines = raw.splitlines(keepends=True)
    return b"".join(line for line in lines if not lacks_value(line, width, places))


def check_values(name: str, rows: Rows, *, line: int | None = None) -> Rows:
    """Check that rows consist of numbers, with the right count of fields; a value may be missing.

    Returns the complete ones. If a quick check fails, each row is checked. MalformedFile names the
    line.
    """
    if _is_plain(rows.layout, rows.text):
        return rows
    check_each(name, rows, line=line, may_lack=True)
    return rows.complete()


def check_each(name: str, rows: Rows, *, line: int | None = None, may_lack: bool = False) -> None:
    """Check that each row has its fields, with five numbers. MalformedFile names the line.

    `may_lack`: a value may be missing (`missing_values`).
    """
    width, places = len(rows.layout.columns), rows.layout.value_places
    for row, (begin, end) in enumerate(zip(rows.offsets, rows.offsets[1:], strict=False)):
        text = rows.raw[begin:end].rstrip(b"\r\n")
        fields = text.split(b",")
        are_values = len(fields) == width and all(
            _is_number(fields[place]) or (may_lack and is_missing(fields[place]))
            for place in places
        )
        if not are_values:
            found = text.decode(errors="replace")
            expected = f"{width} fields, prices as numbers"
            hint = values_hint(name, found, width)
            raise broken(name, _number(line, row), found[:200], expected, hint)


def broken(name: str, line: int | None, found: object, expected: str, hint: str) -> MalformedFile:
    """The error for a line of the file `name` that cannot be read."""
    where = f"{name} line {line}" if line is not None else name
    return MalformedFile(f"{where}: {found!r}: expected {expected}", hint=hint)


def unordered(
    rows: Rows, row: int, first_line: int | None, before: int | None = None
) -> MalformedFile:
    """The error for a row out of order in its file, or a duplicate; the rows' first is 0.

    `before`: the time of the row before the first one (UTC seconds).
    """
    expected = "a time after that of the row before"
    last = rows.starts[row - 1] if row else before
    hint = order_hint(
        rows.name,
        is_double=bool(last == rows.starts[row]),
        is_alike=_line(rows, row - 1) == _line(rows, row) if row else None,
        is_newest_first=len(rows.starts) > 2 and bool((np.diff(rows.starts) < 0).all()),
    )
    return broken(rows.name, _number(first_line, row), _spelled(rows, row), expected, hint)


def _line(rows: Rows, row: int) -> bytes:
    """A row as in the file, without the end of its line."""
    return rows.raw[rows.offsets[row] : rows.offsets[row + 1]].rstrip(b"\r\n")


def _spelled(rows: Rows, row: int) -> str:
    """The time of a row as in the file."""
    return _time_in(rows.layout, _line(rows, row))


def format_rows(bars: Iterable[Bar], layout: Layout, spell: Spell) -> bytes:
    """The bars as lines with their ends; columns of others stay empty."""
    lines = [_in_order(bar, spell) for bar in bars]
    if layout.columns != COLUMNS:
        names = [
            COLUMNS.index(name) if name in COLUMNS else len(COLUMNS) for name in layout.columns
        ]
        lines = [",".join([(*line.split(","), "")[p] for p in names]) for line in lines]
    end = layout.newline.decode()
    return "".join([line + end for line in lines]).encode()


def _in_order(bar: Bar, spell: Spell) -> str:
    """One line in the order of `COLUMNS`, with the shortest exact spelling of each number."""
    start, first, high, low, close, volume = bar
    amount = int(volume)
    return (
        f"{spell(start)},{float(first)!r},{float(high)!r},{float(low)!r},{float(close)!r},"
        f"{amount if amount == volume else float(volume)!r}"
    )


def spelling_of(name: str, layout: Layout, line: bytes, start: int | None) -> Spell:
    """The spelling of the time of a row; the usual one if there is no row.

    MalformedFile: new rows of the file `name` cannot be spelled so.
    """
    if start is None:
        return spell_time
    cell = line.rstrip(b"\r\n").split(b",")[layout.time_place]
    try:
        return spelling_like(cell.decode(), start)
    except ValueError:
        text = cell.decode(errors="replace")
        hint = by_hand(name, f"spell the time of its last row like {EXAMPLE}")
        raise broken(name, None, text[:200], f"a time such as {EXAMPLE}", hint) from None


def _number(first: int | None, row: int) -> int | None:
    return None if first is None else first + row


def _view_starts(raw: bytes, begins: Int64Array, layout: Layout) -> tuple[Int64Array, BoolArray]:
    """The starts of rows whose time has the usual spelling, and which those are."""
    count = 0
    if layout.time_place == 0:
        count = int(begins.searchsorted(len(raw) - _VIEWED, side="right"))
    if count and count == len(begins):
        return _view_times(raw, begins)
    starts, parsed = np.zeros(len(begins), np.int64), np.zeros(len(begins), np.bool_)
    if count:
        starts[:count], parsed[:count] = _view_times(raw, begins[:count])
    return starts, parsed


def _view_times(raw: bytes, begins: Int64Array) -> tuple[Int64Array, BoolArray]:
    """UTC seconds of `YYYY-MM-DD HH:MM:00+00:00,`, and which rows have exactly that.

    Each is read as four numbers of eight bytes, and compared as such.
    """
    every_place = np.ndarray((len(raw) - _VIEWED + 1,), f"V{_VIEWED}", raw, 0, (1,))
    rows = every_place[begins].view("<u8").reshape(-1, 4)
    month, day_and_clock, seconds, end = np.ascontiguousarray(rows.T)  # columns, for speed
    two = np.uint64(0xFFFF)
    clock = _HOURS[day_and_clock >> np.uint64(24) & two] + _MINUTES[day_and_clock >> np.uint64(48)]
    good = clock >= 0
    good &= day_and_clock & np.uint64(0xFF0000FF0000) == _SPACE_AND_COLON
    good &= seconds == _SECONDS
    good &= end & two == _END
    day = day_and_clock & two
    is_first = np.ones(len(day) + 1, np.bool_)  # of its day; and a sentinel
    np.not_equal(day[1:], day[:-1], out=is_first[1:-1])
    is_first[1:-1] |= month[1:] != month[:-1]
    firsts = is_first.nonzero()[0]
    counts = firsts[1:] - firsts[:-1]
    midnights, is_day = _midnights(month[firsts[:-1]], day[firsts[:-1]])
    if not is_day.all():
        good &= is_day.repeat(counts)
    return midnights.repeat(counts) + clock, good


def _midnights(month: NDArray[np.uint64], day: NDArray[np.uint64]) -> tuple[Int64Array, BoolArray]:
    """UTC seconds of days, from `YYYY-MM-` and `DD`; and whether there is such a day."""
    month = month.byteswap()
    number = _MONTHS.searchsorted(month)
    since, midnights = _DAYS[day], _MONTH_STARTS[number]
    midnights += since
    is_day = (_MONTHS[number] == month) & (since >= 0) & (midnights < _MONTH_STARTS[number + 1])
    return midnights, is_day


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _parse_start(name: str, line: int | None, text: str) -> int:
    """A time in another spelling: ISO 8601, without a zone in UTC, or seconds since 1970."""
    if 0 < len(text) <= EPOCH_DIGITS and text.isascii() and text.isdigit():
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        expected, hint = f"a time such as {EXAMPLE}", time_hint(name, text)
        raise broken(name, line, text[:200], expected, hint) from None
    since_1970 = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH
    if since_1970.microseconds:
        raise broken(name, line, text[:200], "whole seconds", fraction_hint(name))
    return since_1970.days * DAY_S + since_1970.seconds


def _check_order(rows: Rows, first_line: int | None) -> None:
    """MalformedFile: the rows do not ascend."""
    ascends = rows.starts[1:] > rows.starts[:-1]
    if not ascends.all():
        raise unordered(rows, int(ascends.argmin()) + 1, first_line)


def _check_places(rows: Rows, timeframe: Timeframe, first_line: int | None) -> None:
    """MalformedFile: a row does not start on a whole minute, or day."""
    uneven = np.flatnonzero(rows.starts % timeframe.grid_s)
    if len(uneven):
        row = int(uneven[0])
        found = _spelled(rows, row)
        expected = "00:00:00 UTC" if timeframe.is_daily else "whole minutes"
        if found.isdigit():
            expected += f", and digits alone are seconds since 1970 ({EXAMPLE} is a time)"
        hint = place_hint(rows.name, found, is_daily=timeframe.is_daily)
        raise broken(rows.name, _number(first_line, row), found, expected, hint)


def _is_plain(layout: Layout, lines: bytes) -> bool:
    """Only numbers, in the right count: no line needs a check of its own."""
    text = np.frombuffer(lines, np.uint8)
    commas = newlines = 0
    for at in range(0, len(text), _BLOCK_BYTES):
        block = text[at : at + _BLOCK_BYTES + 1]  # with the first byte of the next one
        if block.min() < _NEWLINE or block.max() > _COLON:
            return False
        is_comma = block[:_BLOCK_BYTES] == _COMMA
        commas += int(np.count_nonzero(is_comma))
        newlines += int(np.count_nonzero(block[:_BLOCK_BYTES] == _NEWLINE))
        is_comma = is_comma[: len(block) - 1]
        is_comma &= block[1:] <= _COMMA  # an empty field
        if is_comma.any():
            return False
    return commas == newlines * (len(layout.columns) - 1)


def _is_number(text: bytes) -> bool:
    try:
        return math.isfinite(float(text)) and b"_" not in text
    except ValueError:
        return False
