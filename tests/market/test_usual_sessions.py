from dataclasses import replace
from datetime import UTC, datetime

import pytest

from ktrdr.ib.schedules import read_hours
from ktrdr.market.sessions import Session
from ktrdr.market.usual_sessions import by_rules, every_week


def utc(text):
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def shown(schedule):
    """Trading day, opening and closing time, UTC."""
    return [
        tuple(
            f"{datetime.fromtimestamp(t, UTC):{form}}"
            for t, form in ((s.day, "%a %d"), (s.open, "%d %H:%M"), (s.close, "%d %H:%M"))
        )
        for s in schedule.sessions
        if schedule.start <= s.open < schedule.end
    ]


def test_every_week_is_like_the_coming_one_in_the_exchanges_own_time():
    hours = "20261130:0930-20261130:1600;20261201:0930-20261201:1600;20261202:CLOSED"
    coming = read_hours(hours, "US/Eastern")[0]
    # New York's clocks went back on Sunday, 1 November 2026.
    found = every_week(coming, "STK", utc("2026-10-26"), utc("2026-11-04"))
    assert shown(found) == [
        ("Mon 26", "26 13:30", "26 20:00"),
        ("Tue 27", "27 13:30", "27 20:00"),
        ("Wed 28", "28 13:30", "28 20:00"),  # of which nothing is known, as are the other days
        ("Thu 29", "29 13:30", "29 20:00"),
        ("Fri 30", "30 13:30", "30 20:00"),
        ("Mon 02", "02 14:30", "02 21:00"),
        ("Tue 03", "03 14:30", "03 21:00"),
    ]
    assert found.source == "hours"


def test_a_shortened_day_is_not_the_usual_one():
    days = [f"202611{n}:CLOSED" for n in (28, 29, 30)] + [f"2026120{n}:CLOSED" for n in (1, 2, 3)]
    hours = ["20261127:0930-20261127:1300", *days, "20261204:0930-20261204:1600"]
    found = every_week(
        read_hours(";".join(hours), "US/Eastern")[0], "STK", utc("2026-11-13"), utc("2026-11-14")
    )
    assert shown(found) == [("Fri 13", "13 14:30", "13 21:00")]


def test_sessions_of_an_evening_and_those_with_a_pause_are_kept():
    hours = "20261129:1700-20261130:0800;20261130:0900-20261130:1600"
    found = every_week(
        read_hours(hours, "US/Central")[0], "FUT", utc("2026-11-22"), utc("2026-11-23 22:00")
    )
    assert shown(found) == [
        ("Mon 23", "22 23:00", "23 14:00"),
        ("Mon 23", "23 15:00", "23 22:00"),
    ]


@pytest.mark.parametrize(
    ("kind", "count", "first"),
    [
        ("STK", 5, ("Mon 16", "16 14:30", "16 21:00")),
        ("FUT", 5, ("Mon 16", "15 23:00", "16 22:00")),
        ("CASH", 5, ("Mon 16", "15 22:15", "16 22:00")),
        ("CRYPTO", 7, ("Sun 15", "15 00:00", "16 00:00")),
    ],
)
def test_each_kind_has_its_usual_week(kind, count, first):
    found = by_rules(kind, utc("2026-11-15"), utc("2026-11-22"))
    assert shown(found)[0] == first
    assert len(shown(found)) == count
    assert found.source == "rules"
    assert found.covers(utc("2026-11-15"), utc("2026-11-22"))


def test_reported_and_usual_sessions_joined_are_marked_usual():
    usual = by_rules("STK", utc("2026-11-01"), utc("2026-11-10"))
    coming = read_hours("20261110:0930-20261110:1600", "America/New_York")[0]
    assert usual.joined(coming).source == "rules"
    assert coming.joined(coming).source == "ib"


def test_a_special_saturday_makes_no_usual_one():
    weeks = by_rules("STK", utc("2026-09-28"), utc("2026-11-01"))
    saturday = Session(utc("2026-10-17 14:30"), utc("2026-10-17 15:30"), utc("2026-10-17"))
    received = replace(weeks, sessions=tuple(sorted([*weeks.sessions, saturday])))
    found = every_week(received, "STK", utc("2026-10-19"), utc("2026-10-26"))
    assert [day for day, *_ in shown(found)] == ["Mon 19", "Tue 20", "Wed 21", "Thu 22", "Fri 23"]


def test_the_only_friday_that_is_known_may_be_a_half_day():
    hours = (
        "20261123:0930-20261123:1600;20261124:0930-20261124:1600;20261125:0930-20261125:1600;"
        "20261126:CLOSED;20261127:0930-20261127:1300"
    )
    coming = read_hours(hours, "America/New_York")[0]
    found = every_week(coming, "STK", utc("2026-11-16"), utc("2026-11-21"))
    assert {closes[3:] for _, _, closes in shown(found)} == {"21:00"}
    assert len(shown(found)) == 5


def test_a_market_that_is_closed_on_fridays_is_not_expected_then():
    weeks = by_rules("STK", utc("2026-09-28"), utc("2026-11-01"))
    rest = [s for s in weeks.sessions if datetime.fromtimestamp(s.day, UTC).weekday() != 4]
    found = every_week(
        replace(weeks, sessions=tuple(rest)), "STK", utc("2026-10-19"), utc("2026-10-26")
    )
    assert [day for day, *_ in shown(found)] == ["Mon 19", "Tue 20", "Wed 21", "Thu 22"]
