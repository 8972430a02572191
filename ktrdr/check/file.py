"""The defects of one bar file, and its content without them. Writes nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from ktrdr.check.defects import (
    DROPPED,
    Defect,
    Sessions,
    fixable,
    unfinished,
)
from ktrdr.check.lines import NO_START, Lines, read_lines
from ktrdr.completeness.file_fit import ROW_NUMBERS, Hours, Misfit, misfit
from ktrdr.market.sessions import BoolArray, Int64Array, closed
from ktrdr.market.timeframes import DAY_S, MINUTE_S
from ktrdr.store.bar_file import BarFile
from ktrdr.store.columns import has_row_numbers
from ktrdr.store.time_spelling import has_zone

_NAMED = 3
"""How many lines are named for each kind of defect."""
_EXAMPLE_BYTES = 60
_NEVER = 2**62
_PIECE_BYTES = 1024 * 1024
_PARTS = 24
"""Blocks of lines of which the starts are kept."""


@dataclass
class DefectLines:
    """The lines of a file with the same kind of defect."""

    count: int = 0
    lines: list[int] = field(default_factory=list)
    """The numbers of the first few; the header is line 1."""
    example: str = ""
    """The beginning of the first one."""


_NO_LINES = DefectLines()


@dataclass
class Inspection:
    """The result of reading every line of a file."""

    rows: int = 0
    found: dict[Defect, DefectLines] = field(default_factory=dict)
    last: int = NO_START
    """The latest start, UTC seconds."""
    is_in_order: bool = True
    first_unfinished: int = _NEVER
    """The earliest start of the bars that are certainly unfinished."""
    has_zone: bool = True
    """Whether the times of the rows say their zone, as far as was looked."""
    starts: list[Int64Array] = field(default_factory=list)
    """Those of days whose sessions are known; of a large file the last few hundred thousand."""

    def fixable(self, *, is_owned: bool) -> frozenset[Defect]:
        """The defects that can be fixed without loss. `is_owned`: ktrdr wrote every row.

        Several unfinished bars are left alone: they are more likely due to a wrong clock. So are
        rows that lack a value where most of them do: then it is the column that means something
        else.
        """
        is_last = self.first_unfinished == self.last
        incomplete = self.found.get(Defect.NO_VALUE, _NO_LINES)
        return fixable(
            self.found,
            drop_unfinished=is_owned and is_last,
            drop_incomplete=2 * incomplete.count <= self.rows,
        )

    @property
    def broken(self) -> dict[Defect, int]:
        """How often each defect occurs, without notes."""
        return {defect: found.count for defect, found in self.found.items() if not defect.is_note}


def inspect(file: BarFile, sessions: Sessions | None, now: int) -> Inspection:
    """Read every line of a file; `now` in UTC seconds."""
    inspection = Inspection()
    for lines in read_lines(file):
        for row, defect in lines.defects.items():
            _note(inspection, file, defect, lines, [row])
        _inspect_times(inspection, file, sessions, now, lines)
    if not file.layout.has_header and (inspection.rows or inspection.found.keys() - {Defect.BLANK}):
        inspection.found[Defect.HEADER] = DefectLines(1, [1])
    if not inspection.is_in_order:
        _inspect_order(inspection, file)
    return inspection


def misfit_of(
    file: BarFile, inspection: Inspection, sessions: Sessions | None, now: int
) -> Misfit | None:
    """Why IB's bars do not belong between the rows; None: they do, or cannot tell.

    Without `sessions` only what the columns tell.
    """
    raw = os.pread(file.descriptor, _EXAMPLE_BYTES, file.layout.begin)
    if has_row_numbers(file.layout.columns, raw.partition(b"\n")[0].decode(errors="replace")):
        return ROW_NUMBERS
    if sessions is None or not inspection.starts:
        return None
    times = np.unique(np.concatenate(inspection.starts))
    instrument = sessions.instrument
    hours = Hours(
        file.timeframe,
        sessions.schedule,
        sessions.alignment,
        now,
        has_zone=inspection.has_zone or bool(instrument.zone),
        has_starts=bool(instrument.stamp),
        has_extended_hours=instrument.extended_hours,
    )
    return misfit(times[times % MINUTE_S == 0], hours)


def _inspect_times(
    inspection: Inspection, file: BarFile, sessions: Sessions | None, now: int, lines: Lines
) -> None:
    rows = np.flatnonzero(lines.starts != NO_START)
    starts = lines.starts[rows]
    if not len(rows):
        return
    for row in (rows[0], rows[-1]):
        cells = _text(file, lines, int(row)).decode(errors="replace").split(",")
        inspection.has_zone &= has_zone(cells[file.layout.time_place])
    inspection.rows += len(rows)
    if starts[0] <= inspection.last or (np.diff(starts) <= 0).any():
        inspection.is_in_order = False
    inspection.last = max(inspection.last, int(starts.max()))
    if sessions is not None:
        schedule = sessions.schedule
        near = starts[(starts > schedule.start - DAY_S) & (starts < schedule.end + DAY_S)]
        inspection.starts = [*inspection.starts, near][-_PARTS:]
        is_outside = closed(starts, schedule, file.timeframe)
        _note(inspection, file, Defect.OUTSIDE, lines, rows[is_outside].tolist())
    sure, doubtful = unfinished(starts, file.timeframe, sessions, now)
    _note(inspection, file, Defect.DOUBTFUL, lines, rows[doubtful].tolist())
    _note(inspection, file, Defect.UNFINISHED, lines, rows[sure].tolist())
    if sure.any():
        inspection.first_unfinished = min(inspection.first_unfinished, int(starts[sure].min()))


def _note(
    inspection: Inspection, file: BarFile, defect: Defect, lines: Lines, rows: list[int]
) -> None:
    """Add a defect of these `rows`, counted from the first of `lines`."""
    if not rows:
        return
    found = inspection.found.setdefault(defect, DefectLines())
    if not found.count:
        begin, end = lines.offsets[rows[0] : rows[0] + 2].tolist()
        text = os.pread(file.descriptor, min(end - begin, _EXAMPLE_BYTES), begin)
        found.example = text.decode(errors="replace").strip()
    found.lines += [lines.number + row for row in rows[: _NAMED - len(found.lines)]]
    found.count += len(rows)


def _inspect_order(inspection: Inspection, file: BarFile) -> None:
    lines = _all_lines(file, times_only=Defect.NO_VALUE not in inspection.found)
    doubles, conflicts = _same_times(file, lines)
    kept = _are_bars(lines)
    kept[doubles] = False
    rows = np.flatnonzero(kept)
    starts = lines.starts[rows]
    late = rows[starts < np.maximum.accumulate(starts)]
    _note(inspection, file, Defect.DOUBLE, lines, doubles)
    _note(inspection, file, Defect.CONFLICT, lines, conflicts)
    _note(inspection, file, Defect.UNORDERED, lines, late.tolist())


def _are_bars(lines: Lines) -> BoolArray:
    """Which lines have a time and all values; others are no bars that there could be twice."""
    found: BoolArray = lines.starts != NO_START
    found[[row for row, defect in lines.defects.items() if defect is Defect.NO_VALUE]] = False
    return found


def _all_lines(file: BarFile, *, times_only: bool) -> Lines:
    """The place and the time of each line in a file; with `times_only` few defects of rows."""
    parts = list(read_lines(file, times_only=times_only))
    if not parts:  # the file became shorter
        return Lines(2, np.empty(0, np.int64), np.array([file.layout.begin], np.int64), {})
    starts = np.concatenate([part.starts for part in parts])
    offsets = np.concatenate([part.offsets[:-1] for part in parts] + [parts[-1].offsets[-1:]])
    defects: dict[int, Defect] = {}
    for part in parts:
        first = part.number - parts[0].number
        defects |= {first + row: defect for row, defect in part.defects.items()}
    return Lines(parts[0].number, starts, offsets, defects)


def _same_times(file: BarFile, lines: Lines) -> tuple[list[int], list[int]]:
    """Exact duplicates of earlier rows, and different rows of the same time."""
    order = _by_time(lines.starts, np.flatnonzero(_are_bars(lines)))
    again = np.flatnonzero(np.diff(lines.starts[order]) == 0)
    doubles: list[int] = []
    conflicts: list[int] = []
    seen: set[bytes] = set()
    start = NO_START
    for before, row in zip(order[again].tolist(), order[again + 1].tolist(), strict=True):
        if lines.starts[row] != start:
            start, seen = int(lines.starts[row]), {_text(file, lines, before)}
        text = _text(file, lines, row)
        (doubles if text in seen else conflicts).append(row)
        seen.add(text)
    return sorted(doubles), sorted(conflicts)


def _by_time(starts: Int64Array, rows: Int64Array) -> Int64Array:
    """The rows by time; those of the same time keep their order."""
    ordered: Int64Array = rows[np.argsort(starts[rows], kind="stable")]
    return ordered


def _text(file: BarFile, lines: Lines, row: int) -> bytes:
    begin, end = lines.offsets[row : row + 2].tolist()
    return os.pread(file.descriptor, end - begin, begin).rstrip(b"\r\n")


@dataclass(frozen=True)
class FixedContent:
    """A file's content after its defects are fixed."""

    rows: int
    size: int
    """In bytes."""
    pieces: Iterator[bytes]
    """To be read once, while the file is open."""


