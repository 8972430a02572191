"""Which series are filled next, and why in this order, in words. Chooses nothing itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ktrdr.assessment.series_state import SeriesState
from ktrdr.errors import KtrdrError
from ktrdr.ipc.messages import QueuedSeries
from ktrdr.market.instruments import Series
from ktrdr.times import iso, moment

SHOWN = 20
"""How many series are listed of each kind."""


@dataclass(frozen=True)
class Turn:
    """A series and its turn."""

    series: Series
    missing: int | None
    """Bars that can be filled; None: not known yet."""
    tried_at: float
    """When it had its last turn (UTC seconds); 0: never since the start."""
    retry_at: float = 0.0
    """When it may be requested again (UTC seconds)."""
    error: KtrdrError | None = None


def turn_of(state: SeriesState) -> Turn:
    """The turn of a series as it is now."""
    coverage, deferred = state.coverage, state.error_state
    missing = sum(gap.bars for gap in coverage.fillable) if coverage else None
    return Turn(state.series, missing, state.tried_at, deferred.retry_at, deferred.error)


def rule(batch_symbols: int) -> str:
    """The rule of the order."""
    return (
        f"symbols that have waited longest come first, {batch_symbols} at a time with all their "
        "timeframes; of their requests the newest bars come first, then gaps of the last 40 days, "
        "then older history, from its end back"
    )


def queue_of(
    filling: Iterable[Turn], following: Sequence[Turn], deferred: Iterable[Turn]
) -> list[QueuedSeries]:
    """The series that are being filled, those that follow in order, and those put off."""
    later = sorted(deferred, key=lambda turn: (turn.retry_at, str(turn.series)))
    return [
        *(_entry(turn, "filling", "requests are in flight") for turn in [*filling][:SHOWN]),
        *(_entry(turn, "next", _why_now(turn)) for turn in following[:SHOWN]),
        *(_entry(turn, "later", _why_later(turn)) for turn in later[:SHOWN]),
    ]


def _entry(turn: Turn, state: str, why: str) -> QueuedSeries:
    return QueuedSeries(
        turn.series.symbol,
        turn.series.timeframe.value,
        state,
        why,
        turn.missing,
        moment(turn.retry_at) if state == "later" else None,
    )


def _why_now(turn: Turn) -> str:
    if turn.missing is None:
        return "its sessions are not known yet: they are requested first"
    if not turn.tried_at:
        return "has not had a turn since the start"
    return f"has waited since its last turn at {iso(turn.tried_at)}"


def _why_later(turn: Turn) -> str:
    return f"tried again later: {turn.error.message}" if turn.error else "tried again later"
