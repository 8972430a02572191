"""Bars that an illiquid series does not have are requested again together, and not one by one."""

from datetime import UTC, datetime
from random import Random

from tests.fake_connection import fill, utc

FRIDAY, SATURDAY, SUNDAY, MONDAY = (utc(f"2026-11-{day}") for day in (20, 21, 22, 23))


def make_illiquid(connection):
    """There are trades in a third of the minutes of a day, and none at the weekend."""
    chance = Random(3)
    connection.is_closed = lambda day: datetime.fromtimestamp(day, UTC).weekday() >= 5
    connection.absent = {
        minute
        for minute in range(utc("2026-11-09"), MONDAY, 60)
        if connection.is_closed(minute) or chance.random() < 2 / 3
    }


def test_over_a_weekend_an_illiquid_series_is_requested_once_a_day(
    connection, clock, put, make_filler
):
    make_illiquid(connection)
    put("ILQA_1m")
    filler = make_filler(ktrdr_gap_max_age_days=6)

    def requests_between(start, end, step_s):
        before = len(connection.requested)
        for now in range(start, end, step_s):
            clock.now = float(now)
            fill(filler)
        return len(connection.requested) - before

    assert requests_between(FRIDAY + 36000, FRIDAY + 54000, 300) > 20
    assert requests_between(FRIDAY + 54000, SATURDAY, 900) <= 1
    assert filler.status.unfillable.keys() == {"no_trades"}
    assert requests_between(SATURDAY, SUNDAY, 900) == 1
    assert requests_between(SUNDAY, MONDAY, 900) == 1
    assert filler.status.unfillable.keys() == {"no_trades"}