def fixed_content(file: BarFile, inspection: Inspection, fixed: frozenset[Defect]) -> FixedContent:
    """The content of the file with these defects `fixed`: its own lines, and no others."""
    lines = _all_lines(file, times_only=Defect.NO_VALUE not in inspection.found)
    kept = np.ones(len(lines.starts), np.bool_)
    kept[[row for row, defect in lines.defects.items() if defect in fixed & DROPPED]] = False
    if Defect.DOUBLE in fixed:
        kept[_same_times(file, lines)[0]] = False
    if Defect.UNFINISHED in fixed:
        kept &= lines.starts != inspection.last
    rows = np.flatnonzero(kept)
    if Defect.UNORDERED in fixed:
        rows = _by_time(lines.starts, rows)
    tail = file.layout.newline if Defect.UNENDED in fixed and kept[-1:].any() else b""
    begins, ends = lines.offsets[rows], lines.offsets[rows + 1]
    size = file.layout.begin + int((ends - begins).sum()) + len(tail)
    count = np.count_nonzero(lines.starts[rows] != NO_START)
    return FixedContent(int(count), size, _gathered(_pieces(file, begins, ends, tail)))


def _pieces(file: BarFile, begins: Int64Array, ends: Int64Array, tail: bytes) -> Iterator[bytes]:
    """The header, then these lines; `tail` after the file's own last one."""
    yield os.pread(file.descriptor, file.layout.begin, 0)
    breaks = np.flatnonzero(begins[1:] != ends[:-1])
    firsts = np.concatenate((begins[:1], begins[1:][breaks]))
    lasts = np.concatenate((ends[:-1][breaks], ends[-1:]))
    for first, last in zip(map(int, firsts), map(int, lasts), strict=True):
        for at in range(first, last, _PIECE_BYTES):
            yield os.pread(file.descriptor, min(_PIECE_BYTES, last - at), at)
        if last == file.size:
            yield tail


def _gathered(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in fewer pieces."""
    parts: list[bytes] = []
    size = 0
    for piece in pieces:
        parts.append(piece)
        size += len(piece)
        if size >= _PIECE_BYTES:
            yield b"".join(parts)
            parts, size = [], 0
    yield b"".join(parts)
