"""Coverage of one series: expected bars, present bars, and why the others are missing. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ktrdr.completeness.gaps import FILLABLE, SETTLED, Gap, Reason, among, edges
from ktrdr.market.sessions import BoolArray, Expected, Int64Array

_REASONS = tuple(Reason)
_NUMBER = {reason: number for number, reason in enumerate(_REASONS)}

Int32Array = NDArray[np.int32]
_NONE = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class DayCoverage:
    """The bars of one trading day."""

    day: int
    """UTC midnight of the trading day."""
    expected: int
    present: int
    missing: dict[Reason, int] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Days:
    """The bars of each trading day, oldest first; in columns, since there can be thousands."""

    days: Int64Array
    """UTC midnights."""
    expected: Int32Array
    present: Int32Array
    missing: dict[Reason, Int32Array]

    def __len__(self) -> int:
        return len(self.days)

    def __iter__(self) -> Iterator[DayCoverage]:
        missing = {reason: counts.tolist() for reason, counts in self.missing.items()}
        columns = (self.days.tolist(), self.expected.tolist(), self.present.tolist())
        for place, (day, expected, present) in enumerate(zip(*columns, strict=True)):
            reasons = {reason: n[place] for reason, n in missing.items() if n[place]}
            yield DayCoverage(day, expected, present, reasons)


@dataclass(frozen=True, eq=False)
class Gaps:
    """Runs of missing bars, oldest first; in columns, since an illiquid series has many."""

    first: Int64Array
    last: Int64Array
    bars: Int32Array
    reason: NDArray[np.int8]
    """The index of the reason in `Reason`."""

    def __len__(self) -> int:
        return len(self.first)

    def __iter__(self) -> Iterator[Gap]:
        columns = (self.first.tolist(), self.last.tolist(), self.bars.tolist())
        for first, last, bars, reason in zip(*columns, self.reason.tolist(), strict=True):
            yield Gap(first, last, bars, _REASONS[reason])

    def of(self, *reasons: Reason) -> Gaps:
        """Gaps with one of these reasons."""
        return self.chosen(np.isin(self.reason, [_NUMBER[reason] for reason in reasons]))

    def chosen(self, chosen: BoolArray) -> Gaps:
        """A selection of gaps."""
        return Gaps(self.first[chosen], self.last[chosen], self.bars[chosen], self.reason[chosen])

    def renamed(self, chosen: BoolArray, reason: Reason) -> Gaps:
        """The same gaps, with another reason for the chosen ones."""
        number = np.int8(_NUMBER[reason])
        return replace(self, reason=np.where(chosen, number, self.reason))

    def counts(self, *, of_bars: bool) -> dict[Reason, int]:
        """Reason → gaps, or bars."""
        weights = self.bars if of_bars else None
        counted = np.bincount(self.reason, weights=weights, minlength=len(_REASONS))
        return {reason: int(n) for reason, n in zip(_REASONS, counted, strict=True) if n}


@dataclass(frozen=True, eq=False)
class Coverage:
    """The bars of one series in an interval."""

    since: int
    until: int
    """It covers the bars that start at `since` or later and were due at `until` (UTC seconds)."""
    expected: int
    present: int
    """How many of the expected bars are there."""
    gaps: Gaps
    days: Days
    given_up: Reason | None = None
    """Why none of the bars that `days` counts as open can be filled now."""

    @cached_property
    def open_gaps(self) -> list[Gap]:
        """Gaps that can be requested now."""
        return list(self.gaps.of(Reason.OPEN))

    @cached_property
    def fillable(self) -> list[Gap]:
        """Open gaps, and those that were requested already or have failed for now."""
        return list(self.gaps.of(*FILLABLE))

    def fillable_within(self, start: int, end: int, length_s: int) -> int:
        """How many fillable bars start in `[start, end)` (UTC seconds).

        A gap that reaches beyond it counts in proportion to the time; `length_s` is a bar's.
        """
        gaps = self.gaps.of(*FILLABLE)
        ends = gaps.last + length_s
        inside_s = np.minimum(ends, end) - np.maximum(gaps.first, start)
        shares = np.maximum(inside_s, 0) / (ends - gaps.first)
        return round(float((gaps.bars * shares).sum()))

    @cached_property
    def first_wanted(self) -> int | None:
        """The first missing bar that is neither proven absent nor too old to be requested."""
        settled = np.isin(self.gaps.reason, [_NUMBER[reason] for reason in SETTLED])
        wanted = self.gaps.first[~settled]
        return int(wanted[0]) if len(wanted) else None

    @cached_property
    def is_complete(self) -> bool:
        """Every expected bar is there, proven absent, or too old to be requested."""
        return not self.gap_counts.keys() - set(SETTLED)

    @cached_property
    def gap_counts(self) -> dict[Reason, int]:
        """Reason → gaps."""
        return self.gaps.counts(of_bars=False)

    @cached_property
    def bars(self) -> dict[Reason, int]:
        """Reason → missing bars."""
        return self.gaps.counts(of_bars=True)

    def requested(self, intervals: Sequence[tuple[int, int]]) -> Coverage:
        """The same coverage, with the open gaps in these intervals marked as requested."""
        if not intervals:
            return self
        gaps = self.gaps
        inside = np.zeros(len(gaps), dtype=np.bool_)
        for start, end in intervals:
            inside |= (gaps.first < end) & (gaps.last >= start)
        inside &= gaps.reason == _NUMBER[Reason.OPEN]
        return replace(self, gaps=gaps.renamed(inside, Reason.ASKED))

    def refused(self, reason: Reason) -> Coverage:
        """The same coverage, with this reason for all open gaps: none of them can be filled."""
        is_open = self.gaps.reason == _NUMBER[Reason.OPEN]
        return replace(self, gaps=self.gaps.renamed(is_open, reason), given_up=reason)


def compute_coverage(
    expected: Expected,
    present: Int64Array,
    absent: Int64Array,
    late: Int64Array,
    fill_from: int,
    span: tuple[int, int] = (0, 0),
    unproven: Int64Array = _NONE,
    incomplete: Int64Array = _NONE,
) -> Coverage:
    """Which bars are missing, and why; before `fill_from` (UTC seconds) they are too old to fill.

    `absent`: IB is known not to have them; `late`: IB did not have them a moment ago;
    `unproven`: IB did not have them, which is not proven, and they may not be requested yet;
    `incomplete`: the file has rows for them, which lack a value. `span`: as `since` and `until` of
    a coverage.
    """
    starts = expected.starts
    there = among(starts, present)
    lacking = among(starts, incomplete)
    known = there | lacking
    verified = among(starts, absent) & ~known
    waiting = among(starts, late) & ~known & ~verified
    unverified = among(starts, unproven) & ~known & ~verified & ~waiting
    open_ = ~known & ~verified & ~waiting & ~unverified
    why = {
        Reason.INCOMPLETE_ROW: lacking,
        Reason.TOO_OLD: open_ & (starts < fill_from),
        Reason.OPEN: open_ & (starts >= fill_from),
        Reason.NO_TRADES: verified,
        Reason.LATE: waiting,
        Reason.UNPROVEN: unverified,
    }
    return Coverage(
        since=span[0],
        until=span[1],
        expected=len(starts),
        present=int(np.count_nonzero(there)),
        gaps=_gaps(starts, why),
        days=_by_day(expected.days, there, why),
    )


def _gaps(starts: Int64Array, why: dict[Reason, BoolArray]) -> Gaps:
    """Runs of adjacent bars that are missing for the same reason."""
    parts = []
    for reason, chosen in why.items():
        begins, ends = edges(chosen)
        number = np.full(len(begins), _NUMBER[reason])
        parts.append(np.stack((starts[begins], starts[ends - 1], ends - begins, number)))
    first, last, bars, number = np.concatenate(parts, axis=1)
    order = np.argsort(first)
    return Gaps(
        first[order],
        last[order],
        bars[order].astype(np.int32),
        number[order].astype(np.int8),
    )


def _by_day(days: Int64Array, there: BoolArray, why: dict[Reason, BoolArray]) -> Days:
    begins = np.flatnonzero(np.diff(days, prepend=-1))  # of each run of one day's bars
    each, place = np.unique(days[begins], return_inverse=True)

    def count(chosen: BoolArray) -> Int32Array:
        of_runs = np.add.reduceat(chosen, begins, dtype=np.int32)
        return np.bincount(place, of_runs, minlength=len(each)).astype(np.int32)

    return Days(
        each,
        count(np.ones(len(days), np.bool_)),
        count(there),
        {reason: count(chosen) for reason, chosen in why.items() if chosen.any()},
    )
