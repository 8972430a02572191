"""The page of one trading day of a series: its bars, its gaps, and the proof for each absence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import groupby
from typing import Any

from ktrdr.errors import UnknownSeries
from ktrdr.health.peers import Answer
from ktrdr.health.system import Snapshot
from ktrdr.ipc.evidence_messages import DayBars, DayEvidence
from ktrdr.ipc.messages import DayStatus, SeriesCoverage
from ktrdr.market.timeframes import Timeframe
from ktrdr.web.pages.bar_rows import BarRows
from ktrdr.web.pages.page import Page, Site, Values
from ktrdr.web.pages.series import find_series, reader_of, tone_of

_WITHOUT_BARS = ("closed", "before_listing", "expired")
"""States of a day on which no bar is expected."""


@dataclass(frozen=True)
class BarRun:
    """Consecutive bars of a day of which the same is known."""

    first: datetime
    last: datetime
    bars: int
    state: str
    """`present`, `not_due`, or why they are missing."""


def runs_of(bars: Sequence[tuple[int, str]]) -> list[BarRun]:
    """Bars (start in UTC seconds, state) as runs of equal state, in their order."""
    found = []
    for state, group in groupby(bars, key=lambda bar: bar[1]):
        starts = [start for start, _ in group]
        found.append(BarRun(_utc(starts[0]), _utc(starts[-1]), len(starts), state))
    return found


def neighbours(days: Sequence[DayStatus], day: str) -> tuple[str | None, str | None]:
    """The trading days before and after a day, in ISO 8601; None: none is known."""
    before = [one.date for one in days if one.date < day]
    after = [one.date for one in days if one.date > day]
    return max(before, default=None), min(after, default=None)


def _view(site: Site, snapshot: Snapshot, values: Values) -> dict[str, Any]:
    symbol, timeframe, day = values["symbol"], values["timeframe"], _day(values["day"])
    found = find_series(site.system, snapshot, symbol, timeframe)
    shown: dict[str, Any] = {"found": found, "symbol": symbol, "timeframe": timeframe, "day": day}
    one = found.content
    if one is None:
        return shown
    bars = site.system.peers.bars_of_day(one.symbol, one.timeframe, day)
    is_trading = bool(bars.content and bars.content.bars)
    before, after = neighbours(one.days, day)
    runs = runs_of(bars.content.bars) if bars.content else []
    return shown | {
        "symbol": one.symbol,
        "timeframe": one.timeframe,
        "tone": tone_of(one.state),
        "bars": bars,
        "runs": runs,
        "is_without_bars": bars.content is not None and bars.content.state in _WITHOUT_BARS,
        "expected": sum(run.bars for run in runs if run.state != "not_due"),
        "present": sum(run.bars for run in runs if run.state == "present"),
        "evidence": _evidence(site, one, day) if is_trading else Answer(DayEvidence(day, (), ())),
        "prices": _prices(site, one, bars),
        "before": before,
        "after": after,
    }


def _day(text: str) -> str:
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise UnknownSeries(
            f"{text!r} is no day", hint="expected one such as 2026-11-20, in UTC"
        ) from None


def _evidence(site: Site, one: SeriesCoverage, day: str) -> Answer[DayEvidence]:
    return site.system.peers.requests_of(one.symbol, one.timeframe, day)


def _prices(site: Site, one: SeriesCoverage, bars: Answer[DayBars]) -> BarRows:
    """The bars that the file has of a trading day."""
    known = bars.content.bars if bars.content else []
    present = [start for start, state in known if state == "present"]
    if not present:
        return BarRows(())
    end = max(present) + Timeframe.parse(one.timeframe).length_s
    span = (_utc(min(present)).isoformat(), _utc(end).isoformat())
    return reader_of(site.system.settings).rows(one.symbol, one.timeframe, *span, one.key)


def _utc(time_s: int) -> datetime:
    return datetime.fromtimestamp(time_s, UTC)


DAY = Page(
    "day",
    "/series/<symbol>/<timeframe>/<day>",
    "",
    _view,
    parameters=("symbol", "timeframe", "day"),
    scripts=("day.js",),
)
