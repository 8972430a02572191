from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from ktrdr.ib.schedules import read_hours
from ktrdr.market.bars import Bar
from ktrdr.market.sessions import (
    Schedule,
    Session,
    closed,
    due_at,
    expected,
    finished,
    learnt_alignment,
    next_due,
)
from ktrdr.market.timeframes import Timeframe

NEW_YORK = ZoneInfo("America/New_York")


def utc(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def hours(text: str, zone: str) -> Schedule:
    return read_hours(text, zone)[0]


def new_york(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=NEW_YORK).timestamp())


def stock_days(*days: str, close: str = "16:00") -> Schedule:
    sessions = tuple(
        Session(new_york(f"{day} 09:30"), new_york(f"{day} {close}"), utc(day)) for day in days
    )
    return Schedule("America/New_York", utc(days[0]), utc(days[-1]) + 86400, sessions)


def starts(schedule, timeframe, first, last, now="2030-01-01", **options):
    found = expected(schedule, timeframe, utc(first), utc(last), utc(now), **options)
    return [datetime.fromtimestamp(t, UTC).strftime("%m-%d %H:%M") for t in found.starts.tolist()]


def test_hour_bars_of_us_stocks_begin_at_the_open_and_then_on_the_hour():
    friday = stock_days("2026-11-20")
    assert starts(friday, Timeframe.H1, "2026-11-20", "2026-11-21") == [
        "11-20 14:30",
        "11-20 15:00",
        "11-20 16:00",
        "11-20 17:00",
        "11-20 18:00",
        "11-20 19:00",
        "11-20 20:00",
    ]


def test_a_regular_day_has_390_minutes_and_a_half_day_210():
    regular, half = stock_days("2026-11-25"), stock_days("2026-11-27", close="13:00")
    assert len(starts(regular, Timeframe.M1, "2026-11-25", "2026-11-26")) == 390
    assert len(starts(half, Timeframe.M1, "2026-11-27", "2026-11-28")) == 210


def test_nothing_is_expected_between_sessions():
    week = stock_days("2026-11-20", "2026-11-23")
    found = starts(week, Timeframe.M30, "2026-11-20", "2026-11-24")
    assert found[12:14] == ["11-20 20:30", "11-23 14:30"]


def test_sessions_move_with_daylight_saving():
    before, after = stock_days("2026-10-30"), stock_days("2026-11-02")
    assert starts(before, Timeframe.M1, "2026-10-30", "2026-10-31")[0] == "10-30 13:30"
    assert starts(after, Timeframe.M1, "2026-11-02", "2026-11-03")[0] == "11-02 14:30"


def test_it_skips_the_lunch_break():
    tokyo = ZoneInfo("Asia/Tokyo")
    day = datetime(2026, 11, 20, tzinfo=tokyo)

    def at(hour: int, minute: int) -> int:
        return int((day + timedelta(hours=hour, minutes=minute)).timestamp())

    sessions = (
        Session(at(9, 0), at(11, 30), utc("2026-11-20")),
        Session(at(12, 30), at(15, 30), utc("2026-11-20")),
    )
    schedule = Schedule("Asia/Tokyo", utc("2026-11-19"), utc("2026-11-21"), sessions)
    assert starts(schedule, Timeframe.H1, "2026-11-19", "2026-11-21") == [
        "11-20 00:00",
        "11-20 01:00",
        "11-20 02:00",
        "11-20 03:30",
        "11-20 04:00",
        "11-20 05:00",
        "11-20 06:00",
    ]
    assert starts(schedule, Timeframe.D1, "2026-11-19", "2026-11-21") == ["11-20 00:00"]


def test_the_bar_that_is_still_forming_is_not_expected():
    friday = stock_days("2026-11-20")
    found = starts(friday, Timeframe.M5, "2026-11-20", "2026-11-21", now="2026-11-20 14:41")
    assert found == ["11-20 14:30", "11-20 14:35"]


def test_the_last_short_bar_of_a_session_is_due_at_the_close():
    half = stock_days("2026-11-27", close="13:15")
    found = starts(half, Timeframe.H1, "2026-11-27", "2026-11-28", now="2026-11-27 18:16")
    assert found[-1] == "11-27 18:00"


def test_a_daily_bar_is_due_after_the_close_and_dated_by_the_trading_day():
    week = stock_days("2026-11-19", "2026-11-20")
    before = starts(week, Timeframe.D1, "2026-11-19", "2026-11-21", now="2026-11-20 20:59")
    after = starts(week, Timeframe.D1, "2026-11-19", "2026-11-21", now="2026-11-20 21:10")
    assert before == ["11-19 00:00"]
    assert after == ["11-19 00:00", "11-20 00:00"]


