"""What one request to ib-connection is for, and for which series. Sends nothing."""

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
    """The symbol means another contract now: do its bars match the stored ones?"""
    AROUND = auto()
    """Bars near a revised one: was it alone, or were all of the series revised?"""

    @property
    def compares(self) -> bool:
        """It requests bars that are stored already."""
        return self in (Kind.CHECK, Kind.AROUND)


@dataclass(frozen=True, eq=False)
class Task:
    """One request, for one series or for several of a contract."""

    kind: Kind
    series: tuple[SeriesState, ...]
    requested_at: int
    """UTC seconds."""
    sent_at: float
    """By a clock that only moves forward."""
    request: BarsRequest | None = None
    gaps: tuple[Gap, ...] = field(default=())
    """What a control verifies, or the gaps of which nothing is written until it is known."""

    @property
    def key(self) -> tuple[BarsRequest | None, float]:
        """No other task has it."""
        return self.request, self.sent_at

    @property
    def state(self) -> SeriesState:
        """The only series, or the first."""
        return self.series[0]

    @property
    def bars_request(self) -> BarsRequest:
        """The bars that it requests."""
        assert self.request is not None
        return self.request
