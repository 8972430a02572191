"""The life of the one connection: attempts, heartbeat, notices, retries. Asks for nobody's bars.

What happens comes in as events, and the table in `states.py` says what follows.
Everything here runs on one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from ktrdr.config.settings import Settings
from ktrdr.errors import (
    CompetingSession,
    GatewayMute,
    IdInUse,
    KtrdrError,
    NotConnected,
    NotEntitled,
    RequestFailed,
    TimedOut,
)
from ktrdr.ib import port_probe
from ktrdr.ib.client import LIBRARY, IbClient
from ktrdr.ib.error_codes import is_english, says_no_farm
from ktrdr.ib.expected_outages import Absence
from ktrdr.ib.farms import HISTORY_OK, Farm, Farms
from ktrdr.ib.heartbeat import Pulse
from ktrdr.ib.history import ConnectionHistory
from ktrdr.ib.outage_log import Diary
from ktrdr.ib.outages import Downtime, Span
from ktrdr.ib.states import (
    LAST_ID,
    RETRYING,
    Action,
    Event,
    Retries,
    State,
    after,
    if_all_else_fails,
    next_client_id,
)
from ktrdr.ipc.messages import ConnectionStatus, FarmStatus, LastError
from ktrdr.market.instruments import Instrument, instrument_for

log = logging.getLogger("ib-connection")

_GREETING_S = 15.0
"""How long a gateway may take to greet and to answer first; a fresh one takes several seconds."""
_APART_S = 1.0
"""Attempts begin at least so far apart, whoever wishes for them."""
_LEAST_S = 1.0
"""To answer within, at the least: a machine that was asleep must not take others for dead."""
_DIARY_S = 60.0

_BELIEVED = 2
"""So many refusals for a broken farm in a row are believed without any notice of it."""
_KINDS = 4
"""So many kinds of contracts are asked for before all history is called broken."""
_SELDOM = 4
"""Heartbeats between two questions for history while its farm is broken: a minute by default."""

_NO_DATA = "the gateway tells the time, and answers no request for data"
_COMES_BACK = "it is being connected again"

_NEVER = datetime.min.replace(tzinfo=UTC)
_NO_CONNECTION = 502
"""The code of an error that says: nobody was reached."""
_UPSTREAM_LOST = (1100, 2110)
_UPSTREAM_BACK = (1101, 1102)
_ALWAYS_GOOD = instrument_for("EURUSD")
"""Every account may see it: asked for where nothing has been answered yet."""


class Link:
    """The connection as states: it connects by itself, notices its end, and comes back."""

    def __init__(
        self,
        settings: Settings,
        now: Callable[[], datetime],
        history: ConnectionHistory | None = None,
    ) -> None:
        self._settings = settings
        self._now = now
        self._diary = Diary(settings, now, history)
        self.state = State.DISCONNECTED
        self._client: IbClient | None = None
        self._client_id = settings.ib_client_id
        self._ids_in_use = 0
        self._retries = Retries(settings.ktrdr_ib_retry_delays_s)
        self._retry_at: float | None = None
        self._attempt_at = float("-inf")
        self._attempt_on = _NEVER
        """The same by the wall clock."""
        self._time_asked_at = float("-inf")
        """When the gateway was last asked for the time, by whichever connection."""
        self._port_was_closed = False
        self._connected_at: float | None = None
        self._pulse = Pulse(settings.ktrdr_ib_heartbeat_s, 0)
        self._watchers: set[asyncio.Task[None]] = set()
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._wish = asyncio.Event()
        self._changed = asyncio.Event()
        self.asked_again = asyncio.Event()
        """Set, and replaced, when what is being asked will not be answered, and should go again."""
        self.data_back = asyncio.Event()
        """Set, and replaced, when data can be had again, or a farm that they come from is back."""
        self._data_back_at: datetime | None = None
        self._no_data_since: datetime | None = None
        self._state_since = float("-inf")
        """By the loop's clock."""
        self._probe_wanted = asyncio.Event()
        self._of_each_kind: tuple[Instrument, ...] = ()
        """A contract of each kind whose history was wanted and answered; the newest first."""
        self._refusals = 0
        """For a broken farm, since history was answered last."""
        self._without: set[tuple[str, str]] = set()
        """The kinds for which a probe was refused so, since it was begun to look."""
        self._is_unproven = False
        """The last connection ended because no data came, and none have come since."""
        self._farms = Farms()
        self._farm_backs: deque[float] = deque(maxlen=100)
        """When farms that bars come from came back."""
        self._gateway_time: tuple[datetime, float] | None = None
        """What the gateway's clock showed, and when that was by the loop's."""
        self._trouble_until = float("-inf")
        self._known_good: tuple[Instrument, ...] = (_ALWAYS_GOOD,)
        self._taken_for: Instrument | None = None
        self.gateway_is_simulated = settings.is_simulated
        self._said = _initial_status(settings)

    def __repr__(self) -> str:
        return f"<Link {self.state} {self._said.host}:{self._said.port}>"

    # What others see.

    def status(self, loop_time: float) -> ConnectionStatus:
        """What is known now; asks nobody. From any thread."""
        away = self._absence()
        return replace(
            self._said,
            connected=self.is_connected(loop_time),
            state=self.state.value,
            gateway="simulated" if self.gateway_is_simulated else "live",
            expected=away.words if away else "",
            expected_kind=away.kind if away else "",
            reminder=self._diary.reminder(),
            clock_offset_s=self._clock_offset_s(loop_time),
            no_data_since=self._no_data_since,
            data_back_at=self._data_back_at,
            farms=tuple(
                FarmStatus(
                    farm.name,
                    farm.serves,
                    farm.is_up,
                    datetime.fromtimestamp(farm.since, UTC),
                    farm.breaks,
                    farm.last_break_s,
                )
                for farm in self._farms.all
            ),
        )

    def is_connected(self, loop_time: float) -> bool:
        """Real requests are answered, data too as far as anybody waits for them."""
        return self.state.has_data and self._pulse.is_fresh(loop_time)

    @property
    def client(self) -> IbClient | None:
        """The greeted client, whatever IB says of its data; None: there is none."""
        return self._client if self.state.is_linked else None

    def known_good(self, other_than: Instrument | None = None) -> Instrument | None:
        """A contract whose data were answered lately; EURUSD, which everybody may see, for none.

        None: there is no other one than that.
        """
        good = (one for one in (*self._known_good, _ALWAYS_GOOD) if one != other_than)
        return next(good, None)

    def client_now(self) -> IbClient:
        """The client while bars can be had. Otherwise the error says why not."""
        if self.state.has_data and self._client is not None:
            return self._client
        last = self._said.last_error
        kind = CompetingSession if self.state is State.COMPETING_SESSION else NotConnected
        raise kind(
            f"no data from IB ({self.state})" + (f": {last.message}" if last else ""),
            code=last.code if last else None,
            hint=last.hint if last else "",
        )

    async def client_by(self, deadline: float, *, is_patient: bool) -> IbClient:
        """The client as soon as bars can be had, until that time of the loop.

        Without patience only an attempt that is under way is waited for. The error is that of
        `client_now`.
        """
        loop = asyncio.get_running_loop()
        while not self.state.has_data:
            if self.state is State.COMPETING_SESSION:
                break
            if not is_patient and not self._is_trying(loop.time()):
                break
            left_s = deadline - loop.time()
            if left_s <= 0:
                break
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), left_s)
        return self.client_now()

    def _is_trying(self, loop_time: float) -> bool:
        """An attempt is under way, or is due now."""
        if self.state in RETRYING:
            return self._retry_at is not None and self._retry_at <= loop_time
        return self.state in (State.DISCONNECTED, State.CONNECTING)

    def was_troubled_since(self, loop_time: float) -> bool:
        """IB's servers or farms were away at some time after that, so that failures mean little."""
        return (
            self._trouble_until >= loop_time
            or self.farm_back_after(loop_time) is not None
            or self._is_data_farm_broken
            or not self.state.has_data
        )

    def farm_back_after(self, loop_time: float) -> float | None:
        """When, after that time, a farm that bars come from came back first; None: none did."""
        return next((back for back in self._farm_backs if back >= loop_time), None)

    @property
    def _is_data_farm_broken(self) -> bool:
        """One that bars or contracts come from; streaming quotes are nothing to us."""
        return any(farm.serves != "market data" for farm in self._farms.broken)

    @contextlib.contextmanager
    def waiting_for_data(self) -> Iterator[None]:
        """Somebody waits for an answer about data while the block lasts."""
        pulse = self._pulse
        pulse.data_asked(asyncio.get_running_loop().time())
        try:
            yield
        finally:
            pulse.data_ended()

    def note_data(self, instrument: Instrument, asked_at: float, *, is_history: bool) -> None:
        """Data of this contract, asked for at that time of the loop, were answered."""
        others = [one for one in self._known_good if one != instrument]
        self._known_good = (instrument, *others[:1])
        self._answered(is_data=True)
        if is_history:
            others = [one for one in self._of_each_kind if _kind(one) != _kind(instrument)]
            self._of_each_kind = (instrument, *others[: _KINDS - 1])
            self._note_history(instrument, asked_at)

    def note_refused(self, instrument: Instrument) -> None:
        """IB refuses this contract's data: it shows nothing of whether data can be had."""
        good = tuple(one for one in self._known_good if one != instrument)
        self._known_good = good or (_ALWAYS_GOOD,)
        self._of_each_kind = tuple(one for one in self._of_each_kind if one != instrument)

    def note_no_farm(self, instrument: Instrument) -> None:
        """The history of this contract was refused for a broken farm; perhaps all of it is."""
        self._refusals += 1
        self._farms.refused(instrument.symbol, self._now().timestamp())
        self._probe_wanted.set()

    def note_refused_session(self, instrument: Instrument, error: CompetingSession) -> None:
        """IB gives this contract's data to another session of the same user."""
        self._answered(is_data=True)
        if self.state.is_linked:
            self._taken_for = instrument
            self._note_error(error)
            self._events.put_nowait(Event.SESSION_TAKEN)

    def reconnect(self) -> None:
        """Close the connection, or cut a wait short, and connect now."""
        if self.state.is_linked:
            self._events.put_nowait(Event.RECONNECT)
        self._wish.set()

    def downtimes(self, spans: Sequence[Span]) -> list[Downtime]:
        """The times without data in these states of the connection."""
        return self._diary.downtimes(spans)

    # Its life.

    async def live(self) -> None:
        """Connect, watch, and come back, for ever."""
        await self._diary.open()
        diary = asyncio.create_task(self._keep_diary())
        try:
            self._apply(Event.START)
            while True:
                try:
                    event = await self._next_event()
                except Exception:  # it goes on, whatever a library does
                    log.exception("unexpected error while %s", self.state)
                    event = await self._next_event_anyway()
                self._apply(event)
        finally:
            diary.cancel()

    async def stop(self) -> None:
        """Close the connection, after `live` was cancelled."""
        self._apply(Event.STOP)
        self._apply(Event.STOPPED)
        await self._diary.close()

    async def _next_event(self) -> Event:
        if self.state is State.CONNECTING:
            return await self._attempt()
        if self.state in RETRYING:
            return await self._wait()
        return await self._events.get()

    async def _next_event_anyway(self) -> Event:
        """What follows an unexpected error: a wait goes on by the ladder, all else fails."""
        if self.state in RETRYING:
            await asyncio.sleep((self._retry_at or 0) - asyncio.get_running_loop().time())
        return if_all_else_fails(self.state)

    def _apply(self, event: Event) -> None:
        """Take an event: the table says the next state and what to do on the way."""
        before = self.state
        self.state, actions = after(before, event)
        for action in actions:
            self._do(action)
        if self.state is not before:
            self._state_since = asyncio.get_running_loop().time()
            log.info("%s -> %s (%s)", before, self.state, event.name.lower())
            self._note_change(before)
            self._write_down(event)
        self._changed.set()
        self._changed = asyncio.Event()

    def _do(self, action: Action) -> None:
        match action:
            case Action.CLOSE:
                self._close()
            case Action.NEXT_ID:
                self._client_id = next_client_id(self._client_id, self._settings.ib_client_id)
            case Action.PLAN_RETRY:
                self._plan_retry()
            case Action.REPEAT_REQUESTS:
                self._ask_again()
            case Action.RECHECK_FARMS:
                if self._farms.broken:
                    self._events.put_nowait(Event.FARM_BROKEN)

    def _note_change(self, before: State) -> None:
        """Since when there are data, or none."""
        if not self.state.has_data:
            if before.has_data or self._no_data_since is None:
                self._no_data_since = self._now()
        elif not before.has_data:
            self._no_data_since = None
            self._note_data_back()
        if self.state is State.CONNECTED and not self._farms.broken:
            self._forget_error(before)

    def _forget_error(self, before: State) -> None:
        """It is over; what the gateway said in its greeting is not."""
        error = self._said.last_error
        is_new = before is State.CONNECTING and error and (error.time or _NEVER) >= self._attempt_on
        if not is_new:
            self._said = replace(self._said, last_error=None)

    def _note_data_back(self) -> None:
        """Who waits for data may ask for them now."""
        self._data_back_at = self._now()
        self.data_back.set()
        self.data_back = asyncio.Event()

    def _close(self) -> None:
        for watcher in self._watchers:
            watcher.cancel()
        self._watchers = set()
        self._farms.forget(self._now().timestamp())
        if self._client is not None:
            self._time_asked_at = self._client.time_asked_at
            self._client.close()
            self._client = None
        if self._connected_at is not None:
            self._diary.lost_at = lost = self._now()
            self._said = replace(self._said, last_disconnect_time=lost)
            self._connected_at = None

    # Attempts.

    async def _attempt(self) -> Event:
        """One attempt: greeting and first answered request."""
        loop = asyncio.get_running_loop()
        if not self._ids_in_use:
            await asyncio.sleep(self._attempt_at + _APART_S - loop.time())
        self._attempt_at, self._attempt_on = loop.time(), self._now()
        self._wish.clear()
        self._said = replace(
            self._said,
            connection_attempts=self._said.connection_attempts + 1,
            next_retry_time=None,
            foreign_text="",
            client_id=self._client_id,
        )
        events: asyncio.Queue[Event] = asyncio.Queue()
        self._events = events
        client = self._client = IbClient(
            lambda code, text: self._on_notice(events, code, text), self._time_asked_at
        )
        patience_s = min(_GREETING_S, 2 * self._settings.ktrdr_ib_heartbeat_s)
        host, port = self._settings.gateway_host, self._settings.gateway_port
        try:
            await client.connect(host, port, self._client_id, patience_s)
            left_s = self._attempt_at + patience_s - loop.time()
            answered = await client.current_time(max(left_s, _LEAST_S))
        except IdInUse as error:
            return self._id_in_use(error)
        except (GatewayMute, TimedOut) as error:
            failed = self._failed(error)
            return failed if failed is Event.LOGIN_NEEDED else Event.MUTE
        except KtrdrError as error:
            self._port_was_closed = error.code == _NO_CONNECTION
            return self._failed(error)
        self._ids_in_use = 0
        self._connected(client, answered)
        return Event.UNPROVEN if self._is_unproven else Event.ANSWERED

    def _id_in_use(self, error: IdInUse) -> Event:
        """The next id at once; after all of them the ladder, since none is free."""
        self._ids_in_use += 1
        first = self._settings.ib_client_id
        if self._ids_in_use <= LAST_ID - first:
            log.info("client id %d is in use, trying the next", self._client_id)
            return Event.ID_IN_USE
        self._port_was_closed = False
        return self._failed(
            NotConnected(
                f"all client ids from {first} to {LAST_ID} are in use",
                code=error.code,
                hint="close other API programs, or restart the gateway",
            )
        )

    def _failed(self, error: KtrdrError) -> Event:
        self._ids_in_use = 0
        self._said = replace(self._said, failed_attempts=self._said.failed_attempts + 1)
        away = self._absence()
        if away is not None and away.kind == "log_out":
            hint = "log in to the gateway, with the second factor"
            said = f"{away.words} ({error.message})"
            error = NotConnected(said, code=error.code, hint=hint)
        self._note_error(error, is_expected=away is not None)
        return Event.LOGIN_NEEDED if away and away.kind == "log_out" else Event.FAILED

    def _connected(self, client: IbClient, answered: datetime) -> None:
        loop_time = asyncio.get_running_loop().time()
        self._connected_at = loop_time
        self._pulse = Pulse(self._settings.ktrdr_ib_heartbeat_s, loop_time)
        self._note_clock(answered)
        self._answered(is_data=False)
        self._diary.lost_at = self._taken_for = None
        self._refusals = 0
        self.gateway_is_simulated = self._settings.is_simulated or client.is_simulated
        self._diary.is_live = not self.gateway_is_simulated
        self._said = replace(
            self._said,
            last_connect_time=self._now(),
            server_version=client.server_version,
        )
        for work in (self._watch_socket, self._beat, self._beat_for_data):
            self._watch(client, work(client))

    def _plan_retry(self) -> None:
        """When the next attempt is due: by the ladder, at once after a connection that was good."""
        delay_s = self._retries.next_s()
        self._retry_at = asyncio.get_running_loop().time() + delay_s
        due = self._now() + timedelta(seconds=delay_s)
        self._said = replace(self._said, next_retry_time=due)
        if delay_s:
            log.info("next attempt in %g s", delay_s)

    async def _wait(self) -> Event:
        """Until the next attempt is due, or something promises that it will succeed."""
        loop = asyncio.get_running_loop()
        host, port = self._settings.gateway_host, self._settings.gateway_port
        left_s = (self._retry_at or 0) - loop.time()
        if left_s <= 0:
            return Event.RETRY_DUE
        if self.state is State.DEAD:
            turn, event = port_probe.closes(host, port), Event.PORT_CLOSED
        else:
            turn = port_probe.opens(host, port, was_closed=self._port_was_closed)
            event = Event.PORT_OPENED
        turned, wished = asyncio.ensure_future(turn), asyncio.ensure_future(self._wish.wait())
        try:
            await asyncio.wait(
                {turned, wished}, timeout=left_s, return_when=asyncio.FIRST_COMPLETED
            )
            if wished.done():
                return Event.RECONNECT
            if turned.done() and turned.exception() is None:
                self._port_was_closed = False
                return event
            if turned.done():  # nothing is to be seen there: the ladder alone
                log.warning("the port cannot be watched: %s", turned.exception())
                await asyncio.wait({wished}, timeout=left_s)
                return Event.RECONNECT if wished.done() else Event.RETRY_DUE
        finally:
            turned.cancel()
            wished.cancel()
            await asyncio.gather(turned, wished, return_exceptions=True)
        return Event.RETRY_DUE

    # While it is connected.

    def _watch(self, client: IbClient, work: Coroutine[Any, Any, Event]) -> None:
        """Let a watcher of this connection run; what it returns is an event."""
        events = self._events

        async def run() -> None:
            try:
                event = await work
            except NotConnected:
                if client.closed.is_set():
                    return  # whoever watches the socket says so
                log.exception("no connection, while there is one")
                event = Event.LOST
            except Exception:  # a watcher that breaks must not leave a connection unwatched
                log.exception("unexpected error while %s", self.state)
                event = Event.LOST
            events.put_nowait(event)

        self._watchers.add(asyncio.create_task(run()))

    async def _watch_socket(self, client: IbClient) -> Event:
        await client.closed.wait()
        is_expected = self._diary.absence_since(self._now()) is not None
        self._note_error(client.why_closed, hint=_COMES_BACK, is_expected=is_expected)
        return Event.LOST

    async def _beat(self, client: IbClient) -> Event:
        """Ask for the time when nothing was answered lately; dead after two heartbeats without."""
        loop = asyncio.get_running_loop()
        while True:
            if (left_s := self._pulse.ask_at - loop.time()) > 0:
                await asyncio.sleep(left_s)
                continue
            try:
                left_s = self._pulse.dead_at - loop.time()
                self._note_clock(await client.current_time(max(left_s, _LEAST_S)))
            except TimedOut:
                if (now := loop.time()) >= self._pulse.dead_at:
                    silent_s = now - self._pulse.answered_at
                    return self._silent(f"the gateway has answered nothing for {silent_s:.0f} s")
            else:
                self._answered(is_data=False)

    async def _beat_for_data(self, client: IbClient) -> Event:
        """Ask for a bar at once, and when others wait for data in vain while the time is told."""
        patience_s = 2 * self._settings.ktrdr_ib_heartbeat_s
        if await self._is_mute(client, 2 * patience_s):  # a fresh gateway calls its farms first
            return self._silent(_NO_DATA)
        while True:
            await self._probe_is_due()
            # A farm that is broken may make all of them slow.
            if await self._is_mute(client, patience_s * (4 if self._is_data_farm_broken else 1)):
                return self._silent(_NO_DATA)

    async def _probe_is_due(self) -> None:
        """Until somebody waits in vain, data may have come back, or somebody has a doubt."""
        loop = asyncio.get_running_loop()
        heartbeat_s = self._settings.ktrdr_ib_heartbeat_s
        while not await self._is_probe_wanted(0):
            if self.state is State.HISTORY_DOWN:
                since_s = loop.time() - self._state_since
                wait_s = min(max(heartbeat_s, since_s), _SELDOM * heartbeat_s)
                await self._is_probe_wanted(wait_s)
                return
            if not self.state.has_data:  # look now and then whether data come again
                await self._is_probe_wanted(2 * heartbeat_s)
                return
            due = self._pulse.probe_at
            wait_s = heartbeat_s / 2 if due is None else due - loop.time()
            if wait_s <= 0 or await self._is_probe_wanted(min(wait_s, heartbeat_s / 2)):
                return

    async def _is_probe_wanted(self, within_s: float) -> bool:
        """Whether somebody wants to know now, or begins to within that time."""
        if not self._probe_wanted.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._probe_wanted.wait(), within_s)
        was_wanted = self._probe_wanted.is_set()
        self._probe_wanted.clear()
        return was_wanted

    async def _is_mute(self, client: IbClient, patience_s: float) -> bool:
        """Whether a small question for data stays unanswered, and no trouble of IB's excuses it."""
        asked_at = asyncio.get_running_loop().time()
        probe = asyncio.ensure_future(self._probe(client, patience_s))
        again = asyncio.ensure_future(self.asked_again.wait())
        try:
            await asyncio.wait({probe, again}, return_when=asyncio.FIRST_COMPLETED)
            is_answered = probe.done() and probe.result()
        finally:
            probe.cancel()
            again.cancel()
            await asyncio.gather(probe, again, return_exceptions=True)
        is_lost = self.state in (State.UPSTREAM_LOST, State.COMPETING_SESSION)
        was_lost = is_lost or self._trouble_until >= asked_at
        return not is_answered and not was_lost

    async def _probe(self, client: IbClient, patience_s: float) -> bool:
        """Ask for one small answer; whether it came. What it says may be an event."""
        instrument = self._taken_for or self._to_probe()
        asked_at = asyncio.get_running_loop().time()
        try:
            with self.waiting_for_data():
                await client.probe(instrument, patience_s)
        except NotConnected:
            raise
        except TimedOut:
            return False
        except CompetingSession as error:
            self.note_refused_session(instrument, error)
            return True
        except NotEntitled as error:
            log.info("the probe was answered: %s", error)
        except KtrdrError as error:  # it lives; whether data can be had this does not say
            log.info("the probe was answered: %s", error)
            if says_no_farm(error):
                self._note_no_history(instrument, error)
            else:
                self._answered(is_data=True)
            return True
        self._answered(is_data=True)
        self._note_history(instrument, asked_at)
        if asked_at < self._state_since:
            return True  # what was asked before says nothing of how it is now
        if self.state is State.UPSTREAM_LOST:
            self._events.put_nowait(Event.UPSTREAM_BACK)
        elif self.state is State.COMPETING_SESSION:
            self._taken_for = None
            self._events.put_nowait(Event.SESSION_BACK)
        return True

    def _to_probe(self) -> Instrument:
        """A contract that is known to be good; of a kind that was not just refused, if any."""
        left = (one for one in self._of_each_kind if _kind(one) not in self._without)
        return next(left, self._known_good[0])

    def _note_no_history(self, instrument: Instrument, error: KtrdrError) -> None:
        """The probe was refused for a broken farm. There may be others, for other kinds.

        Without a notice of IB's one refusal proves nothing.
        """
        self._pulse.data_answered(asyncio.get_running_loop().time())
        self._refusals += 1
        self._farms.refused(instrument.symbol, self._now().timestamp())
        names = " ".join(self._farms.broken_history)
        self._without.add(_kind(instrument))
        is_left = any(_kind(one) not in self._without for one in self._of_each_kind)
        if is_left or (not names and self._refusals < _BELIEVED):
            self._probe_wanted.set()
            return
        self._without = set()
        if self.state.has_data:
            farm = f"IB's history farm {names}".strip()
            said = error.message.rpartition("message:")[2].split(".")[0]
            told = RequestFailed(f"{farm} is broken: {said}", code=error.code)
            self._note_error(told, hint=error.hint)
            self._events.put_nowait(Event.HISTORY_LOST)

    def _note_history(self, instrument: Instrument, asked_at: float) -> None:
        """History of this contract was answered."""
        self._refusals = 0
        self._without = set()
        self._is_unproven = False
        if self._farms.answered(instrument.symbol, self._now().timestamp()):
            self._note_farm_back()
        if self.state is State.HISTORY_DOWN and asked_at >= self._state_since:
            self._events.put_nowait(Event.HISTORY_BACK)

    def _note_farm_back(self) -> None:
        """One that data come from is back, by a notice or because it answers."""
        self._farm_backs.append(asyncio.get_running_loop().time())
        self._note_data_back()
        if not self._farms.broken:
            self._events.put_nowait(Event.FARM_BACK)

    def _silent(self, why: str) -> Event:
        self._is_unproven = self._is_unproven or why == _NO_DATA
        self._note_error(NotConnected(why, hint=_COMES_BACK))
        return Event.SILENT

    def _answered(self, *, is_data: bool) -> None:
        """The gateway has answered something."""
        loop_time = asyncio.get_running_loop().time()
        if is_data:
            self._pulse.data_answered(loop_time)
        else:
            self._pulse.answered(loop_time)
        if is_data:  # the gateway tells the time by itself, which proves nothing of data
            self._retries.prove()
        self._said = replace(
            self._said,
            last_answer_time=self._now(),
            requests_answered=self._said.requests_answered + 1,
        )

    def _note_clock(self, answered: datetime) -> None:
        self._gateway_time = (answered, asyncio.get_running_loop().time())

    def _clock_offset_s(self, loop_time: float) -> float | None:
        """The gateway's clock minus this machine's, which may have been set since it was asked."""
        if self._gateway_time is None or loop_time == float("inf"):
            return None
        answered, at = self._gateway_time
        offset_s = (answered - self._now()).total_seconds() + loop_time - at
        return round(offset_s, 1)

    async def measure_clock(self, timeout_s: float) -> None:
        """Ask the gateway for the time. NotConnected, TimedOut."""
        self._note_clock(await self.client_now().current_time(timeout_s))

    def _on_notice(self, events: asyncio.Queue[Event], code: int, text: str) -> None:
        """What the gateway says unasked, also while it is still greeting."""
        now = self._now().timestamp()
        if not is_english(text):
            self._said = replace(self._said, foreign_text=text)
        if code in _UPSTREAM_LOST:
            hint = "the gateway is waiting for IB's servers"
            self._note_error(NotConnected(text, code=code, hint=hint))
            events.put_nowait(Event.UPSTREAM_LOST)
        elif code in _UPSTREAM_BACK:
            log.info("IB %d: %s", code, text)
            has_history = self._farms.restored(text, now)
            events.put_nowait(Event.UPSTREAM_BACK)
            if not self._farms.broken:
                events.put_nowait(Event.FARM_BACK)
            self._hear_of_history(events, is_named=has_history)
        elif farm := self._farms.take(code, text, now):
            self._on_farm(events, farm, code, text)
        elif 1000 <= code < 2200:
            log.info("IB %d: %s", code, text)
        if code in HISTORY_OK:
            self._hear_of_history(events, is_named=True)

    def _on_farm(self, events: asyncio.Queue[Event], farm: Farm, code: int, text: str) -> None:
        """A farm has broken or come back."""
        if not farm.is_up:
            hint = "IB brings its farms back by itself"
            self._note_error(RequestFailed(text, code=code, hint=hint))
            events.put_nowait(Event.FARM_BROKEN)
            if farm.serves == "history":
                self._probe_wanted.set()
            return
        log.info("IB %d: %s, after %.0f s", code, text, farm.last_break_s or 0)
        if farm.serves != "market data":
            self._note_farm_back()
        elif not self._farms.broken:
            events.put_nowait(Event.FARM_BACK)

    def _hear_of_history(self, events: asyncio.Queue[Event], *, is_named: bool) -> None:
        """The farm of history may be back; where it is named as such, it is until it refuses.

        After a connection over which no data came, only data are believed.
        """
        if self._refusals or self.state is State.HISTORY_DOWN:
            self._probe_wanted.set()
        if is_named and not self._is_unproven:
            self._refusals = 0
            events.put_nowait(Event.HISTORY_BACK)

    def _ask_again(self) -> None:
        """What hangs since the trouble began is asked again by whoever waits for it."""
        self._trouble_until = asyncio.get_running_loop().time()
        self.asked_again.set()
        self.asked_again = asyncio.Event()

    def _note_error(self, error: KtrdrError, *, hint: str = "", is_expected: bool = False) -> None:
        said = LastError(error.code, error.message, error.hint or hint, self._now())
        self._said = replace(self._said, last_error=said)
        level = logging.INFO if is_expected else logging.WARNING
        log.log(level, "%s%s", error, f" ({said.hint})" if said.hint else "")

    def _absence(self) -> Absence | None:
        return None if self.state.is_linked else self._diary.absence()

    def _write_down(self, event: Event) -> None:
        why = ""
        if not self.state.has_data and self._said.last_error:
            why = self._said.last_error.message
        self._diary.write(self.state.value, why or event.name.lower())

    async def _keep_diary(self) -> None:
        while True:
            await asyncio.sleep(_DIARY_S)
            await self._diary.keep()


def _kind(instrument: Instrument) -> tuple[str, str]:
    """Contracts that one farm serves have this in common, as far as anybody knows."""
    return instrument.sec_type, instrument.currency


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
        library=LIBRARY,
    )
