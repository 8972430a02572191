import asyncio

from ktrdr.ib.signals import Signal


def test_it_wakes_all_who_wait_and_nobody_who_comes_later():
    async def run() -> tuple[bool, bool, bool]:
        signal = Signal()
        early = [asyncio.ensure_future(signal.wait()) for _ in range(2)]
        await asyncio.sleep(0)
        signal.send()
        late = asyncio.ensure_future(signal.wait())
        await asyncio.wait(early, timeout=5)
        found = early[0].done(), early[1].done(), late.done()
        late.cancel()
        return found

    assert asyncio.run(run()) == (True, True, False)


def test_who_began_to_wait_before_it_is_woken_though_the_task_had_not_run_yet():
    """A request that has just been sent must not miss that it went astray."""

    async def run() -> None:
        signal = Signal()
        waiting = asyncio.ensure_future(signal.wait())
        signal.send()
        await asyncio.wait_for(waiting, 5)

    asyncio.run(run())
