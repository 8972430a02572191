"""The lines of a bar file: finds the time and the defect of each, but does not check their order.

It continues past broken lines, unlike `BarFile`, which stops at the first.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ktrdr.check.defects import Defect, Float64Array, impossible
from ktrdr.errors import MalformedFile
from ktrdr.market.bars import Bar
from ktrdr.market.sessions import Int64Array
from ktrdr.market.timeframes import Timeframe
from ktrdr.store.bar_file import BarFile
from ktrdr.store.csv_text import Layout, line_start, read_starts
from ktrdr.store.missing_values import is_missing

NO_START = -(2**62)
"""In place of a time that is missing or cannot be read."""

_BLOCK_BYTES = 512 * 1024
"""Read at once; a longer line is not a bar."""


@dataclass(frozen=True)
class Lines:
    """Consecutive lines of a file."""

    number: int
    """Number of the first one; the header is line 1."""
    starts: Int64Array
    """UTC seconds, or NO_START."""
    offsets: Int64Array
    """Where each line begins in the file, and where the last one ends."""
    defects: dict[int, Defect]
    """The defects of single lines, by the line's place, counted from 0."""


class _Block(NamedTuple):
    """The bytes `[at, end)` of a file."""

    at: int
    end: int
    raw: bytes | None
    """Whole lines, or the last one without its end; None: one line that is too long."""


def read_lines(file: BarFile, *, times_only: bool = False) -> Iterator[Lines]:
    """All lines after the header, some at a time, including a last one without an end.

    `times_only`: where all times are valid, nothing else is checked.
    """
    number = 1 + file.layout.has_header
    for at, end, raw in _blocks(file):
        if raw is None:
            offsets = np.array([at, end], np.int64)
            lines = Lines(number, np.array([NO_START]), offsets, {0: Defect.TOO_LONG})
        elif raw.endswith(b"\n"):
            lines = _judge(file, number, at, raw, times_only=times_only)
        else:
            lines = _judge_last(file, number, at, raw)
        yield lines
        number += len(lines.starts)


def _blocks(file: BarFile) -> Iterator[_Block]:
    at = file.layout.begin
    while at < file.size:
        raw = os.pread(file.descriptor, min(_BLOCK_BYTES, file.size - at), at)
        whole = raw.rfind(b"\n") + 1
        if whole:
            yield _Block(at, at + whole, raw[:whole])
            at += whole
        elif not raw:
            return  # the file became shorter
        elif len(raw) < _BLOCK_BYTES:
            yield _Block(at, at + len(raw), raw)
            return
        else:
            end = _end_of_line(file, at + len(raw))
            yield _Block(at, end, None)
            at = end


def _end_of_line(file: BarFile, at: int) -> int:
    while at < file.size:
        raw = os.pread(file.descriptor, min(_BLOCK_BYTES, file.size - at), at)
        found = raw.find(b"\n") + 1
        if found or not raw:
            return at + found
        at += len(raw)
    return at


def _judge(file: BarFile, number: int, at: int, raw: bytes, *, times_only: bool) -> Lines:
    """Check lines that have ends: all at once if they are valid, else one by one."""
    try:
        starts, offsets = _times(file, raw)
        values = None if times_only else _values(raw, offsets, file.layout)
    except (MalformedFile, ValueError):
        return _judge_each(file, number, at, raw)
    broken = np.flatnonzero(impossible(*values)).tolist() if values else []
    return Lines(number, starts, offsets + at, dict.fromkeys(broken, Defect.IMPOSSIBLE))


def _times(file: BarFile, raw: bytes) -> tuple[Int64Array, Int64Array]:
    """The start of each bar, and where its line begins. ValueError, MalformedFile: one has none."""
    starts, offsets = read_starts(file.path.name, file.layout, raw)
    if (starts % file.timeframe.grid_s).any():
        raise ValueError
    return starts, offsets


def _values(raw: bytes, offsets: Int64Array, layout: Layout) -> list[Float64Array]:
    """Open, high, low, close and volume of each line. ValueError: one lacks one of these."""
    count, width = len(offsets) - 1, len(layout.columns)
    commas = np.flatnonzero(np.frombuffer(raw, np.uint8) == ord(","))
    places = commas.reshape(count, width - 1)  # ValueError: too many or too few
    if (places[:, 0] < offsets[:-1]).any() or (places[:, -1] >= offsets[1:]).any():
        raise ValueError
    if b"_" in raw:  # which `float` ignores
        raise ValueError
    fields = raw.replace(b"\n", b",").split(b",")
    columns = layout.value_places
    values = [np.array([float(text) for text in fields[c:-1:width]]) for c in columns]
    if not all(np.isfinite(column).all() for column in values):
        raise ValueError
    return values


def _judge_each(file: BarFile, number: int, at: int, raw: bytes) -> Lines:
    header = os.pread(file.descriptor, file.layout.begin, 0).strip()
    lines = raw.split(b"\n")[:-1]
    defects: dict[int, Defect] = {}
    starts = np.full(len(lines), NO_START, np.int64)
    for row, line in enumerate(lines):
        starts[row], defect = _judge_line(line, header, file.layout, file.timeframe)
        if defect is not None:
            defects[row] = defect
    ends = np.cumsum([len(line) + 1 for line in lines], dtype=np.int64)
    return Lines(number, starts, at + np.concatenate((np.zeros(1, np.int64), ends)), defects)


def _judge_line(
    line: bytes, header: bytes, layout: Layout, timeframe: Timeframe
) -> tuple[int, Defect | None]:
    """The start of one row, and its first defect."""
    text = line.strip()
    if not text or text == header:
        return NO_START, Defect.HEADER_AGAIN if text else Defect.BLANK
    try:
        start = line_start("", layout, line, None)
    except MalformedFile:
        return NO_START, Defect.NO_TIME
    return start, _defect_of(start, line.split(b","), layout, timeframe)


def _defect_of(
    start: int, fields: list[bytes], layout: Layout, timeframe: Timeframe
) -> Defect | None:
    if len(fields) != len(layout.columns):
        return Defect.FIELDS
    texts = [fields[place] for place in layout.value_places]
    there = [text for text in texts if not is_missing(text)]
    try:
        values = [float(text) for text in there]
    except ValueError:
        return Defect.NO_NUMBER
    if not all(map(math.isfinite, values)) or any(b"_" in text for text in there):
        return Defect.NO_NUMBER
    if len(there) < len(texts):
        return Defect.NO_VALUE
    if start % timeframe.grid_s:
        return Defect.UNEVEN
    return None if Bar(start, *values).is_sound else Defect.IMPOSSIBLE


def _judge_last(file: BarFile, number: int, at: int, raw: bytes) -> Lines:
    """Check a last line without an end: a row if it has no other defect, else torn."""
    start, defect = _judge_line(raw, b"", file.layout, file.timeframe)
    offsets = np.array([at, at + len(raw)], np.int64)
    if defect is None:
        return Lines(number, np.array([start]), offsets, {0: Defect.UNENDED})
    return Lines(number, np.array([NO_START]), offsets, {0: Defect.TORN})
