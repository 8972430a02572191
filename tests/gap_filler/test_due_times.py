"""A bar is requested when it is due, without a scan."""

from datetime import UTC, datetime

import pytest

from tests.fake_connection import fill, utc
from tests.gap_filler.test_gap_filler import starts_in

SCANS_S = 86400.0


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.fixture
def filler(make_filler, clock):
    """It scans once a day."""
    clock.now = utc("2026-11-20 11:00:30")
    return make_filler(ktrdr_gap_check_interval_s=SCANS_S)


def test_a_bar_is_requested_a_moment_after_its_end(put, filler, connection, clock):
    path = put("AAPL_1m")
    fill(filler)
    requested = len(connection.requested)
    clock.now = utc("2026-11-20 11:01:01")
    fill(filler)
    assert len(connection.requested) == requested
    clock.now = utc("2026-11-20 11:01:02")
    fill(filler)
    assert starts_in(path)[-1] == utc("2026-11-20 11:00")
    assert connection.requested[requested:] == [
        ("AAPL", "1m", utc("2026-11-20 11:00"), utc("2026-11-20 11:01"))
    ]
    assert filler.status.last_scan_time == at("2026-11-20 11:00:30")


def test_each_series_is_requested_once_a_bar(put, filler, connection, clock):
    for name in ("AAPL_1m", "MSFT_1m", "MSFT_5m"):
        put(name)
    fill(filler)
    requested = len(connection.requested)
    for _ in range(600):
        clock.now += 1
        fill(filler)
    assert len(connection.requested) - requested == 10 + 10 + 2


def test_many_that_are_due_at_once_are_requested_some_at_a_time(put, filler, connection, clock):
    paths = [put(f"S{number:02}_1m") for number in range(50)]
    fill(filler)
    requested = len(connection.requested)
    clock.now = utc("2026-11-20 11:01:02")
    assert filler.step()
    assert 0 < len(connection.requested) - requested < 50
    fill(filler)
    assert [starts_in(path)[-1] for path in paths] == [utc("2026-11-20 11:00")] * 50
    assert len(connection.requested) - requested == 50


def test_a_minute_without_trades_is_requested_once_in_that_minute(put, filler, connection, clock):
    put("AAPL_1m")
    fill(filler)
    connection.silent = True
    requested = len(connection.requested)
    for _ in range(55):
        clock.now += 1
        fill(filler)
    assert len(connection.requested) == requested + 1


def test_nothing_is_requested_while_the_market_is_closed(put, filler, connection, clock):
    path = put("AAPL_1m")
    clock.now = utc("2026-11-20 12:00:05")
    fill(filler)
    assert starts_in(path)[-1] == utc("2026-11-20 11:59")
    requested = len(connection.requested)
    for _ in range(70):
        clock.now += 60
        fill(filler)
    assert len(connection.requested) == requested
    assert filler.status.last_scan_time == at("2026-11-20 12:00:05")


def test_the_first_bar_of_the_next_session_is_due_too(put, filler, clock):
    path = put("AAPL_1h")
    clock.now = utc("2026-11-20 12:00:05")
    fill(filler)
    clock.now = utc("2026-11-21 11:00:02")
    fill(filler)
    assert starts_in(path)[-1] == utc("2026-11-21 10:00")


def test_it_waits_longer_for_bars_that_ib_has_later(put, filler, connection, clock):
    """Each minute's bar is there four seconds after its end, and not before."""
    path = put("AAPL_1m")
    fill(filler)
    waits = []
    for minute in range(50):
        end = utc("2026-11-20 11:01") + 60 * minute
        connection.absent = {end - 60}
        clock.now = end
        while starts_in(path)[-1] < end - 60 and clock.now < end + 40:
            clock.now += 0.5
            if clock.now >= end + 4:
                connection.absent = set()
            fill(filler)
        waits.append(clock.now - end)
    assert waits[0] == 40.0  # it was requested too early, and again with the next one
    assert all(4.0 <= wait <= 10.0 for wait in waits[-10:])
    assert starts_in(path) == sorted(set(starts_in(path)))
