"""Where intraday bars begin that IB sends, if not where they are expected. Asks nobody.

Bars of five minutes to an hour are expected at a session's open and then at the multiples of
their length on the exchange's clock, as those of US stocks were observed to begin; IB documents
no grid. That all of them begin some minutes past the multiples is a finding: believed when it is
told alike again, since one answer proves nothing. Four-hour bars are learnt otherwise.
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
"""So few bars off the grid can be odd ones."""
_TIMES, _AFTER_S = 2, 300
"""Another grid is believed when it was told so often, over so long."""
_STORED_TIMES, _STORED_AFTER_S = 3, 25 * HOUR_S
"""The same where bars are stored that it is not the grid of: a server may be unwell for a day."""
_AGAIN_MAX_S = 6 * HOUR_S
_FAR = 2**62


class Grid(NamedTuple):
    """Where bars of one contract and length begin, as is believed, and what speaks against it."""

    minute: int = 0
    """Minutes past the multiples of their length; a session's open begins one besides."""
    seen: int | None = None
    """The same as the last answers had it, where they had it otherwise."""
    times: int = 0
    """How often, each time a while after the last."""
    first_at: int = 0
    """UTC seconds."""
    last_at: int = 0

    @property
    def alignment(self) -> frozenset[int]:
        """In the words of `sessions.expected`."""
        return frozenset({self.minute} - {0})

    @property
    def again_s(self) -> int:
        """How long after the last answer what it lacks is asked for again: ever more rarely."""
        return min(_AFTER_S << min(max(self.times - 1, 0), 10), _AGAIN_MAX_S)


@dataclass(frozen=True)
class GridFinding:
    """The bars of one answer, by the grid that is believed; in columns."""

    starts: Int64Array
    odd: BoolArray
    """Those that begin off the grid."""
    leads: BoolArray
    """Those at an open, and the next one told is of the same session."""
    minute: int | None
    """Where all begin but for those at an open, if not on the grid; None: they have no other."""
    is_met: bool
    """Some begin on the grid, besides at an open."""

    def unlikely(self, stored: Int64Array) -> BoolArray:
        """Those that may be neither stored nor believed to be what they are called.

        All, where they follow another grid. Else the odd ones that are not `stored` already, and
        a session's first bar before such a one: it ends where that begins.
        """
        if self.minute is not None:
            return np.ones(len(self.starts), np.bool_)
        found = self.odd & ~np.isin(self.starts, stored)
        found[:-1] |= self.leads[:-1] & found[1:]
        return found


def has_grid(timeframe: Timeframe) -> bool:
    """Bars of this length may begin at other minutes: neither days, nor minutes, nor four hours."""
    return MINUTE_S < timeframe.length_s <= HOUR_S


def find_grid(
    starts: Int64Array, schedule: Schedule, timeframe: Timeframe, alignment: frozenset[int]
) -> GridFinding:
    """How bars lie to the grid that is believed; `starts` ascend. Only those in sessions count."""
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
    """What is known after one more answer: another grid is told, told again, or denied."""
    if finding.minute is None:
        is_denied = finding.is_met or bool(finding.odd.any())
        return Grid(grid.minute) if is_denied else grid
    if finding.minute != grid.seen:
        return Grid(grid.minute, finding.minute, 1, requested_at, requested_at)
    if requested_at - grid.last_at < _AFTER_S:
        return grid
    return grid._replace(times=grid.times + 1, last_at=requested_at)


def is_believed(grid: Grid, *, is_against: bool) -> bool:
    """Whether the other grid was told often enough; `is_against`: bars of another are stored."""
    times, after_s = (_STORED_TIMES, _STORED_AFTER_S) if is_against else (_TIMES, _AFTER_S)
    return grid.times >= times and grid.last_at - grid.first_at >= after_s


def shown(schedule: Schedule, timeframe: Timeframe, alignment: frozenset[int]) -> str:
    """Where bars begin, by the exchange's clock, such as `09:30, 10:00, 11:00 …`."""
    zone = find_zone(schedule.zone)
    day = max(schedule.sessions, key=lambda s: s.close - s.open)
    starts = expected(schedule, timeframe, day.open, day.close, _FAR, alignment=alignment).starts
    clocks = [f"{datetime.fromtimestamp(start, zone):%H:%M}" for start in starts[:3].tolist()]
    return ", ".join(clocks) + " …"
