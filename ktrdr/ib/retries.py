"""The wait for the next attempt: until it is due, or something promises that it will succeed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from ktrdr.config.settings import Settings
from ktrdr.ib import port_probe
from ktrdr.ib.backoff import Backoff
from ktrdr.ib.states import Event, State
from ktrdr.ib.status_record import StatusRecord

log = logging.getLogger("ib-connection")


class Retries:
    """Waits on one event loop."""

    def __init__(self, settings: Settings, status: StatusRecord, backoff: Backoff) -> None:
        self._settings = settings
        self._status = status
        self._backoff = backoff
        self._due_at = 0.0
        """By the loop's clock."""
        self.was_port_closed = False
        """Nobody could be reached there in the last attempt."""
        self.reconnect_requested = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Retries {self._backoff!r}>"

    @property
    def left_s(self) -> float:
        """Until the next attempt is due."""
        return self._due_at - asyncio.get_running_loop().time()

    def plan(self) -> None:
        """When the next attempt is due: by the backoff, at once after a good connection."""
        delay_s = self._backoff.next_s()
        self._due_at = asyncio.get_running_loop().time() + delay_s
        self._status.note_retry(delay_s)
        if delay_s:
            log.info("next attempt in %g s", delay_s)

    async def wait(self) -> Event:
        """What ends the wait."""
        host, port = self._settings.gateway_host, self._settings.gateway_port
        left_s = self.left_s
        if left_s <= 0:
            return Event.RETRY_DUE
        turn, event = self._turn_of_port(host, port)
        turned = asyncio.ensure_future(turn)
        requested = asyncio.ensure_future(self.reconnect_requested.wait())
        try:
            await asyncio.wait(
                {turned, requested}, timeout=left_s, return_when=asyncio.FIRST_COMPLETED
            )
            if requested.done():
                return Event.RECONNECT
            if turned.done() and turned.exception() is None:
                self.was_port_closed = False
                return event
            if turned.done():  # nothing is to be seen there: the backoff alone
                log.warning("the port cannot be watched: %s", turned.exception())
                await asyncio.wait({requested}, timeout=left_s)
                return Event.RECONNECT if requested.done() else Event.RETRY_DUE
        finally:
            turned.cancel()
            requested.cancel()
            await asyncio.gather(turned, requested, return_exceptions=True)
        return Event.RETRY_DUE

    def _turn_of_port(self, host: str, port: int) -> tuple[Coroutine[Any, Any, None], Event]:
        """What to wait for at the port, and what it means."""
        if self._status.state is State.DEAD:
            return port_probe.closes(host, port), Event.PORT_CLOSED
        opens = port_probe.opens(host, port, was_closed=self.was_port_closed)
        return opens, Event.PORT_OPENED
