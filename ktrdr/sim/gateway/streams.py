"""The streams of one client: history requests that are kept up to date until they are cancelled.

A stream that IB has lost stays open: it counts among the open requests until the client cancels
it, and nothing says that it is dead (nautechsystems/nautilus_trader 3968: a farm that was broken
for 3 s; erdewit/ib_insync 333).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from ktrdr.sim.gateway.clock import Clock
from ktrdr.sim.gateway.faults import Faults
from ktrdr.sim.gateway.live_updates import EVERY_S, LiveUpdates, Subscription
from ktrdr.sim.gateway.update_damage import WrongUpdates, in_other_unit
from ktrdr.sim.market.bars import Bars

_CHECK_EVERY_S = 0.05
"""Real seconds between readings of the clock at most, since a caller's clock may jump."""
_LEAST_S = 0.02
"""Real seconds between two updates at least, however fast the gateway's clock runs."""
_FLOOD_EVERY_S = 0.05
"""Real seconds between the bursts of a flood."""


@dataclass(frozen=True)
class Sink:
    """Where the updates of a client go."""

    send: Callable[[bytes, int], None]
    """Takes messages and the number of their bars; none: a fault keeps them back."""
    has_room: Callable[[], bool]
    """Whether the client reads what it is sent."""


class Stream:
    """The updates of one request, from its response on."""

    def __init__(
        self,
        subscription: Subscription,
        updates: LiveUpdates,
        faults: Faults,
        now: Callable[[], datetime],
        sink: Sink,
    ) -> None:
        self.subscription = subscription
        self.is_lost = False
        """Whether nothing comes any more."""
        self.mark_s = 0
        """The last multiple of 5 s for which it has sent what there was (UTC seconds)."""
        self._updates = updates
        self._faults = faults
        self._now = now
        self._sink = sink
        self._damage: WrongUpdates | None = None
        self._forming: Bars | None = None
        self._delayed: deque[asyncio.TimerHandle] = deque()

    def lose(self) -> None:
        """Send nothing any more."""
        self.is_lost = True
        for timer in self._delayed:
            timer.cancel()

    async def run(self, since_s: int, latency_s: float) -> None:
        """Send updates until the task is cancelled, which is not an error.

        `since_s`: the time of the response, UTC. `latency_s`: real seconds from the end of a
        5-second bar to its update.
        """
        with contextlib.suppress(asyncio.CancelledError):
            while not self.is_lost:
                since_s = await self._mark(since_s)
                await asyncio.sleep(latency_s)
                if not self.is_lost:
                    await self._update(since_s)
                    self.mark_s = since_s
            await asyncio.Event().wait()
        self.lose()

    async def _update(self, mark_s: int) -> None:
        if self._faults.pauses_streams(self.subscription.request.symbol):
            self._updates.skip(mark_s)
            self._sink.send(b"", 0)
            return
        shift_s = self._faults.shift_s(self.subscription.size.name)
        bars = await asyncio.to_thread(self._updates.update, mark_s, shift_s)
        forms = self._damaged(list(self._in_their_unit(bars).each()), mark_s)
        if forms and not self.is_lost:
            self._forming = forms[-1]
            self._send(self.subscription.message(forms), len(forms))

    def _in_their_unit(self, bars: Bars) -> Bars:
        if not self._faults.has("other_unit"):
            return bars
        factor = self._faults.number("other_unit", "factor")
        return in_other_unit(bars, self._faults.text("other_unit", "of"), factor)

    def _damaged(self, forms: list[Bars], mark_s: int) -> list[Bars]:
        if not self._meets("wrong_updates"):
            self._damage = None
            return forms
        how = self._faults.text("wrong_updates", "how")
        if self._damage is None or self._damage.how != how:
            self._damage = WrongUpdates(how, self.subscription.size.length_s)
        return self._damage.apply(forms, mark_s)

    def _send(self, messages: bytes, count: int) -> None:
        """Send, at once or as late as a fault wants it, and always in order."""
        loop = asyncio.get_running_loop()
        while self._delayed and self._delayed[0].when() <= loop.time():
            self._delayed.popleft()
        late_s = self._faults.number("late_updates", "seconds")
        at = loop.time() + (late_s if self._meets("late_updates") else 0.0)
        if self._delayed:
            at = max(at, self._delayed[-1].when() + _LEAST_S)
        if at <= loop.time():
            self._sink.send(messages, count)
        else:
            self._delayed.append(loop.call_at(at, self._sink.send, messages, count))

    async def _mark(self, after_s: int) -> int:
        """Wait for the first multiple of 5 s after that time; return the last one by then."""
        next_s = (after_s // EVERY_S + 1) * EVERY_S
        await asyncio.sleep(_LEAST_S)
        self._flood()
        while (now_s := int(self._now().timestamp())) < next_s:
            await asyncio.sleep(self._wait_s(next_s))
            self._flood()
        return now_s // EVERY_S * EVERY_S

    def _flood(self) -> None:
        """Send the forming bar very often, with its high and its low as close, and then as it is.

        Not while the client leaves too much unread.
        """
        form = self._forming
        if form is None or not self._meets("update_flood") or not self._sink.has_room():
            return
        times = round(self._faults.number("update_flood", "per_s") * _FLOOD_EVERY_S / 2)
        closes = (replace(form, close=form.high), replace(form, close=form.low))
        both = self.subscription.message(closes)
        self._sink.send(both * times + self.subscription.message([form]), 2 * times + 1)

    def _meets(self, fault: str) -> bool:
        """Whether this fault is in force, and for this stream's symbol."""
        return self._faults.has(fault) and self.subscription.is_of(
            self._faults.text(fault, "symbol")
        )

    def _wait_s(self, next_s: int) -> float:
        if self._meets("update_flood"):
            return _FLOOD_EVERY_S
        if not isinstance(self._now, Clock):
            return _CHECK_EVERY_S
        at = datetime.fromtimestamp(next_s, UTC) + timedelta(milliseconds=1)
        return min(self._now.real_s(at), _CHECK_EVERY_S)
