"""Which series are filled next, and why in this order, in words. Chooses nothing itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ktrdr.assessment.series_state import SeriesState
from ktrdr.completeness.gaps import Gap
from ktrdr.errors import KtrdrError
from ktrdr.filling.scheduler import RECENT_S
from ktrdr.ipc.messages import QueuedSeries
from ktrdr.market.instruments import Series
from ktrdr.market.timeframes import DAY_S
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
    what: str = ""
    """What is requested first; empty: not known."""


def turn_of(state: SeriesState, now: float) -> Turn:
    """The turn of a series as it is now."""
    coverage, deferred = state.coverage, state.error_state
    missing = sum(gap.bars for gap in coverage.fillable) if coverage else None
    what = _what(coverage.open_gaps, state.last, now) if coverage else ""
    return Turn(state.series, missing, state.tried_at, deferred.retry_at, deferred.error, what)


def _what(gaps: Sequence[Gap], last: int | None, now: float) -> str:
    """What is requested first of these gaps; `last`: the start of the last stored bar."""
    if not gaps:
        return ""
    if last is None or gaps[-1].first > last:
        return "its newest bars"
    is_recent = gaps[-1].last > now - RECENT_S
    return f"gaps of the last {RECENT_S // DAY_S} days" if is_recent else "older history"


def rule(batch_symbols: int) -> str:
    """The rule of the order."""
    return (
        "symbols that lack a bar of their stream come first, then those that have waited longest, "
        f"{batch_symbols} at a time with all their timeframes; of their requests "
        "those for what follows the last stored bar come first, "
        f"then gaps of the last {RECENT_S // DAY_S} days, then older history, from its end back"
    )


def queue_of(
    filling: Sequence[Turn], following: Sequence[Turn], deferred: Sequence[Turn]
) -> list[QueuedSeries]:
    """The series that are being filled, those that follow, and those put off, each in order."""
    return [
        *(_entry(turn, "filling", "requests are in flight") for turn in filling[:SHOWN]),
        *(_entry(turn, "next", _why_now(turn)) for turn in following[:SHOWN]),
        *(_entry(turn, "later", _why_later(turn)) for turn in deferred[:SHOWN]),
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
    waits = f"it has waited since its last turn at {iso(turn.tried_at)}"
    waits = waits if turn.tried_at else "it has not had a turn since the start"
    return f"{turn.what}; {waits}" if turn.what else waits


def _why_later(turn: Turn) -> str:
    return f"tried again later: {turn.error.message}" if turn.error else "tried again later"
