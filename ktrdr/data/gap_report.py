"""What the gap filler says of the store: counts and coverage as messages. Decides nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import numpy as np

from ktrdr.data.ledger import Life
from ktrdr.data.local_api import Json
from ktrdr.data.watch import Watch, Watched
from ktrdr.planning.coverage import Coverage
from ktrdr.planning.gaps import Reason
from ktrdr.planning.timeframes import DAY_S, Timeframe


def count_holes(series: Iterable[Watched]) -> tuple[dict[Reason, int], dict[Timeframe, int]]:
    """Holes by reason, and the bars that are still to be had by their size.

    A series of which nothing is known yet is one hole: all of it may be missing. One that is
    being pulled again counts in the place where that is done.
    """
    holes: dict[Reason, int] = {}
    bars: dict[Timeframe, int] = {}
    for watched in series:
        if watched.is_blocked or watched.is_renewed:
            continue
        coverage = watched.coverage
        for reason, count in (watched.past.holes if watched.past else {}).items():
            holes[reason] = holes.get(reason, 0) + count
        for reason, count in (coverage.holes if coverage else {watched.reason: 1}).items():
            holes[reason] = holes.get(reason, 0) + count
        timeframe = watched.series.timeframe
        missing = sum(gap.bars for gap in coverage.closable) if coverage else 0
        bars[timeframe] = bars.get(timeframe, 0) + missing
    return holes, bars


def coverage_of(
    watched: Watched,
    state: str,
    asked: Sequence[tuple[int, int]],
    life: Life,
    sessions_from: str | None,
    *,
    counts_only: bool = False,
) -> Json:
    """One series in the words of `GET /coverage`; without days and gaps, where that is wanted.

    `key`: that of the file which was looked at. `from`, `until`: nothing is proven beyond them.
    `sessions_from`: where what is expected was learnt, as `Schedule.source`.
    """
    key, is_past_known = watched.key, watched.is_past_known  # first: the rest may be newer
    coverage, past, error = watched.coverage, watched.past, watched.error
    coverage = coverage.asked(asked) if coverage else None
    known = [part for part in (past, coverage) if part and coverage]
    first_known = known[0 if is_past_known else -1] if known else None
    said: Json = {
        "symbol": watched.series.symbol,
        "timeframe": watched.series.timeframe.value,
        "file": watched.series.file_name,
        "state": state,
        "first": iso(watched.first),
        "last": iso(watched.last),
        "expected": sum(part.expected for part in known) if known else None,
        "present": sum(part.present for part in known) if known else None,
        "holes": len(coverage.closable) if coverage else None,
        "missing": _missing(known),
        "error": error.message if error else None,
        "error_code": error.code if error else None,
        "hint": error.hint if error else None,
        "listed": iso(life.head),
        "expires": iso(life.expires),
        "sessions_from": sessions_from,
        "ours": watched.is_ours,
        "key": key,
        "from": iso(first_known.since) if first_known else None,
        "until": iso(coverage.until) if coverage else None,
    }
    if counts_only:
        return said
    gaps = [gap for part in known for gap in part.gaps]
    said["gaps"] = [[gap.first, gap.last, gap.bars, gap.reason.value] for gap in gaps]
    return said | {"days": _days(known)}


def _missing(known: Sequence[Coverage]) -> dict[str, int]:
    """Reason → bars."""
    counts: dict[str, int] = {}
    for part in known:
        for reason, count in part.bars.items():
            counts[reason.value] = counts.get(reason.value, 0) + count
    return counts


def _days(known: Sequence[Coverage]) -> list[Json]:
    """Counts of each trading day; one that is in two parts is told once."""
    found: dict[int, Json] = {}
    for part in known:
        for day in part.days:
            said = found.setdefault(
                day.day,
                {
                    "date": datetime.fromtimestamp(day.day, UTC).date().isoformat(),
                    "expected": 0,
                    "present": 0,
                    "missing": {},
                },
            )
            said["expected"] += day.expected
            said["present"] += day.present
            for reason, count in day.missing.items():
                said["missing"][reason.value] = said["missing"].get(reason.value, 0) + count
    return list(found.values())


def bars_of_day(watched: Watched, watch: Watch, day: int, now: int) -> Json:
    """Each bar of one trading day (UTC midnight) with what is known of it.

    A day without a bar says why: `closed`, `before_listing`, `expired` or `not_looked_at`.
    """
    schedule = watch.known_schedule(watched.instrument)
    said: Json = {"day": datetime.fromtimestamp(day, UTC).date().isoformat(), "bars": []}
    if schedule is None:
        return said | {"state": "not_looked_at"}
    life = watch.life(watched.instrument)
    due, later = watch.bars_of_day(watched, schedule, day, now)
    if not len(due) and not len(later):
        return said | {"state": _why_none(life, day, schedule.covers(day, day + DAY_S))}
    there = watched.store.rows(watched.series, day - DAY_S, day + 3 * DAY_S).starts
    reasons: dict[int, str] = {}
    for part in (watched.past, watched.coverage):
        reasons |= _reasons(part, due)
    said["bars"] = [
        [start, "present" if is_there else reasons.get(start, "open")]
        for start, is_there in zip(due.tolist(), np.isin(due, there).tolist(), strict=True)
    ] + [[start, "not_due"] for start in later.tolist()]
    return said | {"state": "open"}


def _why_none(life: Life, day: int, is_known: bool) -> str:
    if life.head is not None and day + DAY_S <= life.head:
        return "before_listing"
    if life.expires is not None and day > life.expires:
        return "expired"
    return "closed" if is_known else "not_looked_at"


def _reasons(coverage: Coverage | None, due: np.typing.NDArray[np.int64]) -> dict[int, str]:
    """Start → why it is missing, for the due bars."""
    found: dict[int, str] = {}
    for gap in coverage.gaps if coverage else ():
        for start in due[(due >= gap.first) & (due <= gap.last)].tolist():
            found[start] = gap.reason.value
    return found


def moment(time_s: float | None) -> datetime | None:
    """UTC seconds as a time."""
    return None if time_s is None else datetime.fromtimestamp(time_s, UTC)


def iso(time_s: float | None) -> str | None:
    """UTC seconds as ISO 8601."""
    return None if time_s is None else datetime.fromtimestamp(int(time_s), UTC).isoformat()
