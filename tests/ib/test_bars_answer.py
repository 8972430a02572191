"""What is made of the bars of one answer; the times are those of one day of 5-minute bars."""

from datetime import UTC, datetime

import numpy as np
import pytest

from ktrdr.ib import bars_answer
from ktrdr.ib.bars_answer import ReceivedBars, start_of, start_of_odd
from ktrdr.ib.raw_messages import OddBar
from ktrdr.market.bars import Bar
from ktrdr.market.bars_request import BarsRequest
from ktrdr.market.instruments import instrument_for
from ktrdr.market.timeframes import Timeframe

START = 1793624400
NOW = START + 86400
REQUEST = BarsRequest(instrument_for("AAPL"), Timeframe.M5, START, START + 3600)


def bar(number: int, close: float = 2.0, volume: float = 100.0) -> Bar:
    return Bar(START + number * 300, 1.5, 2.5, 0.5, close, volume)


def checked(request, found, unreadable, now):
    """What is made of these bars."""
    return bars_answer.checked(request, np.array(found, dtype=float), unreadable, now)


def read(text: str) -> int | None:
    """A time as seconds."""
    return int(text) if text.isdigit() else None


@pytest.mark.parametrize(
    ("now", "after"),
    [
        (START + 86400, 13),  # IB was told an end of one bar later
        (START + 3600, 12),
        (START + 3900, 13),
        (START + 3600 + 299, 12),  # the bar after the last is under way
    ],
)
def test_only_what_is_asked_for_is_answered_and_whole_bars_beside_it_are_told(now, after):
    found = [bar(n) for n in range(-8, 20)]
    answer, wrong = checked(REQUEST, found, set(), now)
    assert answer.bars == [bar(n) for n in range(12)]
    assert answer.neighbours == tuple(bar(n) for n in (*range(-5, 0), *range(12, after)))
    assert (answer.invalid, wrong) == ((), [])


def test_of_a_contract_that_has_no_other_end_than_now_five_beside_it_are_told():
    future = instrument_for("ES", {"sec_type": "CONTFUT", "exchange": "CME"})
    request = BarsRequest(future, Timeframe.M5, START, START + 3600)
    answer, _ = checked(request, [bar(n) for n in range(30)], set(), START + 7200)
    assert answer.neighbours == tuple(bar(n) for n in range(12, 17))


def test_of_two_that_contradict_each_other_neither_is_taken():
    answer, wrong = checked(REQUEST, [bar(0), bar(1), bar(1, close=2.1)], set(), NOW)
    assert answer.bars == [bar(0)]
    assert answer.invalid == (bar(1).start,)
    assert wrong == [bar(1, close=2.1)]


def test_one_that_comes_twice_alike_is_one():
    answer, wrong = checked(REQUEST, [bar(1), bar(0), bar(1)], set(), NOW)
    assert answer.bars == [bar(0), bar(1)]
    assert wrong == []


@pytest.mark.parametrize(
    "odd",
    [
        Bar(START, 0, 0, 0, 0, 5),
        bar(0, volume=float(2**63 - 1)),
        Bar(START + 7, 1.5, 2.5, 0.5, 2.0, 100),
        bar(0, close=9.0),  # above its high
    ],
)
def test_what_cannot_be_true_is_left_out_and_named(odd):
    answer, wrong = checked(REQUEST, [odd, bar(1)], set(), NOW)
    assert answer.bars == [bar(1)]
    assert answer.invalid == (odd.start,)
    assert wrong == [odd]


def test_an_unreadable_bar_is_named_unless_another_of_the_same_start_is_sound():
    answer, _ = checked(REQUEST, [bar(1)], {bar(1).start, bar(2).start}, NOW)
    assert answer.invalid == (bar(2).start,)


@pytest.mark.parametrize(
    ("time", "before", "start"),
    [
        (str(START + 600), "", START + 600),
        ("?", str(START + 600), START + 900),
        ("?", "", START),
        ("?", str(START + 7200), START + 3300),  # the last that was asked for
    ],
)
def test_a_bar_that_cannot_be_read_begins_at_its_time_or_after_the_one_before(time, before, start):
    assert start_of_odd(OddBar(time, before, ""), REQUEST, read) == start


def test_a_day_begins_at_midnight_utc_and_a_time_without_zone_is_none():
    assert start_of(datetime(2026, 11, 2, tzinfo=UTC).date()) == 1793577600
    assert start_of("2026-11-02") == 1793577600
    with pytest.raises(ValueError, match="no zone"):
        start_of(datetime(2026, 11, 2, 9, 30))  # noqa: DTZ001  as the library may read it


def test_bars_in_columns_come_back_as_they_went_in():
    class Theirs:
        date, open, high, low, close, volume = "2026-11-02", 1.5, 2.5, 0.5, 2.0, 100

    columns = ReceivedBars()
    columns.append(Theirs)
    assert list(columns) == [Bar(1793577600, 1.5, 2.5, 0.5, 2.0, 100)]
    columns.clear()
    assert len(columns) == 0
