import asyncio
import contextlib
from datetime import UTC, datetime, time, timedelta

import pytest
from ib_insync import IB, Stock

from ktrdr.errors import Misconfigured
from ktrdr.sim.gateway.clock import Clock, parse_start
from ktrdr.sim.gateway.restart_plan import Change, Nights
from ktrdr.sim.gateway.server import SimulatedGateway


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_a_clock_starts_at_the_given_time_and_runs_at_the_given_speed():
    real = iter([1000.0, 1010.0, 1010.0])
    clock = Clock(at("2026-03-06 20:00"), 60, real=lambda: next(real))
    assert clock() == at("2026-03-06 20:10")
    assert clock.real_s(at("2026-03-06 20:11")) == 1


def test_a_clock_without_a_start_is_real():
    assert abs(Clock()() - datetime.now(UTC)) < timedelta(seconds=5)


@pytest.mark.parametrize(("start", "speed"), [(datetime(2026, 3, 6), 1), (None, 0), (None, -1)])  # noqa: DTZ001
def test_a_clock_that_cannot_be_is_refused(start, speed):
    with pytest.raises(Misconfigured):
        Clock(start, speed)


def test_a_start_without_a_zone_is_utc():
    assert parse_start("2026-03-06T20:00") == parse_start("2026-03-06T15:00-05:00")


def test_restarts_follow_new_yorks_clock_over_the_change_to_summer_time():
    nights = Nights(restart_at=time(23, 45), restart_s=120)
    changes = nights.changes(at("2026-03-07 00:00"), at("2026-03-09 12:00"))
    assert changes == [
        Change(at("2026-03-07 04:45"), "restart", is_begin=True),
        Change(at("2026-03-07 04:47"), "restart", is_begin=False),
        Change(at("2026-03-08 04:45"), "restart", is_begin=True),
        Change(at("2026-03-08 04:47"), "restart", is_begin=False),
        Change(at("2026-03-09 03:45"), "restart", is_begin=True),
        Change(at("2026-03-09 03:47"), "restart", is_begin=False),
    ]


def test_the_log_in_ends_on_sunday_and_stays_ended():
    nights = Nights(logs_out=True)
    assert nights.changes(at("2026-03-02 00:00"), at("2026-03-15 04:00")) == [
        Change(at("2026-03-08 06:00"), "logged_out", is_begin=True)
    ]
    assert nights.next_change(at("2026-03-08 06:00")) == at("2026-03-15 05:00")


def test_the_next_log_in_can_be_days_later():
    nights = Nights(logs_out=True, login_after_s=2 * 86400)
    assert nights.changes(at("2026-03-09 00:00"), at("2026-03-11 00:00")) == [
        Change(at("2026-03-10 06:00"), "logged_out", is_begin=False)
    ]


def test_nothing_is_planned_by_default():
    assert Nights().next_change(at("2026-03-08 06:00")) is None


def test_a_client_sees_the_gateways_time_run():
    async def main():
        start = at("2026-11-27 17:55")
        async with SimulatedGateway(start=start, speed=1200) as gateway:
            client = IB()
            await client.connectAsync("127.0.0.1", gateway.port, 1)
            aapl = Stock("AAPL", "SMART", "USD")
            while await client.reqCurrentTimeAsync() < at("2026-11-27 19:00"):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            got = await client.reqHistoricalDataAsync(aapl, "", "1 D", "1 min", "TRADES", True, 2)
            client.disconnect()
            return got[-1].date

    assert asyncio.run(main()) == at("2026-11-27 17:59")  # a half day: New York closes at 13:00


def test_a_week_with_its_nights_and_its_sunday_passes_in_seconds():
    nights = [
        ("restart", "2026-03-06 04:45"),
        ("restart", "2026-03-07 04:45"),
        ("restart", "2026-03-08 04:45"),
        ("logged_out", "2026-03-08 06:00"),
        ("restart", "2026-03-09 03:45"),
        ("restart", "2026-03-10 03:45"),
        ("restart", "2026-03-11 03:45"),
        ("restart", "2026-03-12 03:45"),
    ]

    async def main():
        plan = Nights(time(23, 45), restart_s=1800, logs_out=True, login_after_s=6 * 3600)
        start = at("2026-03-05 12:00")
        async with SimulatedGateway(start=start, speed=60_000, nights=plan) as gateway:
            connects = 0
            while sum(gateway.summary()["faults"].values()) < len(nights) or not connects:
                client = IB()
                with contextlib.suppress(OSError, TimeoutError):
                    await client.connectAsync("127.0.0.1", gateway.port, 1, timeout=0.5)
                connects += client.isConnected()
                while client.isConnected() and gateway.now() < start + timedelta(days=7):  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
                client.disconnect()
                await asyncio.sleep(0.005)
            return connects, gateway.events

    connects, record = asyncio.run(main())
    assert connects >= 1
    begun = [e for e in record if e.get("state") == "begun"][: len(nights)]
    assert [e["verdict"] for e in begun] == [name for name, _ in nights]
    # A machine that is busy may be late at this speed, and never early.
    assert all(
        datetime.fromisoformat(e["time"]) >= at(when)
        for e, (_, when) in zip(begun, nights, strict=True)
    )


def test_ending_the_fault_after_sunday_is_the_log_in():
    async def main():
        plan = Nights(logs_out=True)
        start = at("2026-03-08 05:59:59")
        async with SimulatedGateway(start=start, speed=10, nights=plan) as gateway:
            while gateway.is_listening:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", gateway.port)
            assert gateway.end_fault("logged_out")
            client = IB()
            await client.connectAsync("127.0.0.1", gateway.port, 1)
            client.disconnect()

    asyncio.run(main())
