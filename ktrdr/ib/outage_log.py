"""Records the connection's states and outages in its history, and reads them at the start.

Writes the history in a thread of its own, so that a slow disk delays no heartbeat.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta

from dateutil.tz import tzlocal

from ktrdr.config.restart_times import Restart, parse_restart
from ktrdr.config.settings import Settings
from ktrdr.ib.expected_outages import USUAL_RESTART_AT, Expectation, learn_restart
from ktrdr.ib.history import ConnectionHistory, disconnections, lost_at
from ktrdr.ib.outages import outages
from ktrdr.ipc.messages import Outage, StateSpan

log = logging.getLogger("ib-connection")

_LEARN_FROM = timedelta(days=14)
_KEEP_S = 60.0
_CLOSE_S = 2.0
_HERE = tzlocal()
"""This machine's time zone, with its clock changes."""


class OutageLog:
    """The outages of one connection. `history` None: nothing is recorded, so little is known.

    `publish` receives the expectation each time it is set.
    """

    def __init__(
        self,
        settings: Settings,
        now: Callable[[], datetime],
        history: ConnectionHistory | None,
        publish: Callable[[Expectation], None],
    ) -> None:
        self._settings = settings
        self._now = now
        self._history = history
        self._writer = ThreadPoolExecutor(1, "history") if history else None
        self._reminded = False
        self._publish = publish
        self._is_live = not settings.is_simulated
        """Whether it is a real gateway, for which IB's usual restart and log-out are assumed."""
        self.expectation = Expectation(None, self._logs_out, None)
        publish(self.expectation)

    async def open(self) -> None:
        """Read the history of the last run."""
        if (lost := lost_at(await self._read())) is not None:
            self._set(replace(self.expectation, lost_at=lost))
        await self._keep()

    async def keep(self) -> None:
        """Each minute, record that the program runs, relearn the restart, and remind; for ever."""
        while True:
            await asyncio.sleep(_KEEP_S)
            await self._keep()

    def connected(self, *, is_live: bool) -> None:
        """The gateway is connected; `is_live`: it is a real one."""
        self._is_live = is_live
        self._set(replace(self.expectation, logs_out=self._logs_out, lost_at=None))

    def lost(self, at: datetime) -> None:
        """The connection was lost at that time."""
        self._set(replace(self.expectation, lost_at=at))

    def write(self, state: str, why: str) -> None:
        """The connection is in this state from now on."""
        at = self._now().timestamp()
        self._submit(lambda history: history.note(at, state, why))

    async def close(self) -> None:
        """The program ends."""
        if self._writer and self._history:
            closed = self._writer.submit(self._history.close, self._now().timestamp())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.wrap_future(closed), _CLOSE_S)
            self._writer.shutdown(wait=False, cancel_futures=True)

    def outages(self, spans: Sequence[StateSpan]) -> list[Outage]:
        """The times without data in these past states of the connection."""
        return outages(spans, self.expectation.restart, logs_out=self.expectation.logs_out)

    @property
    def _logs_out(self) -> bool:
        wanted = self._settings.ktrdr_ib_log_out
        return self._is_live if wanted is None else wanted == "sunday"

    async def _keep(self) -> None:
        self._submit(lambda history: history.note_alive(self._now().timestamp()))
        restart = await self._restart()  # the connection may be lost during this
        self._set(replace(self.expectation, restart=restart))
        words = self.expectation.reminder(self._now())
        if words and not self._reminded:
            log.warning("%s", words)
        self._reminded = bool(words)

    async def _restart(self) -> Restart | None:
        """The gateway's daily restart: as set, as learned, or the usual one of a real gateway."""
        wanted = self._settings.ktrdr_ib_restart_at
        if wanted is not None:
            return parse_restart(wanted, _HERE)
        learnt = learn_restart(disconnections(await self._read()), _HERE)
        return learnt or (Restart(USUAL_RESTART_AT, _HERE) if self._is_live else None)

    def _set(self, expectation: Expectation) -> None:
        self.expectation = expectation
        self._publish(expectation)

    async def _read(self) -> list[StateSpan]:
        if self._history is None or self._writer is None:
            return []
        until = self._now()
        read = self._writer.submit(self._history.spans, until - _LEARN_FROM, until)
        return await asyncio.wrap_future(read)

    def _submit(self, work: Callable[[ConnectionHistory], None]) -> None:
        if self._history is not None and self._writer is not None:
            self._writer.submit(work, self._history)
