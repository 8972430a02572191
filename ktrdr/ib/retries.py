"""The wait for the next attempt: until it is due, or is likely to succeed earlier."""

from __future__ import annotations

import asyncio
import logging

from ktrdr.config.settings import Settings
from ktrdr.ib import port_probe
from ktrdr.ib.backoff import Backoff
from ktrdr.ib.port_state import PortState
from ktrdr.ib.states import Event, State
from ktrdr.ib.status_record import StatusRecord

log = logging.getLogger("ib-connection")

_MUTE_S = 30.0
"""The longest wait before a gateway is tried that last greeted, and answered nothing else."""
_STATE_AFTER = {
    Event.PORT_OPENED: PortState.GREETED,
    Event.PORT_CLOSED: PortState.CLOSED,
}


class Retries:
    """The waits between attempts, on one event loop."""

    def __init__(self, settings: Settings, status: StatusRecord, backoff: Backoff) -> None:
        self._settings = settings
        self._status = status
        self._backoff = backoff
        self._due_at = 0.0
        """When the next attempt is due, by the loop's clock."""
        self.port_before = PortState.GREETED
        """The state in which the last attempt, or the last wait, found the port."""
        self.reconnect_requested = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Retries {self._backoff!r}>"

    @property
    def left_s(self) -> float:
        """Seconds until the next attempt is due."""
        return self._due_at - asyncio.get_running_loop().time()

    def plan(self) -> None:
        """Set when the next attempt is due: by the backoff, at once after a working connection.

        A gateway that greets and then answers nothing shows nothing until it is tried.
        """
        delay_s = self._backoff.next_s()
        if self._status.state is State.DEAD and self.port_before is PortState.GREETED:
            delay_s = min(delay_s, _MUTE_S)
        self._due_at = asyncio.get_running_loop().time() + delay_s
        self._status.note_retry(delay_s)
        if delay_s:
            log.info("next attempt in %g s", delay_s)

    def begin_again(self) -> None:
        """A connection has lasted, though without data: the next one is not far, for that tests."""
        self._backoff.begin_again()

    async def wait(self) -> Event:
        """Wait; the event that ended the wait."""
        host, port = self._settings.gateway_host, self._settings.gateway_port
        left_s = self.left_s
        if left_s <= 0:
            return Event.RETRY_DUE
        turned = asyncio.ensure_future(self._turn_of_port(host, port))
        requested = asyncio.ensure_future(self.reconnect_requested.wait())
        try:
            await asyncio.wait(
                {turned, requested}, timeout=left_s, return_when=asyncio.FIRST_COMPLETED
            )
            if requested.done():
                return Event.RECONNECT
            if turned.done() and turned.exception() is None:
                event = turned.result()
                self.port_before = _STATE_AFTER[event]
                return event
            if turned.done():  # the port cannot be monitored: only the backoff counts
                log.warning("the port cannot be monitored: %s", turned.exception())
                await asyncio.wait({requested}, timeout=left_s)
                return Event.RECONNECT if requested.done() else Event.RETRY_DUE
        finally:
            turned.cancel()
            requested.cancel()
            await asyncio.gather(turned, requested, return_exceptions=True)
        return Event.RETRY_DUE

    async def _turn_of_port(self, host: str, port: int) -> Event:
        """Wait for a change of the port after which an attempt is likely to succeed; its event."""
        if self._status.state is not State.DEAD:
            await port_probe.opens(host, port, self.port_before)
            return Event.PORT_OPENED
        if self.port_before is PortState.GREETED:
            await port_probe.closes(host, port)
            return Event.PORT_CLOSED
        found = await port_probe.greets(host, port)
        return Event.PORT_OPENED if found is PortState.GREETED else Event.PORT_CLOSED
