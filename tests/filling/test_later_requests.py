import numpy as np
import pytest

from ktrdr.assessment.series_state import SeriesState
from ktrdr.completeness.gaps import Gap
from ktrdr.filling.later_requests import LaterRequests
from ktrdr.ledger.ledger import Ledger
from ktrdr.market.bars import Answer, Bar
from ktrdr.market.instruments import instrument_for, parse_series
from ktrdr.market.sessions import Expected
from ktrdr.store.csv_store import CsvStore

HOUR, DAY = 3600, 86400
NOW = 400 * DAY
LATE = 150
START = NOW - 10 * DAY
GAP = Gap(START, START, 1)


@pytest.fixture
def ledger(data_dir):
    ledger = Ledger(data_dir / ".ktrdr" / "ledger.sqlite")
    yield ledger
    ledger.close()


@pytest.fixture
def later(ledger):
    return LaterRequests(ledger.absences, LATE)


@pytest.fixture
def state(data_dir):
    return SeriesState(parse_series("AAPL_1m.csv"), instrument_for("AAPL"), CsvStore(data_dir))


@pytest.fixture
def waits(ledger, state):
    """Whether a bar is left alone at a moment, as late."""
    return lambda at: len(ledger.absences.late(state.absence_key, np.array([START]), at)) == 1


def test_what_nothing_was_written_of_is_requested_at_once_and_the_next_times_ever_later(
    later, state, waits
):
    assert not later.put_off(state, [GAP], NOW)
    assert not waits(NOW)
    for wait_s in (LATE, 2 * LATE, 4 * LATE):
        assert later.put_off(state, [GAP], NOW)
        assert waits(NOW + wait_s - 1)
        assert not waits(NOW + wait_s)


def test_it_is_requested_once_a_day_at_least(later, state, waits):
    for _ in range(30):
        later.put_off(state, [GAP], NOW)
    assert waits(NOW + DAY - 1)
    assert not waits(NOW + DAY)


def test_after_something_was_written_it_is_requested_at_once_again(later, state, waits):
    later.put_off(state, [GAP], NOW)
    later.was_written(state)
    assert not later.put_off(state, [GAP], NOW)
    assert not waits(NOW)


def test_a_series_that_is_rebuilt_is_not_taken_for_whole(later, state, waits):
    state.rebuilds_from = 0
    assert [later.put_off(state, [GAP], NOW) for _ in range(3)] == [False, True, True]
    assert not waits(NOW)


def test_bars_missing_from_damaged_answers_are_requested_an_hour_later_then_two(
    later, state, waits
):
    due = Expected(np.array([START, START + 60]), np.array([0, 0]))
    answer = Answer([Bar(START + 60, 1.0, 1.0, 1.0, 1.0, 1.0)])
    for wait_s in (HOUR, 2 * HOUR, 4 * HOUR):
        later.request_unproven(state, answer, due, NOW, None)
        assert waits(NOW + wait_s - 1)
        assert not waits(NOW + wait_s)
