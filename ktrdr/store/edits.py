"""Where new bars belong in a bar file, as edits of its bytes. Writes nothing."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter

import numpy as np

from ktrdr.errors import MalformedFile
from ktrdr.market.bars import Bar
from ktrdr.store.atomic_write import Edit
from ktrdr.store.bar_file import BarFile, FileTail
from ktrdr.store.csv_text import (
    HEADER,
    Layout,
    broken,
    format_rows,
    read_rows,
    read_starts,
    spelling_of,
)

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
        raise broken(name, None, model.line.decode(errors="replace"), str(error)) from None


def is_behind(end: FileTail, bars: Sequence[Bar]) -> bool:
    """All of these bars, which are in order, come after the file's last one."""
    return end.last is None or bars[0].start > end.last


def is_being_written(file: BarFile) -> bool:
    """Its last line has no end yet, and something was written to it some seconds ago."""
    since_s = time.time() - file.key[1] / 1e9
    return bool(file.end.torn) and abs(since_s) < _PATIENCE_S


def lacks_only_its_end(file: BarFile, end: FileTail) -> bool:
    """The last line lacks only its line end: it is a whole row, behind the others."""
    line = end.torn.rstrip(b"\r")
    if not line or line.count(b",") != len(file.layout.columns) - 1:
        return False
    try:
        row = read_rows(file.path.name, file.layout, line + b"\n", file.timeframe)
        (bar,) = row.bars()
    except MalformedFile:
        return False
    return is_behind(end, [bar])


def edits_for(
    file: BarFile, end: FileTail, bars: Sequence[Bar], *, correct: bool
) -> tuple[list[Edit], int]:
    """The edits that add these bars, and how many are new. MalformedFile.

    `bars` are in order; one of an existing start changes nothing, unless it is to correct that.
    """
    if not file.layout.is_whole:
        header = b"" if file.layout.has_header else HEADER.encode()
        text = header + file.layout.newline + lines(bars, file, end)
        return [Edit(file.size, file.size, text)], len(bars)
    starts = [bar.start for bar in bars]
    rows, begin = file.rows_from(starts[0], starts[-1] + 1)
    is_there = np.isin(starts, rows.starts).tolist()
    places = np.searchsorted(rows.starts, starts).tolist()
    offsets = (rows.offsets + begin).tolist()
    edits = []
    placed = zip(places, is_there, bars, strict=True)
    for (place, known), group in groupby(placed, itemgetter(0, 1)):
        if not known or correct:
            new = [bar for _, _, bar in group]
            until = offsets[place + 1] if known else offsets[place]
            edits.append(Edit(offsets[place], until, lines(new, file, end)))
    return edits, is_there.count(False)


def edits_for_lines(file: BarFile, layout: Layout, raw: bytes) -> list[Edit]:
    """The edits that add lines of another program, which are of this layout.

    They replace rows of the same starts, and of two of them the later one counts. Lines that
    cannot be read are added at the end, where they would have come without us. MalformedFile.
    """
    try:
        starts, offsets = read_starts(file.path.name, layout, raw)
    except MalformedFile:
        return [Edit(file.end.whole_until, file.end.whole_until, raw)]
    if not len(starts):
        return []
    begins = offsets.tolist()
    new = {
        start: raw[begins[number] : begins[number + 1]]
        for number, start in enumerate(starts.tolist())
    }
    rows, begin = file.rows_from(min(new), max(new) + 1)
    places = np.searchsorted(rows.starts, sorted(new)).tolist()
    offsets_there = (rows.offsets + begin).tolist()
    known = set(rows.starts.tolist())
    edits: list[Edit] = []
    for place, start in zip(places, sorted(new), strict=True):
        until = offsets_there[place + 1] if start in known else offsets_there[place]
        edit = Edit(offsets_there[place], until, new[start])
        if edits and edits[-1].end == edit.start:
            edit = Edit(edits[-1].start, edit.end, edits.pop().text + edit.text)
        edits.append(edit)
    there = rows.raw
    return [one for one in edits if there[one.start - begin : one.end - begin] != one.text]
