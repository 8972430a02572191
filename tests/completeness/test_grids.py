"""Bars that begin at other minutes than they are expected."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from ktrdr.completeness.grids import Grid, after, find_grid, is_accepted, shown
from ktrdr.market.sessions import Schedule, Session, expected
from ktrdr.market.timeframes import Timeframe

NEW_YORK = ZoneInfo("America/New_York")
NOW = 1_800_000_000
M15, H1 = Timeframe.M15, Timeframe.H1
USUAL = frozenset()


def at(*texts):
    """Instants of New York, ascending."""
    moments = [datetime.fromisoformat(f"2026-{text}").replace(tzinfo=NEW_YORK) for text in texts]
    return np.array([int(moment.timestamp()) for moment in moments], np.int64)


def clock(day, text):
    return [f"{day} {time}" for time in text.split()]


def session(day):
    opens, closes = at(f"{day} 09:30", f"{day} 16:00").tolist()
    return Session(opens, closes, opens - opens % 86400)


SCHEDULE = Schedule(
    "America/New_York",
    *(int(datetime(2026, month, 1, tzinfo=UTC).timestamp()) for month in (10, 12)),
    tuple(session(day) for day in ("10-30", "11-02", "11-20")),
)
"""New York leaves daylight saving time on 2026-11-01."""


def minute(*starts, timeframe=H1, alignment=USUAL):
    return find_grid(at(*starts), SCHEDULE, timeframe, alignment).minute


def test_bars_that_begin_half_an_hour_later_are_of_another_grid():
    assert minute(*clock("11-20", "09:30 10:30 11:30 12:30")) == 30


def test_it_is_the_same_grid_on_both_sides_of_a_change_of_the_clocks():
    days = [*clock("10-30", "14:30 15:30"), *clock("11-02", "09:30 10:30 11:30")]
    assert minute(*days) == 30


@pytest.mark.parametrize(
    "times",
    [
        "09:30 10:00 11:00 12:00",
        "09:30",
        "",
        "09:30 10:30 11:30",  # so few can be odd ones
        "10:00 11:00 11:30 12:00 13:00",  # a single odd one
        "09:30 10:30 11:30 12:30 14:00 15:00",  # some shifted ones among good ones
        "09:30 10:20 11:30 12:20 13:40",  # of several grids
    ],
)
def test_odd_bars_are_no_grid(times):
    assert minute(*clock("11-20", times)) is None


def test_a_grid_that_was_learnt_is_met_and_the_usual_one_is_another():
    learnt = frozenset({30})
    met = find_grid(at(*clock("11-20", "09:30 10:30 11:30 12:30")), SCHEDULE, H1, learnt)
    assert (met.minute, met.is_met, met.odd.any()) == (None, True, False)
    assert minute(*clock("11-20", "10:00 11:00 12:00"), alignment=learnt) == 0


@pytest.mark.parametrize("timeframe", [Timeframe.M1, Timeframe.H4, Timeframe.D1])
def test_minutes_four_hours_and_days_have_no_grid_to_learn(timeframe):
    found = find_grid(at(*clock("11-20", "10:07 11:07 12:07 13:07")), SCHEDULE, timeframe, USUAL)
    assert (found.minute, found.odd.any(), found.is_met) == (None, False, False)


def test_bars_at_times_without_trading_say_nothing():
    found = find_grid(at(*clock("11-21", "10:30 11:30 12:30 13:30")), SCHEDULE, H1, USUAL)
    assert (found.minute, found.odd.any(), found.is_met) == (None, False, False)


def unlikely(times, stored=()):
    starts = at(*clock("11-20", times))
    found = find_grid(starts, SCHEDULE, H1, USUAL).unlikely(at(*stored))
    return [f"{datetime.fromtimestamp(t, NEW_YORK):%H:%M}" for t in starts[found].tolist()]


def test_odd_bars_are_unlikely_and_a_first_bar_that_ends_where_one_begins():
    assert unlikely("09:30 10:30 12:00 13:20 14:00") == ["09:30", "10:30", "13:20"]
    assert unlikely("09:30 10:00 11:20") == ["11:20"]


def test_odd_bars_that_are_stored_are_true():
    assert unlikely("09:30 10:00 11:20 12:20 12:30", ["11-20 11:20"]) == ["12:20", "12:30"]


def test_all_of_an_answer_on_another_grid_is_unlikely():
    assert unlikely("09:30 10:30 11:30 12:30") == ["09:30", "10:30", "11:30", "12:30"]


def received(*answers):
    """What is known after answers, each of its bars' times and when it was asked for."""
    grid = Grid()
    for times, requested_at in answers:
        grid = after(grid, find_grid(at(*clock("11-20", times)), SCHEDULE, H1, USUAL), requested_at)
    return grid


