"""Sessions as IB spells them; each odd spelling costs no more than itself."""

from datetime import UTC, datetime

import pytest

from ktrdr.ib.schedules import (
    ReceivedSchedule,
    ReceivedSession,
    read_hours,
    read_schedule,
)
from ktrdr.market.sessions import Session

NEW_YORK = "America/New_York"


def utc(text):
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def hours(text, zone):
    return read_hours(text, zone)[0]


def day(date, opens="09:30:00", closes="16:00:00"):
    """A session of SCHEDULE."""
    return ReceivedSession(f"{date}-{opens}", f"{date}-{closes}", date)


def session(date, opens="14:30", closes="21:00"):
    """The same, as it is in winter in New York."""
    return Session(utc(f"{date} {opens}"), utc(f"{date} {closes}"), utc(date))


def read(*sessions, zone=NEW_YORK, start="20261116-09:30:00", end="2026-11-21"):
    return read_schedule(ReceivedSchedule("", start, sessions), zone, "STK", utc(end), 5)


WEEK = [day(f"202611{n}") for n in (16, 17, 18, 19, 20)]


def test_hours_of_ib_are_read():
    text = (
        "20261123:0930-20261123:1600;20261124:CLOSED;20261125:CLOSED;20261126:CLOSED;"
        "20261127:0930-20261127:1300"
    )
    found = hours(text, "US/Eastern")
    assert [(s.open, s.close, s.day) for s in found.sessions] == [
        (utc("2026-11-23 14:30"), utc("2026-11-23 21:00"), utc("2026-11-23")),
        (utc("2026-11-27 14:30"), utc("2026-11-27 18:00"), utc("2026-11-27")),
    ]
    assert found.covers(utc("2026-11-23 05:00"), utc("2026-11-28 05:00"))


def test_hours_that_begin_the_evening_before_belong_to_the_day_of_the_close():
    found = hours("20261122:1715-20261123:1700", "America/New_York")
    assert [s.day for s in found.sessions] == [utc("2026-11-23")]


def test_a_session_that_ends_at_midnight_belongs_to_the_day_that_ends():
    found = hours("20261123:0000-20261124:0000;20261124:0000-20261125:0000", "UTC")
    assert [s.day for s in found.sessions] == [utc("2026-11-23"), utc("2026-11-24")]


def test_no_hours_are_no_schedule():
    assert hours("", "UTC") is None


def test_the_end_of_a_day_may_be_called_2400():
    found = hours("20261123:0000-20261123:2400;20261124:0000-20261124:2400", "UTC")
    assert [(s.close, s.day) for s in found.sessions] == [
        (utc("2026-11-24"), utc("2026-11-23")),
        (utc("2026-11-25"), utc("2026-11-24")),
    ]


def test_a_day_of_several_sessions_may_name_its_date_once():
    found = hours("20261123:0930-1200,1300-1600", "Asia/Hong_Kong")
    assert [(s.open, s.close) for s in found.sessions] == [
        (utc("2026-11-23 01:30"), utc("2026-11-23 04:00")),
        (utc("2026-11-23 05:00"), utc("2026-11-23 08:00")),
    ]


def test_of_what_comes_after_a_day_that_is_not_named_nothing_is_said():
    """Such a day is no holiday."""
    for middle in ("", "2026112X:0930-2026112X:1600;"):
        found = hours(f"20261123:0930-20261123:1600;{middle}20261125:0930-20261125:1600", NEW_YORK)
        assert (list(found.sessions), found.end) == (
            [session("2026-11-23")],
            utc("2026-11-24 05:00"),
        )
    assert hours("20201120:CLOSED;20261123:0930-20261123:1600", NEW_YORK).end < utc("2021-01-01")


def test_a_day_on_which_a_session_closes_is_named():
    found = hours("20261122:1715-20261123:1700;20261124:CLOSED", "America/New_York")
    assert [s.day for s in found.sessions] == [utc("2026-11-23")]
    assert found.end == utc("2026-11-25 05:00")


@pytest.mark.parametrize(
    "text",
    [
        "20261120:0930-20261120:1600,20261120:1000-20261120:1100",
        "20261120:0930-20261120:1600,20261120:1500-20261120:1700",
    ],
)
def test_hours_that_overlap_are_none_and_named(text):
    found, unreadable = read_hours(text, NEW_YORK)
    assert found is None
    assert "overlaps" in unreadable[0]


@pytest.mark.parametrize(
    "text", ["00010101:CLOSED", "20261120:0930-99991231:2400", "20261120:0930-21990101:1000"]
)
def test_no_year_is_too_odd(text):
    assert read_hours(text, NEW_YORK) == (None, (text,))


