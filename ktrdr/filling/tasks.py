"""Tasks: what a request to ib-connection is for, and for which series. Sends nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto

from ktrdr.assessment.series_state import SeriesState
from ktrdr.completeness.gaps import Gap
from ktrdr.market.bars_request import BarsRequest


class Kind(Enum):
    """What a request is for."""

    SESSIONS = auto()
    HEAD = auto()
    FILL = auto()
    CONTROL = auto()
    """Does IB answer anything about this series? If not, missing bars are not absent."""
    CHECK = auto()
    """Do the stored bars match what IB has now?"""
    LIKENESS = auto()
    """The symbol may mean another contract now: do its bars match the stored ones?"""
    AROUND = auto()
    """Bars near a revised one: was only that one revised, or the whole series?"""

    WHOLE = auto()
    """All imported bars, some at a time: do they match what IB has now?"""

    @property
    def compares(self) -> bool:
        """It requests bars that are stored already, to compare them."""
        return self in (Kind.CHECK, Kind.AROUND, Kind.WHOLE)


@dataclass(frozen=True, eq=False)
class Task:
    """One request, for one series or for several of one contract."""

    kind: Kind
    series: tuple[SeriesState, ...]
    requested_at: int
    """UTC seconds."""
    sent_at: float
    """By a clock that only moves forward."""
    request: BarsRequest | None = None
    gaps: tuple[Gap, ...] = field(default=())
    """The gaps that a control verifies, or whose bars are withheld until the answer is there."""

    @property
    def key(self) -> tuple[BarsRequest | None, float]:
        """Unique among all tasks."""
        return self.request, self.sent_at

    @property
    def state(self) -> SeriesState:
        """Its only series, or the first of them."""
        return self.series[0]

    @property
    def bars_request(self) -> BarsRequest:
        """The request, of a task that requests bars."""
        assert self.request is not None
        return self.request
