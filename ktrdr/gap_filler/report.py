"""The series in messages of the API: counts, states and coverage of each. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np

from ktrdr.assessment.series_state import SeriesSnapshot, SeriesState
from ktrdr.completeness.coverage import Coverage, DayCoverage
from ktrdr.completeness.gaps import SETTLED, Reason
from ktrdr.completeness.lifetime import ContractLifetime
from ktrdr.errors import NotUnderstood
from ktrdr.ipc.messages import ComparisonStatus, DayStatus, Json, SeriesCoverage, SeriesStatus
from ktrdr.market.instruments import Series
from ktrdr.market.sessions import Int64Array
from ktrdr.market.timeframes import DAY_S, Timeframe
from ktrdr.times import moment


def count_gaps(series: Iterable[SeriesState]) -> tuple[dict[Reason, int], dict[Timeframe, int]]:
    """Gaps by reason, and the fillable bars by bar size.

    A series of which nothing is known yet counts as one gap: all of it may be missing. For one
    that is being rebuilt its staging copy counts. All gaps of a broken file have that as their
    reason, whatever it was before.
    """
    counts: dict[Reason, int] = {}
    bars: dict[Timeframe, int] = {}
    for state in series:
        if state.is_rebuilding:
            continue
        coverage = state.coverage
        if state.is_blocked:
            known = coverage.gap_counts if coverage else {state.reason: 1}
            if left := sum(count for reason, count in known.items() if reason not in SETTLED):
                counts[Reason.BROKEN_FILE] = counts.get(Reason.BROKEN_FILE, 0) + left
            continue
        for reason, count in (
            state.assessment.past.gap_counts if state.assessment.past else {}
        ).items():
            counts[reason] = counts.get(reason, 0) + count
        for reason, count in (coverage.gap_counts if coverage else {state.reason: 1}).items():
            counts[reason] = counts.get(reason, 0) + count
        timeframe = state.series.timeframe
        missing = sum(gap.bars for gap in coverage.fillable) if coverage else 0
        bars[timeframe] = bars.get(timeframe, 0) + missing
    return counts, bars


@dataclass(frozen=True)
class StoreSnapshot:
    """What is known of a store's series at one moment; replaced, never changed."""

    series: Mapping[Series, SeriesSnapshot] = field(default_factory=dict)
    requested: Mapping[Series, Sequence[tuple[int, int]]] = field(default_factory=dict)
    """The intervals being requested."""
    scan_time: float | None = None
    unwatched: frozenset[Series] = frozenset()
    """Series that are left alone, since instruments.toml says so."""
    current: Collection[str] = ()
    """Series that are being filled."""
    streamed: Collection[Series] = ()
    """Series whose bars come from streams."""
    is_refused: bool = False
    """Nothing may be written to the store."""
    is_sure: bool = True
    """The clocks agree, and all series were assessed since they do."""
    time_to_come: float = math.inf
    """Bars from then on (UTC seconds) are in the future: the clock is wrong, or their file is."""

    def state_of(self, one: SeriesSnapshot) -> str:
        """The state of a series in one word, as in `GET /coverage`."""
        is_ahead = one.last is not None and one.last > self.time_to_come
        is_complete = one.coverage is not None and one.coverage.is_complete
        words = {
            "refused": self.is_refused,
            "not_understood": isinstance(one.error, NotUnderstood),
            "failed": one.error is not None,
            "renewed": one.is_rebuilding,
            "filling": str(one.series) in self.current and not is_complete,
            "waiting": is_ahead or not self.is_sure,
        }
        return next((word for word, is_so in words.items() if is_so), _state_by(one.coverage))

    def kept_new_by(self, one: SeriesSnapshot) -> str | None:
        """How its newest bars come: `stream`, `requests`, or not at all for now."""
        if self.is_refused or one.error is not None or one.is_rebuilding or one.next_due is None:
            return None
        return "stream" if one.series in self.streamed else "requests"


def _state_by(coverage: Coverage | None) -> str:
    if coverage is None or coverage.fillable:
        return "waiting"
    if coverage.is_complete:
        return "complete"
    if Reason.UNPROVEN in coverage.gap_counts:
        return "unproven"
    is_left = coverage.gap_counts.keys() - set(SETTLED) == {Reason.INCOMPLETE_ROW}
    return "incomplete_row" if is_left else "waiting"


def status_of(one: SeriesSnapshot, store: StoreSnapshot) -> SeriesStatus:
    """One series without its days and gaps."""
    coverage, error = one.coverage, one.error or one.incomplete
    lifetime, schedule = one.basis.lifetime, one.basis.schedule
    parts = _parts(one, store)
    first_known = parts[0 if one.is_past_known else -1] if parts else None
    return SeriesStatus(
        symbol=one.series.symbol,
        timeframe=one.series.timeframe.value,
        file=one.series.file_name,
        state=store.state_of(one),
        first=moment(one.first),
        last=moment(one.last),
        expected=sum(part.expected for part in parts) if parts else None,
        present=sum(part.present for part in parts) if parts else None,
        holes=len(parts[-1].fillable) if parts else None,
        missing=_missing(parts),
        error=error.message if error else None,
        error_code=error.code if error else None,
        hint=error.hint if error else None,
        listed=moment(lifetime.head),
        expires=moment(lifetime.expires),
        sessions_from=schedule.source if schedule else None,
        zone=schedule.zone if schedule else None,
        is_owned=one.is_owned,
        key=one.key,
        looked_from=moment(first_known.since) if first_known else None,
        proven_until=moment(coverage.until) if coverage else None,
        kept_new_by=store.kept_new_by(one),
        next_due=moment(one.next_due),
        comparison=_comparison(one),
    )


