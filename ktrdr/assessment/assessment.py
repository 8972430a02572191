"""The assessment of series: their missing bars, by file, sessions and ledger. Requests nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from ktrdr.assessment.contracts import Contracts
from ktrdr.assessment.error_state import State
from ktrdr.assessment.file_differences import FileDifferences
from ktrdr.assessment.file_looks import FileLooks
from ktrdr.assessment.file_ownership import FileOwnership
from ktrdr.assessment.series_state import FileSnapshot, SeriesState
from ktrdr.assessment.sessions import KnownSessions
from ktrdr.assessment.stored_bars import incomplete_rows
from ktrdr.completeness.coverage import Coverage, compute_coverage
from ktrdr.completeness.gap_counts import counted
from ktrdr.completeness.gaps import Reason
from ktrdr.completeness.lifetime import ContractLifetime
from ktrdr.errors import (
    MalformedFile,
    Misconfigured,
    NotUnderstood,
    OtherUnit,
    StoreUnwritable,
)
from ktrdr.ledger.ledger import Ledger
from ktrdr.market.sessions import (
    DAILY_SETTLE_S,
    SETTLE_S,
    Expected,
    due_at,
    next_due,
    utc_midnight,
)
from ktrdr.market.timeframes import DAY_S, MINUTE_S
from ktrdr.store.interface import BarStore, FileContents

_QUARTER_S = 900


class Assessor:
    """Assesses the series of one store. For one thread."""

    def __init__(self, store: BarStore, ledger: Ledger, max_age_days: int) -> None:
        self.main_store = store
        self.ledger = ledger
        self.sessions = KnownSessions(self.ledger)
        self.contracts = Contracts(self.ledger, self.sessions)
        self.ownership = FileOwnership(self.ledger, self.contracts)
        self.differences = FileDifferences(self.ledger)
        self._looks = FileLooks(self.sessions, self.contracts)
        self.detected = self.filled = 0
        """Gaps found and closed since the start, as `gap_counts` counts them."""
        self._max_age_days = max_age_days

    def assess(self, state: SeriesState, now: int, *, only_if_changed: bool = False) -> None:
        """Assess a series again. MalformedFile or FileNotFoundError: its file cannot be read.

        NotUnderstood: it can be, but nothing may be written to it.

        `only_if_changed`: not if its file is the same and no bar has become due since. A file that
        was broken is read whole, so nothing is written before all of it is repaired.
        """
        if state.error_state.state is State.NO_FILE:
            return
        key = state.store.key(state.series)
        was_broken = isinstance(state.error, MalformedFile)
        if only_if_changed and key == state.key and was_broken:
            return
        if only_if_changed and key == state.key and self._is_current(state, now):
            assert state.coverage is not None
            coverage = replace(state.coverage, until=now)
            state.assessment = replace(
                state.assessment, coverage=coverage, next_due=self._next_due(state, now)
            )
            return
        since = self.fill_from(state, now)
        with self._blocking(state):
            contents = (
                state.store.verify(state.series)
                if was_broken
                else state.store.contents(state.series, since)
            )
        self._update(state, contents, since, now)
        if was_broken:
            self.differences.check(state, now)

    def assess_history(self, state: SeriesState, now: int) -> bool:
        """Read every row of a changed file, and assess the days before those kept complete.

        False: that is done already. Errors as `assess`.
        """
        if state.error_state.state is State.NO_FILE:
            return False
        since = self.fill_from(state, now)
        basis = self._past_basis(state, since)
        if state.file.is_verified and state.assessment.past_basis == basis:
            return False
        state.assessment = replace(state.assessment, past_basis=None)
        with self._blocking(state):
            if not state.file.is_verified:
                self._update(state, state.store.verify(state.series), since, now)
                self.differences.check(state, now)
            contents = state.store.contents(state.series, min(state.first or 0, 0))
        schedule = self.sessions.known_schedule(state.instrument)
        past: Coverage | None = None
        known = self.contracts.basis(state)
        if schedule is not None and contents.first is not None and contents.first < since:
            wanted = self.contracts.expected(state, schedule, contents.first, since, now)
            first = max(contents.first, schedule.start)
            past = self._coverage(state, wanted, contents, since, (first, now))
        state.assessment = replace(state.assessment, past=past, past_basis=basis, basis=known)
        return True

    @contextlib.contextmanager
    def _blocking(self, state: SeriesState) -> Iterator[None]:
        """Block a series whose file cannot be read, until the file changes."""
        key = state.store.key(state.series)
        try:
            yield
        except MalformedFile as error:
            state.block(error, key)
            raise

    def _update(self, state: SeriesState, contents: FileContents, since: int, now: int) -> None:
        is_another = contents.key != state.key
        is_repaired = state.is_blocked and not isinstance(state.error, Misconfigured)
        is_resolved = isinstance(state.error, OtherUnit) and is_another
        if is_repaired or is_resolved:
            state.succeeded()
        elif isinstance(state.error, StoreUnwritable):  # it may still refuse what comes next
            state.error_state = state.error_state.cleared()
        is_owned = self.ownership.of(state, contents)
        state.file = FileSnapshot(
            state.key,
            contents.first,
            contents.last,
            contents.is_verified,
            is_owned,
            incomplete_rows(state, contents),
        )
        if is_another:
            self.differences.load(state)
        refusal = None
        if is_another or not self._waits_for_look(state, now):
            refusal = self._looks.look(state, contents, now)
        before, after = state.coverage, self._current_coverage(state, contents, since, now)
        state.file = state.file._replace(key=contents.key)
        if after is not None:
            found, filled = counted(before.gaps if before else None, after.gaps, after.since)
            self.detected, self.filled = self.detected + found, self.filled + filled
        state.assessment = replace(
            state.assessment,
            coverage=after,
            basis=self.contracts.basis(state),
            due_at=self._oldest_due(state, after),
            next_due=self._next_due(state, now),
        )
        if refusal is not None:
            raise refusal

    def _waits_for_look(self, state: SeriesState, now: int) -> bool:
        """It was not understood, and has to wait for its next turn, or for new sessions."""
        is_refused = isinstance(state.error, NotUnderstood)
        return is_refused and (state.error_state.retry_at > now or self.wants_schedule(state, now))

    def _oldest_due(self, state: SeriesState, coverage: Coverage | None) -> int | None:
        """When the first bar was due that is missing, and is neither proven absent nor too old."""
        schedule = self.sessions.known_schedule(state.instrument)
        first = coverage.first_wanted if coverage else None
        if schedule is None or first is None:
            return None
        return due_at(schedule, state.series.timeframe, first, self.contracts.alignment(state))

    def _next_due(self, state: SeriesState, now: int) -> int | None:
        """When its next bar becomes due; None: it is not known, or the contract has expired."""
        known, schedule = state.assessment.next_due, self.sessions.known_schedule(state.instrument)
        if schedule is None or schedule is not state.assessment.basis.schedule:
            known = None
        if schedule is None or (known is not None and known > now):
            return known
        expires = self.contracts.lifetime(state.instrument).expires
        if expires is not None and expires + 2 * DAY_S < now:
            return None
        return next_due(schedule, state.series.timeframe, now, self.contracts.alignment(state))

    def _current_coverage(
        self, state: SeriesState, contents: FileContents, since: int, now: int
    ) -> Coverage | None:
        """The coverage from `since` on; None: the sessions of these days are not known."""
        schedule = self.sessions.schedule(state.instrument, since, now)
        if schedule is None:
            return None
        wanted = self.contracts.expected(state, schedule, since, now, now)
        coverage = self._coverage(state, wanted, contents, since, (since, now))
        given_up = state.error_state.retry_at > now
        return coverage.refused(state.reason) if given_up else coverage

    def _coverage(
        self,
        state: SeriesState,
        wanted: Expected,
        contents: FileContents,
        since: int,
        span: tuple[int, int],
    ) -> Coverage:
        _, now = span
        _, again_at = self.ledger.absences.unproven(state.absence_key, wanted.starts)
        return compute_coverage(
            wanted,
            contents.starts,
            self.ledger.absences.absent(state.absence_key, wanted.starts, now),
            self.ledger.absences.late(state.absence_key, wanted.starts, now),
            since,
            span,
            wanted.starts[again_at > now],
            contents.incomplete,
        )

    def _is_current(self, state: SeriesState, now: int) -> bool:
        """Nothing can have become due, or may be requested again, since it was assessed.

        Bars end at the end of a session, or at multiples of their length and of a quarter of an
        hour, or the grid's minutes past these.
        """
        coverage, since = state.coverage, self.fill_from(state, now)
        schedule = self.sessions.schedule(state.instrument, since, now)
        if coverage is None or coverage.since != since or schedule is None:
            return False
        if state.error is not None or coverage.gap_counts.keys() & {Reason.LATE, Reason.UNPROVEN}:
            return False
        settle_s = DAILY_SETTLE_S if state.series.timeframe.is_daily else SETTLE_S
        before, after = coverage.until - settle_s, now - settle_s
        step_s = min(state.series.timeframe.length_s, _QUARTER_S)
        past_s = MINUTE_S * self.contracts.grid(state).minute
        _, closes, *_ = schedule.columns
        closed_before, closed_after = np.searchsorted(closes, [before, after], side="right")
        is_same_step = (before - past_s) // step_s == (after - past_s) // step_s
        return is_same_step and bool(closed_before == closed_after)

    def _past_basis(
        self, state: SeriesState, since: int
    ) -> tuple[int, object, ContractLifetime, frozenset[int]]:
        """What the assessment of the past depends on, apart from the stored rows."""
        schedule = self.sessions.known_schedule(state.instrument)
        known = None if schedule is None else (schedule.start, schedule.source)
        return (
            since,
            known,
            self.contracts.lifetime(state.instrument),
            self.contracts.alignment(state),
        )

    def fill_from(self, state: SeriesState, now: int) -> int:
        """The start of the days that are kept complete (UTC seconds, midnight)."""
        if state.rebuilds_from is not None:
            return state.rebuilds_from
        oldest = now - self._max_age_days * DAY_S
        since = state.instrument.since_for(state.series.timeframe)
        requested = self.ledger.series.wanted(state.series)
        return min(
            oldest - oldest % DAY_S,
            utc_midnight(since) if since else oldest,
            requested if requested is not None else oldest,
        )

    def assess_from(self, state: SeriesState, now: int) -> int:
        """The start of the sessions needed: older gaps are shown too, though not filled."""
        fill_from = self.fill_from(state, now)
        return fill_from if state.first is None else min(state.first, fill_from)

    def schedule_from(self, series: Sequence[SeriesState], now: int) -> int:
        """The start of the sessions to request for a contract, for all of its series."""
        start = min(self.assess_from(state, now) for state in series)
        return self.sessions.again_from(series[0].instrument, start, now)

    def wants_schedule(self, state: SeriesState, now: int) -> bool:
        """The sessions of its days are unknown, or due to be requested again."""
        return self.sessions.are_stale(state.instrument, self.assess_from(state, now), now)

    def have_alike_sessions(self, series: Iterable[SeriesState], now: int) -> bool:
        """Their own sessions were never received, but those of an alike contract reach as far.

        Not for a series that has failed: it may be no contract at all.
        """
        return all(
            self.sessions.are_of_another(state.instrument)
            and (state.is_owned or state.first is None)  # rows of others need their own sessions
            and not state.error_state.failures
            and self.sessions.schedule(state.instrument, self.assess_from(state, now), now)
            for state in series
        )
