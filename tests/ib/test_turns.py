import asyncio
import contextlib

import pytest

from ktrdr.errors import NotConnected, TimedOut
from ktrdr.ib.turns import Turns
from ktrdr.market.bars_request import Priority


async def take(turns: Turns, request: object, deadline_s: float = 5) -> None:
    queued = turns.queued(request, "AAPL", Priority.INTERACTIVE)
    async with turns.turn(queued, asyncio.get_running_loop().time() + deadline_s):
        pass


def test_who_has_had_a_turn_leaves_none_open():
    async def run() -> int:
        turns = Turns()
        await take(turns, "one")
        return turns.pacer.open_requests

    assert asyncio.run(run()) == 0


def test_whoever_fails_or_is_cancelled_gives_the_turn_back():
    async def run() -> int:
        turns = Turns()
        queued = turns.queued("one", "AAPL", Priority.INTERACTIVE)
        with pytest.raises(NotConnected):
            async with turns.turn(queued, asyncio.get_running_loop().time() + 5):
                raise NotConnected("gone")
        cancelled = asyncio.ensure_future(take(turns, "two"))
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.wait({cancelled})
        return turns.pacer.open_requests

    assert asyncio.run(run()) == 0


def test_whose_time_is_over_before_the_turn_comes_is_told_so():
    async def run() -> None:
        turns = Turns()
        loop = asyncio.get_running_loop()
        async with contextlib.AsyncExitStack() as stack:
            for number in range(turns.pacer.at_once):
                queued = turns.queued(number, f"S{number}", Priority.INTERACTIVE)
                await stack.enter_async_context(turns.turn(queued, loop.time() + 5))
            await take(turns, "one more", deadline_s=0.05)

    with pytest.raises(TimedOut, match="too many requests were before it"):
        asyncio.run(run())
