"""The scheduler: requests missing bars, and handles the answers. Does not choose the series.

It requests sessions first, then bars; those of a contract that is like a known one, the other way
round. A control if an answer proves too little; and sometimes stored bars, to check that they
still match IB's.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from typing import Any

from ktrdr.assessment.assessment import Assessor
from ktrdr.assessment.series_state import SeriesState
from ktrdr.completeness.gaps import Gap, Reason
from ktrdr.errors import KtrdrError, NotConnected, PeerDown, TimedOut, WrongSource
from ktrdr.filling.contract_checks import ContractChecks
from ktrdr.filling.controls import Controls
from ktrdr.filling.fetcher import Fetcher, SessionsAnswer
from ktrdr.filling.import_comparison import ImportComparison
from ktrdr.filling.ingest import Ingest, IngestResult
from ktrdr.filling.isolation import Isolation
from ktrdr.filling.next_requests import next_requests, whole_request
from ktrdr.filling.rebuilds import Owner, Rebuilds
from ktrdr.filling.request_lengths import LearntLengths
from ktrdr.filling.revision_checks import RevisionChecks
from ktrdr.filling.tasks import Kind, Task
from ktrdr.filling.wanted_sessions import request_sessions, without_waiting
from ktrdr.ipc.client import LocalClient
from ktrdr.market.bars import Bar
from ktrdr.market.bars_request import BarsRequest, Priority
from ktrdr.market.instruments import Series, contract_name
from ktrdr.market.timeframes import DAY_S
from ktrdr.sqlite_file import DatabaseError
from ktrdr.times import iso

log = logging.getLogger("gap-filler")

_RECEIVE_FOR_S = 0.2
"""How long to handle answers before anything else gets its turn: there may be many large ones."""
_REQUESTS_A_SERIES = 8
"""In flight at a time; the rest of a long history waits, so that other series get their turn."""
_SLOW_S = 3.0
"""After this long the answers will not make longer requests worth waiting for."""
RECENT_S = 40 * DAY_S
"""Gaps within this time come before older history."""


@dataclass
class Summary:
    """What was done since the program started."""

    failed: int = 0
    """Requests for bars that failed."""
    bars_added: int = 0
    """Bars that were written."""
    received: int = 0
    """Answers received, of any kind."""
    symbols: int = 0
    """Symbols in all batches, counted each time."""


class Scheduler:
    """Requests for the series of one store. For one thread; others only wait for IB."""

    def __init__(
        self,
        connection: LocalClient,
        assessor: Assessor,
        executor: Executor,
        clock: Callable[[], float],
        owner: Owner,
        check_interval_s: float,
    ) -> None:
        self._assessor = assessor
        self._clock = clock
        self._owner = owner
        self._ingest = Ingest(assessor, owner.report, check_interval_s / 2)
        self._lengths = LearntLengths()
        self.fetcher = Fetcher(connection, executor, clock)
        self.summary = Summary()
        isolation = Isolation(assessor.main_store.folder, clock, owner.report, self._forget)
        rebuilds = Rebuilds(assessor, clock, owner, self.assess, isolation.of)
        shared = (assessor, self._ingest, self.fetcher)
        contract_checks = ContractChecks(*shared, rebuilds, owner, clock, self._go_on)
        self._isolation, self._rebuilds, self._contract_checks = (
            isolation,
            rebuilds,
            contract_checks,
        )
        self._controls = Controls(*shared, self.assess)
        imports = ImportComparison(*shared, self._lengths, owner, clock)
        self._revision_checks = RevisionChecks(
            *shared, rebuilds, contract_checks, imports, isolation, owner, clock, self.assess
        )

    @property
    def has_room(self) -> bool:
        """More requests may be sent."""
        return self.fetcher.room > 0

    @property
    def is_busy(self) -> bool:
        """Requests are in flight."""
        return self.fetcher.is_busy

    @property
    def has_postponed(self) -> bool:
        """Sessions are to be requested once nothing else is to be sent."""
        return self.fetcher.has_postponed

    def free(self, series: Iterable[SeriesState]) -> list[SeriesState]:
        """Those that may be requested now: nothing of them is in flight, or about to be."""
        return without_waiting(series, self._assessor, self.fetcher)

    @property
    def rebuilds(self) -> Collection[SeriesState]:
        """The staging copies of series that are being rebuilt."""
        return self._rebuilds.staging_copies

    def close(self) -> None:
        """Wait for the requests in flight."""
        self.fetcher.close()

    # Requesting.

    def begin(self, batch: list[SeriesState], source: str) -> None:
        """Request the missing bars of these series, or first the sessions if they are needed.

        Nothing of those whose hours are about to arrive: they are free again then. Without any,
        request the sessions that were postponed for bars.
        """
        self.fetcher.source = source
        if not batch:
            self.fetcher.request_postponed()
        now = int(self._clock())
        by_contract: dict[str, list[SeriesState]] = {}
        for state in batch:
            by_contract.setdefault(contract_name(state.instrument), []).append(state)
        for same in by_contract.values():
            with self._isolation.of(*same):
                begun = self.free(same)
                self.summary.symbols += bool(begun)
                for state in begun:
                    state.tried_at = self._clock()
                ready = request_sessions(begun, self._assessor, self.fetcher, now)
                for state in ready:
                    with self._isolation.of(state):
                        self.assess(state, only_if_changed=True)
                        self._request_bars(state, len(batch))

    def extend(self) -> None:
        """Request more of series that are slow to fill, since nothing else is to be requested."""
        slow = self.fetcher.filled_slowly(_SLOW_S)
        for state in slow:
            with self._isolation.of(state):
                if not state.error_state.failures:
                    self._request_bars(state, len(slow))

    def plan_checks(self, series: Iterable[SeriesState]) -> None:
        """Find the complete series to compare with what IB has now."""
        self._revision_checks.plan(series)

    def wants_check(self, *, goes_on: bool = False) -> bool:
        """There are series to compare, and nothing else is in flight."""
        return not self.is_busy and self._revision_checks.are_planned(goes_on=goes_on)

    def begin_checks(self, source: str) -> None:
        """Send the requests to compare a few of these series."""
        self.fetcher.source = source
        self._revision_checks.begin()

    def take_streamed(self, state: SeriesState, bar: Bar) -> None:
        """Ingest a finished bar that came without a request."""
        with self._isolation.of(state):
            self.summary.bars_added += self._ingest.take_streamed(state, bar, int(self._clock()))
            self.assess(state)

    def resume_rebuilds(self, known: Mapping[Series, SeriesState]) -> None:
        """Continue the rebuilds, also after a restart."""
        self._rebuilds.resume(known)
        for staging in self._rebuilds.staging_copies:
            with self._isolation.of(staging):
                self._finish_rebuild(staging)

    def _finish_rebuild(self, state: SeriesState) -> None:
        if self._rebuilds.is_staging(state) and not self.fetcher.is_requesting(state):
            self._rebuilds.finish(state)

    def _go_on(self, state: SeriesState) -> None:
        self.assess(state)
        self._request_bars(state, 1)

    def _request_bars(self, state: SeriesState, sharers: int) -> None:
        """Send the requests for the open gaps of a series, as far as there is room."""
        if not state.may_be_requested(self._clock()) or not self._is_tracked(state):
            return
        if self._assessor.contracts.unconfirmed_contract(state) is not None:
            self._contract_checks.request(state)
            return
        if state.coverage is None:
            return
        lengths, now = self._lengths.known(self._assessor.ledger), int(self._clock())
        in_flight = self.fetcher.spans_in_flight(state)
        # Not many until it is known how long they may be, or that they will not be longer.
        is_known = bool(in_flight) or lengths.are_measured(state.series.timeframe)
        least = _REQUESTS_A_SERIES if is_known else 1
        most = max(least, self.fetcher.room // max(sharers, 1))
        for request in next_requests(state, state.coverage, lengths, in_flight, now)[:most]:
            priority = _priority(state, request, now)
            whole = whole_request(request, state, self._assessor, now)
            self.fetcher.request_bars(Kind.FILL, state, whole, priority)

    # Receiving.

    def receive(self, wait_s: float) -> KtrdrError | None:
        """Handle the answers received; waits up to `wait_s` for the first.

        Not for long: the remaining answers wait until the next call. If the connection is lost its
        error is returned, and if the whole store refuses writes that is raised; the answers
        received by then are handled in both cases.
        """
        lost: KtrdrError | None = None
        refused: Exception | None = None
        until: float | None = None
        was_busy = self.is_busy
        while was_busy and (finished := self.fetcher.next_finished(wait_s)) is not None:
            until, wait_s = until or time.monotonic() + _RECEIVE_FOR_S, 0.0
            self.summary.received += 1
            try:
                self._handle(*finished)
            except (PeerDown, NotConnected) as error:
                lost = error
            except (WrongSource, OSError, DatabaseError) as error:
                refused = error
            finally:
                self.fetcher.ended(finished[0])
            if time.monotonic() >= until:
                break
        self.fetcher.record_progress(was_busy=was_busy)
        if refused is not None:
            raise refused
        if lost is not None:
            self.fetcher.give_up_waiting()
        return lost

    def _handle(self, task: Task, done: Future[object]) -> None:
        known = tuple(s for s in task.series if self._is_tracked(s) and not s.is_blocked)
        if not known:
            return  # their files were removed or broken since
        task = replace(task, series=known)
        with self._isolation.of(*known):
            match task.kind:
                case Kind.SESSIONS:
                    self._take_sessions(task, done.result())
                case Kind.HEAD:
                    self._controls.take_head(task, _head(done.result()))
                case Kind.FILL:
                    self._take_bars(task, done)
                case Kind.CONTROL:
                    answer = self.fetcher.answer(task, done)
                    self._controls.take_control(task, answer, is_sure=self._owner.clocks_agree)
                case Kind.CHECK | Kind.AROUND:
                    self._revision_checks.take(task, self.fetcher.answer(task, done))
                case Kind.WHOLE:
                    self._revision_checks.take_whole(task, lambda: self.fetcher.answer(task, done))
                case Kind.LIKENESS:
                    self._contract_checks.take(task, self.fetcher.answer(task, done))
            if task.kind in (Kind.FILL, Kind.CONTROL) or task.kind.compares:
                self._finish_rebuild(task.state)

    def _is_tracked(self, state: SeriesState) -> bool:
        return self._rebuilds.is_staging(state) or self._owner.is_tracked(state)

    def _take_sessions(self, task: Task, found: object) -> None:
        assert isinstance(found, SessionsAnswer)
        instrument = task.state.instrument
        self._assessor.sessions.take_schedule(
            task.series, found.schedule, task.requested_at, found.closed
        )
        if found.expires is not None:
            lifetime = self._assessor.contracts.lifetime(instrument)._replace(expires=found.expires)
            self._assessor.contracts.keep_lifetime(instrument, lifetime)
        for state in task.series:
            with self._isolation.of(state):
                self.assess(state)
                if found.identity is not None:
                    self._assessor.contracts.take_identity(state, found.identity)
                if not self.fetcher.is_requesting(state):  # its bars may have been requested before
                    self._request_bars(state, len(task.series))

    def _take_bars(self, task: Task, done: Future[object]) -> None:
        """Ingest one answer, and follow up on it."""
        state, request = task.state, task.bars_request
        gaps = _gaps_within(state, (request.start, request.end))
        took_s = self.fetcher.took_s(task)
        try:
            answer = self.fetcher.answer(task, done)
            if state.is_rebuilding:
                return  # its bars are requested again by the rebuild
            is_sure = self._owner.clocks_agree
            result = self._ingest.take(state, request, answer, task.requested_at, is_sure=is_sure)
        except KtrdrError as error:
            self._learn_from(error, request, state, task.requested_at)
            raise
        if not result.is_withheld:
            state.succeeded()
            state.compared_at = task.requested_at
        self._lengths.answered(self._assessor.ledger, request, took_s, len(answer.bars))
        self.summary.bars_added += result.added
        self.assess(state)
        _log_answer(request, state, len(answer.bars), result.added)
        self._owner.answered(task, answer, result.revised)
        self._follow_up(replace(task, gaps=tuple(gaps)), result)

    def _follow_up(self, task: Task, result: IngestResult) -> None:
        state, requested_at = task.state, task.requested_at
        if result.revision:
            self._revision_checks.handle(task, result.revision)
        if result.is_shifted:
            why = "IB's bars begin at other minutes than those stored"
            self._revision_checks.rebuild(state, why)
        if result.wants_control:
            self._controls.request_control(state, result.wants_control, requested_at)
        if not result.is_withheld:
            self._controls.request_head(state, task.bars_request, requested_at)

    def _learn_from(
        self, error: KtrdrError, request: BarsRequest, state: SeriesState, requested_at: int
    ) -> None:
        self.summary.failed += 1
        self._assessor.ledger.requests.refused(
            state.series, request.start, request.end, requested_at, error.outcome, error.code
        )
        if isinstance(error, TimedOut):
            self._lengths.timed_out(self._assessor.ledger, request)

    def _forget(self, state: SeriesState) -> None:
        """Its file is gone."""
        if self._rebuilds.is_staging(state):
            self._rebuilds.give_up(state, "the staging copy was removed")
        else:
            self._owner.forget(state)

    # Assessing.

    def assess(self, state: SeriesState, *, only_if_changed: bool = False) -> None:
        """Assess a series again; a file that cannot be read is reported, and left as it is."""
        was_known = state.coverage is not None
        with self._isolation.of(state):
            now = int(self._clock())
            self._assessor.assess(state, now, only_if_changed=only_if_changed)
        if state.coverage is not None and not was_known:
            missing = sum(gap.bars for gap in state.coverage.fillable)
            self.fetcher.add_assessed(state.series.timeframe, missing)

    def assess_history(self, state: SeriesState) -> bool:
        """Read its whole file, and assess the days before those kept complete. False: done."""
        with self._isolation.of(state):
            return self._assessor.assess_history(state, int(self._clock()))
        return True


def _log_answer(request: BarsRequest, state: SeriesState, bars: int, new: int) -> None:
    span = (iso(request.start), iso(request.end))
    log.info("%s: %s to %s: %d bars, %d new", state.series, *span, bars, new)


def _priority(state: SeriesState, request: BarsRequest, now: int) -> Priority:
    if state.rebuilds_from is not None:
        return Priority.BACKFILL
    if state.last is not None and request.start > state.last:
        return Priority.TAIL
    return Priority.RECENT if request.end > now - RECENT_S else Priority.BACKFILL


def _gaps_within(state: SeriesState, span: tuple[int, int]) -> list[Gap]:
    """The series' open gaps that reach into `[start, end)`."""
    if state.coverage is None:
        return []
    gaps = state.coverage.gaps.of(Reason.OPEN)
    return list(gaps.chosen((gaps.first < span[1]) & (gaps.last >= span[0])))


def _head(found: Any) -> int | None:
    return None if found is None else int(found)
