"""The fetcher: requests to ib-connection from other threads, and their answers. Stores nothing."""

from __future__ import annotations

import math
import re
import time
from collections import deque
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from ktrdr.assessment.series_state import SeriesState
from ktrdr.completeness.gaps import Gap
from ktrdr.completeness.identity import Identity
from ktrdr.completeness.throughput import Eta, Throughput
from ktrdr.errors import WrongSource
from ktrdr.filling.holidays import closed_days, read_ahead
from ktrdr.filling.in_flight import InFlight
from ktrdr.filling.tasks import Kind, Task
from ktrdr.ipc.bars_message import BarsMessage
from ktrdr.ipc.client import LocalClient
from ktrdr.ipc.codec import from_text
from ktrdr.ipc.query import request_to_query
from ktrdr.ipc.sessions_codec import schedule_from_json
from ktrdr.market.bars import Answer
from ktrdr.market.bars_request import BarsRequest, Priority
from ktrdr.market.instruments import Instrument, Series, hours_group
from ktrdr.market.sessions import Schedule
from ktrdr.market.timeframes import DAY_S, Timeframe

MAX_IN_FLIGHT = 48
"""The most requests in flight; the connection process decides their order and pace."""

_SCHEDULE_S, _SCHEDULE_A_YEAR_S = 400.0, 40.0
"""Timeout for the sessions of a contract, and how much each year adds."""
_SHORT_S = 200.0
"""Timeout for a small answer, including the loss and return of the connection."""
_SOON_S = 5.0
"""How long sessions that were requested are expected to arrive soon."""


@dataclass(frozen=True)
class SessionsAnswer:
    """An answer for the sessions of a contract."""

    schedule: Schedule
    expires: int | None
    """Its last trading day (UTC midnight); None: it has none, or only its month is known."""
    identity: Identity | None
    """Which contract it is; None: not reported."""
    closed: frozenset[int]
    """Days without trading by another calendar than IB's (UTC midnights), as far as it is known."""