def test_only_bars_inside_the_span_count():
    friday = stock_days("2026-11-20")
    found = starts(friday, Timeframe.M15, "2026-11-20 15:00", "2026-11-20 15:30")
    assert found == ["11-20 15:00", "11-20 15:15"]


def test_each_bar_knows_its_trading_day():
    sunday_evening = Session(
        new_york("2026-11-22 17:15"), new_york("2026-11-23 17:00"), utc("2026-11-23")
    )
    forex = Schedule("America/New_York", utc("2026-11-22"), utc("2026-11-24"), (sunday_evening,))
    found = expected(forex, Timeframe.H1, utc("2026-11-22"), utc("2026-11-24"), utc("2026-12-01"))
    assert set(found.days.tolist()) == {utc("2026-11-23")}
    assert found.starts[0] == utc("2026-11-22 22:15")
    assert found.starts[1] == utc("2026-11-22 23:00")


def test_four_hour_bars_are_expected_where_they_were_seen():
    week = stock_days("2026-11-19", "2026-11-20")
    unknown = starts(week, Timeframe.H4, "2026-11-19", "2026-11-21")
    assert unknown == ["11-19 14:30", "11-20 14:30"]
    seen = learnt_alignment(week, [new_york("2026-11-18 09:30"), new_york("2026-11-18 13:30")])
    assert starts(week, Timeframe.H4, "2026-11-19", "2026-11-21", alignment=seen) == [
        "11-19 14:30",
        "11-19 18:30",
        "11-20 14:30",
        "11-20 18:30",
    ]


def test_four_hour_bars_may_begin_before_the_open_where_that_was_seen():
    day = stock_days("2026-11-20")
    seen = learnt_alignment(day, [new_york("2026-11-19 08:00"), new_york("2026-11-19 12:00")])
    found = starts(day, Timeframe.H4, "2026-11-20", "2026-11-21", alignment=seen)
    assert found == ["11-20 13:00", "11-20 17:00"]


def test_the_open_begins_a_four_hour_bar_though_only_the_later_one_was_seen():
    """The answer that showed it may have been cut off at its beginning."""
    day = stock_days("2026-11-20")
    seen = learnt_alignment(day, [new_york("2026-11-19 12:00")])
    found = starts(day, Timeframe.H4, "2026-11-20", "2026-11-21", alignment=seen)
    assert found == ["11-20 14:30", "11-20 17:00"]


def finished_at(schedule, bar, alignment):
    """When a four-hour bar is due, which is also when it is first among the expected ones."""
    due = due_at(schedule, Timeframe.H4, bar, alignment)

    def known(now):
        day = expected(schedule, Timeframe.H4, bar - 86400, bar + 86400, now, alignment=alignment)
        return bar in day.starts.tolist()

    assert (known(due - 1), known(due)) == (False, True)
    return due - 1  # it counts as finished a second later


def minutes(*clocks):
    return frozenset(int(clock[:2]) * 60 + int(clock[3:]) for clock in clocks)


@pytest.mark.parametrize("day", ["2026-10-30", "2026-11-02"])  # the clocks change in between
def test_the_first_four_hour_bar_of_a_session_is_due_when_the_next_one_begins(day):
    schedule, seen = stock_days(day), minutes("09:30", "12:00")
    first, second = new_york(f"{day} 09:30"), new_york(f"{day} 12:00")
    assert finished_at(schedule, first, seen) == second
    assert finished_at(schedule, second, seen) == new_york(f"{day} 16:00")
    assert finished_at(schedule, first, minutes("09:30", "13:30")) == new_york(f"{day} 13:30")
    assert finished_at(schedule, first, frozenset()) == new_york(f"{day} 13:30")


def test_a_half_day_ends_its_last_four_hour_bar():
    half, seen = stock_days("2026-11-27", close="13:00"), minutes("09:30", "12:00")
    assert finished_at(half, new_york("2026-11-27 12:00"), seen) == new_york("2026-11-27 13:00")


def test_four_hour_bars_of_a_session_through_the_night_are_due_one_after_another():
    open_, close = new_york("2026-11-22 17:15"), new_york("2026-11-23 17:00")
    forex = Schedule(
        "America/New_York",
        utc("2026-11-22"),
        utc("2026-11-24"),
        (Session(open_, close, utc("2026-11-23")),),
    )
    seen = minutes("17:15", "20:00", "00:00", "04:00", "08:00", "12:00", "16:00")
    begins = expected(forex, Timeframe.H4, open_, close, close + 600, alignment=seen).starts
    clocks = [datetime.fromtimestamp(t, NEW_YORK).strftime("%H:%M") for t in begins.tolist()]
    assert clocks == ["17:15", "20:00", "00:00", "04:00", "08:00", "12:00", "16:00"]
    dues = [finished_at(forex, begin, seen) for begin in begins.tolist()]
    assert dues == [*begins[1:].tolist(), close]


