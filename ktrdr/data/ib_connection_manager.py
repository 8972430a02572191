"""PROGRAM ib-connection: the one connection to IB, and the requests over it. Stores no bars.

`python -m ktrdr.data.ib_connection_manager` runs it under the local API; in another program
`get_connection_manager()` is the same thing. A request is paced here, survives the loss of the
connection, and ends with an answer or with one clear outcome.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from ktrdr.config.running_group import settings_to_run_with
from ktrdr.config.settings import Settings
from ktrdr.errors import AlreadyRunning, StoreUnwritable
from ktrdr.ib import port_probe
from ktrdr.ib.client import LIBRARY
from ktrdr.ib.connection import Connection
from ktrdr.ib.contract_facts import ContractFacts
from ktrdr.ib.contract_sessions import ContractSessions
from ktrdr.ib.dispatcher import Requests
from ktrdr.ib.history import KEPT_S, ConnectionHistory, shares, uptime
from ktrdr.ib.loop_thread import LoopThread
from ktrdr.ib.port_state import PortState
from ktrdr.ib.streams import Streams
from ktrdr.ib.trial_requests import TRIAL_S, send_trial_requests
from ktrdr.ipc.bars_message import BarColumns, BarsMessage
from ktrdr.ipc.codec import to_json, to_text
from ktrdr.ipc.messages import ConnectionHistory as HistoryMessage
from ktrdr.ipc.messages import ConnectionStatus, Json, StateSpan, TrialResult
from ktrdr.ipc.query import (
    instrument_from_query,
    number_from_query,
    priority_from_query,
    span_from_query,
    timeframe_from_query,
)
from ktrdr.ipc.series_messages import ContractCandidates
from ktrdr.ipc.server import Handler, LocalServer, serving
from ktrdr.ipc.sessions_codec import schedule_to_json
from ktrdr.ipc.stream_messages import StreamsMessage
from ktrdr.market.bars import Answer
from ktrdr.market.bars_request import BarsRequest, Priority
from ktrdr.market.instruments import Instrument
from ktrdr.market.sessions import Schedule
from ktrdr.market.timeframes import DAY_S, Timeframe
from ktrdr.process import run
from ktrdr.run_folder import prepare_folder
from ktrdr.store.source import source_of

log = logging.getLogger("ib-connection")  # as a program it has another name

T = TypeVar("T")

_SLICES, _SPANS_SHOWN = 288, 200
_LONG_POLL_S = 60.0
"""The longest time for which a request for finished bars waits."""
_SIMULATOR_S, _POLL_S = 5.0, 0.1
"""How long a simulated gateway may take to listen after its start, and how often that is tested."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