class Fetcher:
    """Requests of one thread, each sent by a thread of its own.

    `stopwatch` only moves forward; `clock` returns UTC seconds.
    """

    def __init__(
        self,
        connection: LocalClient,
        executor: Executor,
        clock: Callable[[], float],
        stopwatch: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection = connection
        self._clock = clock
        self._stopwatch = stopwatch
        self._in_flight: InFlight[Task] = InFlight(executor, MAX_IN_FLIGHT)
        self._postponed: deque[tuple[tuple[SeriesState, ...], int]] = deque()
        """Series of one contract each, and the start of the sessions to request for them."""
        self._throughput = Throughput()
        self._answered_at = self._looked_at = -math.inf
        """When bars came last, and when slow series were last looked for, by the stopwatch."""
        self.source = ""
        """`live` or `simulated`: the only source whose bars are accepted."""

    # What is in flight.

    @property
    def room(self) -> int:
        """How many more requests may be sent."""
        return self._in_flight.room

    @property
    def is_busy(self) -> bool:
        """Requests are in flight."""
        return len(self._in_flight) > 0

    @property
    def only_compares(self) -> bool:
        """Requests are in flight, all of them for bars that are stored already."""
        return self.is_busy and all(task.kind.compares for task in self._in_flight.tasks)

    @property
    def has_postponed(self) -> bool:
        """There are sessions to request once nothing else is to be sent."""
        return bool(self._postponed)

    @property
    def busy(self) -> set[SeriesState]:
        """The series of which something is in flight, or postponed.

        Not those of which only imported bars are compared: their missing bars need not wait.
        """
        tasks = (task for task in self._in_flight.tasks if task.kind is not Kind.WHOLE)
        found = {state for task in tasks for state in task.series}
        return found.union(*(series for series, _ in self._postponed))

    def filled_slowly(self, after_s: float) -> list[SeriesState]:
        """The series of which only bars to fill are in flight, all of them for this long.

        None of them if no answer at all came in this time, or none since they were last looked for.
        """
        now = self._stopwatch()
        since = now - after_s
        if self._answered_at < max(since, self._looked_at):
            return []
        self._looked_at = now
        slow: set[SeriesState] = set()
        others = {state for series, _ in self._postponed for state in series}
        for task in self._in_flight.tasks:
            is_slow = task.kind is Kind.FILL and task.sent_at <= since
            (slow if is_slow else others).update(task.series)
        return [state for state in slow if state not in others]

    def spans_in_flight(self, state: SeriesState) -> list[tuple[int, int]]:
        """The intervals in which missing bars of a series are being requested."""
        tasks = [one for one in self._in_flight.tasks if one.kind is Kind.FILL]
        requests = [one.bars_request for one in tasks if one.state is state]
        return [(one.start, one.end) for one in requests]

    @property
    def hours_coming(self) -> set[Hashable]:
        """The `hours_group` of contracts whose sessions were requested a moment ago."""
        since = self._stopwatch() - _SOON_S
        tasks = (one for one in self._in_flight.tasks if one.kind is Kind.SESSIONS)
        found: set[Hashable] = {
            hours_group(one.state.instrument) for one in tasks if one.sent_at > since
        }
        return found - {None}

    def is_requesting(self, state: SeriesState, kind: Kind | None = None) -> bool:
        """A request for this series, or one of this kind, is in flight."""
        tasks = self._in_flight.tasks
        return any(state in task.series for task in tasks if kind in (None, task.kind))

    def is_requesting_head(self, instrument: Instrument) -> bool:
        """The contract's first bar is being requested."""
        heads = (task for task in self._in_flight.tasks if task.kind is Kind.HEAD)
        return any(task.state.instrument == instrument for task in heads)

    @property
    def current(self) -> tuple[str, ...]:
        """Series that are being filled."""
        requested = [task for task in self._in_flight.tasks if not task.kind.compares]
        return tuple(dict.fromkeys(str(one.series) for task in requested for one in task.series))

    @property
    def requested(self) -> dict[Series, list[tuple[int, int]]]:
        """The intervals being requested of each series, except those that are being rebuilt."""
        found: dict[Series, list[tuple[int, int]]] = {}
        for task in self._in_flight.tasks:
            if task.request and task.kind is Kind.FILL and task.state.rebuilds_from is None:
                span = (task.request.start, task.request.end)
                found.setdefault(task.state.series, []).append(span)
        return found

    # Throughput.

    def allow(self, at_once: int) -> None:
        """How many requests may be under way at IB."""
        self._throughput.allow(at_once)

    def add_assessed(self, timeframe: Timeframe, missing: int) -> None:
        """A series was assessed for the first time, and is missing this many bars."""
        self._throughput.add_assessed(timeframe, missing)

    def eta(self, missing: Mapping[Timeframe, int], unknown: Mapping[Timeframe, int]) -> Eta | None:
        """How long these bars will take, plus those of series not assessed yet.

        None while that is unknown.
        """
        return self._throughput.left(missing, unknown, self._stopwatch())

    # Sending.

    def request_sessions(self, series: tuple[SeriesState, ...], start: int, now: int) -> None:
        """Request the sessions of a contract, for all of its series, up to now."""
        self._send_sessions(series, start, now, Priority.INTERACTIVE)

    def postpone_sessions(self, series: tuple[SeriesState, ...], start: int) -> None:
        """Request the sessions of a contract once nothing else is to be sent."""
        self._postponed.append((series, start))

    def request_postponed(self) -> None:
        """Send the postponed requests, as far as there is room.

        Not for series that have failed meanwhile: their sessions come first at the next attempt.
        """
        while self._postponed and self.room:
            series, start = self._postponed.popleft()
            sound = tuple(one for one in series if not one.error_state.failures)
            if sound:
                self._send_sessions(sound, start, int(self._clock()), Priority.BACKFILL)

    def _send_sessions(
        self, series: tuple[SeriesState, ...], start: int, now: int, priority: Priority
    ) -> None:
        task = Task(Kind.SESSIONS, series, now, self._stopwatch())
        instrument = task.state.instrument
        self._in_flight.send(task, partial(self._sessions, instrument, start, now, priority))

    def request_head(self, state: SeriesState, requested_at: int) -> None:
        """Request the time of IB's first bar of a contract."""
        task = Task(Kind.HEAD, (state,), requested_at, self._stopwatch())
        self._in_flight.send(task, partial(self._head, state.instrument))

    def request_bars(
        self,
        kind: Kind,
        state: SeriesState,
        request: BarsRequest,
        priority: Priority,
        gaps: tuple[Gap, ...] = (),
    ) -> None:
        """Request bars of a series; `gaps` as those of a task."""
        task = Task(kind, (state,), int(self._clock()), self._stopwatch(), request, gaps)
        if kind is Kind.FILL:
            bars = _missing_in(state, request)
            self._throughput.sent(task.key, request.timeframe, bars, task.sent_at)
        self._in_flight.send(task, partial(self._bars, request, priority))

    # In the requesting threads.

    def _sessions(
        self, instrument: Instrument, start: int, end: int, priority: Priority
    ) -> SessionsAnswer:
        query = request_to_query(instrument, None, start, end)
        query["priority"] = priority.name.lower()
        timeout_s = _SCHEDULE_S + _SCHEDULE_A_YEAR_S * (end - start) / (365 * DAY_S)
        read_ahead(instrument, start, end)
        response = self._connection.get("/sessions", timeout_s, **query)
        identity = _identity(response)
        exchange = identity.exchange if identity else ""
        return SessionsAnswer(
            schedule_from_json(response),
            _day(str(response.get("last_trade_date") or "")),
            identity,
            closed_days(exchange, start, end),
        )

    def _head(self, instrument: Instrument) -> object:
        now = int(self._clock())
        query = request_to_query(instrument, None, now - DAY_S, now)
        return self._connection.get("/head", _SHORT_S, **query).get("head")

    def _bars(self, request: BarsRequest, priority: Priority) -> bytes:
        query = request_to_query(request.instrument, request.timeframe, request.start, request.end)
        query["priority"] = priority.name.lower()
        # The connection process times out first.
        return self._connection.text("/bars", 10 + request.patience_s, **query)

    # Receiving.

    def next_finished(self, wait_s: float) -> tuple[Task, Future[object]] | None:
        """A finished task; waits up to `wait_s` for one. None: none has finished."""
        return self._in_flight.next_finished(wait_s)

    def answer(self, task: Task, done: Future[Any]) -> Answer:
        """IB's answer, read only when it is handled: each is large, and many are in flight.

        WrongSource: a gateway of the other source has answered. Raises what the request raised.
        """
        message = from_text(BarsMessage, done.result())
        if message.gateway != self.source:
            raise WrongSource(
                f"the gateway has become {message.gateway}",
                hint="set KTRDR_DATA_DIR to another folder, or IB_HOST to the right gateway; then "
                "./scripts/up",
            )
        self._answered_at = self._stopwatch()
        self._throughput.answered(task.key, message.at_once or 1, self._answered_at)
        return message.answer()

    def ended(self, task: Task) -> None:
        """Note that a task was handled, or will not be."""
        self._throughput.ended(task.key)

    def took_s(self, task: Task) -> float:
        """How long ago a task was sent."""
        return self._stopwatch() - task.sent_at

    def record_progress(self, *, was_busy: bool) -> None:
        """Let the throughput estimate know the time, or that nothing was in flight."""
        if was_busy:
            self._throughput.advance(self._stopwatch())
        else:
            self._throughput.idle()

    def give_up_waiting(self) -> None:
        """Cancel the requests that no thread has sent yet."""
        for task in self._in_flight.give_up_waiting():
            self.ended(task)

    def close(self) -> None:
        """Wait for the requests in flight."""
        self._in_flight.close()


def _day(text: str) -> int | None:
    """The UTC midnight of `YYYYMMDD`; None: not a day, such as a month alone."""
    if not re.match(r"\d{8}", text):
        return None
    try:
        return int(datetime.strptime(text[:8], "%Y%m%d").replace(tzinfo=UTC).timestamp())
    except ValueError:
        return None


def _identity(response: Mapping[str, Any]) -> Identity | None:
    """The contract that a response names; None: it names none."""
    con_id = response.get("con_id")
    if not isinstance(con_id, int) or con_id <= 0:
        return None
    keys = ("exchange", "currency", "local_symbol", "name")
    return Identity(con_id, *(str(response.get(key) or "") for key in keys))


def _missing_in(state: SeriesState, request: BarsRequest) -> int:
    """How many missing bars of the series this request covers."""
    if state.coverage is None:
        return 0
    return state.coverage.fillable_within(request.start, request.end, request.timeframe.length_s)