def _comparison(one: SeriesSnapshot) -> ComparisonStatus | None:
    if one.is_owned or one.key is None:
        return None
    return ComparisonStatus(*one.compared)


def coverage_of(one: SeriesSnapshot, store: StoreSnapshot) -> SeriesCoverage:
    """One series with its days and gaps."""
    parts = _parts(one, store)
    gaps = [gap for part in parts for gap in part.gaps]
    return SeriesCoverage(
        **vars(status_of(one, store)),
        gaps=[(gap.first, gap.last, gap.bars, gap.reason.value) for gap in gaps],
        days=_days(parts),
    )


def gaps_within(one: SeriesSnapshot, store: StoreSnapshot, span: tuple[int, int]) -> SeriesCoverage:
    """One series with its gaps that reach into `[start, end)` (UTC seconds), without its days."""
    start, end = span
    gaps = [
        (gap.first, gap.last, gap.bars, gap.reason.value)
        for part in _parts(one, store)
        for gap in part.gaps
        if gap.first < end and gap.last >= start
    ]
    return SeriesCoverage(**vars(status_of(one, store)), gaps=gaps)


def _parts(one: SeriesSnapshot, store: StoreSnapshot) -> list[Coverage]:
    """The coverage of older days, and of those that are kept complete; empty: it is unknown."""
    if one.coverage is None:
        return []
    current = one.coverage.requested(store.requested.get(one.series, ()))
    return [one.past, current] if one.past else [current]


def _missing(known: Sequence[Coverage]) -> dict[str, int]:
    """Reason → bars."""
    counts: dict[str, int] = {}
    for part in known:
        for reason, count in part.bars.items():
            counts[reason.value] = counts.get(reason.value, 0) + count
    return counts


def _days(known: Sequence[Coverage]) -> list[DayStatus]:
    """The counts of each trading day; a day that is in both parts is listed once."""
    parts: dict[int, list[tuple[DayCoverage, Reason]]] = {}
    for part in known:
        reason_of_open = part.given_up or Reason.OPEN
        for day in part.days:
            parts.setdefault(day.day, []).append((day, reason_of_open))
    return [_day(days) for days in parts.values()]


def _day(parts: Sequence[tuple[DayCoverage, Reason]]) -> DayStatus:
    missing: Counter[str] = Counter()
    for day, reason_of_open in parts:
        for reason, count in day.missing.items():
            missing[(reason_of_open if reason is Reason.OPEN else reason).value] += count
    return DayStatus(
        datetime.fromtimestamp(parts[0][0].day, UTC).date().isoformat(),
        sum(day.expected for day, _ in parts),
        sum(day.present for day, _ in parts),
        dict(missing),
    )


def bars_of_day(one: SeriesSnapshot, day: int, now: int) -> Json:
    """Each bar of one trading day (UTC midnight) with what is known of it.

    A day without a bar says why: `closed`, `before_listing`, `expired` or `not_looked_at`. The
    file is read now: FileNotFoundError, MalformedFile, OSError.
    """
    status: Json = {"day": datetime.fromtimestamp(day, UTC).date().isoformat(), "bars": []}
    schedule = one.basis.schedule
    if schedule is None:
        return status | {"state": "not_looked_at"}
    due, later = _due_and_later(one, day, now)
    if not len(due) and not len(later):
        is_known = schedule.covers(day, day + DAY_S)
        return status | {"state": _why_none(one.basis.lifetime, day, is_known)}
    there = one.store.rows(one.series, day - DAY_S, day + 3 * DAY_S).starts
    reasons: dict[int, str] = {}
    for part in (one.past, one.coverage):
        reasons |= _reasons(part, due)
    status["bars"] = [
        [start, "present" if is_there else reasons.get(start, "open")]
        for start, is_there in zip(due.tolist(), np.isin(due, there).tolist(), strict=True)
    ] + [[start, "not_due"] for start in later.tolist()]
    return status | {"state": "open"}


def _due_and_later(one: SeriesSnapshot, day: int, now: int) -> tuple[Int64Array, Int64Array]:
    """The starts of a trading day's bars that are due, and of those that are to come."""
    around = (day - 2 * DAY_S, day + 3 * DAY_S)
    timeframe, stored = one.series.timeframe, (one.first, one.last)
    due = one.basis.expected(timeframe, stored, (around[0], now), now)
    coming = one.basis.expected(timeframe, stored, around, max(now, around[1]))
    all_of_day = coming.starts[coming.days == day]
    due_of_day = due.starts[due.days == day]
    return due_of_day, all_of_day[~np.isin(all_of_day, due_of_day)]


def _why_none(lifetime: ContractLifetime, day: int, is_known: bool) -> str:
    if lifetime.head is not None and day + DAY_S <= lifetime.head:
        return "before_listing"
    if lifetime.expires is not None and day > lifetime.expires:
        return "expired"
    return "closed" if is_known else "not_looked_at"


def _reasons(coverage: Coverage | None, due: Int64Array) -> dict[int, str]:
    """Start → why it is missing, for the due bars."""
    found: dict[int, str] = {}
    for gap in coverage.gaps if coverage else ():
        for start in due[(due >= gap.first) & (due <= gap.last)].tolist():
            found[start] = gap.reason.value
    return found
