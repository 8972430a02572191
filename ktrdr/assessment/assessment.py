"""What each series lacks: file, sessions and ledger, judged together. Asks nobody."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from ktrdr.assessment.contracts import Contracts
from ktrdr.assessment.file_ownership import FileOwnership
from ktrdr.assessment.series_state import SeenFile, SeriesState
from ktrdr.assessment.sessions import ContractSessions
from ktrdr.assessment.standing import State
from ktrdr.completeness.coverage import Coverage, judge
from ktrdr.completeness.gap_counts import counted
from ktrdr.completeness.gaps import Reason
from ktrdr.completeness.lifetime import ContractLifetime
from ktrdr.errors import (
    MalformedFile,
    Misconfigured,
    OtherUnit,
    StoreUnwritable,
)
from ktrdr.ledger.ledger import Ledger
from ktrdr.market.sessions import DAILY_SETTLE_S, SETTLE_S, Expected, due_at, utc_midnight
from ktrdr.market.timeframes import DAY_S, MINUTE_S
from ktrdr.store.interface import BarStore, FileContents

_QUARTER_S = 900


class Assessor:
    """Judges series of one store. For one thread."""

    def __init__(self, store: BarStore, ledger: Ledger, max_age_days: int) -> None:
        self.main_store = store
        self.ledger = ledger
        self.sessions = ContractSessions(self.ledger)
        self.contracts = Contracts(self.ledger, self.sessions)
        self.ownership = FileOwnership(self.ledger, self.contracts)
        self.detected = self.filled = 0
        """Gaps that were found and closed since the start, as `gap_counts` counts them."""
        self._max_age_days = max_age_days

    def assess(self, watched: SeriesState, now: int, *, only_if_changed: bool = False) -> None:
        """Judge a series anew. MalformedFile or FileNotFoundError: its file cannot be read.

        `only_if_changed`: not while its file is the same and no bar has become due since. What was
        broken is read as a whole, so that nothing is written before all of it is mended.
        """
        if watched.standing.state is State.BARRED:
            return
        key = watched.store.key(watched.series)
        was_broken = isinstance(watched.error, MalformedFile)
        if only_if_changed and key == watched.key and was_broken:
            return
        if only_if_changed and key == watched.key and self._is_judged(watched, now):
            assert watched.coverage is not None
            judged = replace(watched.coverage, until=now)
            watched.judged = replace(watched.judged, coverage=judged)
            return
        since = self.fill_from(watched, now)
        with self._blocking(watched):
            seen = (
                watched.store.verify(watched.series)
                if was_broken
                else watched.store.look(watched.series, since)
            )
        self._judge(watched, seen, since, now)

    def assess_history(self, watched: SeriesState, now: int) -> bool:
        """Look at every row of a file that was changed, and judge what is before the days kept.

        False: that is done. Errors as `assess`.
        """
        if watched.standing.state is State.BARRED:
            return False
        since = self.fill_from(watched, now)
        basis = self._past_basis(watched, since)
        if watched.file.is_verified and watched.judged.past_basis == basis:
            return False
        watched.judged = replace(watched.judged, past_basis=None)
        with self._blocking(watched):
            if not watched.file.is_verified:
                self._judge(watched, watched.store.verify(watched.series), since, now)
            seen = watched.store.look(watched.series, min(watched.first or 0, 0))
        schedule = self.sessions.known_schedule(watched.instrument)
        past: Coverage | None = None
        judged_by = self.contracts.basis(watched)
        if schedule is not None and seen.first is not None and seen.first < since:
            wanted = self.contracts.expected(watched, schedule, seen.first, since, now)
            first = max(seen.first, schedule.start)
            past = self._coverage(watched, wanted, seen, since, (first, now))
        watched.judged = replace(watched.judged, past=past, past_basis=basis, basis=judged_by)
        return True

    @contextlib.contextmanager
    def _blocking(self, watched: SeriesState) -> Iterator[None]:
        """A file that cannot be read is left alone until it changes."""
        key = watched.store.key(watched.series)
        try:
            yield
        except MalformedFile as error:
            watched.block(error, key)
            raise

    def _judge(self, watched: SeriesState, seen: FileContents, since: int, now: int) -> None:
        is_another = seen.key != watched.key
        is_mended = watched.is_blocked and not isinstance(watched.error, Misconfigured)
        is_seen_to = isinstance(watched.error, OtherUnit) and is_another
        if is_mended or is_seen_to or isinstance(watched.error, StoreUnwritable):
            watched.succeeded()
        is_owned = self.ownership.of(watched, seen)
        watched.file = SeenFile(watched.key, seen.first, seen.last, seen.is_verified, is_owned)
        before, after = watched.coverage, self._judged(watched, seen, since, now)
        watched.file = watched.file._replace(key=seen.key)
        if after is not None:
            found, filled = counted(before.gaps if before else None, after.gaps, after.since)
            self.detected, self.filled = self.detected + found, self.filled + filled
        watched.judged = replace(
            watched.judged,
            coverage=after,
            basis=self.contracts.basis(watched),
            due_at=self._oldest_due(watched, after),
        )

    def _oldest_due(self, watched: SeriesState, coverage: Coverage | None) -> int | None:
        """When the first bar was due that is missing, and is neither proven absent nor too old."""
        schedule = self.sessions.known_schedule(watched.instrument)
        first = coverage.first_wanted if coverage else None
        if schedule is None or first is None:
            return None
        return due_at(schedule, watched.series.timeframe, first, self.contracts.alignment(watched))

    def _judged(
        self, watched: SeriesState, seen: FileContents, since: int, now: int
    ) -> Coverage | None:
        """None: the sessions of the days asked for are not known."""
        schedule = self.sessions.schedule(watched.instrument, since, now)
        if schedule is None:
            return None
        wanted = self.contracts.expected(watched, schedule, since, now, now)
        coverage = self._coverage(watched, wanted, seen, since, (since, now))
        given_up = watched.standing.retry_at > now
        return coverage.refused(watched.reason) if given_up else coverage

    def _coverage(
        self,
        watched: SeriesState,
        wanted: Expected,
        seen: FileContents,
        since: int,
        span: tuple[int, int],
    ) -> Coverage:
        _, now = span
        _, again_at = self.ledger.absences.doubts(watched.absence, wanted.starts)
        return judge(
            wanted,
            seen.starts,
            self.ledger.absences.absent(watched.absence, wanted.starts, now),
            self.ledger.absences.late(watched.absence, wanted.starts, now),
            since,
            span,
            wanted.starts[again_at > now],
        )

    def _is_judged(self, watched: SeriesState, now: int) -> bool:
        """Nothing can have become due since it was looked at, or may be asked for once more.

        Bars end where sessions do, or at whole quarters and multiples of their length, or so many
        minutes past them.
        """
        coverage, since = watched.coverage, self.fill_from(watched, now)
        schedule = self.sessions.schedule(watched.instrument, since, now)
        if coverage is None or coverage.since != since or schedule is None:
            return False
        if watched.error is not None or coverage.holes.keys() & {Reason.LATE, Reason.UNPROVEN}:
            return False
        settle_s = DAILY_SETTLE_S if watched.series.timeframe.is_daily else SETTLE_S
        before, after = coverage.until - settle_s, now - settle_s
        step_s = min(watched.series.timeframe.length_s, _QUARTER_S)
        past_s = MINUTE_S * self.contracts.grid(watched).minute
        _, closes, *_ = schedule.columns
        closed_before, closed_after = np.searchsorted(closes, [before, after], side="right")
        is_same_step = (before - past_s) // step_s == (after - past_s) // step_s
        return is_same_step and bool(closed_before == closed_after)

    def _past_basis(
        self, watched: SeriesState, since: int
    ) -> tuple[int, object, ContractLifetime, frozenset[int]]:
        """What the judgement of the past depends on, beside the rows that are there."""
        schedule = self.sessions.known_schedule(watched.instrument)
        known = None if schedule is None else (schedule.start, schedule.source)
        return (
            since,
            known,
            self.contracts.life(watched.instrument),
            self.contracts.alignment(watched),
        )

    def fill_from(self, watched: SeriesState, now: int) -> int:
        """From when on the series is kept complete (UTC seconds, midnight)."""
        if watched.rebuilds_from is not None:
            return watched.rebuilds_from
        oldest = now - self._max_age_days * DAY_S
        since = watched.instrument.since_for(watched.series.timeframe)
        asked = self.ledger.series.wanted(watched.series)
        return min(
            oldest - oldest % DAY_S,
            utc_midnight(since) if since else oldest,
            asked if asked is not None else oldest,
        )

    def look_from(self, watched: SeriesState, now: int) -> int:
        """From when on sessions are wanted: older holes are shown, though not filled."""
        fill_from = self.fill_from(watched, now)
        return fill_from if watched.first is None else min(watched.first, fill_from)

    def schedule_from(self, series: Sequence[SeriesState], now: int) -> int:
        """From when on the sessions of a contract are to be asked for, for all of its series."""
        start = min(self.look_from(watched, now) for watched in series)
        return self.sessions.again_from(series[0].instrument, start, now)

    def wants_schedule(self, watched: SeriesState, now: int) -> bool:
        """The sessions of its days are unknown, or to be asked for again."""
        return self.sessions.are_stale(watched.instrument, self.look_from(watched, now), now)
