import pytest

from ktrdr.planning.bars import Bar
from ktrdr.planning.drift import compare

STORED = [Bar(60 * i, 100.0 + i, 101.0 + i, 99.0 + i, 100.5 + i, 1000) for i in range(20)]


def told(change=lambda bar: bar):
    return {bar.start: change(bar) for bar in STORED}


def times(factor):
    return lambda bar: Bar(
        bar.start, *(round(price * factor, 2) for price in bar[1:5]), bar.volume / factor
    )


def test_what_is_told_alike_is_no_drift():
    assert compare(STORED, told()) is None
    assert compare(STORED, {}) is None
    assert compare([], told()) is None


def test_a_revised_bar_is_named_as_it_is_now():
    now = told()
    now[60] = STORED[1]._replace(volume=1200)
    drift = compare(STORED, now)
    assert drift.changed == (now[60],)
    assert drift.ratio is None
    assert drift.words == "IB tells 1 of 20 bars otherwise than before"


@pytest.mark.parametrize(("factor", "words"), [(0.25, "4:1"), (0.1, "10:1"), (10, "1:10")])
def test_a_split_is_a_constant_ratio(factor, words):
    drift = compare(STORED, told(times(factor)))
    assert abs(drift.ratio - factor) < 1e-3
    assert len(drift.changed) == 20
    assert f"ratio of a split ({words}, 20 of 20 bars)" in drift.words


def test_a_ratio_of_two_bars_is_none():
    assert compare(STORED[:2], told(times(0.25))).ratio is None


def test_prices_that_moved_each_in_their_way_are_no_split():
    drift = compare(STORED, told(lambda bar: bar._replace(close=bar.close * (1 + bar.start / 900))))
    assert drift.ratio is None


def test_a_dividend_sized_change_is_no_split():
    assert compare(STORED, told(times(0.995))).ratio is None
