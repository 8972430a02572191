"""What the gap filler says of the store: counts and coverage as messages. Decides nothing."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from ktrdr.data.local_api import Json
from ktrdr.data.watch import Watched
from ktrdr.planning.gaps import Reason


def count_holes(series: Iterable[Watched]) -> tuple[dict[Reason, int], int]:
    """Holes by reason, and the bars that are still to be had.

    A series of which nothing is known yet is one hole: all of it may be missing.
    """
    holes: dict[Reason, int] = {}
    bars = 0
    for watched in series:
        if watched.is_blocked:
            continue
        coverage = watched.coverage
        for reason, count in (coverage.holes() if coverage else {watched.reason: 1}).items():
            holes[reason] = holes.get(reason, 0) + count
        bars += sum(gap.bars for gap in coverage.open_gaps) if coverage else 0
    return holes, bars


def coverage_of(watched: Watched, state: str) -> Json:
    """One series in the words of `GET /coverage`."""
    coverage = watched.coverage
    return {
        "symbol": watched.series.symbol,
        "timeframe": watched.series.timeframe.value,
        "file": watched.series.file_name,
        "state": state,
        "first": iso(watched.first),
        "last": iso(watched.last),
        "expected": coverage.expected if coverage else None,
        "present": coverage.present if coverage else None,
        "holes": len(coverage.open_gaps) if coverage else None,
        "missing": {r.value: n for r, n in coverage.bars().items()} if coverage else {},
        "error": watched.error.message if watched.error else None,
        "from": iso(watched.looked_from) if coverage else None,
        "until": iso(watched.looked_at) if coverage else None,
        "gaps": [
            [gap.first, gap.last, gap.bars, gap.reason.value]
            for gap in (coverage.gaps if coverage else ())
        ],
        "days": [
            {
                "date": datetime.fromtimestamp(day.day, UTC).date().isoformat(),
                "expected": day.expected,
                "present": day.present,
                "missing": {r.value: n for r, n in day.missing.items()},
            }
            for day in (coverage.days if coverage else ())
        ],
    }


def moment(time_s: float | None) -> datetime | None:
    """UTC seconds as a time."""
    return None if time_s is None else datetime.fromtimestamp(time_s, UTC)


def iso(time_s: float | None) -> str | None:
    """UTC seconds as ISO 8601."""
    return None if time_s is None else datetime.fromtimestamp(int(time_s), UTC).isoformat()
