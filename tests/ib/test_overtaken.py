"""Requests that are never answered are sent again when later ones are answered; slow ones wait."""

import contextlib
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import pairwise

import pytest

from ktrdr.data.ib_connection_manager import PersistentIbConnectionManager
from ktrdr.errors import TimedOut
from ktrdr.ib.overtaken import AnswerTimes, Overtaking
from ktrdr.market.bars_request import BarsRequest
from ktrdr.market.instruments import instrument_for
from ktrdr.market.timeframes import Timeframe
from ktrdr.sim.gateway.in_thread import running_gateway
from tests.fast_loop import FastClock, FastLoop
from tests.ib.test_fault_sequences import START

SPEED = 20.0
AAPL, MSFT = instrument_for("AAPL"), instrument_for("MSFT")
DAY = int(datetime(2026, 11, 18, tzinfo=UTC).timestamp())


def hours(number, instrument=AAPL, timeframe=Timeframe.M1):
    start = DAY + number * 3600
    return BarsRequest(instrument, timeframe, start, start + 3600)


YEAR = BarsRequest(AAPL, Timeframe.M1, DAY - 365 * 86400, DAY)


def test_an_answer_of_a_known_kind_is_overdue_after_four_times_the_slowest():
    times = AnswerTimes()
    for number, took_s in enumerate((3.0, 1.0, 2.0)):
        times.answered(hours(number), 100.0, 100.0 + took_s)
    assert times.patience_s(hours(9)) == 12.0
    assert times.patience_s(YEAR) == float("inf")


@pytest.mark.parametrize("seen", [0, 2])
def test_of_an_unknown_kind_only_small_answers_are_overdue(seen):
    times = AnswerTimes()
    for number in range(seen):
        times.answered(hours(number), 100.0, 140.0)
        times.answered(YEAR, 100.0, 140.0)
    assert times.patience_s(hours(9)) == 8.0
    assert times.patience_s(YEAR) == float("inf")
    assert times.patience_s(("sessions", AAPL, DAY, 9)) == float("inf")


def test_quick_answers_make_nobody_impatient():
    times = AnswerTimes()
    for number in range(20):
        times.answered(("sessions", AAPL, DAY, number), 100.0, 100.01)
    assert times.patience_s(("sessions", MSFT, DAY, 9)) == 5.0


def test_a_slow_hour_is_forgotten_after_twenty_answers():
    times = AnswerTimes()
    times.answered(hours(0), 0.0, 50.0)
    for number in range(19):
        times.answered(hours(number), 100.0, 101.0)
    assert times.patience_s(hours(0)) == 200.0
    times.answered(hours(0), 200.0, 201.0)
    assert times.patience_s(hours(0)) == 5.0


def test_what_was_sent_before_it_was_overdue_overtakes_nothing():
    times = AnswerTimes()
    overtaking = Overtaking(times, hours(0))
    overtaking.sent(100.0)
    times.answered_one(107.9)
    assert not overtaking.has_happened
    times.answered_one(108.0)
    assert overtaking.has_happened


def test_nothing_is_overtaken_twice():
    times = AnswerTimes()
    overtaking = Overtaking(times, hours(0))
    overtaking.sent(100.0)
    overtaking.spend()
    overtaking.sent(110.0)
    times.answered_one(1000.0)
    assert not overtaking.has_happened
    assert overtaking.overdue_at == float("inf")


def test_a_probe_is_wanted_at_most_twice_a_minute():
    times = AnswerTimes()
    wanted = [second for second in range(90) if times.wants_probe(float(second))]
    assert wanted == [0, 30, 60]


@contextlib.contextmanager
def connected(make_settings, wait_for, speed=SPEED):
    clock = FastClock(START, speed)
    with running_gateway(now=clock, new_loop=lambda: FastLoop(speed)) as gateway:
        settings = make_settings(ktrdr_sim_port=gateway.port)
        manager = PersistentIbConnectionManager(
            settings, now=clock, new_loop=lambda: FastLoop(speed)
        )
        manager.start()
        try:
            wait_for(lambda: manager.status().requests_answered >= 2)
            yield gateway, manager
        finally:
            manager.stop()


def bars(manager, request, patience_s=None):
    return manager.call(manager.bars(request, patience_s))


def sent(gateway, symbol):
    """When each request for bars of the contract came, in seconds."""
    return [
        datetime.fromisoformat(entry["time"]).timestamp()
        for entry in list(gateway.record)
        if entry["event"] == "received"
        and entry["kind"] == "historical_data"
        and entry["symbol"] == symbol
    ]


@pytest.mark.parametrize("fault", ["unanswered", "half_open"])
def test_what_a_short_outage_swallowed_is_there_seconds_after_it(fault, make_settings, wait_for):
    """By themselves they would end after half a minute, as not answered."""
    with (
        connected(make_settings, wait_for, speed=5) as (gateway, manager),
        ThreadPoolExecutor(12) as pool,
    ):
        values = {"kind": "data"} if fault == "unanswered" else {}
        with gateway.fault(fault, **values):
            before = gateway.summary()["history_requests"]
            asked = [pool.submit(bars, manager, hours(number)) for number in range(12)]
            wait_for(lambda: gateway.summary()["history_requests"] >= before + 12)
        assert all(one.result().bars is not None for one in asked)


def test_what_is_answered_to_nobody_is_sent_twice_and_then_waits(make_settings, wait_for):
    with connected(make_settings, wait_for) as (gateway, manager):
        gateway.begin_fault("unanswered", kind="bars", symbol="MSFT")
        with pytest.raises(TimedOut):
            bars(manager, hours(0, MSFT), 60.0)
        assert len(sent(gateway, "MSFT")) == 2


def test_of_many_that_are_refused_for_their_pace_one_at_a_time_is_sent_again(
    make_settings, wait_for
):
    text = "Historical Market Data Service error message:Historical data request pacing violation"
    with connected(make_settings, wait_for) as (gateway, manager), ThreadPoolExecutor(60) as pool:
        known = len(sent(gateway, "AAPL"))

        def tried():
            times = sent(gateway, "AAPL")[known:]
            return [at for at in times if at > times[0] + 9]

        gateway.begin_fault("refused", kind="bars", text=text)
        asked = [pool.submit(bars, manager, hours(number), 900.0) for number in range(60)]
        wait_for(lambda: len(tried()) >= 3)
        times = tried()
        gateway.end_fault("refused")
        assert all(one.result().bars is not None for one in asked)
    assert all(second - first > 9 for first, second in pairwise(times))