HALVES, USUALLY, OTHERS = "09:30 10:30 11:30 12:30", "09:30 10:00 11:00", "10:20 11:20 12:20"


def test_another_grid_is_accepted_when_it_is_received_again_some_minutes_later():
    once, at_once, again = (
        received((HALVES, NOW), *more)
        for more in ((), ((HALVES, NOW + 10),), ((HALVES, NOW + 300),))
    )
    accepted = [is_accepted(grid, is_against=False) for grid in (once, at_once, again)]
    assert accepted == [False, False, True]
    assert again.seen == 30


@pytest.mark.parametrize("between", [USUALLY, OTHERS, "10:30 12:00 13:00"])
def test_what_is_received_differently_in_between_is_counted_anew(between):
    grid = received((HALVES, NOW), (between, NOW + 300), (HALVES, NOW + 600))
    assert (grid.seen, grid.times, grid.first_at) == (30, 1, NOW + 600)


@pytest.mark.parametrize("between", ["", "09:30"])
def test_an_answer_that_says_nothing_of_it_denies_nothing(between):
    grid = received((HALVES, NOW), (between, NOW + 200), (HALVES, NOW + 400))
    assert is_accepted(grid, is_against=False)


def test_against_bars_that_are_stored_it_is_accepted_only_on_another_day():
    hours = [(HALVES, NOW + 3600 * hour) for hour in (0, 1, 24, 26)]
    accepted = [
        is_accepted(received(*hours[: count + 1]), is_against=True) for count in range(len(hours))
    ]
    assert accepted == [False, False, False, True]


def test_it_is_requested_again_less_and_less_often():
    grids = [Grid(0, 30, times, NOW, NOW) for times in (0, 1, 2, 3, 40, 4000)]
    assert [grid.again_s for grid in grids] == [300, 300, 600, 1200, 6 * 3600, 6 * 3600]


def test_expected_bars_follow_the_grid_that_was_learnt():
    first, last = at("11-20 00:00", "11-21 00:00").tolist()
    hours = expected(SCHEDULE, H1, first, last, last, alignment=frozenset({30})).starts
    assert (
        hours.tolist() == at(*clock("11-20", "09:30 10:30 11:30 12:30 13:30 14:30 15:30")).tolist()
    )
    quarters = expected(SCHEDULE, M15, first, last, last, alignment=frozenset({5})).starts
    assert quarters[:3].tolist() == at(*clock("11-20", "09:30 09:35 09:50")).tolist()
    assert len(quarters) == 27


def test_the_last_bar_of_a_grid_is_due_when_the_session_is_over():
    first, now = at("11-20 00:00", "11-20 16:01").tolist()
    assert expected(SCHEDULE, H1, first, now, now, alignment=frozenset({20})).starts[-1] == at(
        "11-20 15:20"
    )


def test_a_grid_is_shown_by_the_exchanges_clock():
    assert shown(SCHEDULE, H1, USUAL) == "09:30, 10:00, 11:00 …"
    assert shown(SCHEDULE, H1, frozenset({30})) == "09:30, 10:30, 11:30 …"
