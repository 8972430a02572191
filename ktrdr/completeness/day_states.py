"""The state of each trading day of a series as one character, for a heat map. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from ktrdr.completeness.coverage import Coverage
from ktrdr.completeness.gaps import Reason
from ktrdr.errors import (
    KtrdrError,
    NotConnected,
    NotEntitled,
    OtherContract,
    PacingViolation,
    PeerDown,
    UnknownContract,
)
from ktrdr.market.sessions import Schedule
from ktrdr.market.timeframes import DAY_S

_REFUSALS = (NotEntitled, UnknownContract, OtherContract)
_PASSING = (PacingViolation, NotConnected, PeerDown)
"""Errors that pass by themselves: the bars are only requested later."""


class DayState(StrEnum):
    """The state of one trading day of one series."""

    OUTSIDE = "outside"
    """Not kept, not known, or still to come."""
    CLOSED = "closed"
    """No session that day, or a holiday: IB's sessions lack it, and its bars are proven absent."""
    NO_TRADES = "no_trades"
    """All expected bars are proven absent."""
    COMPLETE = "complete"
    """All expected bars are there or proven absent."""
    FILLING = "filling"
    """Missing bars are requested now, or as soon as it is their turn."""
    WAITING = "waiting"
    """Missing bars are requested later, without anybody's help."""
    REFUSED = "refused"
    """IB refuses the bars: no permission, or no such contract."""
    FAILED = "failed"
    """Missing bars need attention."""


CHARACTER = {
    DayState.OUTSIDE: " ",
    DayState.CLOSED: ".",
    DayState.NO_TRADES: "n",
    DayState.COMPLETE: "c",
    DayState.FILLING: "f",
    DayState.WAITING: "w",
    DayState.REFUSED: "x",
    DayState.FAILED: "!",
}
_FROM_MILDEST = (
    DayState.OUTSIDE,
    DayState.CLOSED,
    DayState.NO_TRADES,
    DayState.COMPLETE,
    DayState.OUTSIDE,  # bars are missing that are too old to be kept
    DayState.FILLING,
    DayState.WAITING,
    DayState.REFUSED,
    DayState.FAILED,
)
"""By rank: of two states of one day the later one counts."""
_CHARACTERS = np.frombuffer("".join(CHARACTER[one] for one in _FROM_MILDEST).encode(), np.uint8)
_RANK = {state: np.uint8(_FROM_MILDEST.index(state)) for state in DayState}
_TOO_OLD = _RANK[DayState.COMPLETE] + np.uint8(1)

_RANK_OF = {
    Reason.ASKED: _RANK[DayState.FILLING],
    Reason.NO_TRADES: _RANK[DayState.NO_TRADES],
    Reason.LATE: _RANK[DayState.WAITING],
    Reason.UNPROVEN: _RANK[DayState.WAITING],
    Reason.TOO_OLD: _TOO_OLD,
    Reason.FAILED: _RANK[DayState.FAILED],
    Reason.NOT_ENTITLED: _RANK[DayState.REFUSED],
    Reason.UNKNOWN_CONTRACT: _RANK[DayState.REFUSED],
    Reason.OTHER_CONTRACT: _RANK[DayState.REFUSED],
    Reason.INCOMPLETE_ROW: _RANK[DayState.FAILED],
    Reason.NOT_UNDERSTOOD: _RANK[DayState.FAILED],
    Reason.BROKEN_FILE: _RANK[DayState.FAILED],
}
"""Reason of missing bars, except OPEN → the rank of their day at least."""

_Ranks = NDArray[np.uint8]


@dataclass(frozen=True)
class DayRow:
    """The states of consecutive days, a character each."""

    first: int
    """UTC midnight of the first day."""
    states: str

    def between(self, first: int, days: int) -> str:
        """The states of so many days from another first day on; unknown ones are outside."""
        skipped = (first - self.first) // DAY_S
        lead = min(max(-skipped, 0), days)
        known = self.states[max(skipped, 0) : max(skipped + days, 0)]
        return (" " * lead + known).ljust(days)

    @property
    def newest(self) -> int | None:
        """The last day of which bars are due (UTC midnight); None: there is none."""
        length = len(self.states.rstrip(" "))
        return self.first + (length - 1) * DAY_S if length else None


