"""PROGRAM ib-connection: the one connection to IB, kept alive and paced. Stores nothing.

`python -m ktrdr.data.ib_connection_manager` runs it under the local API; in somebody's own
program `get_connection_manager()` is the same thing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import AsyncIterator, Coroutine, Hashable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from ktrdr.config import Settings, load_settings
from ktrdr.data.ib_client import ContractFacts, IbClient
from ktrdr.data.local_api import (
    ConnectionStatus,
    Handler,
    Json,
    LastError,
    LocalServer,
    bars_to_json,
    instrument_from_query,
    prepare_folder,
    schedule_to_json,
    span_from_query,
    timeframe_from_query,
    to_json,
)
from ktrdr.errors import AlreadyRunning, IdInUse, KtrdrError, NotConnected, TimedOut
from ktrdr.planning.bars import Answer
from ktrdr.planning.instruments import Instrument
from ktrdr.planning.lifecycle import Action, Event, Retries, State, after, next_client_id
from ktrdr.planning.pacing import Pacer
from ktrdr.planning.requests import BarsRequest
from ktrdr.planning.sessions import Schedule
from ktrdr.planning.timeframes import DAY_S
from ktrdr.process import run

log = logging.getLogger("ib-connection")  # its name is another when it is the program

T = TypeVar("T")

_GREETING_S = 15.0
"""How long a gateway may take to greet; a fresh one takes several seconds."""
_PROVEN_S = 30.0
"""A connection that lasted this long is retried at once when it is lost."""
_FACTS_FRESH_S = 3600.0
_SCHEDULE_DAYS_MAX = 360
_STOP_S = 8.0

_UPSTREAM_LOST, _UPSTREAM_BACK_EMPTY, _UPSTREAM_BACK = 1100, 1101, 1102
_FARM_NOTICES = range(2100, 2170)
"""Warnings of farms and the like: they come and go, and cost no connection."""


class PersistentIbConnectionManager:
    """The one connection of an application: connects, watches, retries, and paces requests.

    Its event loop lives in a thread of its own, so that any thread may call it. Start it once;
    it stays until `stop`.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = FileLock(settings.run_dir / "ib.lock")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._client: IbClient | None = None
        self._client_id = settings.ib_client_id
        self._state = State.DISCONNECTED
        self._retries = Retries(settings.ktrdr_ib_retry_delays_s)
        self._pacer = Pacer()
        self._pacer_changed = asyncio.Condition()
        self._reconnect_asked = asyncio.Event()
        self._upstream: asyncio.Queue[Event] = asyncio.Queue()
        self._life: asyncio.Task[None] | None = None
        self._ids_in_use = 0
        self._facts: dict[Instrument, tuple[float, ContractFacts]] = {}
        self._past: dict[Instrument, Schedule] = {}
        self._answered_at = float("-inf")
        self._connected_at = float("-inf")
        self._gateway_is_simulated = settings.is_simulated
        self._said = _initial_status(settings)

    def __repr__(self) -> str:
        return f"<PersistentIbConnectionManager {self._state} {self._said.host}:{self._said.port}>"

    # Any thread.

    def start(self) -> None:
        """Begin to connect. AlreadyRunning: another process holds this run folder's connection."""
        if self._thread is not None:
            return
        prepare_folder(self._settings.run_dir)
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            raise AlreadyRunning(
                f"another process holds the connection to IB ({self._lock.lock_file})"
            ) from None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._run_loop, args=(self._loop,), name="ib-connection", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Close the connection and end the thread."""
        if self._thread is None or self._loop is None:
            return
        self.call(self._stop(), _STOP_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_STOP_S)
        self._thread = self._loop = None
        self._lock.release()

    @property
    def is_connected(self) -> bool:
        """A real request was answered lately, and IB's servers are reached."""
        fresh = time.monotonic() - self._answered_at <= 2 * self._settings.ktrdr_ib_heartbeat_s
        return self._state is State.CONNECTED and fresh

    def status(self) -> ConnectionStatus:
        """What is known of the connection now; asks nobody."""
        return replace(
            self._said,
            connected=self.is_connected,
            state=self._state.value,
            gateway="simulated" if self._gateway_is_simulated else "live",
            requests_open=self._pacer.open_requests,
        )

    def reconnect(self) -> None:
        """Close the connection, or cut a wait short, and connect now."""
        self._running_loop().call_soon_threadsafe(self._reconnect_asked.set)

    def call(self, work: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
        """Run one of the coroutines below on the connection's loop, and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._running_loop()).result(timeout_s)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            raise NotConnected("the connection manager is not started", hint="call start()")
        return self._loop

    # On the connection's loop.

    async def bars(self, request: BarsRequest) -> Answer:
        """IB's finished bars for a request, paced. Raises the outcome where there are none."""
        async with self._turn(request):
            answer = await self._connected_client().bars(request, int(time.time()))
            self._note_answer()
            return answer

    async def contract(self, instrument: Instrument) -> ContractFacts:
        """What IB says of the instrument's contract, at most an hour old."""
        at, facts = self._facts.get(instrument, (float("-inf"), None))
        if facts is None or time.monotonic() - at > _FACTS_FRESH_S:
            async with self._turn(("contract", instrument)):
                facts = await self._connected_client().contract(instrument)
            self._note_answer()
            self._facts[instrument] = (time.monotonic(), facts)
        return facts

    async def sessions(self, instrument: Instrument, start: int, end: int) -> Schedule:
        """The contract's own sessions in `[start, end)`, and those of the coming days.

        The past is IB's SCHEDULE, the days to come are the contract's hours.
        """
        facts = await self.contract(instrument)
        until = max(min(end, int(time.time())), start + 1)
        known = self._past.get(instrument)
        if known is not None and until - known.end >= _SCHEDULE_DAYS_MAX * DAY_S:
            known = None  # more than one request away
        if known is None:
            known = await self._past_sessions(instrument, facts, start, until)
        elif known.end < until:
            known = known.joined(await self._past_sessions(instrument, facts, known.end, until))
        while known.start > start:
            self._past[instrument] = known  # what has come is kept when the rest fails
            older = await self._past_sessions(instrument, facts, start, known.start)
            known = older.joined(known)
        self._past[instrument] = known
        return known.joined(facts.coming) if facts.coming else known

    async def _past_sessions(
        self, instrument: Instrument, facts: ContractFacts, start: int, end: int
    ) -> Schedule:
        """IB's SCHEDULE for the days before `end`, back to `start` where one request reaches it."""
        days = min(-(-(end - start) // DAY_S) + 1, _SCHEDULE_DAYS_MAX)
        async with self._turn(("sessions", instrument, end, days)):
            found = await self._connected_client().sessions(instrument, end, days)
        self._note_answer()
        if found is None:  # before the listing nothing was open
            return Schedule(facts.zone, start, end, ())
        # So many trading days reach at least as far back as so many on the calendar.
        reached = max(start, end - (days - 1) * DAY_S)
        return replace(found, start=min(found.start, reached))

    async def _stop(self) -> None:
        if self._life is not None:
            self._life.cancel()
            await asyncio.wait({self._life})
        self._apply(Event.STOP)

    def _run_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        self._life = loop.create_task(self._live())
        loop.run_forever()
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()

    async def _live(self) -> None:
        """The life of the connection: what happened, and what state it leads to."""
        self._apply(Event.START)
        while True:
            try:
                event = await self._next_event()
            except Exception:  # the loop goes on, whatever a library does
                log.exception("unexpected error while %s", self._state)
                event = Event.FAILED if self._state is State.CONNECTING else Event.LOST_EARLY
            self._apply(event)

    async def _next_event(self) -> Event:
        if self._state is State.CONNECTING:
            return await self._try_to_connect()
        if self._state is State.WAITING:
            return await self._wait_for_retry()
        return await self._watch()

    def _apply(self, event: Event) -> None:
        """Take an event: the table says the next state and what to do on the way."""
        before = self._state
        self._state, actions = after(before, event)
        for action in actions:
            if action is Action.CLOSE:
                self._close()
            elif action is Action.NEXT_ID:
                self._client_id = next_client_id(self._client_id, self._settings.ib_client_id)
            elif action is Action.RESET_RETRIES:
                self._retries.reset()
        if self._state is not before:
            log.info("%s -> %s (%s)", before, self._state, event.name.lower())

    def _close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
            if self._connected_at > float("-inf"):
                self._said = replace(self._said, last_disconnect_time=datetime.now(UTC))
                self._connected_at = float("-inf")

    async def _try_to_connect(self) -> Event:
        """One attempt: greeting and first answered request."""
        self._reconnect_asked.clear()
        self._said = replace(
            self._said,
            connection_attempts=self._said.connection_attempts + 1,
            next_retry_time=None,
            client_id=self._client_id,
        )
        self._client = client = IbClient(self._on_notice)
        try:
            host, port = self._settings.gateway_host, self._settings.gateway_port
            await client.connect(host, port, self._client_id, _GREETING_S)
            await client.current_time(_GREETING_S)
        except IdInUse as error:
            return self._id_in_use(error)
        except KtrdrError as error:
            return self._attempt_failed(error)
        self._ids_in_use = 0
        self._note_connected(client)
        return Event.ANSWERED

    def _id_in_use(self, error: IdInUse) -> Event:
        """The next id at once; after all of them the ladder, since none is free."""
        self._ids_in_use += 1
        ids = 51 - self._settings.ib_client_id
        if self._ids_in_use < ids:
            log.info("client id %d is in use, trying the next", self._client_id)
            return Event.ID_IN_USE
        self._ids_in_use = 0
        return self._attempt_failed(
            NotConnected(
                f"all client ids from {self._settings.ib_client_id} to 50 are in use",
                code=error.code,
                hint="close other API programs, or restart the gateway",
            )
        )

    def _attempt_failed(self, error: KtrdrError) -> Event:
        self._said = replace(self._said, failed_attempts=self._said.failed_attempts + 1)
        self._note_error(error)
        return Event.FAILED

    async def _wait_for_retry(self) -> Event:
        delay_s = self._retries.next_s()
        due = datetime.now(UTC) + timedelta(seconds=delay_s)
        self._said = replace(self._said, next_retry_time=due)
        log.info("next attempt in %g s", delay_s)
        try:
            await asyncio.wait_for(self._reconnect_asked.wait(), delay_s)
        except TimeoutError:
            return Event.RETRY_DUE
        return Event.RECONNECT

    async def _watch(self) -> Event:
        """Wait for the connection's end, a notice or a wish; ask for the time meanwhile."""
        client = self._connected_client()
        lost = asyncio.ensure_future(client.closed.wait())
        asked = asyncio.ensure_future(self._reconnect_asked.wait())
        upstream = asyncio.ensure_future(self._upstream.get())
        dead = asyncio.ensure_future(self._beat(client))
        tasks = {lost, asked, upstream, dead}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if upstream.done():
                return upstream.result()
            if asked.done():
                return Event.RECONNECT
            return self._lost("the gateway closed the connection" if lost.done() else dead.result())
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _beat(self, client: IbClient) -> str:
        """Ask for the time again and again; ends, saying so, when nothing is answered."""
        heartbeat_s = self._settings.ktrdr_ib_heartbeat_s
        while True:
            await asyncio.sleep(heartbeat_s)
            if time.monotonic() - self._answered_at < heartbeat_s / 2:
                continue
            try:
                await client.current_time(heartbeat_s)
            except TimedOut:
                silent_s = time.monotonic() - self._answered_at
                if silent_s >= 2 * heartbeat_s:
                    return f"the gateway has answered nothing for {silent_s:.0f} s"
            else:
                self._note_answer()

    def _lost(self, why: str) -> Event:
        lasted_s = time.monotonic() - self._connected_at
        self._note_error(NotConnected(why, hint="it is being connected again"))
        return Event.LOST if lasted_s >= _PROVEN_S else Event.LOST_EARLY

    def _on_notice(self, code: int, text: str) -> None:
        """What the gateway says unasked."""
        if code == _UPSTREAM_LOST:
            self._note_error(
                NotConnected(text, code=code, hint="the gateway is waiting for IB's servers")
            )
            self._upstream.put_nowait(Event.UPSTREAM_LOST)
        elif code in (_UPSTREAM_BACK, _UPSTREAM_BACK_EMPTY):
            self._upstream.put_nowait(Event.UPSTREAM_BACK)
        elif code in _FARM_NOTICES:
            log.info("IB %d: %s", code, text)

    def _note_error(self, error: KtrdrError) -> None:
        said = LastError(error.code, error.message, error.hint)
        self._said = replace(self._said, last_error=said)
        log.warning("%s%s", error, f" ({error.hint})" if error.hint else "")

    def _note_connected(self, client: IbClient) -> None:
        while not self._upstream.empty():
            self._upstream.get_nowait()  # of the connection before
        self._connected_at = time.monotonic()
        self._note_answer()
        self._gateway_is_simulated = self._settings.is_simulated or client.is_simulated
        self._said = replace(
            self._said,
            last_connect_time=datetime.now(UTC),
            server_version=client.server_version,
        )

    def _note_answer(self) -> None:
        self._answered_at = time.monotonic()
        if self._answered_at - self._connected_at >= _PROVEN_S:
            self._retries.reset()
        self._said = replace(
            self._said,
            last_answer_time=datetime.now(UTC),
            requests_answered=self._said.requests_answered + 1,
        )

    def _connected_client(self) -> IbClient:
        """The client, while there is one that answers; else NotConnected with the last reason."""
        if self._client is None or self._state not in (State.CONNECTED, State.UPSTREAM_LOST):
            last = self._said.last_error
            raise NotConnected(
                f"not connected to IB ({self._state})" + (f": {last.message}" if last else ""),
                code=last.code if last else None,
                hint=last.hint if last else "",
            )
        return self._client

    @contextlib.asynccontextmanager
    async def _turn(self, request: Hashable) -> AsyncIterator[None]:
        """Wait until the pacer lets the request go; NotConnected at once when there is no link."""
        async with self._pacer_changed:
            while True:
                self._connected_client()
                delay_s = self._pacer.delay_s(request, time.monotonic())
                if delay_s == 0:
                    break
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._pacer_changed.wait(), delay_s)
            self._pacer.begin(request, time.monotonic())
        try:
            yield
        finally:
            self._pacer.end()
            async with self._pacer_changed:
                self._pacer_changed.notify_all()


_manager: PersistentIbConnectionManager | None = None
_manager_lock = threading.Lock()


def get_connection_manager(settings: Settings | None = None) -> PersistentIbConnectionManager:
    """The application's one connection, started by the first call.

    AlreadyRunning when another process, such as ib-connection, has this run folder's.
    """
    global _manager  # noqa: PLW0603  # one for each application is what this is
    with _manager_lock:
        if _manager is None:
            manager = PersistentIbConnectionManager(settings or load_settings())
            manager.start()
            _manager = manager
        return _manager


def routes(manager: PersistentIbConnectionManager) -> Mapping[tuple[str, str], Handler]:
    """The local API of the connection."""

    async def status(_query: Mapping[str, str]) -> Json:
        return to_json(manager.status())

    async def bars(query: Mapping[str, str]) -> Json:
        start, end = span_from_query(query)
        request = BarsRequest(instrument_from_query(query), timeframe_from_query(query), start, end)
        answer = await manager.bars(request)
        return {
            "outcome": "bars" if answer.bars or answer.unsound else "no_data",
            "gateway": manager.status().gateway,
            "bars": bars_to_json(answer.bars),
            "unsound": answer.unsound,
        }

    async def contract(query: Mapping[str, str]) -> Json:
        facts = await manager.contract(instrument_from_query(query))
        said = to_json(facts)
        del said["coming"]  # GET /sessions has them
        return said

    async def sessions(query: Mapping[str, str]) -> Json:
        start, end = span_from_query(query)
        schedule = await manager.sessions(instrument_from_query(query), start, end)
        return schedule_to_json(schedule)

    async def reconnect(_query: Mapping[str, str]) -> Json:
        manager.reconnect()
        return {"accepted": True}

    return {
        ("GET", "/status"): status,
        ("GET", "/bars"): bars,
        ("GET", "/contract"): contract,
        ("GET", "/sessions"): sessions,
        ("POST", "/reconnect"): reconnect,
    }


def _initial_status(settings: Settings) -> ConnectionStatus:
    return ConnectionStatus(
        connected=False,
        state=State.DISCONNECTED.value,
        gateway=settings.source,
        host=settings.gateway_host,
        port=settings.gateway_port,
        client_id=None,
        server_version=None,
        last_connect_time=None,
        last_disconnect_time=None,
        last_answer_time=None,
        connection_attempts=0,
        failed_attempts=0,
        next_retry_time=None,
        requests_open=0,
        requests_answered=0,
        last_error=None,
    )


def serve(settings: Settings, stop: threading.Event) -> None:
    """The program: the connection and its local API, until it is told to stop."""
    logging.getLogger("ib_insync").setLevel(logging.CRITICAL)  # its errors are told by ours
    manager = get_connection_manager(settings)
    server = LocalServer(settings.connection_socket, routes(manager))
    manager.call(server.start(), _STOP_S)
    try:
        stop.wait()
    finally:
        manager.call(server.stop(), _STOP_S)
        manager.stop()


if __name__ == "__main__":
    run("ib-connection", serve)
