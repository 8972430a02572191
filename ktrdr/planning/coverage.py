"""What one series should have, what it has, and why the rest is not there. Reads no file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ktrdr.planning.gaps import CLOSABLE, Gap, Reason, among, runs
from ktrdr.planning.sessions import Expected, Int64Array


@dataclass(frozen=True)
class DayCoverage:
    """The bars of one trading day."""

    day: int
    """UTC midnight of the trading day."""
    expected: int
    present: int
    missing: dict[Reason, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Coverage:
    """The bars of one series."""

    expected: int
    present: int
    """Of the expected ones."""
    gaps: tuple[Gap, ...]
    """Oldest first, each with its reason."""
    days: tuple[DayCoverage, ...]

    @property
    def open_gaps(self) -> list[Gap]:
        """Those that can be asked for."""
        return [gap for gap in self.gaps if gap.reason is Reason.OPEN]

    @property
    def closable(self) -> list[Gap]:
        """Those, and what is asked for already or failed for now."""
        return [gap for gap in self.gaps if gap.reason in CLOSABLE]

    def holes(self) -> dict[Reason, int]:
        """Reason → gaps."""
        counts: dict[Reason, int] = {}
        for gap in self.gaps:
            counts[gap.reason] = counts.get(gap.reason, 0) + 1
        return counts

    def bars(self) -> dict[Reason, int]:
        """Reason → missing bars."""
        counts: dict[Reason, int] = {}
        for gap in self.gaps:
            counts[gap.reason] = counts.get(gap.reason, 0) + gap.bars
        return counts

    def asked(self, spans: Sequence[tuple[int, int]]) -> Coverage:
        """The same, with those that are asked for in these spans called so."""
        if not spans:
            return self
        gaps = tuple(
            replace(gap, reason=Reason.ASKED)
            if gap.reason is Reason.OPEN and any(gap.first < b and gap.last >= a for a, b in spans)
            else gap
            for gap in self.gaps
        )
        return replace(self, gaps=gaps)

    def refused(self, reason: Reason) -> Coverage:
        """The same, when nothing can be had of what is open, for one reason."""
        gaps = tuple(replace(g, reason=reason) if g.reason is Reason.OPEN else g for g in self.gaps)
        return replace(self, gaps=gaps)


def judge(
    expected: Expected,
    present: Int64Array,
    absent: Int64Array,
    late: Int64Array,
    fill_from: int,
) -> Coverage:
    """The coverage of a series: gaps before `fill_from` (UTC seconds) are too old to be filled.

    `absent`: IB is known not to have them; `late`: it had not when it was asked just now.
    """
    starts = expected.starts
    there = among(starts, present)
    verified = among(starts, absent) & ~there
    waiting = among(starts, late) & ~there & ~verified
    open_ = ~there & ~verified & ~waiting
    why = {
        Reason.TOO_OLD: open_ & (starts < fill_from),
        Reason.OPEN: open_ & (starts >= fill_from),
        Reason.NO_TRADES: verified,
        Reason.LATE: waiting,
    }
    gaps = [gap for reason, chosen in why.items() for gap in runs(starts, chosen, reason)]
    return Coverage(
        expected=len(starts),
        present=int(there.sum()),
        gaps=tuple(sorted(gaps, key=lambda g: g.first)),
        days=_by_day(expected.days, there, why),
    )


def _by_day(
    days: Int64Array,
    there: np.typing.NDArray[np.bool_],
    why: dict[Reason, np.typing.NDArray[np.bool_]],
) -> tuple[DayCoverage, ...]:
    """Counts for each trading day, oldest first."""
    each, place = np.unique(days, return_inverse=True)
    size = len(each)
    totals = np.bincount(place, minlength=size)
    present = np.bincount(place[there], minlength=size)
    reasons = {reason: np.bincount(place[chosen], minlength=size) for reason, chosen in why.items()}
    return tuple(
        DayCoverage(
            day=int(each[i]),
            expected=int(totals[i]),
            present=int(present[i]),
            missing={reason: int(n[i]) for reason, n in reasons.items() if n[i]},
        )
        for i in range(size)
    )