def state_of_open(error: KtrdrError | None, *, is_held: bool) -> DayState:
    """The state of a day with bars to be requested, in a series with this error.

    `is_held`: nothing at all is requested for now.
    """
    if isinstance(error, _REFUSALS):
        return DayState.REFUSED
    if error is not None and not isinstance(error, _PASSING):
        return DayState.FAILED
    return DayState.WAITING if is_held or error is not None else DayState.FILLING


def row_of(
    parts: Sequence[Coverage], open_state: DayState, schedule: Schedule | None, today: int
) -> DayRow:
    """The days from the first kept one up to `today` (UTC midnight), or the last with due bars.

    `parts`: the coverage of successive times, oldest first. `open_state`: that of days with bars
    to be requested. Days without a bar are closed as far as `schedule` knows them.
    """
    if not parts:
        return DayRow(today, "")
    first = parts[0].since - parts[0].since % DAY_S
    newest = max((int(part.days.days[-1]) for part in parts if len(part.days)), default=first)
    ranks = np.zeros(max(0, (max(today, newest) - first) // DAY_S + 1), np.uint8)
    _mark_closed(ranks, first, schedule, today)
    for part in parts:
        place = (part.days.days - first) // DAY_S
        inside = (place >= 0) & (place < len(ranks))
        part_ranks = _ranks_of(part, open_state)
        ranks[place[inside]] = _worse(ranks[place[inside]], part_ranks[inside])
    _mark_holidays(ranks, first, schedule)
    return DayRow(first, _CHARACTERS[ranks].tobytes().decode())


def row_without_coverage(
    first: int, error: KtrdrError, schedule: Schedule | None, today: int
) -> DayRow:
    """The days from `first` to `today` (UTC midnights) of a series that cannot be assessed."""
    state = state_of_open(error, is_held=False)
    ranks = np.full(max(0, (today - first) // DAY_S + 1), _RANK[state], np.uint8)
    _mark_closed(ranks, first, schedule, today)
    return DayRow(first, _CHARACTERS[ranks].tobytes().decode())


def _worse(one: _Ranks, other: _Ranks | np.uint8) -> _Ranks:
    worse: _Ranks = np.maximum(one, other)
    return worse


def _mark_closed(ranks: _Ranks, first: int, schedule: Schedule | None, today: int) -> None:
    """Mark the days up to today without a session, as far as the schedule knows them."""
    if schedule is None:
        return
    days = first + DAY_S * np.arange(len(ranks), dtype=np.int64)
    is_known = (schedule.start <= days) & (days + DAY_S <= schedule.end) & (days <= today)
    ranks[is_known & ~np.isin(days, schedule.columns[2])] = _RANK[DayState.CLOSED]


def _mark_holidays(ranks: _Ranks, first: int, schedule: Schedule | None) -> None:
    """Mark days as closed that IB's sessions lack, and whose bars are all proven absent."""
    if schedule is None or not schedule.denied:
        return
    place = (np.array(schedule.denied, np.int64) - first) // DAY_S
    place = place[(place >= 0) & (place < len(ranks))]
    ranks[place[ranks[place] == _RANK[DayState.NO_TRADES]]] = _RANK[DayState.CLOSED]


def _ranks_of(part: Coverage, open_state: DayState) -> _Ranks:
    """The rank of each day of a coverage."""
    days, reasons = part.days, _RANK_OF | {Reason.OPEN: _RANK[open_state]}
    ranks = np.full(len(days), _RANK[DayState.COMPLETE])
    if (absent := days.missing.get(Reason.NO_TRADES)) is not None:
        ranks[absent == days.expected] = _RANK[DayState.NO_TRADES]
    for reason, counts in days.missing.items():
        ranks = np.where(counts > 0, _worse(ranks, reasons[reason]), ranks)
    return ranks
