"""The state of a trading day as one character."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktrdr.completeness.coverage import compute_coverage
from ktrdr.completeness.day_states import (
    CHARACTER,
    DayRow,
    DayState,
    row_of,
    row_without_coverage,
    state_of_open,
)
from ktrdr.errors import (
    CompetingSession,
    MalformedFile,
    NotConnected,
    NotEntitled,
    OtherContract,
    PacingViolation,
    PeerDown,
    RequestFailed,
    StoreUnwritable,
    TimedOut,
    UnknownContract,
)
from ktrdr.market.sessions import Expected, Schedule, Session

DAY = 86400
MONDAY = 20003 * DAY  # 2024-10-07


def at(*hours, day=0):
    return np.array([MONDAY + day * DAY + hour * 3600 for hour in hours], np.int64)


NONE = at()


def coverage(present=NONE, absent=NONE, late=NONE, unproven=NONE, kept_from=0, starts=(10, 11)):
    """One day with two expected bars, or those that start at other hours."""
    expected = Expected(at(*starts), np.full(len(starts), MONDAY))
    return compute_coverage(
        expected, present, absent, late, kept_from, (MONDAY, MONDAY + DAY), unproven
    )


def state(parts, open_state=DayState.FILLING, schedule=None, today=MONDAY):
    row = row_of(parts, open_state, schedule, today)
    by_character = {character: one for one, character in CHARACTER.items()}
    assert row.first == MONDAY
    return by_character[row.states]


@pytest.mark.parametrize(
    ("facts", "meant"),
    [
        ({"present": at(10, 11)}, DayState.COMPLETE),
        ({"present": at(10), "absent": at(11)}, DayState.COMPLETE),
        ({"absent": at(10, 11)}, DayState.NO_TRADES),
        ({"present": at(10)}, DayState.FILLING),
        ({}, DayState.FILLING),
        ({"present": at(10), "late": at(11)}, DayState.WAITING),
        ({"present": at(10), "unproven": at(11)}, DayState.WAITING),
        ({"late": at(10)}, DayState.WAITING),  # and the other one is to be requested
        ({"absent": at(10), "unproven": at(11)}, DayState.WAITING),
        ({"present": at(10), "kept_from": MONDAY + DAY}, DayState.OUTSIDE),
        ({"present": at(10, 11), "kept_from": MONDAY + DAY}, DayState.COMPLETE),
        ({"absent": at(10), "kept_from": MONDAY + DAY}, DayState.OUTSIDE),
    ],
)
def test_the_worst_reason_is_the_state_of_the_day(facts, meant):
    assert state([coverage(**facts)]) is meant


@pytest.mark.parametrize("open_state", [DayState.WAITING, DayState.REFUSED, DayState.FAILED])
def test_bars_to_be_requested_may_be_held_up_refused_or_failed(open_state):
    assert state([coverage(present=at(10))], open_state) is open_state
    assert state([coverage(late=at(10))], open_state) is open_state
    assert state([coverage(present=at(10, 11))], open_state) is DayState.COMPLETE


@pytest.mark.parametrize(
    ("error", "meant"),
    [
        (None, DayState.FILLING),
        (NotEntitled(""), DayState.REFUSED),
        (UnknownContract(""), DayState.REFUSED),
        (OtherContract(""), DayState.REFUSED),
        (PacingViolation(""), DayState.WAITING),
        (NotConnected(""), DayState.WAITING),
        (PeerDown(""), DayState.WAITING),
        (RequestFailed(""), DayState.FAILED),
        (TimedOut(""), DayState.FAILED),
        (CompetingSession(""), DayState.FAILED),
        (MalformedFile(""), DayState.FAILED),
        (StoreUnwritable(""), DayState.FAILED),
    ],
)
def test_an_error_says_whether_missing_bars_wait_are_refused_or_failed(error, meant):
    assert state_of_open(error, is_held=False) is meant
    held = DayState.WAITING if error is None else meant
    assert state_of_open(error, is_held=True) is held


def test_a_day_in_two_parts_has_the_worse_state():
    evening = coverage(absent=at(1), starts=(1,), kept_from=MONDAY)
    complete = coverage(present=at(10, 11))
    missing_old = coverage(starts=(1,), kept_from=MONDAY + DAY)
    assert state([evening, complete]) is DayState.COMPLETE
    assert state([missing_old, complete]) is DayState.OUTSIDE
    assert state([missing_old, coverage()]) is DayState.FILLING


def test_a_day_without_a_session_is_closed_as_far_as_the_sessions_are_known():
    sessions = tuple(
        Session(MONDAY + n * DAY + 36000, MONDAY + n * DAY + 43200, MONDAY + n * DAY)
        for n in (0, 2)
    )
    schedule = Schedule("UTC", MONDAY, MONDAY + 4 * DAY, sessions)
    parts = [coverage(present=at(10, 11))]
    today = MONDAY + 3 * DAY
    assert row_of(parts, DayState.FILLING, schedule, today).states == "c. ."
    assert row_of(parts, DayState.FILLING, schedule, today + 2 * DAY).states == "c. .  "
    assert row_of(parts, DayState.FILLING, None, today).states == "c   "


@pytest.mark.parametrize(
    ("facts", "meant"),
    [
        ({"absent": at(10, 11)}, DayState.CLOSED),
        ({"unproven": at(10, 11)}, DayState.WAITING),
        ({"present": at(10), "absent": at(11)}, DayState.COMPLETE),
    ],
)
def test_a_day_that_ibs_sessions_lack_is_a_holiday_once_its_bars_are_proven_absent(facts, meant):
    session = Session(MONDAY + 36000, MONDAY + 43200, MONDAY)
    schedule = Schedule("UTC", MONDAY, MONDAY + DAY, (session,), denied=(MONDAY - DAY, MONDAY))
    assert state([coverage(**facts)], schedule=schedule) is meant


def test_a_session_that_belongs_to_tomorrow_is_shown_there():
    row = row_of([coverage(present=at(10))], DayState.FILLING, None, MONDAY - DAY)
    assert (row.first, row.states, row.newest) == (MONDAY, "f", MONDAY)


def test_a_series_that_cannot_be_assessed_has_one_state_on_all_days_with_sessions():
    saturday, schedule = (
        MONDAY - 2 * DAY,
        Schedule("UTC", MONDAY - DAY, MONDAY + DAY, (Session(MONDAY, MONDAY + 1, MONDAY),)),
    )
    unknown = UnknownContract("")
    assert row_without_coverage(saturday, unknown, None, MONDAY).states == "xxx"
    assert row_without_coverage(saturday, unknown, schedule, MONDAY).states == "x.x"
    assert row_without_coverage(saturday, MalformedFile(""), None, MONDAY).states == "!!!"


def test_a_row_is_cut_and_padded_to_the_days_of_the_grid():
    row = DayRow(MONDAY, "abc")
    assert row.between(MONDAY, 3) == "abc"
    assert row.between(MONDAY - 2 * DAY, 4) == "  ab"
    assert row.between(MONDAY + DAY, 5) == "bc   "
    assert row.between(MONDAY - 5 * DAY, 2) == "  "
    assert row.between(MONDAY + 5 * DAY, 2) == "  "


def test_nothing_known_is_an_empty_row():
    assert row_of([], DayState.FILLING, None, MONDAY).states == ""
    assert row_of([], DayState.FILLING, None, MONDAY).newest is None


FACTS = st.lists(st.sampled_from(["present", "absent", "late", "unproven", "open"]), max_size=40)


@given(facts=FACTS, kept=st.integers(0, 10))
def test_each_character_agrees_with_the_counts_of_its_day(facts, kept):
    starts = MONDAY + 6 * 3600 * np.arange(len(facts), dtype=np.int64)
    days = starts - starts % DAY
    of = {one: starts[[fact == one for fact in facts]] for one in ("present", "absent", "late")}
    unproven = starts[[fact == "unproven" for fact in facts]]
    found = compute_coverage(
        Expected(starts, days), *of.values(), MONDAY + kept * DAY, (MONDAY, 0), unproven
    )
    row = row_of([found], DayState.FILLING, None, MONDAY)
    listed = {(day.day - MONDAY) // DAY: day for day in found.days}
    for place, character in enumerate(row.states):
        if place not in listed:
            assert character == " "
            continue
        day = listed[place]
        missing = {reason.value for reason in day.missing}
        assert (character == "n") == (missing == {"no_trades"} and not day.present)
        assert (character == "w") == bool(missing & {"late", "unproven"})
        assert (character == "f") == ("open" in missing and character != "w")
        is_whole = day.present + day.missing.get("no_trades", 0) == day.expected
        assert (character in "cn") == is_whole
