"""The bars of several files of one series, in order of time and each once. Reads no file itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ktrdr.errors import NotUnderstood
from ktrdr.importing.bar_writer import Bars, Tally, shown_time
from ktrdr.importing.rows import CLOCK, LINE, OFFSET, OPEN, Matrix, Refused
from ktrdr.importing.spool import Spool
from ktrdr.market.sessions import BoolArray, Int64Array

_CHUNK = 65_536
"""So many rows are in memory, of all files together, but at least the next:"""
_LEAST_CHUNK = 512
_FEW, _SHARE = 10, 0.05
"""More bars that differ, and so large a part of those in two files: they mean different things."""
_MOST_LISTED = 10_000


@dataclass
class _Part:
    """The bars of one file, ascending, of which those from `place` on are still to come."""

    name: str
    tally: Tally
    place: int
    end: int
    first: int
    """The start of its first bar."""
    rows: Matrix
    """Those that are in memory."""


class JoinedBars:
    """Bars that are added file by file, and read in order of time. Close it. For one thread.

    `folder`: where its temporary file is, which has no name; None: where such files usually are.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._spool = Spool(folder)
        self._parts: list[_Part] = []
        self._shared = self._differing = 0

    def add(self, name: str, tally: Tally, bars: Iterable[Bars]) -> None:
        """Add the bars of a file, ascending and each once; `tally` has counted them."""
        begin = self._spool.count
        for starts, rows in bars:
            kept = rows.copy()
            kept[:, CLOCK], kept[:, OFFSET] = starts, 0
            self._spool.add(kept)
        end = self._spool.count
        if begin < end:
            row = self._spool.added(begin, begin + 1)
            self._parts.append(_Part(name, tally, begin, end, int(row[0, CLOCK]), row[:0]))

    def read(self) -> Iterator[Bars]:
        """All bars, once. A bar in two files is taken once if they are alike, and else refused.

        Their tallies then count what was taken of each. NotUnderstood: too many differ.
        """
        same: Counter[tuple[int, int]] = Counter()
        for rows, parts in self._merged():
            yield self._once(rows, parts, same)
            if self._differing > _MOST_LISTED:
                self._refuse_if_many_differ()
        self._refuse_if_many_differ()
        for (part, other), count in sorted(same.items()):
            tally = self._parts[part].tally
            tally.bars -= count
            tally.elsewhere[self._parts[other].name] = count

    def close(self) -> None:
        """Remove the temporary file."""
        self._spool.close()

    def _merged(self) -> Iterator[tuple[Matrix, Int64Array]]:
        """All rows in order of time, with the numbers of their files; equal times together."""
        waiting = sorted(range(len(self._parts)), key=lambda one: self._parts[one].first)
        opened: list[int] = []
        while waiting or opened:
            until = min((self._last(one) for one in opened), default=None)
            while waiting and (until is None or self._parts[waiting[0]].first <= until):
                opened.append(waiting.pop(0))
                self._load(self._parts[opened[-1]], len(opened))
                last = self._last(opened[-1])
                until = last if until is None else min(until, last)
            assert until is not None
            taken = [self._take(self._parts[one], until) for one in opened]
            rows, numbers = np.concatenate(taken), np.repeat(opened, list(map(len, taken)))
            order = np.argsort(rows[:, CLOCK], kind="stable")
            yield rows[order], numbers[order]
            for one in opened:
                self._load(self._parts[one], len(opened))
            opened = [one for one in opened if len(self._parts[one].rows)]

    def _last(self, part: int) -> int:
        return int(self._parts[part].rows[-1, CLOCK])

    def _load(self, part: _Part, among: int) -> None:
        """Have rows of it in memory, if any are left."""
        if not len(part.rows):
            count = max(_CHUNK // among, _LEAST_CHUNK)
            part.rows = self._spool.added(part.place, min(part.place + count, part.end))
            part.place += len(part.rows)

    def _take(self, part: _Part, until: int) -> Matrix:
        """Its rows in memory that start until then."""
        count = int(np.searchsorted(part.rows[:, CLOCK], until, side="right"))
        taken, part.rows = part.rows[:count], part.rows[count:]
        return taken

    def _once(self, rows: Matrix, parts: Int64Array, same: Counter[tuple[int, int]]) -> Bars:
        starts = rows[:, CLOCK].astype(np.int64)
        again = np.flatnonzero(starts[1:] == starts[:-1]) + 1
        if not len(again):
            return starts, rows
        differs = (rows[again, OPEN:] != rows[again - 1, OPEN:]).any(axis=1)
        wrong = np.isin(starts, starts[again[differs]])
        is_again = np.zeros(len(starts), np.bool_)
        is_again[again] = True
        self._shared += len(np.unique(starts[again]))
        self._differing += len(np.unique(starts[again[differs]]))
        firsts = np.searchsorted(starts, starts)
        alike = is_again & ~wrong
        same.update(zip(parts[alike].tolist(), parts[firsts[alike]].tolist(), strict=True))
        self._refuse(rows, parts, wrong)
        kept = ~is_again & ~wrong
        return starts[kept], rows[kept]

    def _refuse(self, rows: Matrix, parts: Int64Array, wrong: BoolArray) -> None:
        """Refuse rows in each of their files, naming another file of the same time."""
        numbers, lines, starts = (
            column[wrong].astype(np.int64).tolist()
            for column in (parts, rows[:, LINE], rows[:, CLOCK])
        )
        there: dict[int, list[tuple[int, int]]] = {}
        for number, line, start in zip(numbers, lines, starts, strict=True):
            there.setdefault(start, []).append((number, line))
        for start, places in there.items():
            for number, line in places:
                part = self._parts[number]
                other, at = next(one for one in places if one[0] != number)
                there_too = f"{self._parts[other].name} line {at}"
                why = f"files have different values for this time: see {there_too}"
                part.tally.refused.append(Refused(line, shown_time(start, 0), why))
                part.tally.bars -= 1

    def _refuse_if_many_differ(self) -> None:
        if self._differing > max(_FEW, _SHARE * self._shared):
            what = (
                f"of {self._shared:,} bars that are in several of its files, {self._differing:,} "
                "have other values in one of them"
            )
            hint = "import the files that agree: others may be adjusted, or of another source"
            raise NotUnderstood(what, hint=hint)
