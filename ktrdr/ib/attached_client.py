"""One client with the tasks that monitor it and the events that they report; closed together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from ktrdr.errors import NotConnected
from ktrdr.ib.client import IbClient, Notice
from ktrdr.ib.states import Event

log = logging.getLogger("ib-connection")


class AttachedClient:
    """The client of one attempt; events that are reported after `close` are not delivered."""

    def __init__(self, notice: Notice, time_requested_at: float) -> None:
        self.client = IbClient(notice, time_requested_at)
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self.was_connected = False
        self._watchers: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<AttachedClient {self.client!r}, {len(self._watchers)} watchers>"

    def watch(self, work: Coroutine[Any, Any, Event]) -> None:
        """Run a watcher; it returns an event."""
        self._watchers.add(asyncio.create_task(self._run(work)))

    def close(self) -> None:
        """End the watchers, and the client with its requests."""
        for watcher in self._watchers:
            watcher.cancel()
        self._watchers = set()
        self.client.close()

    async def _run(self, work: Coroutine[Any, Any, Event]) -> None:
        try:
            event = await work
        except NotConnected:
            if self.client.closed.is_set():
                return  # the watcher of the socket reports that
            log.exception("no connection, while there is one")
            event = Event.LOST
        except Exception:  # a watcher that fails must not leave the connection unmonitored
            log.exception("unexpected error of a watcher of %r", self.client)
            event = Event.LOST
        self.events.put_nowait(event)
