"""The turn of each request: it waits until the pacer lets it go. Sends nothing itself."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Hashable

from ktrdr.errors import NotConnected, Retryable, TimedOut
from ktrdr.ib.pacing import Pacer, QueuedRequest
from ktrdr.market.bars_request import Priority


class RepeatError(Exception):
    """A request that was not answered and should be resent; `cause`: the error if that fails too.

    None: it was lost, and can be resent now. `is_gated`: the gate says when it may be resent.
    """

    def __init__(self, cause: Retryable | None, *, is_gated: bool = False) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.is_gated = is_gated


class Turns:
    """The queue of requests on one event loop, in the pacer's order."""

    def __init__(self) -> None:
        self.pacer = Pacer()
        self._waiting: dict[QueuedRequest, asyncio.Future[None]] = {}
        self._next_grant: asyncio.TimerHandle | None = None
        self._numbers = itertools.count()

    def __repr__(self) -> str:
        return f"<Turns {self.pacer!r}, {len(self._waiting)} waiting>"

    def queued(
        self, request: Hashable, symbol: str, priority: Priority, *, is_small: bool = False
    ) -> QueuedRequest:
        """A queued request; `request`: equal for two identical requests."""
        return QueuedRequest(request, priority, symbol, next(self._numbers), is_small)

    @contextlib.asynccontextmanager
    async def turn(self, queued: QueuedRequest, deadline: float) -> AsyncIterator[None]:
        """Wait until the pacer lets the request go. TimedOut: not before the deadline."""
        turn = self._waiting[queued] = asyncio.get_running_loop().create_future()
        self._grant()
        was_answered = True
        try:
            try:
                async with asyncio.timeout_at(deadline):
                    await turn
            except TimeoutError:
                raise TimedOut("too many requests were before it") from None
            yield
        except (NotConnected, RepeatError):
            was_answered = False
            raise
        finally:
            self._waiting.pop(queued, None)
            if turn.done() and not turn.cancelled():
                self.pacer.end(queued, was_answered=was_answered)
            self._grant()

    def _grant(self) -> None:
        """Release the requests that may be sent now, and schedule the next check."""
        loop = asyncio.get_running_loop()
        if self._next_grant is not None:
            self._next_grant.cancel()
            self._next_grant = None
        while True:
            queued, delay_s = self.pacer.next(list(self._waiting), loop.time())
            if queued is None:
                break
            self.pacer.begin(queued, loop.time())
            turn = self._waiting.pop(queued)
            if not turn.done():
                turn.set_result(None)
            else:  # the waiter was cancelled just now
                self.pacer.end(queued, was_answered=False)
        if delay_s is not None:
            self._next_grant = loop.call_later(delay_s, self._grant)