@pytest.mark.parametrize(
    ("seen", "ends"),
    [
        (("09:00", "12:30"), {"09:00": "11:30", "12:30": "15:30"}),  # the afternoon begins one
        (("09:00", "13:00"), {"09:00": "13:00", "13:00": "15:30"}),  # one goes on after lunch
        (("08:00", "12:00"), {"08:00": "11:30", "12:00": "15:30"}),
    ],
)
def test_a_four_hour_bar_goes_on_after_a_break_unless_another_one_begins(seen, ends):
    tokyo = ZoneInfo("Asia/Tokyo")

    def at(clock):
        return int(datetime.fromisoformat(f"2026-11-20 {clock}").replace(tzinfo=tokyo).timestamp())

    day = utc("2026-11-20")
    sessions = (Session(at("09:00"), at("11:30"), day), Session(at("12:30"), at("15:30"), day))
    schedule = Schedule("Asia/Tokyo", day - 86400, day + 86400, sessions)
    for begin, end in ends.items():
        assert finished_at(schedule, at(begin), minutes(*seen)) == at(end)


def test_while_it_is_not_sure_where_the_next_one_begins_the_whole_length_counts():
    """Bars at multiples in UTC have been seen at other minutes in summer than in winter."""
    day, seen = "2026-11-20", minutes("09:30", "11:00", "12:00", "15:00")
    due = finished_at(stock_days(day), new_york(f"{day} 09:30"), seen)
    assert due == new_york(f"{day} 13:30")


def test_a_late_opening_that_was_seen_once_ends_no_four_hour_bar():
    day, seen = "2026-11-20", minutes("09:30", "10:30", "12:00")
    late = Session(new_york("2026-11-19 10:30"), new_york("2026-11-19 16:00"), utc("2026-11-19"))
    week = stock_days("2026-11-19", day)
    week = replace(week, sessions=(late, week.sessions[1]))
    due = finished_at(week, new_york(f"{day} 09:30"), seen)
    assert due == new_york(f"{day} 12:00")


def test_a_session_that_both_know_is_there_once():
    past = Schedule(
        "UTC",
        utc("2026-11-22"),
        utc("2026-11-24"),
        (
            Session(utc("2026-11-22"), utc("2026-11-23"), utc("2026-11-22")),
            Session(utc("2026-11-23"), utc("2026-11-24"), utc("2026-11-23")),
        ),
    )
    coming = hours("20261123:0000-20261124:0000;20261124:0000-20261125:0000", "UTC")
    days = [s.day for s in past.joined(coming).sessions]
    assert days == [utc("2026-11-22"), utc("2026-11-23"), utc("2026-11-24")]


def test_a_day_that_has_become_a_holiday_is_one():
    week = stock_days("2026-11-25", "2026-11-26", "2026-11-27")
    now_closed = hours("20261126:CLOSED;20261127:0930-20261127:1300", "America/New_York")
    assert [s.day for s in week.joined(now_closed).sessions] == [
        utc("2026-11-25"),
        utc("2026-11-27"),
    ]


def test_past_and_coming_sessions_are_joined():
    joined = stock_days("2026-11-19", "2026-11-20").joined(
        stock_days("2026-11-20", "2026-11-23", close="13:00")
    )
    assert [s.close for s in joined.sessions] == [
        new_york("2026-11-19 16:00"),
        new_york("2026-11-20 13:00"),
        new_york("2026-11-23 13:00"),
    ]
    assert joined.covers(utc("2026-11-19"), utc("2026-11-24"))


def test_usual_sessions_that_ib_has_reported_since_are_no_longer_marked_usual():
    usual = replace(stock_days("2026-11-19", "2026-11-20"), source="hours")
    received = stock_days("2026-11-18", "2026-11-23")
    assert usual.joined(received) == received
    assert usual.joined(stock_days("2026-11-20", "2026-11-23")).source == "hours"


def test_unknown_days_are_not_taken_for_closed():
    past, far = stock_days("2026-11-19"), stock_days("2026-11-25")
    assert past.joined(far) == past


def test_a_bar_is_finished_when_it_is_due_or_its_length_is_over():
    bars = [Bar(utc(f"2026-11-20 {t}"), 1, 1, 1, 1, 0) for t in ("19:00", "20:00", "20:30")]
    due = np.array([utc("2026-11-20 20:00")])
    kept = finished(bars, due, Timeframe.H1, utc("2026-11-20 20:45"))
    assert [b.start for b in kept] == [utc("2026-11-20 19:00"), utc("2026-11-20 20:00")]


