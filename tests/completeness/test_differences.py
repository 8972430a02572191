"""Differences from IB's bars: each bar by itself, and those of one manner together."""

import time

import pytest

from ktrdr.completeness.differences import differences, joined
from ktrdr.market.bars import Bar


def bar(n, factor=1.0, shares=1.0):
    low = 100 + n % 17
    prices = [round(price * factor, 2) for price in (low + 0.25, low + 1.5, low, low + 1)]
    return Bar(60 * n, *prices, round((1000 + n % 13) * shares))


def pairs(count, change=lambda _n, new: new):
    """Bars as in a file, and as `change` makes them at IB."""
    return [(bar(n), change(n, bar(n))) for n in range(count)]


def told(found):
    return [(one.first // 60, one.last // 60, one.bars) for one in found]


def test_bars_that_agree_are_no_difference():
    assert differences(pairs(50)) == []


def test_a_bar_that_differs_has_its_values_on_both_sides():
    found = differences(pairs(50, lambda n, b: b._replace(high=b.high + 2) if n == 7 else b))
    (one,) = found
    assert (one.old, one.new, one.last) == (bar(7), bar(7)._replace(high=bar(7).high + 2), 420)
    assert (one.bars, one.price, one.volume, one.words) == (1, None, None, "")


def test_highs_that_are_wrong_in_many_bars_in_a_row_are_listed_one_by_one():
    found = differences(pairs(50, lambda n, b: b._replace(high=b.high * 1.02) if n < 30 else b))
    assert told(found) == [(n, n, 1) for n in range(30)]


def test_the_bars_before_a_split_are_one_difference():
    found = differences(pairs(500, lambda n, b: bar(n, 0.25, 4) if n < 300 else b))
    assert told(found) == [(0, 299, 300)]
    assert found[0].price == pytest.approx(0.25, rel=0.001)
    assert found[0].words == (
        "IB has all prices times 0.25 (a split, 4:1?), and all volumes times 4"
    )


def test_very_many_runs_of_one_manner_take_no_minutes():
    change = lambda n, b: b._replace(volume=b.volume + n % 31 + 1) if n % 12 else b  # noqa: E731
    compared = pairs(60_000, change)
    begun = time.process_time()
    assert len(joined(differences(compared), compared)) == 5_000
    assert time.process_time() - begun < 4


def test_two_splits_are_two_differences():
    change = lambda n, b: bar(n, 1 / 28, 28) if n < 100 else bar(n, 0.25, 4) if n < 300 else b  # noqa: E731
    assert told(differences(pairs(500, change))) == [(0, 99, 100), (100, 299, 200)]


def test_dividends_are_a_difference_each():
    change = lambda n, b: bar(n, 0.988) if n < 100 else bar(n, 0.994) if n < 300 else b  # noqa: E731
    found = differences(pairs(500, change))
    assert told(found) == [(0, 99, 100), (100, 299, 200)]
    assert "IB has all prices times 0.9940" in found[1].words


def test_a_wrong_bar_among_those_before_a_split_is_a_difference_of_its_own():
    def change(n, _bar):
        new = bar(n, 0.25, 4)
        return new._replace(low=new.low - 9) if n == 40 else new

    assert told(differences(pairs(100, change))) == [(0, 39, 40), (40, 40, 1), (41, 99, 59)]


def test_volumes_that_are_counted_otherwise_are_one_difference_where_prices_agree():
    def change(n, b):
        new = b._replace(volume=b.volume - n * n % 89 - 1)
        return new._replace(close=new.close + 0.5) if n == 60 else new

    found = differences(pairs(100, change))
    assert told(found) == [(0, 59, 60), (60, 60, 1), (61, 99, 39)]
    assert found[0].words == "the volumes differ, and no prices"


def test_lots_for_shares_are_one_difference():
    (one,) = differences(pairs(100, lambda n, _: bar(n, 1.0, 100)))
    assert (one.bars, one.words) == (100, "IB has all volumes times 100 (a change of unit?)")


def test_a_few_bars_of_one_factor_are_listed_one_by_one():
    found = differences(pairs(50, lambda n, b: bar(n, 0.5, 2) if 20 <= n < 29 else b))
    assert told(found) == [(n, n, 1) for n in range(20, 29)]


def test_prices_of_another_source_that_differ_a_little_have_no_common_factor():
    found = differences(pairs(40, lambda n, b: b._replace(close=b.close - n % 5 / 100 - 0.01)))
    assert [one.bars for one in found] == [1] * 40


def test_prices_of_zero_are_differences_too():
    zero = Bar(0, 0.0, 0.0, 0.0, 0.0, 0.0)
    some = [(zero._replace(start=60 * n), bar(n)) for n in range(20)]
    assert told(differences(some)) == [(n, n, 1) for n in range(20)]


def test_differences_of_one_factor_become_one_if_no_bar_is_between():
    change = lambda n, _: bar(n, 0.25, 4)  # noqa: E731
    everything = pairs(100, change)
    older, newer = differences(everything[:60]), differences(everything[60:])
    (one,) = joined([*older, *newer], everything[:60])
    assert (one.first, one.last, one.bars) == (0, 99 * 60, 100)
    assert one.old == bar(0)
    assert len(joined([*older, *differences(everything[61:])], everything)) == 2


def test_differences_of_two_factors_do_not_become_one():
    change = lambda n, _: bar(n, 0.25 if n < 60 else 0.5)  # noqa: E731
    everything = pairs(100, change)
    assert told(joined(differences(everything), everything)) == [(0, 59, 60), (60, 99, 40)]
