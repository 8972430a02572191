"""Grids of intraday bars: detects that IB's bars begin at other minutes than expected. Pure.

Bars of five minutes to an hour are expected at a session's open and then at the multiples of
their length on the exchange's clock, as was observed for US stocks; IB documents no grid. If all
of them begin some minutes past the multiples, that is accepted once a second answer repeats it,
since one answer proves nothing. Four-hour bars are learnt elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import numpy as np

from ktrdr.market.sessions import (
    BoolArray,
    Int64Array,
    Schedule,
    expected,
    minute_of,
)
from ktrdr.market.timeframes import HOUR_S, MINUTE_S, Timeframe
from ktrdr.market.zones import find_zone

_LEAST = 3
"""Fewer bars off the grid than this may be isolated errors."""
_TIMES, _AFTER_S = 2, 300
"""Another grid is accepted after this many answers, over this time."""
_STORED_TIMES, _STORED_AFTER_S = 3, 25 * HOUR_S
"""The same if it contradicts stored bars: a server may be unwell for a day."""
_AGAIN_MAX_S = 6 * HOUR_S
_FAR = 2**62


class Grid(NamedTuple):
    """The accepted grid of one contract and bar length, and evidence against it."""

    minute: int = 0
    """Minutes past the multiples of their length; a session's open also begins one."""
    seen: int | None = None
    """The minutes of the other grid in the latest answers; None: they had none."""
    times: int = 0
    """How often it was received, each time some minutes after the last."""
    first_at: int = 0
    """UTC seconds."""
    last_at: int = 0

    @property
    def alignment(self) -> frozenset[int]:
        """As an argument of `sessions.expected`."""
        return frozenset({self.minute} - {0})

    @property
    def again_s(self) -> int:
        """How long after the last answer to request missing bars again: less and less often."""
        return min(_AFTER_S << min(max(self.times - 1, 0), 10), _AGAIN_MAX_S)


@dataclass(frozen=True)
class GridFinding:
    """The bars of one answer compared with the accepted grid; in columns."""

    starts: Int64Array
    odd: BoolArray
    """Which begin off the grid."""
    leads: BoolArray
    """Which begin at an open, and are followed by another bar of the same session."""
    minute: int | None
    """The minutes of another grid on which all begin, except those at an open; else None."""
    is_met: bool
    """Some begin on the accepted grid, apart from those at an open."""

    def unlikely(self, stored: Int64Array) -> BoolArray:
        """Which bars may not be stored, because their starts may be wrong.

        All of them if they follow another grid. Otherwise those off the grid that are not `stored`
        already, and a session's first bar if such a bar follows: it ends where that begins.
        """
        if self.minute is not None:
            return np.ones(len(self.starts), np.bool_)
        found = self.odd & ~np.isin(self.starts, stored)
        found[:-1] |= self.leads[:-1] & found[1:]
        return found


def has_grid(timeframe: Timeframe) -> bool:
    """Bars of this length may follow another grid: not days, one-minute or four-hour bars."""
    return MINUTE_S < timeframe.length_s <= HOUR_S


def find_grid(
    starts: Int64Array, schedule: Schedule, timeframe: Timeframe, alignment: frozenset[int]
) -> GridFinding:
    """Compares bars with the accepted grid; `starts` ascend. Only bars in sessions count."""
    nothing = np.zeros(len(starts), np.bool_)
    if not has_grid(timeframe) or not len(starts) or not schedule.sessions:
        return GridFinding(starts, nothing, nothing, None, is_met=False)
    open_, close, _, offset = schedule.columns
    place = np.searchsorted(close, starts, side="right")
    inside = place < len(close)
    place = np.minimum(place, len(close) - 1)
    inside &= starts > open_[place] - timeframe.length_s
    is_first = inside & (starts == open_[place])
    minutes = (starts + offset[place]) % timeframe.length_s // MINUTE_S
    odd = inside & ~is_first & (minutes != minute_of(alignment))
    is_met = bool((inside & ~is_first & ~odd).any())
    leads = is_first.copy()
    leads[:-1] &= place[:-1] == place[1:]
    seen = set(minutes[odd].tolist())
    is_grid = odd.sum() >= _LEAST and len(seen) == 1 and not is_met
    return GridFinding(starts, odd, leads, seen.pop() if is_grid else None, is_met)


def after(grid: Grid, finding: GridFinding, requested_at: int) -> Grid:
    """The grid after one more answer: another grid is new, confirmed, or contradicted."""
    if finding.minute is None:
        is_denied = finding.is_met or bool(finding.odd.any())
        return Grid(grid.minute) if is_denied else grid
    if finding.minute != grid.seen:
        return Grid(grid.minute, finding.minute, 1, requested_at, requested_at)
    if requested_at - grid.last_at < _AFTER_S:
        return grid
    return grid._replace(times=grid.times + 1, last_at=requested_at)


def is_accepted(grid: Grid, *, is_against: bool) -> bool:
    """The other grid was received often enough; `is_against`: it contradicts stored bars."""
    times, after_s = (_STORED_TIMES, _STORED_AFTER_S) if is_against else (_TIMES, _AFTER_S)
    return grid.times >= times and grid.last_at - grid.first_at >= after_s


def shown(schedule: Schedule, timeframe: Timeframe, alignment: frozenset[int]) -> str:
    """Where bars begin, by the exchange's clock, such as `09:30, 10:00, 11:00 …`."""
    zone = find_zone(schedule.zone)
    day = max(schedule.sessions, key=lambda s: s.close - s.open)
    starts = expected(schedule, timeframe, day.open, day.close, _FAR, alignment=alignment).starts
    clocks = [f"{datetime.fromtimestamp(start, zone):%H:%M}" for start in starts[:3].tolist()]
    return ", ".join(clocks) + " …"