def test_the_bars_of_a_long_series_are_found_once_and_told_as_they_are_due():
    first, minutes_a_day = utc("2026-10-01"), 1440
    days = range(first, first + 60 * 86400, 86400)
    always = tuple(Session(day, day + 86400, day) for day in days)
    schedule = Schedule("UTC", first, days[-1] + 86400, always)
    noon = first + 50 * 86400 + 43200

    def minutes_at(now, sessions=schedule):
        return expected(sessions, Timeframe.M1, first, now, now)

    one, other = minutes_at(noon), minutes_at(noon + 3600)
    assert np.shares_memory(one.starts, other.starts)
    assert one.starts.tolist() == list(range(first, noon - 60, 60))
    assert other.starts.tolist() == list(range(first, noon + 3600 - 60, 60))
    assert set(other.days[-minutes_a_day // 2 :].tolist()) == {days[50]}
    next_day = minutes_at(noon + 86400 - 49)
    assert next_day.starts.tolist() == list(range(first, noon + 86400 - 60, 60))
    holiday = replace(schedule, sessions=(*always[:30], *always[31:]))
    assert len(minutes_at(noon, holiday).starts) == len(one.starts) - minutes_a_day
    with pytest.raises(ValueError, match="read-only"):
        one.starts[0] = 0


FRIDAY_AND_MONDAY = stock_days("2026-11-20", "2026-11-23")


@pytest.mark.parametrize(
    ("start", "timeframe", "is_closed"),
    [
        ("2026-11-20 14:29", Timeframe.M1, True),  # it ends with the open
        ("2026-11-20 14:30", Timeframe.M1, False),
        ("2026-11-20 20:59", Timeframe.M1, False),
        ("2026-11-20 21:00", Timeframe.M1, True),
        ("2026-11-20 14:00", Timeframe.H1, False),  # half of it is in the session
        ("2026-11-21 16:00", Timeframe.H4, True),
        ("2026-11-19 16:00", Timeframe.H1, False),  # nothing is known of that day
        ("2026-11-23 21:00", Timeframe.M1, True),
        ("2026-11-23 22:00", Timeframe.H4, False),  # its end is beyond what is known
        ("2026-11-20 00:00", Timeframe.D1, False),
        ("2026-11-21 00:00", Timeframe.D1, True),
    ],
)
def test_a_bar_is_closed_if_it_overlaps_no_session(start, timeframe, is_closed):
    found = closed(np.array([utc(start)]), FRIDAY_AND_MONDAY, timeframe)
    assert found.tolist() == [is_closed]


def test_sessions_that_are_only_the_usual_ones_close_nothing():
    usual = replace(FRIDAY_AND_MONDAY, source="hours")
    assert not closed(np.array([utc("2026-11-21 16:00")]), usual, Timeframe.H1).any()
    unknown = replace(FRIDAY_AND_MONDAY, sessions=())
    assert closed(np.array([utc("2026-11-21 16:00")]), unknown, Timeframe.H1).all()


def due_after(schedule, timeframe, now):
    found = next_due(schedule, timeframe, utc(now), frozenset())
    return found and datetime.fromtimestamp(found, UTC).strftime("%m-%d %H:%M:%S")


@pytest.mark.parametrize(
    ("timeframe", "now", "due"),
    [
        (Timeframe.M1, "2026-11-20 14:30:30", "11-20 14:31:01"),
        (Timeframe.M1, "2026-11-20 14:31:00", "11-20 14:31:01"),
        (Timeframe.M1, "2026-11-20 14:31:01", "11-20 14:32:01"),
        (Timeframe.M1, "2026-11-20 20:59:30", "11-20 21:00:01"),
        (Timeframe.M1, "2026-11-20 21:00:00", "11-20 21:00:01"),
        (Timeframe.M1, "2026-11-20 21:00:01", "11-23 14:31:01"),  # over the weekend
        (Timeframe.M1, "2026-11-23 21:00:01", None),
        (Timeframe.M5, "2026-11-20 14:31:01", "11-20 14:35:01"),
        (Timeframe.H1, "2026-11-20 14:31:01", "11-20 15:00:01"),
        (Timeframe.H1, "2026-11-20 12:00", "11-20 15:00:01"),
        (Timeframe.H4, "2026-11-20 21:00:01", "11-23 18:30:01"),
        (Timeframe.D1, "2026-11-20 14:31:01", "11-20 21:05:00"),
        (Timeframe.D1, "2026-11-20 21:05:00", "11-23 21:05:00"),
        (Timeframe.D1, "2026-11-22 21:05:00", "11-23 21:05:00"),
    ],
)
def test_the_next_bar_is_due_a_second_after_its_end(timeframe, now, due):
    assert due_after(stock_days("2026-11-20", "2026-11-23"), timeframe, now) == due
