from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktrdr.check.defects import (
    Defect,
    fixable,
    impossible,
    sessions_from,
    unfinished,
)
from ktrdr.market.bars import Bar
from ktrdr.market.instruments import Instrument
from ktrdr.market.sessions import Schedule, Session
from ktrdr.market.timeframes import Timeframe


def utc(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


FRIDAY = utc("2026-11-27")
SHORTENED = Session(utc("2026-11-27 14:30"), utc("2026-11-27 18:15"), FRIDAY)
"""A session that closes at a quarter past the hour, so that its last bars are shorter."""
SESSIONS = sessions_from(
    Schedule("America/New_York", utc("2026-11-26"), utc("2026-11-28"), (SHORTENED,)),
    frozenset(),
    Instrument("AAPL"),
)
NUMBERS = st.sampled_from([-2.0, -1.0, -0.5, 0.0, 1.0, 2.5])


def judged(timeframe, text, now, sessions=SESSIONS):
    sure, doubtful = unfinished(np.array([utc(text)]), timeframe, sessions, utc(now))
    return "unfinished" if sure[0] else "doubtful" if doubtful[0] else "over"


@given(st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS), min_size=1))
def test_bars_are_possible_when_each_alone_is(rows):
    found = impossible(*np.array(rows).T)
    assert found.tolist() == [not Bar(0, *row).is_sound for row in rows]


@pytest.mark.parametrize(
    ("timeframe", "start", "now", "expected"),
    [
        (Timeframe.M1, "2026-11-27 15:00", "2026-11-27 15:01", "over"),
        (Timeframe.M1, "2026-11-27 15:00", "2026-11-27 15:00:59", "unfinished"),
        (Timeframe.H1, "2026-11-27 17:00", "2026-11-27 18:00", "over"),
        (Timeframe.H1, "2026-11-27 17:00", "2026-11-27 17:59:59", "unfinished"),
        (Timeframe.H1, "2026-11-27 18:00", "2026-11-27 18:15", "over"),
        (Timeframe.H1, "2026-11-27 18:00", "2026-11-27 18:14:59", "unfinished"),
        (Timeframe.H1, "2026-11-27 21:00", "2026-11-27 21:30", "doubtful"),
        (Timeframe.D1, "2026-11-27", "2026-11-27 18:15", "over"),
        (Timeframe.D1, "2026-11-27", "2026-11-27 18:14:59", "unfinished"),
        (Timeframe.D1, "2026-11-28", "2026-11-27 18:15", "unfinished"),
        (Timeframe.D1, "2026-11-26", "2026-11-26 18:15", "doubtful"),
        (Timeframe.D1, "2026-11-26", "2026-11-27", "over"),
    ],
)
def test_a_bar_is_over_when_its_session_says_so(timeframe, start, now, expected):
    assert judged(timeframe, start, now) == expected


@pytest.mark.parametrize(
    ("timeframe", "start", "expected"),
    [
        (Timeframe.M1, "2026-11-27 16:30", "unfinished"),
        (Timeframe.H1, "2026-11-27 16:00", "doubtful"),
        (Timeframe.H1, "2026-11-27 17:00", "unfinished"),
        (Timeframe.D1, "2026-11-27", "doubtful"),
        (Timeframe.D1, "2026-11-28", "unfinished"),
        (Timeframe.D1, "2026-11-26", "over"),
    ],
)
def test_without_sessions_only_a_minute_and_the_future_are_sure(timeframe, start, expected):
    assert judged(timeframe, start, "2026-11-27 16:30:30", None) == expected


def test_sessions_that_are_guesses_prove_nothing():
    guessed = Schedule("UTC", 0, 100, (), "rules")
    assert sessions_from(guessed, frozenset(), Instrument("AAPL")) is None
    assert sessions_from(None, frozenset(), Instrument("AAPL")) is None


def test_rows_are_sorted_only_where_each_has_a_time():
    disorder = {Defect.UNORDERED, Defect.DOUBLE, Defect.BLANK}
    assert fixable(disorder, drop_unfinished=False) == disorder
    for placeless in (Defect.NO_TIME, Defect.TOO_LONG):
        found = fixable({*disorder, placeless}, drop_unfinished=False)
        assert found == {Defect.BLANK}


def test_rows_that_lack_a_value_are_dropped_where_most_have_all():
    found = {Defect.NO_VALUE}
    assert fixable(found, drop_unfinished=False, drop_incomplete=True) == found
    assert not fixable(found, drop_unfinished=False, drop_incomplete=False)


def test_without_a_header_nothing_is_fixed():
    assert not fixable({Defect.HEADER, Defect.BLANK, Defect.TORN}, drop_unfinished=True)


def test_what_needs_a_person_is_never_fixed():
    by_person = {Defect.CONFLICT, Defect.NO_NUMBER, Defect.FIELDS, Defect.IMPOSSIBLE, Defect.UNEVEN}
    assert not fixable({*by_person, Defect.UNFINISHED}, drop_unfinished=False)
    assert fixable({*by_person, Defect.UNFINISHED}, drop_unfinished=True) == {Defect.UNFINISHED}


@pytest.mark.parametrize("defect", Defect)
def test_every_defect_has_a_description_and_a_fix(defect):
    assert defect.what
    assert defect.fix
    assert defect.refusal.startswith("a person must decide")
