"""Differences between files with rows of others and IB's bars, on record. Changes no file."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ktrdr.assessment.series_state import SeriesState
from ktrdr.assessment.stored_bars import stored
from ktrdr.completeness.differences import ComparedBars, Difference, differences, joined
from ktrdr.completeness.revisions import Pair
from ktrdr.ledger.ledger import Ledger
from ktrdr.market.timeframes import DAY_S

_EVER = (-(2**62), 2**62)
_NEAR_S = 2 * DAY_S
"""Rows nearer to each other than this are read at once."""


class Recorded(NamedTuple):
    """What a comparison has led to."""

    is_new: bool = False
    """Some of it is on record only since."""
    unlisted: Sequence[Difference] = ()
    """For which there was no room on record."""


class FileDifferences:
    """Those of the files of one store. For one thread."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def load(self, state: SeriesState) -> None:
        """Have the state say how its bars compare with IB's, by the record."""
        state.compared = ComparedBars()
        if not self._ledger.exists or state.is_owned:
            return
        differ = self._ledger.differences.bars(state.series)
        known = self._ledger.comparisons.of(state.series)
        if known is None:
            state.compared = ComparedBars(differ)
        else:
            counts = (known.total, known.compared, known.absent, known.is_over)
            state.compared = ComparedBars(differ + known.unlisted, *counts)

    def take(self, state: SeriesState, pairs: Sequence[Pair], now: int) -> Recorded:
        """Record how these bars, as stored and as received, differ, and that the others agree.

        Several bars on record as one difference are that no more if one of them agrees; then the
        whole series is to be compared anew.
        """
        if not pairs:
            return Recorded()
        first, last = pairs[0][0].start, pairs[-1][0].start
        agree = {old.start: old == new for old, new in pairs}
        known = {
            one: id_
            for id_, one in self._ledger.differences.within(state.series, first, last).items()
            if one.bars > 1 or one.first in agree
        }
        starts = sorted(agree)
        several = [
            one
            for one in known
            if one.bars > 1 and not any(agree[start] for start in _within(one, starts))
        ]
        covered = {start for one in several for start in _within(one, starts)}
        others = [pair for pair in pairs if pair[0].start not in covered]
        wanted = joined(sorted([*differences(others), *several], key=_first), pairs)
        new = [one for one in wanted if one not in known]
        if any(one.bars > 1 and one not in several for one in known):
            self._ledger.comparisons.forget(state.series)
        kept = set(wanted)
        gone = [id_ for one, id_ in known.items() if one not in kept]
        unlisted = self._replace(state, gone, new, now)
        return Recorded(is_new=len(new) > len(unlisted), unlisted=unlisted)

    def check(self, state: SeriesState, now: int) -> None:
        """Drop what is on record of rows that others have changed to what IB has, or removed.

        If bars differ that are not on record, they may have changed these too: the whole series is
        to be compared anew.
        MalformedFile, FileNotFoundError: the file cannot be read.
        """
        self.load(state)
        if not state.compared.differ:
            return
        gone, changed = [], []
        comparison = self._ledger.comparisons.of(state.series)
        known = self._ledger.differences.within(state.series, *_EVER)
        for near in _groups(known):
            rows = {bar.start: bar for bar in stored(state, [known[id_].first for id_ in near])}
            for id_ in near:
                one, row = known[id_], rows.get(known[id_].first)
                if row == one.old:
                    continue
                gone.append(id_)
                if one.bars > 1 or (comparison is not None and comparison.unlisted):
                    self._ledger.comparisons.forget(state.series)
                if row is not None and row != one.new and one.bars == 1:
                    changed.append(one._replace(old=row))
        self._replace(state, gone, changed, now)

    def _replace(
        self, state: SeriesState, gone: Sequence[int], found: Sequence[Difference], now: int
    ) -> list[Difference]:
        """As `DifferenceRecords.replace`."""
        if not gone and not found:
            return []
        unlisted = self._ledger.differences.replace(state.series, gone, found, now)
        self.load(state)
        return unlisted


def _first(one: Difference) -> int:
    return one.first


def _within(one: Difference, starts: Sequence[int]) -> Sequence[int]:
    """Which of these starts, in order, are of bars of a difference."""
    return starts[bisect_left(starts, one.first) : bisect_right(starts, one.last)]


def _groups(known: dict[int, Difference]) -> Iterator[list[int]]:
    """The ids of differences near to each other; they are in order of time."""
    group: list[int] = []
    for id_, one in known.items():
        if group and one.first - known[group[-1]].first > _NEAR_S:
            yield group
            group = []
        group.append(id_)
    if group:
        yield group
