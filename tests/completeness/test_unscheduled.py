"""Bars at times at which SCHEDULE has no trading."""

from datetime import UTC, datetime

import numpy as np
import pytest

from ktrdr.completeness.unscheduled import screen, sessions_of, with_sessions, with_unscheduled
from ktrdr.market.bars import Bar
from ktrdr.market.sessions import Expected, Schedule, Session
from ktrdr.market.timeframes import DAY_S, Timeframe


def utc(text):
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


FRIDAY, SATURDAY = utc("2026-11-20"), utc("2026-11-21")
OPEN = utc("2026-11-21 15:00")
NOW = utc("2026-11-23 09:00")
WEEKS = [day for day in range(utc("2026-11-02"), SATURDAY, DAY_S) if (day // DAY_S + 3) % 7 < 5]
SCHEDULE = Schedule(
    "America/New_York",
    WEEKS[0],
    NOW,
    tuple(Session(day + 52_200, day + 75_600, day) for day in WEEKS),
)


def bars(count, start=OPEN, close=100.0):
    return [Bar(start + 60 * n, 100.0, 101.0, 99.0, close, 10.0) for n in range(count)]


def received(*answers):
    """What is believed in each of these answers, each of bars and when it was asked for."""
    known, accepted = {}, []
    for found, requested_at in answers:
        screened = screen(known, found, requested_at)
        known = {t: one for t, one in known.items() if t not in {b.start for b in found}}
        known |= screened.unverified
        accepted.append(len(screened.accepted))
    return accepted


def test_many_bars_are_accepted_when_they_are_received_again_a_while_later():
    assert received((bars(60), NOW), (bars(60), NOW + 60), (bars(60), NOW + 300)) == [0, 0, 60]


def test_a_few_are_accepted_only_on_another_day():
    answers = [(bars(2), NOW + hours * 3600) for hours in (0, 1, 24, 26)]
    assert received(*answers) == [0, 0, 0, 2]


def test_what_is_received_differently_is_counted_anew():
    assert received((bars(60), NOW), (bars(60, close=100.5), NOW + 300), (bars(60), NOW + 600)) == [
        0,
        0,
        0,
    ]


@pytest.mark.parametrize(("lacking", "accepted"), [(0, 60), (29, 60), (30, 0), (120, 0), (200, 60)])
def test_if_as_many_are_missing_they_are_accepted_only_on_another_day(lacking, accepted):
    """Its bars were moved, it seems."""
    known = screen({}, bars(60), NOW).unverified
    again = screen(known, bars(60), NOW + 600, lacking)
    assert len(again.accepted) == accepted
    later = screen(again.unverified, bars(60), NOW + 26 * 3600, lacking)
    assert len(again.accepted) + len(later.accepted) >= 60


def test_volumes_may_grow_in_the_meantime():
    grown = [bar._replace(volume=11.0) for bar in bars(60)]
    assert received((bars(60), NOW), (grown, NOW + 300)) == [0, 60]


def test_bars_of_a_saturday_are_a_session():
    starts = [bar.start for bar in bars(60)]
    assert sessions_of(starts, SCHEDULE, Timeframe.M1) == [Session(OPEN, OPEN + 3600, SATURDAY)]


def test_bars_around_a_session_are_two_and_overlap_none():
    before = [bar.start for bar in bars(30, FRIDAY + 52_200 - 1800)]
    after = [bar.start for bar in bars(30, FRIDAY + 75_600)]
    found = sessions_of([*after, *before], SCHEDULE, Timeframe.M1)
    assert found == [
        Session(FRIDAY + 50_400, FRIDAY + 52_200, FRIDAY),
        Session(FRIDAY + 75_600, FRIDAY + 77_400, FRIDAY),
    ]
    assert not any(SCHEDULE.overlaps(session) for session in found)


def test_a_long_bar_begins_no_session_before_another_has_ended():
    found = sessions_of([FRIDAY + 72_000], SCHEDULE, Timeframe.H4)
    assert found == [Session(FRIDAY + 75_600, FRIDAY + 86_400, FRIDAY)]


@pytest.mark.parametrize(("weekday", "opens"), [("2026-11-15", 52_200), ("2026-10-31", 48_600)])
def test_a_daily_bar_has_the_opening_times_of_the_nearest_day(weekday, opens):
    day = utc(weekday)
    wanted = [Session(day + opens, day + opens + 23_400, day)]
    assert sessions_of([day], SCHEDULE, Timeframe.D1) == wanted


def test_sessions_that_are_added_are_denied_by_schedule_but_for_those_of_its_days():
    more = [Session(OPEN, OPEN + 3600, SATURDAY), Session(FRIDAY + 75_600, FRIDAY + 77_400, FRIDAY)]
    both = with_sessions(SCHEDULE, more)
    assert set(both.sessions) == {*SCHEDULE.sessions, *more}
    assert list(both.sessions) == sorted(both.sessions)
    assert both.denied == (SATURDAY,)


def test_they_are_expected_with_the_others_in_order():
    known = Expected(np.array([10, 30]) * DAY_S, np.array([10, 30]) * DAY_S)
    more = np.array([20 * DAY_S + 54_000, 30 * DAY_S])
    found = with_unscheduled(known, more, SCHEDULE, Timeframe.M1)
    assert found.starts.tolist() == [10 * DAY_S, 20 * DAY_S + 54_000, 30 * DAY_S]
    assert found.days.tolist() == [10 * DAY_S, 20 * DAY_S, 30 * DAY_S]


def test_while_it_is_not_sure_what_time_it_is_no_answer_counts():
    once = screen({}, bars(60), NOW - DAY_S, is_sure=False)
    again = screen(once.unverified, bars(60), NOW, is_sure=False)
    assert again.accepted == []
    first = screen(again.unverified, bars(60), NOW + 300)
    assert first.accepted == []
    assert len(screen(first.unverified, bars(60), NOW + 600).accepted) == 60