class PersistentIbConnectionManager:
    """The one connection of an application: connects, monitors, retries, and paces requests.

    Its event loop lives in a thread of its own, so that any thread may call it. It stays until
    `stop`, and may be started again. `history`: keeps its states, and is closed with it.
    `now`: the wall clock, aware. `new_loop` makes its event loop, whose clock all waiting uses.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        history: ConnectionHistory | None = None,
        now: Callable[[], datetime] = _utc_now,
        new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
    ) -> None:
        self._settings = settings
        self._now = now
        self._history = history
        self._lock = FileLock(settings.run_dir / "ib.lock")
        self._thread = LoopThread(new_loop)
        self._was_started = False
        self._make_connection()

    def __repr__(self) -> str:
        return f"<PersistentIbConnectionManager {self._connection!r}>"

    def _make_connection(self) -> None:
        """A new connection for each event loop, to which its events and futures belong."""
        self._connection = Connection(self._settings, self._now, self._history)
        self._requests = Requests(self._connection, self._now, self._settings.ktrdr_ib_heartbeat_s)
        self._sessions = ContractSessions(self._requests, self._now)
        most = self._settings.ktrdr_live_streams
        self._streams = Streams(self._connection, self._requests, self._now, most)

    # Any thread.

    def start(self) -> None:
        """Begin to connect. AlreadyRunning: another process holds this run folder's connection."""
        if self._thread.is_started:
            return
        prepare_folder(self._settings.run_dir)
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            raise AlreadyRunning(
                f"another process holds the connection to IB ({self._lock.lock_file})"
            ) from None
        if self._was_started:
            self._make_connection()
            if self._history:
                self._history.reopen()
        self._was_started = True
        self._thread.start(self._connection.live)

    @property
    def broken(self) -> BaseException | None:
        """The error that ended its thread; None: none."""
        return self._thread.broken

    def when_broken(self, notify: Callable[[], object]) -> None:
        """Call this, from another thread, if its thread ends unexpectedly; `broken` says why."""
        self._thread.when_broken(notify)

    def stop(self) -> None:
        """Close the connection and end the thread."""
        _forget(self)
        was_running = True
        try:
            was_running = self._thread.stop(self._connection.stop)
        finally:
            if was_running:
                self._lock.release()

    @property
    def is_connected(self) -> bool:
        """A real request was answered recently, and bars are available as far as is known."""
        return self._connection.is_connected(self._thread.time)

    def status(self) -> ConnectionStatus:
        """The known state of the connection; sends nothing."""
        return replace(
            self._connection.status(self._thread.time),
            requests_open=self._requests.open,
            requests_at_once=self.at_once,
            refused=self._requests.refused,
        )

    def withdraw_refusal(self, symbol: str) -> None:
        """List the contract as refused no longer: no series of it is kept."""
        self._thread.call_soon(partial(self._requests.forget_refusal, symbol))

    def reconnect(self) -> None:
        """Close the connection, or cut a wait short, and connect now."""
        self._thread.call_soon(self._connection.reconnect)

    def call(self, work: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
        """Run one of the coroutines below on the connection's loop, and wait for it.

        NotConnected: the manager was stopped meanwhile.
        """
        return self._thread.call(work, timeout_s)

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The same for a coroutine of another event loop."""
        return await self._thread.run(work)

    # On the connection's loop.

    @property
    def at_once(self) -> int:
        """How many requests may be in flight at IB now."""
        return self._requests.at_once

    async def bars(
        self,
        request: BarsRequest,
        patience_s: float | None = None,
        priority: Priority = Priority.RECENT,
    ) -> Answer:
        """IB's finished bars for a request, paced. Raises the outcome if there are none.

        It is resent after a loss of the connection. `patience_s`: the time limit in all; by default
        that of the request.
        """
        return await self._requests.answered(
            request,
            request.instrument,
            lambda client: client.bars(request, int(self._now().timestamp())),
            patience_s=request.patience_s if patience_s is None else patience_s,
            priority=priority,
        )

    async def head(self, instrument: Instrument) -> int | None:
        """The start of IB's first bar of the instrument (UTC seconds); None: it has no bars."""
        return await self._requests.answered(
            ("head", instrument), instrument, lambda client: client.head(instrument), is_small=True
        )

    async def contract(
        self, instrument: Instrument, priority: Priority = Priority.INTERACTIVE
    ) -> ContractFacts:
        """IB's details of the instrument's contract, at most an hour old."""
        return await self._sessions.contract(instrument, priority)

    async def candidates(self, instrument: Instrument) -> ContractCandidates:
        """The contracts that the instrument may stand for, as IB knew them a minute ago at most."""
        return await self._sessions.candidates(instrument)

    async def sessions(
        self,
        instrument: Instrument,
        start: int,
        end: int,
        priority: Priority = Priority.INTERACTIVE,
    ) -> Schedule:
        """The contract's own sessions in `[start, end)`, and those of the coming days."""
        return await self._sessions.sessions(instrument, start, end, priority)

    async def want_stream(
        self, instrument: Instrument, timeframe: Timeframe, *, is_overdue: bool = False
    ) -> None:
        """Keep a stream of the forming bar open for a while; as `Streams.want`."""
        await self._streams.want(instrument, timeframe, is_overdue=is_overdue)

    async def unwant_stream(self, name: str) -> None:
        """Close the stream of a series such as `AAPL_1m`."""
        await self._streams.unwant(name)

    async def streams(self, run: str, after: int, wait_s: float) -> StreamsMessage:
        """The bars that streams have finished, and the state of each; as `Streams.message`."""
        return await self._streams.message(run, after, wait_s)

    async def trial(self) -> TrialResult:
        """Send the gateway a few small requests, whatever state the connection is in."""
        return await send_trial_requests(self._connection, self.status())

    async def clock(self) -> float | None:
        """The gateway's clock minus this machine's, in seconds, measured now."""
        await self._connection.measure_clock(TRIAL_S)
        return self.status().clock_offset_s

    async def history(self, days: float) -> HistoryMessage:
        """The states of the last days, and the share of the time in which bars were available.

        Its outages are those of all days that are kept.
        """
        now = self._now()
        since = now - timedelta(days=days)
        kept = await self._kept(now)
        spans = [replace(s, start=max(s.start, since)) for s in kept if s.end > since]
        return HistoryMessage(
            since,
            now,
            uptime(spans),
            tuple(shares(spans, since, now, _SLICES)),
            tuple(spans[-_SPANS_SHOWN:]),
            tuple(self._connection.outages(kept)),
        )

    async def _kept(self, until: datetime) -> list[StateSpan]:
        """All recorded states up to that time."""
        if self._history is None:
            return []
        since = until - timedelta(seconds=KEPT_S)
        return await asyncio.to_thread(self._history.spans, since, until)


_manager: PersistentIbConnectionManager | None = None
_manager_lock = threading.Lock()


def get_connection_manager(
    settings: Settings | None = None, history: ConnectionHistory | None = None
) -> PersistentIbConnectionManager:
    """The application's one connection, started by the first call.

    AlreadyRunning: another process, such as ib-connection, has the one of this run folder.
    """
    global _manager  # noqa: PLW0603  one for each application is intended
    with _manager_lock:
        if _manager is None:
            settings = settings or settings_to_run_with()
            manager = PersistentIbConnectionManager(settings, history=history)
            manager.start()
            _manager = manager
        return _manager


def _forget(manager: PersistentIbConnectionManager) -> None:
    """The next call for the application's connection gets a new one."""
    global _manager  # noqa: PLW0603  as above
    with _manager_lock:
        if _manager is manager:
            _manager = None


def routes(manager: PersistentIbConnectionManager) -> Mapping[tuple[str, str], Handler]:
    """The local API of the connection."""
    api = _LocalApi(manager)
    return {
        ("GET", "/status"): api.status,
        ("GET", "/bars"): api.bars,
        ("GET", "/head"): api.head,
        ("GET", "/contract"): api.contract,
        ("GET", "/candidates"): api.candidates,
        ("GET", "/sessions"): api.sessions,
        ("GET", "/history"): api.history,
        ("GET", "/clock"): api.clock,
        ("POST", "/trial"): api.trial,
        ("POST", "/reconnect"): api.reconnect,
        ("DELETE", "/refused"): api.withdraw_refusal,
        ("GET", "/streams"): api.streams,
        ("POST", "/streams"): api.want_stream,
        ("DELETE", "/streams"): api.unwant_stream,
    }


class _LocalApi:
    """The handlers of the routes: from a query to JSON. On any event loop."""

    def __init__(self, manager: PersistentIbConnectionManager) -> None:
        self._manager = manager

    def __repr__(self) -> str:
        return f"<_LocalApi of {self._manager!r}>"

    async def status(self, _query: Mapping[str, str]) -> Json:
        return to_json(self._manager.status())

    async def bars(self, query: Mapping[str, str]) -> bytes:
        start, end = span_from_query(query)
        request = BarsRequest(instrument_from_query(query), timeframe_from_query(query), start, end)
        patience_s = number_from_query(query, "patience_s")
        answer = await self._manager.run(
            self._manager.bars(request, patience_s, priority_from_query(query, Priority.RECENT))
        )
        message = BarsMessage(
            BarColumns.of(answer.bars),
            answer.invalid,
            BarColumns.of(answer.neighbours),
            "bars" if answer.bars or answer.invalid else "no_data",
            self._manager.status().gateway,
            self._manager.at_once,
        )
        return to_text(message)

    async def head(self, query: Mapping[str, str]) -> Json:
        head = self._manager.head(instrument_from_query(query))
        return {"head": await self._manager.run(head)}

    async def contract(self, query: Mapping[str, str]) -> Json:
        contract = self._manager.contract(instrument_from_query(query))
        answer = to_json(await self._manager.run(contract))
        del answer["hours"]  # GET /sessions has them
        return answer

    async def candidates(self, query: Mapping[str, str]) -> Json:
        candidates = self._manager.candidates(instrument_from_query(query))
        return to_json(await self._manager.run(candidates))

    async def sessions(self, query: Mapping[str, str]) -> Json:
        start, end = span_from_query(query)
        instrument = instrument_from_query(query)
        priority = priority_from_query(query, Priority.INTERACTIVE)
        schedule = await self._manager.run(self._manager.sessions(instrument, start, end, priority))
        facts = await self._manager.run(self._manager.contract(instrument, priority))
        return schedule_to_json(schedule) | {
            "last_trade_date": facts.last_trade_date,
            "con_id": facts.con_id,
            "exchange": facts.exchange,
            "currency": facts.currency,
            "local_symbol": facts.local_symbol,
            "name": facts.long_name,
        }

    async def history(self, query: Mapping[str, str]) -> Json:
        days = number_from_query(query, "days") or 1.0
        return to_json(await self._manager.run(self._manager.history(min(days, KEPT_S / DAY_S))))

    async def clock(self, _query: Mapping[str, str]) -> Json:
        return {"clock_offset_s": await self._manager.run(self._manager.clock())}

    async def trial(self, _query: Mapping[str, str]) -> Json:
        return to_json(await self._manager.run(self._manager.trial()))

    async def reconnect(self, _query: Mapping[str, str]) -> Json:
        self._manager.reconnect()
        return {"accepted": True}

    async def streams(self, query: Mapping[str, str]) -> bytes:
        after = int(number_from_query(query, "after") or 0)
        wait_s = min(number_from_query(query, "wait_s") or 0.001, _LONG_POLL_S)
        message = self._manager.streams(query.get("run", ""), after, wait_s)
        return to_text(await self._manager.run(message))

    async def want_stream(self, query: Mapping[str, str]) -> Json:
        instrument, timeframe = instrument_from_query(query), timeframe_from_query(query)
        is_overdue = query.get("overdue", "") == "true"
        wanted = self._manager.want_stream(instrument, timeframe, is_overdue=is_overdue)
        await self._manager.run(wanted)
        return {"accepted": True}

    async def unwant_stream(self, query: Mapping[str, str]) -> Json:
        name = f"{instrument_from_query(query).symbol}_{timeframe_from_query(query).value}"
        await self._manager.run(self._manager.unwant_stream(name))
        return {"accepted": True}

    async def withdraw_refusal(self, query: Mapping[str, str]) -> Json:
        self._manager.withdraw_refusal(instrument_from_query(query).symbol)
        return {"accepted": True}


def serve(settings: Settings, stop: threading.Event) -> None:
    """The program: the connection and its local API, until it is stopped.

    The API has an event loop of its own: that of the connection reads all bars, and while a store
    is filled a request for the status would wait for seconds.

    It exits with the error that ended the connection, so that it is restarted.
    """
    logging.getLogger(LIBRARY).setLevel(logging.CRITICAL)  # our log reports its errors
    if settings.is_simulated:
        _await_simulator(settings, stop)
    manager = get_connection_manager(settings, _history(settings))
    try:
        with serving(LocalServer(settings.connection_socket, routes(manager))):
            manager.when_broken(stop.set)
            stop.wait()
    finally:
        manager.stop()
    if manager.broken is not None:
        raise manager.broken


def _await_simulator(settings: Settings, stop: threading.Event) -> None:
    """Let the simulated gateway begin to listen, which is started at the same moment as this."""
    host, port = settings.gateway_host, settings.gateway_port
    until = time.monotonic() + _SIMULATOR_S
    while time.monotonic() < until and not stop.is_set():
        if asyncio.run(port_probe.probe(host, port, _SIMULATOR_S)).state is not PortState.CLOSED:
            return
        stop.wait(_POLL_S)


def _history(settings: Settings) -> ConnectionHistory | None:
    """The history in the store's folder; None: the store is of another source, or unreadable."""
    try:
        owner = source_of(settings.data_dir)
    except StoreUnwritable:  # the writer of bars reports it
        return None
    is_for_others = settings.is_simulated and settings.is_live_folder
    if is_for_others or owner not in (None, settings.source):
        return None
    return ConnectionHistory(settings.connection_history, time.time())


if __name__ == "__main__":
    run("ib-connection", serve)
