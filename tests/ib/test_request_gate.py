"""Requests that IB would refuse: one a minute, of each kind of contract where it is a farm."""

import asyncio
import itertools

from ktrdr.errors import RequestFailed
from ktrdr.ib.request_gate import RequestGate
from tests.fast_loop import FastLoop

STOCKS, FOREX = ("STK", "USD"), ("CASH", "USD")
BROKEN = RequestFailed("HMDS server disconnect", code=162)
FOR_EVER = float("inf")


def played(main):
    with asyncio.Runner(loop_factory=lambda: FastLoop(200)) as runner:
        return runner.run(main())


def now():
    return asyncio.get_running_loop().time()


def test_nothing_is_held_back_while_nothing_was_refused():
    async def main():
        return await RequestGate(60).passed(STOCKS, now())

    assert played(main) is None


def test_of_many_that_wait_one_a_minute_is_let_through():
    async def main():
        gate, passed = RequestGate(60), []

        async def one():
            await gate.passed(STOCKS, FOR_EVER)
            passed.append(now())

        gate.shut(STOCKS, BROKEN)
        times = [now()]
        waiting = [asyncio.create_task(one()) for _ in range(40)]
        while len(passed) < 3:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            waiting = [task for task in waiting if not task.done()]
        for task in waiting:
            task.cancel()
        times += passed
        return [later - earlier for earlier, later in itertools.pairwise(times)]

    pauses = played(main)
    assert len(pauses) == 3
    assert min(pauses) >= 60


def test_a_refusal_of_the_one_that_was_let_through_changes_nothing():
    async def main():
        gate = RequestGate(60)
        gate.shut(STOCKS, BROKEN)
        began = now()
        for _ in range(2):
            await gate.passed(STOCKS, FOR_EVER)
            gate.shut(STOCKS, BROKEN)
        return now() - began

    assert played(main) >= 120


def test_an_answer_lets_all_of_its_kind_through_at_once_and_no_others():
    async def main():
        gate = RequestGate(1e6)
        gate.shut(STOCKS, BROKEN)
        gate.shut(FOREX, BROKEN)
        stocks = [asyncio.create_task(gate.passed(STOCKS, FOR_EVER)) for _ in range(40)]
        forex = asyncio.create_task(gate.passed(FOREX, FOR_EVER))
        await asyncio.sleep(1)
        assert gate.answered(STOCKS, now())
        await asyncio.gather(*stocks)
        was_held = not forex.done()
        gate.open()
        return was_held, await forex

    assert played(main) == (True, None)


def test_what_is_refused_to_all_is_tried_by_one_of_any_kind():
    async def main():
        gate = RequestGate(60)
        gate.shut(None, BROKEN)
        began, passed = now(), []

        async def one(kind):
            await gate.passed(kind, FOR_EVER)
            passed.append(now() - began)

        waiting = [asyncio.create_task(one(kind)) for kind in (STOCKS, FOREX, None)]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        first = list(passed)
        assert gate.answered(FOREX, now())
        await asyncio.wait_for(asyncio.gather(*waiting), 30)
        return first

    (first,) = played(main)
    assert first >= 15


def test_what_is_refused_to_all_is_tried_soon_and_then_twice_a_minute():
    async def main():
        gate = RequestGate(60)
        pauses = []
        gate.shut(None, BROKEN)
        for _ in range(3):
            began = now()
            await gate.passed(STOCKS, FOR_EVER)
            gate.shut(None, BROKEN)
            pauses.append(now() - began)
        gate.answered(STOCKS, now())
        gate.shut(None, BROKEN)
        began = now()
        await gate.passed(FOREX, FOR_EVER)
        return [*pauses, now() - began]

    pauses = played(main)
    least = [15, 30, 30, 15]
    assert all(pause >= one for pause, one in zip(pauses, least, strict=True))
    assert all(pause < 2 * one for pause, one in zip(pauses, least, strict=True))


def test_an_answer_of_a_kind_that_was_not_refused_says_nothing_new():
    async def main():
        return RequestGate(60).answered(STOCKS, now())

    assert not played(main)


def test_whoever_has_no_more_time_hears_why():
    async def main():
        gate = RequestGate(1e6)
        gate.shut(STOCKS, BROKEN)
        return await gate.passed(STOCKS, now() + 5)

    assert played(main) is BROKEN


def test_a_violated_pace_is_tested_by_a_probe_only_when_no_request_does():
    async def main():
        gate, found = RequestGate(60), []
        requested_at = now()
        found.append(gate.test_in_s)
        for _ in range(2):  # a request tests it, and is one too many
            gate.note_paced()
            found.append(gate.test_in_s)
        found += [gate.answered(STOCKS, requested_at - 1), gate.answered(STOCKS, now())]
        return [*found, gate.test_in_s, await gate.passed(STOCKS, now())]

    none, first, later, *rest = played(main)
    assert none == FOR_EVER
    assert 10 < first <= 15
    assert 25 < later <= 30
    assert rest == [False, True, FOR_EVER, None]  # nothing was held back here


def test_a_probe_takes_the_turn_of_a_request_but_not_of_the_first():
    async def main():
        gate, found = RequestGate(60), []
        gate.shut(None, BROKEN)
        for _ in range(2):
            gate.note_test()
            found.append(gate.test_in_s)
            await asyncio.sleep(16)
        return found

    first, later = played(main)
    assert 10 < first <= 15
    assert 25 < later <= 30


def test_after_a_probe_the_next_test_is_never_due_at_once():
    async def main():
        gate, found = RequestGate(60), []
        gate.note_paced()
        await asyncio.sleep(16)  # that test is due, and now all begin to be refused
        gate.shut(None, BROKEN)
        found.append(gate.test_in_s)
        gate.note_test()
        found.append(gate.test_in_s)
        await asyncio.sleep(31)  # a second time, the other way round
        gate.open()
        gate.shut(None, BROKEN)
        await asyncio.sleep(16)
        gate.note_paced()
        gate.note_test()
        return [*found, gate.test_in_s]

    due, later, again = played(main)
    assert due <= 0
    assert later > 10
    assert again > 10
