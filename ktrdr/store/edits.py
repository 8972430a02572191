"""Where new bars belong in a bar file, as edits of its bytes. Writes nothing."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter

import numpy as np

from ktrdr.errors import MalformedFile
from ktrdr.market.bars import Bar
from ktrdr.store.atomic_write import Edit
from ktrdr.store.bar_file import BarFile, FileTail
from ktrdr.store.columns import HEADER
from ktrdr.store.csv_text import (
    Layout,
    broken,
    check_each,
    check_values,
    format_rows,
    line_start,
    read_rows,
    spelling_of,
)
from ktrdr.store.file_advice import EXAMPLE, by_hand

_PATIENCE_S = 5.0
"""For so long a line without an end may be one that another program is still writing."""


def lines(bars: Sequence[Bar], file: BarFile, model: FileTail) -> bytes:
    """The bars as lines of a file, their times spelled as in the row `model`.

    MalformedFile: a bar cannot be spelled so.
    """
    name = file.path.name
    spell = spelling_of(name, file.layout, model.line, model.last)
    try:
        return format_rows(bars, file.layout, spell)
    except ValueError as error:
        found = model.line.decode(errors="replace").rstrip()
        hint = by_hand(name, f"spell the time of its last row like {EXAMPLE}")
        raise broken(name, None, found[:200], str(error), hint) from None


def is_behind(end: FileTail, bars: Sequence[Bar]) -> bool:
    """All of these bars, which are in order, come after the file's last one."""
    return end.last is None or bars[0].start > end.last


def is_being_written(file: BarFile) -> bool:
    """Its last line has no end yet, and something was written to it some seconds ago."""
    is_open = bool(file.end.torn) or (bool(file.size) and not file.layout.is_whole)
    return is_open and abs(time.time() - file.key[1] / 1e9) < _PATIENCE_S


def lacks_only_its_end(file: BarFile, end: FileTail) -> bool:
    """The last line lacks only its line end: it is a whole row, behind the others."""
    if not end.torn or not is_row(file, end.torn):
        return False
    start = line_start(file.path.name, file.layout, end.torn, None)
    return end.last is None or start > end.last


def is_row(file: BarFile, line: bytes) -> bool:
    """Whether this could be a row of the file, but for its line end."""
    text = line.rstrip(b"\r")
    try:
        row = read_rows(file.path.name, file.layout, text + b"\n", file.timeframe)
        check_each(file.path.name, row)
    except MalformedFile:
        return False
    return bool(text)


def edits_for(
    file: BarFile, end: FileTail, bars: Sequence[Bar], *, correct: bool
) -> tuple[list[Edit], int]:
    """The edits that add these bars, and how many are new. MalformedFile.

    `bars` are in order; one of an existing start changes nothing, unless it is to correct that. A
    row that lacks a value stays in any case: it is somebody else's.
    """
    if not file.layout.is_whole:
        header = b"" if file.layout.has_header else HEADER.encode()
        text = header + file.layout.newline + lines(bars, file, end)
        return [Edit(file.size, file.size, text)], len(bars)
    starts = [bar.start for bar in bars]
    rows, begin = file.rows_from(starts[0], starts[-1] + 1)
    is_there = np.isin(starts, rows.starts).tolist()
    may_change = np.isin(starts, rows.complete().starts if correct else []).tolist()
    places = np.searchsorted(rows.starts, starts).tolist()
    offsets = (rows.offsets + begin).tolist()
    edits = []
    placed = zip(places, is_there, may_change, bars, strict=True)
    for (place, known, changes), group in groupby(placed, itemgetter(0, 1, 2)):
        if not known or changes:
            new = [bar for *_, bar in group]
            until = offsets[place + 1] if known else offsets[place]
            edits.append(Edit(offsets[place], until, lines(new, file, end)))
    return edits, is_there.count(False)


def edits_for_lines(file: BarFile, old: BarFile, raw: bytes) -> list[Edit]:
    """The edits that add lines which another program has appended to the `old` file.

    They replace rows of the same starts, and of two of them the later one counts. Lines that
    cannot be read are added at the end, where they would have come without us. MalformedFile.
    """
    if not file.layout.is_whole:
        header = file.layout.newline if file.layout.has_header else old.header
        return [Edit(file.size, file.size, header + raw)]
    new, strange = _lines_by_start(file, old.layout, raw)
    edits: list[Edit] = []
    if new:
        starts = sorted(new)
        rows, begin = file.rows_from(starts[0], starts[-1] + 1)
        places = np.searchsorted(rows.starts, starts).tolist()
        offsets, known = (rows.offsets + begin).tolist(), set(rows.starts.tolist())
        ends = [
            offsets[place + 1] if start in known else offsets[place]
            for place, start in zip(places, starts, strict=True)
        ]
        edits = _joined(
            Edit(offsets[place], end, new[start])
            for place, end, start in zip(places, ends, starts, strict=True)
        )
        there = rows.raw
        edits = [one for one in edits if there[one.start - begin : one.end - begin] != one.text]
    at = file.end.whole_until
    return _joined([*edits, Edit(at, at, strange)]) if strange else edits


def _joined(edits: Iterable[Edit]) -> list[Edit]:
    """Edits in order, those that follow each other as one."""
    joined: list[tuple[int, int, list[bytes]]] = []
    for start, end, text in edits:
        if joined and joined[-1][1] == start:
            first, _, texts = joined.pop()
            joined.append((first, end, texts))
            texts.append(text)
        else:
            joined.append((start, end, [text]))
    return [Edit(start, end, b"".join(texts)) for start, end, texts in joined]


def _lines_by_start(file: BarFile, layout: Layout, raw: bytes) -> tuple[dict[int, bytes], bytes]:
    """Lines of this layout as lines of the file, by their starts; and those that are no rows."""
    found: dict[int, bytes] = {}
    strange = []
    for starts, lines in _parsed(file, layout, raw):
        if starts is None:
            strange += lines
        else:
            found |= zip(starts, lines, strict=True)
    if layout.columns != file.layout.columns:
        found = {start: _in_columns(found[start], layout, file.layout) for start in found}
    return found, b"".join(strange)


def _parsed(
    file: BarFile, layout: Layout, raw: bytes
) -> Iterator[tuple[list[int] | None, list[bytes]]]:
    """Lines with their starts; None: they are no rows. One by one, if not all are rows in order."""
    name, lines = file.path.name, [line + b"\n" for line in raw.split(b"\n")[:-1]]
    try:
        rows = read_rows(name, layout, raw, file.timeframe)
        check_values(name, rows)
    except MalformedFile:
        for line in lines:
            if len(lines) > 1:
                yield from _parsed(file, layout, line)
            elif line.strip():
                yield None, lines
    else:
        yield rows.starts.tolist(), lines


def _in_columns(line: bytes, of: Layout, wanted: Layout) -> bytes:
    """The line of a file as one of another file, which may have other columns."""
    if of.columns == wanted.columns:
        return line
    fields = dict(zip(of.columns, line.rstrip(b"\r\n").split(b","), strict=True))
    return b",".join(fields.get(name, b"") for name in wanted.columns) + wanted.newline
