"""Whether it is proven that nothing is missing in an interval. Pure."""

from __future__ import annotations

from ktrdr.completeness.coverage import Coverage
from ktrdr.completeness.gaps import Reason
from ktrdr.data.fetching import ALWAYS, FetchResult
from ktrdr.ipc.messages import SeriesCoverage

_POLL_S = 60
"""Seconds that a scan of the whole store may take."""
CHANGED = "the gap filler has not assessed the file as it is now"


def judge(
    entry: SeriesCoverage, span: tuple[int, int], interval_s: float, now: float
) -> FetchResult:
    """Complete if this interval was assessed, and only bars that IB does not have are missing.

    An open start means: from the first bar on; an open end: as of the gap filler's last scan. This
    is about the file that was assessed, whichever that is. Times are UTC seconds.
    """
    since, until = entry.looked_from, entry.proven_until
    if entry.expected is None or since is None or until is None:
        return FetchResult(complete=False, why=why_unknown(entry))
    known_from, known_until = int(since.timestamp()), int(until.timestamp())
    start, end = start_of(entry, span), span[1]
    missing = sum(
        bars
        for first, last, bars, reason in entry.gaps
        if first < end and last >= start and reason != Reason.NO_TRADES
    )
    why = ""
    if start < known_from:
        why = f"nothing is known before {since.isoformat()}"
    elif min(end, now) > known_until + (interval_s + _POLL_S if end > now else 0):
        why = f"nothing is known after {until.isoformat()}"
    elif missing:
        why = f"up to {missing} bars are missing"
    return FetchResult(complete=not why, why=why, until=known_until)


def start_of(entry: SeriesCoverage, span: tuple[int, int]) -> int:
    """Where an interval begins: with an open start, at the first bar (UTC seconds)."""
    first = entry.first or entry.looked_from
    return span[0] if span[0] > ALWAYS[0] or first is None else int(first.timestamp())


def is_whole(coverage: Coverage | None, start: int, end: int) -> bool:
    """Every bar expected in `[start, end)` is there, or proven absent (UTC seconds)."""
    return (
        coverage is not None
        and coverage.since <= start
        and coverage.until >= end
        and not coverage.bars.keys() - {Reason.NO_TRADES}
    )


def why_unknown(entry: SeriesCoverage) -> str:
    """Why it is not known which bars a series should have."""
    if not entry.error:
        return "the gap filler has not assessed this series yet"
    return f"{entry.error} – next step: {entry.hint}" if entry.hint else entry.error
