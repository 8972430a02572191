"""DataFrames of what a store has and lacks: its series, a series' days, its gaps. Reads nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any

import numpy as np
import pandas as pd

from ktrdr.completeness.gaps import Reason
from ktrdr.data.frames import times_of
from ktrdr.ipc.messages import DayStatus, SeriesStatus
from ktrdr.market.sessions import utc_midnight
from ktrdr.market.timeframes import Timeframe

_ABSENT = Reason.NO_TRADES.value
_REASONS = [reason.value for reason in Reason]
_TIME = "datetime64[s, UTC]"
_SERIES = {
    "symbol": "object",
    "timeframe": "object",
    "state": "object",
    "first": _TIME,
    "last": _TIME,
    "expected": "Int64",
    "present": "Int64",
    "missing": "Int64",
    "complete": "boolean",
    "why": "object",
    "next_step": "object",
}


def series_frame(series: Iterable[SeriesStatus]) -> pd.DataFrame:
    """One row for each series, ordered by symbol and bar length; NA: not known."""
    ordered = sorted(series, key=lambda one: (one.symbol, Timeframe.parse(one.timeframe).length_s))
    rows = [_series_row(one) for one in ordered]
    columns = {name: [row[name] for row in rows] for name in _SERIES}
    return pd.DataFrame({name: pd.Series(columns[name], dtype=_SERIES[name]) for name in _SERIES})


def _series_row(one: SeriesStatus) -> dict[str, Any]:
    missing = None if one.expected is None else _without_absent(one.missing)
    return {
        "symbol": one.symbol,
        "timeframe": one.timeframe,
        "state": one.state or pd.NA,
        "first": one.first,
        "last": one.last,
        "expected": one.expected,
        "present": one.present,
        "missing": missing,
        "complete": None if missing is None else missing == 0 and not one.error,
        "why": one.error or _reasons_of(one),
        "next_step": one.hint or "",
    }


def _reasons_of(one: SeriesStatus) -> str:
    """Why bars are missing, such as `3 failed, 2 late`."""
    counts = [(one.missing[name], name) for name in _REASONS if one.missing.get(name)]
    return ", ".join(f"{count} {name}" for count, name in counts if name != _ABSENT)


def _without_absent(missing: Any) -> int:
    return sum(count for reason, count in missing.items() if reason != _ABSENT)


def day_frame(days: Sequence[DayStatus]) -> pd.DataFrame:
    """One row for each trading day; the columns are counts of bars.

    expected, present, missing (those that IB may have), then one for each reason in `Reason`.
    """
    made = pd.DataFrame(
        {
            "expected": [day.expected for day in days],
            "present": [day.present for day in days],
            "missing": [_without_absent(day.missing) for day in days],
            **{reason: [day.missing.get(reason, 0) for day in days] for reason in _REASONS},
        },
        dtype="int64",
    )
    midnights = [utc_midnight(date.fromisoformat(day.date)) for day in days]
    made.index = times_of(midnights).rename("day")
    return made


def gap_frame(gaps: Sequence[tuple[int, int, int, str]], timeframe: Timeframe) -> pd.DataFrame:
    """One row for each gap: start, end (exclusive), bars, reason.

    `gaps`: first and last missing start (UTC seconds), bars, and the reason.
    """
    starts = [gap[0] for gap in gaps]
    ends = [gap[1] + timeframe.length_s for gap in gaps]
    return pd.DataFrame(
        {
            "start": times_of(starts),
            "end": times_of(ends),
            "bars": np.array([gap[2] for gap in gaps], dtype=np.int64),
            "reason": pd.Series([gap[3] for gap in gaps], dtype="object"),
        }
    )
