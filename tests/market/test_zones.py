"""IB's names of time zones, as its gateways were seen to send them."""

import pytest

from ktrdr.errors import InvalidRequest
from ktrdr.market.zones import EXCHANGE_ZONES, find_zone, zone_of


@pytest.mark.parametrize("name", ["Nowhere/Town", "../etc", "", "America", "GMT+08:00"])
def test_an_unknown_zone_is_named(name):
    with pytest.raises(InvalidRequest, match="time zone"):
        find_zone(name)


def test_a_zone_may_be_spelled_as_old_gateways_do():
    assert find_zone("EST (Eastern Standard Time)").key == "America/New_York"


@pytest.mark.parametrize(
    ("name", "exchange", "zone"),
    [
        ("US/Eastern", "NASDAQ", "US/Eastern"),
        ("IST", "NSE", "Asia/Kolkata"),
        ("IST", "TASE", "Asia/Jerusalem"),
        ("IST", "ISED", "Europe/Dublin"),
        ("IST", "", "Asia/Kolkata"),
        ("HKT", "SEHK", "Asia/Hong_Kong"),
        ("BST", "LSE", "Europe/London"),
        ("AET", "ASX", "Australia/Sydney"),
        ("MEZ", "IBIS", "Europe/Berlin"),
        ("MEZ", "SBF", "Europe/Paris"),
        ("MET", "EBS", "Europe/Zurich"),
        ("CST", "CME", "America/Chicago"),
        ("CST", "SEHKNTL", "Asia/Shanghai"),
        ("EST", "TSE", "America/Toronto"),
        ("EST", "ASX", "Australia/Sydney"),
        ("JST (Japan Standard Time)", "TSEJ", "Asia/Tokyo"),
        ("W. Europe Standard Time", "IBIS", "Europe/Berlin"),
        ("Central European Summer Time", "BVME", "Europe/Rome"),
        ("AUS Eastern Standard Time", "ASX", "Australia/Sydney"),
        ("China Standard Time", "SEHK", "Asia/Hong_Kong"),
        ("Eastern Daylight Time", "NYSE", "America/New_York"),
        ("GMT Standard Time", "LSE", "Europe/London"),
        ("Asia/Calcutta", "NSE", "Asia/Calcutta"),
    ],
)
def test_a_name_means_what_it_means_at_that_exchange(name, exchange, zone):
    assert zone_of([name], exchange) == zone


@pytest.mark.parametrize("names", [[], [""], ["?"], ["Mitteleurop\u00e4ische Zeit", ""]])
def test_without_a_name_that_is_known_the_exchanges_own_zone_counts(names):
    assert zone_of(names, "IBIS") == "Europe/Berlin"


def test_the_first_name_that_is_known_counts():
    assert zone_of(["?", "US/Central"], "NYSE") == "US/Central"


@pytest.mark.parametrize("exchange", ["", "SMART", "NOWHERE"])
def test_where_nothing_is_known_it_is_not_utc(exchange):
    assert zone_of(["", "?"], exchange) == ""


def test_every_zone_of_an_exchange_is_one():
    for zone in EXCHANGE_ZONES.values():
        assert find_zone(zone).key == zone
