"""The streams of one client: history requests that are kept up to date until they are cancelled.

A stream that IB has lost stays open: it counts among the open requests until the client cancels
it, and nothing says that it is dead (nautechsystems/nautilus_trader 3968: a farm that was broken
for 3 s; erdewit/ib_insync 333).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from ktrdr.sim.gateway.clock import Clock
from ktrdr.sim.gateway.faults import Faults
from ktrdr.sim.gateway.live_updates import EVERY_S, LiveUpdates, Subscription

_CHECK_EVERY_S = 0.1
"""Real seconds between readings of the clock at most, since a caller's clock may jump."""
_LEAST_S = 0.02
"""Real seconds between two updates at least, however fast the gateway's clock runs."""


class Stream:
    """The updates of one request, from its response on."""

    def __init__(
        self,
        subscription: Subscription,
        updates: LiveUpdates,
        faults: Faults,
        now: Callable[[], datetime],
        send: Callable[[bytes, int], None],
    ) -> None:
        """`send`: takes the messages and their number; none: a fault keeps them back."""
        self.subscription = subscription
        self.is_lost = False
        """Whether nothing comes any more."""
        self._updates = updates
        self._faults = faults
        self._now = now
        self._send = send

    def lose(self) -> None:
        """Send nothing any more."""
        self.is_lost = True

    async def run(self, since_s: int, latency_s: float) -> None:
        """Send updates until the task is cancelled, which is not an error.

        `since_s`: the time of the response, UTC. `latency_s`: real seconds from the end of a
        5-second bar to its update.
        """
        with contextlib.suppress(asyncio.CancelledError):
            while not self.is_lost:
                since_s = await self._mark(since_s)
                await asyncio.sleep(latency_s)
                await self._update(since_s)
            await asyncio.Event().wait()

    async def _update(self, mark_s: int) -> None:
        if self._faults.pauses_streams(self.subscription.request.symbol):
            self._updates.skip(mark_s)
            self._send(b"", 0)
            return
        bars = await asyncio.to_thread(self._updates.update, mark_s)
        if len(bars) and not self.is_lost:
            self._send(self.subscription.message(bars), len(bars))

    async def _mark(self, after_s: int) -> int:
        """Wait for the first multiple of 5 s after that time; return the last one by then."""
        await asyncio.sleep(_LEAST_S)
        next_s = (after_s // EVERY_S + 1) * EVERY_S
        while (now_s := int(self._now().timestamp())) < next_s:  # noqa: ASYNC110  a clock has no event
            await asyncio.sleep(self._wait_s(next_s))
        return now_s // EVERY_S * EVERY_S

    def _wait_s(self, next_s: int) -> float:
        if not isinstance(self._now, Clock):
            return _CHECK_EVERY_S
        at = datetime.fromtimestamp(next_s, UTC) + timedelta(milliseconds=1)
        return min(self._now.real_s(at), _CHECK_EVERY_S)
