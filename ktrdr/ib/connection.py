"""The one connection to IB as a state machine: events come in, and a table has the transitions.

The table is in `states.py`; the files next to it each do one part of the work. Requests no bars
for others. Everything here runs on one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from datetime import datetime

from ktrdr.config.settings import Settings
from ktrdr.errors import CompetingSession, NotConnected
from ktrdr.ib.attached_client import AttachedClient
from ktrdr.ib.attempts import Attempts
from ktrdr.ib.availability import Availability
from ktrdr.ib.backoff import Backoff
from ktrdr.ib.client import IbClient
from ktrdr.ib.data_evidence import DataEvidence
from ktrdr.ib.history import ConnectionHistory
from ktrdr.ib.liveness import Liveness
from ktrdr.ib.outage_log import OutageLog
from ktrdr.ib.probing import Prober
from ktrdr.ib.request_gate import RequestGate
from ktrdr.ib.retries import Retries
from ktrdr.ib.signals import Signal
from ktrdr.ib.states import RETRYING, Action, Event, State, after, if_all_else_fails
from ktrdr.ib.status_record import StatusRecord
from ktrdr.ipc.messages import ConnectionStatus, Outage, StateSpan

log = logging.getLogger("ib-connection")

_NO_DATA = "the gateway gives the time, but answers no request for data"
_COMES_BACK = "it is being connected again"
_GATE_HEARTBEATS = 4
"""Heartbeats between two requests of a kind whose farm is broken: a minute by default."""


class Connection:
    """The connection: it connects by itself, detects its loss, and reconnects."""

    def __init__(
        self,
        settings: Settings,
        now: Callable[[], datetime],
        history: ConnectionHistory | None = None,
    ) -> None:
        heartbeat_s = settings.ktrdr_ib_heartbeat_s
        backoff = Backoff(settings.ktrdr_ib_retry_delays_s)
        self._is_simulated = settings.is_simulated
        self._now = now
        self._status = StatusRecord(settings, now)
        self._outages = OutageLog(settings, now, history, self._status.note_expectation)
        self._retries = Retries(settings, self._status, backoff)
        self._attempts = Attempts(settings, now, self._status, self._retries)
        self.liveness = Liveness(heartbeat_s, self._status, backoff)
        self.availability = Availability()
        self.evidence = DataEvidence(
            now,
            self._status,
            self.liveness,
            self.availability,
            self._emit,
            RequestGate(_GATE_HEARTBEATS * heartbeat_s),
        )
        self._prober = Prober(
            heartbeat_s, self._status, self.liveness, self.availability, self.evidence
        )
        self._attached: AttachedClient | None = None
        self._event_taken = Signal()

    def __repr__(self) -> str:
        noted = self._status.snapshot.noted
        return f"<Connection {self.state} {noted.host}:{noted.port}>"

    # Any thread.

    @property
    def state(self) -> State:
        """The state of the connection."""
        return self._status.state

    def status(self, loop_time: float) -> ConnectionStatus:
        """The status known now; sends no request."""
        return self._status.snapshot.status(self._now(), loop_time)

    def is_connected(self, loop_time: float) -> bool:
        """Whether requests are answered, including those for data if any are waiting."""
        return self._status.snapshot.is_connected(loop_time)

    # For other components, on the loop.

    @property
    def client(self) -> IbClient | None:
        """The connected client, with or without data from IB; None: there is none."""
        return self._attached.client if self._attached and self.state.is_linked else None

    def client_now(self) -> IbClient:
        """The client while data are available; otherwise raises an error with the reason."""
        if self.state.has_data and self._attached is not None:
            return self._attached.client
        last = self._status.snapshot.noted.last_error
        kind = CompetingSession if self.state is State.COMPETING_SESSION else NotConnected
        raise kind(
            f"no data from IB ({self.state})" + (f": {last.message}" if last else ""),
            code=last.code if last else None,
            hint=last.hint if last else "",
        )

    async def client_by(self, deadline: float, *, is_patient: bool) -> IbClient:
        """The client as soon as data are available; waits until `deadline` (loop clock) at most.

        Unless `is_patient`, it waits only while an attempt is in progress or due. Raises as
        `client_now` does.
        """
        loop = asyncio.get_running_loop()
        while not self.state.has_data:
            if self.state is State.COMPETING_SESSION:
                break
            if not is_patient and not self._is_trying():
                break
            left_s = deadline - loop.time()
            if left_s <= 0:
                break
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._event_taken.wait(), left_s)
        return self.client_now()

    def _is_trying(self) -> bool:
        """Whether an attempt is in progress or due now."""
        if self.state in RETRYING:
            return self._retries.left_s <= 0
        return self.state in (State.DISCONNECTED, State.CONNECTING)

    def reconnect(self) -> None:
        """Close the connection, or end the wait for the next attempt, and connect now."""
        if self.state.is_linked:
            self._emit(Event.RECONNECT)
        self._retries.reconnect_requested.set()

    async def measure_clock(self, timeout_s: float) -> None:
        """Request the gateway's time. NotConnected, TimedOut."""
        await self.liveness.measure_clock(self.client_now(), timeout_s)

    def outages(self, spans: Sequence[StateSpan]) -> list[Outage]:
        """The times without data in these past states of the connection."""
        return self._outages.outages(spans)

    # Its main loop.

    async def live(self) -> None:
        """Connect, monitor, and reconnect, for ever."""
        await self._outages.open()
        keeping = asyncio.create_task(self._outages.keep())
        try:
            self._apply(Event.START)
            while True:
                try:
                    event = await self._next_event()
                except Exception:  # keep running, whatever a library raises
                    log.exception("unexpected error while %s", self.state)
                    event = await self._next_event_anyway()
                self._apply(event)
        finally:
            keeping.cancel()

    async def stop(self) -> None:
        """Close the connection, after `live` was cancelled."""
        self._apply(Event.STOP)
        self._apply(Event.STOPPED)
        await self._outages.close()

    async def _next_event(self) -> Event:
        if self.state in RETRYING:
            return await self._retries.wait()
        if self._attached is None:  # true only while connecting
            return await self._attempt()
        return await self._attached.events.get()

    async def _next_event_anyway(self) -> Event:
        """The event after an unexpected error: a wait goes on; any other state fails."""
        if self.state in RETRYING:
            await asyncio.sleep(self._retries.left_s)
        return if_all_else_fails(self.state)

    def _emit(self, event: Event) -> None:
        """Queue an event of the current connection, if there is one."""
        if self._attached is not None:
            self._attached.events.put_nowait(event)

    def _apply(self, event: Event) -> None:
        """Handle an event: the table has the next state and the actions."""
        before = self.state
        state, actions = after(before, event)
        if state is not before:
            self._status.note_state(state, asyncio.get_running_loop().time())
        for action in actions:
            self._do(action)
        if state is not before:
            log.info("%s -> %s (%s)", before, state, event.name.lower())
            self._note_change(before, event)
        self._event_taken.send()

    def _do(self, action: Action) -> None:
        match action:
            case Action.CLOSE:
                self._close()
            case Action.NEXT_ID:
                self._attempts.client_ids.advance()
            case Action.PLAN_RETRY:
                self._retries.plan()
            case Action.REPEAT_REQUESTS:
                self.availability.repeat_requests(asyncio.get_running_loop().time())
            case Action.RECHECK_FARMS:
                if self.evidence.is_farm_broken:
                    self._emit(Event.FARM_BROKEN)

    def _note_change(self, before: State, event: Event) -> None:
        """The state has changed: notify those who wait for data, and record the state."""
        if self.state.has_data and not before.has_data:
            self.evidence.note_data_back()
        if self.state is State.CONNECTED and not self.evidence.is_farm_broken:
            self._status.forget_error(but_of_attempt=before is State.CONNECTING)
        last = self._status.snapshot.noted.last_error
        why = last.message if last and not self.state.has_data else ""
        self._outages.write(self.state.value, why or event.name.lower())

    def _close(self) -> None:
        self.evidence.end()
        attached, self._attached = self._attached, None
        if attached is None:
            return
        attached.close()
        self._attempts.time_requested_at = attached.client.time_requested_at
        if attached.was_connected:
            lost_at = self._now()
            self._outages.lost(lost_at)
            self._status.note_disconnected(lost_at)

    # One connection.

    async def _attempt(self) -> Event:
        """One attempt: handshake and first answered request."""
        await self._attempts.begin()
        attached = AttachedClient(self.evidence.note_notice, self._attempts.time_requested_at)
        self._attached = attached
        found = await self._attempts.greet(attached.client)
        if isinstance(found, Event):
            return found
        self._connected(attached, found)
        return Event.UNPROVEN if self.evidence.is_unproven else Event.ANSWERED

    def _connected(self, attached: AttachedClient, gateway_time: datetime) -> None:
        client = attached.client
        is_simulated = self._is_simulated or client.is_simulated
        attached.was_connected = True
        self.liveness.begin(gateway_time)
        self.evidence.begin()
        self._outages.connected(is_live=not is_simulated)
        self._status.note_connected(client.server_version, is_simulated=is_simulated)
        for watcher in (self._watch_socket, self._watch_time, self._watch_data):
            attached.watch(watcher(client))

    async def _watch_socket(self, client: IbClient) -> Event:
        await client.closed.wait()
        now = self._now()
        is_expected = self._status.snapshot.expectation.absence_since(now, now) is not None
        self._status.note_error(client.why_closed, hint=_COMES_BACK, is_expected=is_expected)
        return Event.LOST

    async def _watch_time(self, client: IbClient) -> Event:
        return self._silent(await self.liveness.silence(client))

    async def _watch_data(self, client: IbClient) -> Event:
        await self._prober.probe_until_silent(client)
        self.evidence.end_unproven()
        self._retries.begin_again()
        return self._silent(_NO_DATA)

    def _silent(self, why: str) -> Event:
        self._status.note_error(NotConnected(why, hint=_COMES_BACK))
        return Event.SILENT
