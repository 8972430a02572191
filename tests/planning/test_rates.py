import pytest

from ktrdr.planning.rates import Rates
from ktrdr.planning.timeframes import Timeframe

M1, D1 = Timeframe.M1, Timeframe.D1


def test_nothing_missing_takes_no_time_and_something_unknown_an_unknown_one():
    rates = Rates()
    assert rates.seconds({}) == rates.seconds({M1: 0}) == 0
    assert rates.seconds({M1: 100}) is None


def test_a_steady_rate_is_the_time_that_is_left():
    rates = Rates()
    for second in range(60):
        rates.busy(second)
        rates.answered(M1, 2000, took_s=4)  # several at once: 2,000 bars come every second
    assert rates.seconds({M1: 100_000}) == pytest.approx(50, rel=0.05)


def test_bars_of_a_day_cost_more_than_those_of_a_minute():
    rates = Rates()
    for second in range(60):
        rates.busy(second)
        rates.answered(M1, 1000, took_s=1)
        rates.answered(D1, 10, took_s=1)
    assert rates.seconds({M1: 6000}) == pytest.approx(3, rel=0.1)
    assert rates.seconds({D1: 60}) == pytest.approx(3, rel=0.1)


def test_a_pause_is_not_counted():
    rates = Rates()
    for begin in (0, 10_000):
        for second in range(30):
            rates.busy(begin + second)
            rates.answered(M1, 1000, took_s=1)
        rates.idle()
    assert rates.seconds({M1: 5000}) == pytest.approx(5, rel=0.1)


def test_it_follows_when_everything_becomes_slower():
    rates = Rates()
    for second in range(30):
        rates.busy(second)
        rates.answered(M1, 1000, took_s=1)
    for second in range(30, 90):
        rates.busy(second)
        rates.answered(M1, 100, took_s=1)
    assert rates.seconds({M1: 1000}) == pytest.approx(10, rel=0.2)