@pytest.mark.parametrize(
    "odd",
    [
        ReceivedSession("19700101-09:30:00", "19700101-16:00:00", "19700101"),
        ReceivedSession("00010101-00:00:00", "00010101-10:00:00", "00010101"),
        ReceivedSession("", "", "10000101"),
        ReceivedSession("20261118-09:30:00", "20261118-16:00:00", "20230101"),
        ReceivedSession("20991118-09:30:00", "20991118-16:00:00", "20991118"),
    ],
)
def test_a_session_of_another_age_is_named_and_says_nothing_of_the_years_between(odd):
    found, unreadable = read(*WEEK[:2], odd, *WEEK[3:])
    assert unreadable == (str(odd),)
    assert len(found.sessions) in (4, 5)
    assert found.start == utc("2026-11-16 14:30")
    assert found.end == utc("2026-11-21")


def test_a_beginning_that_was_not_asked_about_is_none():
    assert read(*WEEK, start="19700101-00:00:00")[0].start == utc("2026-11-16 14:30")


@pytest.mark.parametrize(
    "odd",
    ["20261131:0930-20261131:1600", "?", "20261199:CLOSED", ":0930-1600"],
)
def test_hours_of_no_day_are_named_and_cost_no_other(odd):
    text = f"20261123:0930-20261123:1600;{odd};20261124:0930-20261124:1600"
    found, unreadable = read_hours(text, NEW_YORK)
    assert list(found.sessions) == [session("2026-11-23"), session("2026-11-24")]
    assert unreadable == (odd,)


@pytest.mark.parametrize(
    "odd",
    ["20261124:0930-20261124:2460", "20261124:1600-20261124:0930", "20261124:", "20261124:09:30"],
)
def test_of_what_comes_after_hours_that_are_none_nothing_is_said(odd):
    """That day is no holiday, nor is it known to be one."""
    text = f"20261123:0930-20261123:1600;{odd};20261125:0930-20261125:1600"
    found, unreadable = read_hours(text, NEW_YORK)
    assert (list(found.sessions), found.end) == ([session("2026-11-23")], utc("2026-11-24 05:00"))
    assert unreadable == (odd,)


def test_sessions_of_schedule_are_read():
    found, unreadable = read(*WEEK)
    assert unreadable == ()
    assert list(found.sessions) == [session(f"2026-11-{n}") for n in (16, 17, 18, 19, 20)]
    assert (found.zone, found.start, found.end) == (
        NEW_YORK,
        utc("2026-11-16 14:30"),
        utc("2026-11-21"),
    )


@pytest.mark.parametrize("closes", ["24:00:00", "24:00", "2400"])
def test_a_session_may_end_at_24_oclock(closes):
    coin = ReceivedSession("20261118-00:00:00", f"20261118-{closes}", "20261118")
    found, unreadable = read(coin, zone="UTC")
    assert unreadable == ()
    assert found.sessions == (Session(utc("2026-11-18"), utc("2026-11-19"), utc("2026-11-18")),)


def test_times_without_seconds_are_times():
    found, unreadable = read(*WEEK[:2], day("20261118", "09:30", "16:00"), *WEEK[3:])
    assert unreadable == ()
    assert session("2026-11-18") in found.sessions


@pytest.mark.parametrize(
    "odd",
    [
        ReceivedSession("20261118-09:30:00", "20261118-25:00:00", "20261118"),
        ReceivedSession("20261118-09:30:00", "", "20261118"),
        ReceivedSession("", "20261118-16:00:00", "20261118"),
        ReceivedSession("", "", "20261118"),
        ReceivedSession("20261118-16:00:00", "20261118-09:30:00", "20261118"),
        ReceivedSession("20261118-09:30:00", "20271118-16:00:00", "20261118"),
        ReceivedSession("20261131-09:30:00", "20261131-16:00:00", "20261118"),
        ReceivedSession("20261118-09:30:00", "16:00:00", ""),
    ],
)
def test_a_session_that_cannot_be_read_is_named_and_is_as_usual(odd):
    found, unreadable = read(*WEEK[:2], odd, *WEEK[3:])
    assert unreadable == (str(odd),)
    assert list(found.sessions) == [session(f"2026-11-{n}") for n in (16, 17, 18, 19, 20)]


def test_a_session_of_no_day_is_named_and_left_out():
    odd = ReceivedSession("20261131-09:30:00", "20261131-16:00:00", "20261131")
    found, unreadable = read(*WEEK, odd)
    assert unreadable == (str(odd),)
    assert len(found.sessions) == len(WEEK)


def test_a_session_that_comes_twice_is_there_once_and_no_fault():
    found, unreadable = read(*WEEK, WEEK[2])
    assert (len(found.sessions), unreadable) == (len(WEEK), ())


def test_of_two_that_overlap_the_first_counts_and_the_other_is_named():
    late = day("20261118", "10:00:00", "17:00:00")
    found, unreadable = read(*WEEK, late)
    assert unreadable == (str(late),)
    assert session("2026-11-18") in found.sessions


def test_without_a_time_that_can_be_read_it_tells_from_its_first_session_on():
    assert read(*WEEK, start="?")[0].start == utc("2026-11-16 14:30")
