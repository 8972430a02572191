"""The connection's past and what it teaches: when the gateway restarts, since when it is away.

Keeps the history in a thread of its own, so that a slow disk holds up no heartbeat.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from dateutil.tz import tzlocal

from ktrdr.config.restart_times import Restart, parse_restart
from ktrdr.config.settings import Settings
from ktrdr.ib.expected_outages import USUAL_RESTART_AT, Absence, absence, learn_restart, reminder
from ktrdr.ib.history import ConnectionHistory, lost_at, outages
from ktrdr.ib.outages import Downtime, Span, downtimes

log = logging.getLogger("ib-connection")

_LEARN_FROM_S = 14 * 86400
_CLOSE_S = 2.0
_HERE = tzlocal()
"""This machine's time zone, with its changes of the clocks."""


class Diary:
    """Of one connection. `history` None: nothing is kept, and little is known."""

    def __init__(
        self,
        settings: Settings,
        now: Callable[[], datetime],
        history: ConnectionHistory | None,
    ) -> None:
        self._settings = settings
        self._now = now
        self._history = history
        self._scribe = ThreadPoolExecutor(1, "history") if history else None
        self._restart: Restart | None = None
        self._reminded = False
        self.lost_at: datetime | None = None
        """Since when the connection is gone; None: it is there, or never was."""
        self.is_live = not settings.is_simulated
        """A real gateway, of which IB's own habits are assumed."""

    async def open(self) -> None:
        """Read what the last run has left."""
        if (lost := lost_at(await self._read())) is not None:
            self.lost_at = datetime.fromtimestamp(lost, UTC)
        await self.keep()

    async def keep(self) -> None:
        """Note that the program lives, learn anew, remind. To be called every minute or so."""
        self._submit(lambda history: history.note_alive(self._now().timestamp()))
        wanted = self._settings.ktrdr_ib_restart_at
        if wanted is not None:
            self._restart = parse_restart(wanted, _HERE)
        else:
            usual = Restart(USUAL_RESTART_AT, _HERE) if self.is_live else None
            self._restart = learn_restart(outages(await self._read()), _HERE) or usual
        words = self.reminder()
        if words and not self._reminded:
            log.warning("%s", words)
        self._reminded = bool(words)

    def write(self, state: str, why: str) -> None:
        """From now on the connection is in this state."""
        at = self._now().timestamp()
        self._submit(lambda history: history.note(at, state, why))

    async def close(self) -> None:
        """The program ends."""
        if self._scribe and self._history:
            closed = self._scribe.submit(self._history.close, self._now().timestamp())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.wrap_future(closed), _CLOSE_S)
            self._scribe.shutdown(wait=False, cancel_futures=True)

    def absence(self) -> Absence | None:
        """Why the gateway is away, where that was to be expected."""
        return self.absence_since(self.lost_at) if self.lost_at else None

    def absence_since(self, lost: datetime) -> Absence | None:
        """The same for a connection that is lost at that time."""
        return absence(self._restart, logs_out=self._logs_out, lost_at=lost, now=self._now())

    def downtimes(self, spans: Sequence[Span]) -> list[Downtime]:
        """The times without data in these states of the connection."""
        return downtimes(spans, self._restart, logs_out=self._logs_out)

    def reminder(self) -> str:
        """What a person should be ready for; empty: nothing."""
        return reminder(self._now()) if self._logs_out else ""

    @property
    def _logs_out(self) -> bool:
        """The gateway's log-in ends on Sundays, as far as anybody knows."""
        wanted = self._settings.ktrdr_ib_log_out
        return self.is_live if wanted is None else wanted == "sunday"

    async def _read(self) -> list[Span]:
        if self._history is None or self._scribe is None:
            return []
        until = self._now().timestamp()
        read = self._scribe.submit(self._history.spans, until - _LEARN_FROM_S, until)
        return await asyncio.wrap_future(read)

    def _submit(self, work: Callable[[ConnectionHistory], None]) -> None:
        if self._history is not None and self._scribe is not None:
            self._scribe.submit(work, self._history)
