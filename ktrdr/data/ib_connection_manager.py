"""PROGRAM ib-connection: the one connection to IB, and what is asked over it. Stores no bars.

`python -m ktrdr.data.ib_connection_manager` runs it under the local API; in somebody's own
program `get_connection_manager()` is the same thing. A request is paced here, survives the loss
of the connection, and ends with an answer or with one clear outcome.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
import time
from asyncio import Future
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from ktrdr.config.running_group import settings_to_run_with
from ktrdr.config.settings import Settings
from ktrdr.errors import (
    AlreadyRunning,
    InvalidRequest,
    KtrdrError,
    NotConnected,
    RequestFailed,
    StoreUnwritable,
    TimedOut,
)
from ktrdr.ib.client import LIBRARY
from ktrdr.ib.connection import Link
from ktrdr.ib.contract_facts import ContractFacts
from ktrdr.ib.dispatcher import Requests
from ktrdr.ib.history import KEPT_S, ConnectionHistory, shares, uptime
from ktrdr.ib.outages import Downtime, Span
from ktrdr.ib.schedules import ToldSchedule, read_hours, read_schedule
from ktrdr.ib.states import State
from ktrdr.ipc.bars_message import BarColumns, BarsMessage
from ktrdr.ipc.codec import (
    instrument_from_query,
    number_from_query,
    priority_from_query,
    schedule_to_json,
    span_from_query,
    timeframe_from_query,
    to_json,
    to_text,
)
from ktrdr.ipc.messages import Checkup, ConnectionStatus, Json, Outage, StateSpan
from ktrdr.ipc.messages import ConnectionHistory as HistoryMessage
from ktrdr.ipc.server import Handler, LocalServer
from ktrdr.market.bars import Answer
from ktrdr.market.bars_request import BarsRequest, Priority
from ktrdr.market.instruments import Instrument, instrument_for
from ktrdr.market.sessions import Schedule
from ktrdr.market.timeframes import DAY_S
from ktrdr.market.usual_sessions import by_rules, every_week
from ktrdr.market.zones import zone_of
from ktrdr.process import run
from ktrdr.run_folder import prepare_folder
from ktrdr.store.source import source_of

log = logging.getLogger("ib-connection")  # its name is another when it is the program

T = TypeVar("T")

_FACTS_FRESH_S = 3600.0
_PAST_FRESH_S = 60.0
_SCHEDULE_DAYS_MAX = 360
_STOP_S = 8.0
_NAMED_MOST = 5
_CHECKUP_S = 10.0
_SLICES, _SPANS_SHOWN = 288, 200


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _outage(one: Downtime) -> Outage:
    end = None if one.end is None else _moment(one.end)
    return Outage(_moment(one.start), end, one.cause, one.worst, one.expected_kind)


def _moment(time_s: float) -> datetime:
    return datetime.fromtimestamp(time_s, UTC)


class PersistentIbConnectionManager:
    """The one connection of an application: connects, watches, retries, and paces requests.

    Its event loop lives in a thread of its own, so that any thread may call it. It stays until
    `stop`, and may be started again. `history`: where its states are kept, and closed with it.
    `now`: the wall clock, aware. `new_loop` makes its event loop, whose clock all waiting goes by.
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
        self._new_loop = new_loop
        self._lock = FileLock(settings.run_dir / "ib.lock")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._calls = threading.Lock()
        self._life: asyncio.Task[None] | None = None
        self.broken: BaseException | None = None
        """What ended its life unexpectedly; None: nothing."""
        self._tell_broken: Callable[[], object] | None = None
        self._was_started = False
        self._make_link()
        self._facts: dict[Instrument, tuple[float, ContractFacts]] = {}
        self._past: dict[Instrument, tuple[float, Schedule]] = {}

    def __repr__(self) -> str:
        return f"<PersistentIbConnectionManager {self._link!r}>"

    def _make_link(self) -> None:
        """A new one for each loop, for what it waits on belongs to that."""
        self._link = Link(self._settings, self._now, self._history)
        self._requests = Requests(self._link, self._now, self._settings.ktrdr_ib_heartbeat_s)

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
        if self._was_started:
            self._make_link()
            if self._history:
                self._history.reopen()
        self._was_started, self.broken = True, None
        self._loop = self._new_loop()
        self._thread = threading.Thread(
            target=self._run_loop, args=(self._loop,), name="ib-connection", daemon=True
        )
        self._thread.start()

    def when_broken(self, tell: Callable[[], object]) -> None:
        """Call this, from another thread, should its life end unexpectedly; `broken` says why."""
        self._tell_broken = tell
        if self.broken is not None:
            tell()

    def stop(self) -> None:
        """Close the connection and end the thread."""
        _forget(self)
        with self._calls:
            loop, self._loop = self._loop, None  # from here on nothing new is taken
        if self._thread is None or loop is None:
            return
        try:
            asyncio.run_coroutine_threadsafe(self._stop(), loop).result(_STOP_S)
        finally:
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join(_STOP_S)
            self._thread = None
            self._lock.release()

    @property
    def is_connected(self) -> bool:
        """A real request was answered lately, and bars can be had as far as anybody knows."""
        loop = self._loop
        return loop is not None and self._link.is_connected(loop.time())

    def status(self) -> ConnectionStatus:
        """What is known of the connection now; asks nobody."""
        loop = self._loop
        return replace(
            self._link.status(loop.time() if loop else float("inf")),
            requests_open=self._requests.open,
            requests_at_once=self.at_once,
            refused=self._requests.refused,
        )

    def reconnect(self) -> None:
        """Close the connection, or cut a wait short, and connect now."""
        self._running_loop().call_soon_threadsafe(self._link.reconnect)

    def call(self, work: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
        """Run one of the coroutines below on the connection's loop, and wait for it.

        NotConnected: the manager was stopped meanwhile.
        """
        try:
            with self._calls:
                asked = asyncio.run_coroutine_threadsafe(work, self._running_loop())
        except NotConnected:
            work.close()
            raise
        try:
            return asked.result(timeout_s)
        except concurrent.futures.CancelledError:
            raise NotConnected("the connection manager was stopped") from None

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            raise NotConnected("the connection manager is not started", hint="call start()")
        return self._loop

    # On the connection's loop.

    @property
    def at_once(self) -> int:
        """How many requests may be under way at IB now."""
        return self._requests.at_once

    async def bars(
        self,
        request: BarsRequest,
        patience_s: float | None = None,
        priority: Priority = Priority.RECENT,
    ) -> Answer:
        """IB's finished bars for a request, paced. Raises the outcome where there are none.

        Asked again after a loss of the connection, for `patience_s` in all; without it for as
        long as the request says.
        """
        return await self._requests.answered(
            request,
            request.instrument,
            lambda client: client.bars(request, int(self._now().timestamp())),
            patience_s=request.patience_s if patience_s is None else patience_s,
            priority=priority,
        )

    async def head(self, instrument: Instrument) -> int | None:
        """From when on IB has bars of the instrument (UTC seconds); None: it has none at all."""
        return await self._requests.answered(
            ("head", instrument), instrument, lambda client: client.head(instrument), is_small=True
        )

    async def contract(self, instrument: Instrument) -> ContractFacts:
        """What IB says of the instrument's contract, at most an hour old."""
        at, facts = self._facts.get(instrument, (float("-inf"), None))
        asked_at = self._now().timestamp()
        if facts is None or not 0 <= asked_at - at < _FACTS_FRESH_S:
            facts = await self._requests.answered(
                ("contract", instrument), instrument, lambda client: client.contract(instrument)
            )
            self._facts[instrument] = (asked_at, facts)
        return facts

    async def sessions(self, instrument: Instrument, start: int, end: int) -> Schedule:
        """The contract's own sessions in `[start, end)`, and those of the coming days.

        The past is IB's SCHEDULE, the days to come are the contract's hours. Whether what they
        lack is to be believed is for others to say: nothing is remembered but for a moment.
        """
        until = max(min(end, int(self._now().timestamp())), start + 1)
        asked = asyncio.ensure_future(self.contract(instrument))
        facts, past = await asyncio.gather(  # neither waits for the other's answer
            asked, self._past_sessions(instrument, asked, start, until)
        )
        coming = _coming(instrument, facts, past.zone)
        return past.joined(coming) if coming else past

    async def _past_sessions(
        self, instrument: Instrument, facts: Future[ContractFacts], start: int, end: int
    ) -> Schedule:
        """IB's SCHEDULE for `[start, end)`, in so many requests as that takes."""
        asked_at, known = self._past.get(instrument, (float("-inf"), None))
        now = self._now().timestamp()
        is_fresh = 0 <= now - asked_at < _PAST_FRESH_S
        if known is not None and is_fresh and known.start <= start:
            return replace(known, end=max(known.end, end))
        found = await self._page_of_sessions(instrument, facts, start, end)
        while found.start > start:
            older = await self._page_of_sessions(instrument, facts, start, found.start)
            found = older.joined(found)
        if found.sessions:
            self._past[instrument] = (now, found)
        return found

    async def _page_of_sessions(
        self, instrument: Instrument, facts: Future[ContractFacts], start: int, end: int
    ) -> Schedule:
        """IB's SCHEDULE for the days before `end`, back to `start` where one request reaches it.

        Without any session: IB says that there were none, as before the listing. Where it tells
        nothing, for whatever reason, the usual sessions stand in.
        """
        days = min(-(-(end - start) // DAY_S) + 1, _SCHEDULE_DAYS_MAX)
        try:
            told = await self._requests.answered(
                ("sessions", instrument, end, days),
                instrument,
                lambda client: client.sessions(instrument, end, days),
            )
        except (InvalidRequest, RequestFailed, TimedOut) as error:
            log.warning(
                "%s: IB tells no sessions, its usual ones are taken: %s", instrument.symbol, error
            )
            return self._usual_sessions(instrument, await facts, start, end)
        if told is None or not told.sessions:
            return Schedule(_zone(instrument, await facts, told), start, end, ())
        zone = _zone(instrument, await facts, told)
        found, unreadable = read_schedule(told, zone, instrument.sec_type, end, days)
        _name_unreadable(instrument, unreadable)
        if not found.sessions:
            return self._usual_sessions(instrument, await facts, start, end)
        # So many trading days reach at least as far back as so many on the calendar.
        reached = max(start, end - (days - 1) * DAY_S)
        return replace(found, start=min(found.start, reached))

    @staticmethod
    def _usual_sessions(
        instrument: Instrument, facts: ContractFacts, start: int, end: int
    ) -> Schedule:
        """Those of the contract's coming days, as if every week were so; else of its kind."""
        coming = _coming(instrument, facts)
        if coming is not None and coming.sessions:
            return every_week(coming, instrument.sec_type, start, end)
        return by_rules(instrument.sec_type, start, end)

    async def checkup(self) -> Checkup:
        """Ask the gateway for a little of everything, whatever state the connection is in."""
        client = self._link.client
        status = self.status()
        if client is None:
            gone = NotConnected.outcome
            why = status.last_error.message if status.last_error else status.state
            return Checkup(None, None, gone, gone, "", why)
        probed = self._link.evidence.contracts.good() or instrument_for("EURUSD")
        ask = [_outcome(client.is_read_only(_CHECKUP_S))]
        if status.state != State.UPSTREAM_LOST:  # what would hang
            ask += [
                _outcome(asyncio.wait_for(client.contract(probed), _CHECKUP_S)),
                _outcome(client.probe(probed, _CHECKUP_S)),
            ]
        read_only, *about = await asyncio.gather(*ask)
        hangs = _Outcome(NotConnected.outcome, "the gateway has lost IB's servers")
        contract, data = about or [hangs, hangs]
        return Checkup(
            status.clock_offset_s,
            read_only.answer,
            contract.outcome,
            data.outcome,
            probed.symbol,
            data.message or contract.message,
        )

    async def clock(self) -> float | None:
        """The gateway's clock minus this machine's, in seconds, asked for now."""
        await self._link.measure_clock(_CHECKUP_S)
        return self.status().clock_offset_s

    async def history(self, days: float) -> HistoryMessage:
        """The states of the last days, and the share of the time in which bars could be had.

        The times without data are those of all days that are kept.
        """
        now = self._now()
        since = now - timedelta(days=days)
        bounds = since.timestamp(), now.timestamp()
        kept = await self._kept(bounds[1] - KEPT_S, bounds[1])
        spans = [replace(s, start=max(s.start, bounds[0])) for s in kept if s.end > bounds[0]]
        return HistoryMessage(
            since,
            now,
            uptime(spans),
            tuple(shares(spans, *bounds, _SLICES)),
            tuple(
                StateSpan(_moment(span.start), _moment(span.end), span.state, span.why)
                for span in spans[-_SPANS_SHOWN:]
            ),
            tuple(map(_outage, self._link.downtimes(kept))),
        )

    async def _kept(self, since: float, until: float) -> list[Span]:
        """The states in this time, as far as they are kept."""
        if self._history is None:
            return []
        return await asyncio.to_thread(self._history.spans, since, until)

    async def _stop(self) -> None:
        if self._life is not None:
            self._life.cancel()
            await asyncio.wait({self._life})
        await self._link.stop()

    def _life_ended(self, life: asyncio.Task[None]) -> None:
        """It goes on until it is cancelled; otherwise nothing would ever be answered again."""
        if life.cancelled():
            return
        self.broken = life.exception()
        log.critical("the connection's life has ended: %r", self.broken, exc_info=self.broken)
        if self._tell_broken is not None:
            self._tell_broken()

    def _run_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        self._life = loop.create_task(self._link.live())
        self._life.add_done_callback(self._life_ended)
        loop.run_forever()
        while left := asyncio.all_tasks(loop):
            for task in left:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


def _zone(instrument: Instrument, facts: ContractFacts, told: ToldSchedule | None = None) -> str:
    """In which zone IB tells sessions: SCHEDULE's own, the contract's, or the exchange's.

    RequestFailed: none of them is known; no other one is taken in their place.
    """
    names = [told.zone] if told else []
    zone = zone_of([*names, facts.zone], facts.exchange)
    if not zone:
        named = ", ".join(map(repr, [*names, facts.zone]))
        raise RequestFailed(
            f"the time zone of {instrument.symbol}'s sessions is not known: IB names {named} "
            f"on {facts.exchange or 'no exchange'}",
            hint="say in instruments.toml which exchange or primary_exchange it is",
        )
    return zone


def _coming(instrument: Instrument, facts: ContractFacts, otherwise: str = "") -> Schedule | None:
    """The sessions of the days to come by the contract's hours; None: they are not known.

    `otherwise`: the zone where the contract names none that is known.
    """
    zone = zone_of([facts.zone, otherwise], facts.exchange)
    if not facts.hours or not zone:
        return None
    coming, unreadable = read_hours(facts.hours, zone)
    _name_unreadable(instrument, unreadable)
    return coming


def _name_unreadable(instrument: Instrument, sessions: Sequence[str]) -> None:
    if sessions:
        some = "; ".join(sessions[:_NAMED_MOST])
        log.warning(
            "%s: %d sessions of IB's cannot be read: %s", instrument.symbol, len(sessions), some
        )


@dataclass(frozen=True)
class _Outcome:
    """What came of a question, in the words of the local API."""

    outcome: str
    message: str = ""
    answer: Any = None


async def _outcome(asked: Awaitable[object]) -> _Outcome:
    try:
        return _Outcome("answered", answer=await asked)
    except KtrdrError as error:
        return _Outcome(error.outcome, error.message)
    except TimeoutError:
        return _Outcome(TimedOut.outcome, "not answered")


_manager: PersistentIbConnectionManager | None = None
_manager_lock = threading.Lock()


def get_connection_manager(
    settings: Settings | None = None, history: ConnectionHistory | None = None
) -> PersistentIbConnectionManager:
    """The application's one connection, started by the first call.

    AlreadyRunning when another process, such as ib-connection, has this run folder's.
    """
    global _manager  # noqa: PLW0603  # one for each application is what this is
    with _manager_lock:
        if _manager is None:
            settings = settings or settings_to_run_with()
            manager = PersistentIbConnectionManager(settings, history=history)
            manager.start()
            _manager = manager
        return _manager


def _forget(manager: PersistentIbConnectionManager) -> None:
    """The next who asks for the application's connection gets a new one."""
    global _manager  # noqa: PLW0603  as above
    with _manager_lock:
        if _manager is manager:
            _manager = None


def routes(manager: PersistentIbConnectionManager) -> Mapping[tuple[str, str], Handler]:
    """The local API of the connection."""

    async def status(_query: Mapping[str, str]) -> Json:
        return to_json(manager.status())

    async def bars(query: Mapping[str, str]) -> bytes:
        start, end = span_from_query(query)
        request = BarsRequest(instrument_from_query(query), timeframe_from_query(query), start, end)
        patience_s = number_from_query(query, "patience_s")
        answer = await manager.bars(request, patience_s, priority_from_query(query))
        message = BarsMessage(
            BarColumns.of(answer.bars),
            answer.unsound,
            BarColumns.of(answer.beside),
            "bars" if answer.bars or answer.unsound else "no_data",
            manager.status().gateway,
            manager.at_once,
        )
        return to_text(message)

    async def head(query: Mapping[str, str]) -> Json:
        return {"head": await manager.head(instrument_from_query(query))}

    async def contract(query: Mapping[str, str]) -> Json:
        facts = await manager.contract(instrument_from_query(query))
        said = to_json(facts)
        del said["hours"]  # GET /sessions has them
        return said

    async def sessions(query: Mapping[str, str]) -> Json:
        start, end = span_from_query(query)
        instrument = instrument_from_query(query)
        schedule = await manager.sessions(instrument, start, end)
        facts = await manager.contract(instrument)
        return schedule_to_json(schedule) | {
            "last_trade_date": facts.last_trade_date,
            "con_id": facts.con_id,
            "exchange": facts.exchange,
            "currency": facts.currency,
            "local_symbol": facts.local_symbol,
            "name": facts.long_name,
        }

    async def history(query: Mapping[str, str]) -> Json:
        days = number_from_query(query, "days") or 1.0
        return to_json(await manager.history(min(days, KEPT_S / DAY_S)))

    async def clock(_query: Mapping[str, str]) -> Json:
        return {"clock_offset_s": await manager.clock()}

    async def checkup(_query: Mapping[str, str]) -> Json:
        return to_json(await manager.checkup())

    async def reconnect(_query: Mapping[str, str]) -> Json:
        manager.reconnect()
        return {"accepted": True}

    return {
        ("GET", "/status"): status,
        ("GET", "/bars"): bars,
        ("GET", "/head"): head,
        ("GET", "/contract"): contract,
        ("GET", "/sessions"): sessions,
        ("GET", "/history"): history,
        ("GET", "/clock"): clock,
        ("POST", "/checkup"): checkup,
        ("POST", "/reconnect"): reconnect,
    }


def serve(settings: Settings, stop: threading.Event) -> None:
    """The program: the connection and its local API, until it is told to stop.

    It ends with the error that ended the connection's life, so that it is started anew.
    """
    logging.getLogger(LIBRARY).setLevel(logging.CRITICAL)  # its errors are told by ours
    manager = get_connection_manager(settings, _history(settings))
    server = LocalServer(settings.connection_socket, routes(manager))
    try:
        manager.call(server.start(), _STOP_S)
        manager.when_broken(stop.set)
        stop.wait()
    finally:
        manager.call(server.stop(), _STOP_S)
        manager.stop()
    if manager.broken is not None:
        raise manager.broken


def _history(settings: Settings) -> ConnectionHistory | None:
    """Where the states are kept: with the store, unless that is another's or unreadable."""
    try:
        owner = source_of(settings.data_dir)
    except StoreUnwritable:  # whoever writes bars says so
        return None
    is_for_others = settings.is_simulated and settings.is_live_folder
    if is_for_others or owner not in (None, settings.source):
        return None
    return ConnectionHistory(settings.connection_history, time.time())


if __name__ == "__main__":
    run("ib-connection", serve)
