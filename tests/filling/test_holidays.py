"""A calendar that is not IB's, asked in a process of its own."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from ktrdr.filling.holidays import CALENDARS, closed_days, read_ahead
from ktrdr.market.instruments import instrument_for
from tests.fake_connection import DAY, utc

YEAR = (utc("2026-03-01"), utc("2026-11-20"))


def test_thanksgiving_is_a_holiday_in_new_york_and_none_in_frankfurt():
    thanksgiving = utc("2026-11-26")
    assert thanksgiving in closed_days("NASDAQ", *YEAR)
    assert thanksgiving - DAY not in closed_days("NASDAQ", *YEAR)
    assert thanksgiving not in closed_days("IBIS", *YEAR)


def test_futures_of_chicago_and_new_york_rest_at_christmas():
    for exchange in ("CME", "CBOT", "NYMEX", "COMEX"):
        assert utc("2025-12-25") in closed_days(exchange, utc("2025-12-01"), utc("2025-12-31"))
        assert utc("2025-12-26") not in closed_days(exchange, utc("2025-12-01"), utc("2025-12-31"))


def test_whole_years_are_known():
    assert {utc("2026-01-01"), utc("2026-12-25")} <= closed_days("NYSE", *YEAR)


@pytest.mark.parametrize("exchange", ["", "SMART", "NOWHERE"])
def test_of_an_exchange_that_is_not_known_nothing_is(exchange):
    assert closed_days(exchange, *YEAR) == frozenset()


def test_a_calendar_that_cannot_be_had_has_seen_nothing():
    assert closed_days("KSE", utc("1900-01-01"), utc("1900-01-02")) == frozenset()


def test_names_of_exchanges_are_words():
    assert all(name == name.upper() and " " not in name for name in CALENDARS)


def test_calendars_wanted_at_once_do_not_disturb_each_other():
    read_ahead(instrument_for("AAPL"), *YEAR)
    wanted = [("NYSE", YEAR), ("TSEJ", YEAR), ("KSE", (0, DAY)), ("CME", YEAR), ("NYSE", YEAR)]
    with ThreadPoolExecutor(len(wanted)) as threads:
        found = list(threads.map(lambda one: closed_days(one[0], *one[1]), wanted))
    new_year = utc("2026-01-01")
    assert [new_year in days for days in found] == [True, True, False, True, True]
    assert found[0] == found[4] != found[1]
