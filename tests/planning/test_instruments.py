from datetime import date

import pytest

from ktrdr.errors import Misconfigured
from ktrdr.planning.instruments import (
    Series,
    check_symbol,
    instrument_for,
    parse_series,
    read_instruments,
)
from ktrdr.planning.timeframes import Timeframe


@pytest.mark.parametrize(
    ("name", "symbol", "timeframe"),
    [
        ("AAPL_1m.csv", "AAPL", Timeframe.M1),
        ("BRK B_1d.csv", "BRK B", Timeframe.D1),
        ("A_B_4h.csv", "A_B", Timeframe.H4),
        ("BF.B_15m.csv", "BF.B", Timeframe.M15),
    ],
)
def test_a_file_name_is_a_series(name, symbol, timeframe):
    assert parse_series(name) == Series(symbol, timeframe)
    assert parse_series(name).file_name == name


@pytest.mark.parametrize(
    "name", ["AAPL.csv", "AAPL_2m.csv", "AAPL_1m.txt", "_1m.csv", "A  B_1m.csv", ".._1m.csv", "1m"]
)
def test_other_names_are_none(name):
    with pytest.raises(ValueError, match="expected"):
        parse_series(name)


@pytest.mark.parametrize(
    "symbol", ["../../etc/passwd", "", " A", "A ", "A\n", "A/B", "A\\B", ".A", "Ä", "A" * 41]
)
def test_a_symbol_that_could_leave_the_folder_is_refused(symbol):
    with pytest.raises(ValueError, match="letters, digits"):
        check_symbol(symbol)


def test_without_an_entry_a_symbol_is_a_stock():
    stock = instrument_for("AAPL")
    assert (stock.sec_type, stock.exchange, stock.currency) == ("STK", "SMART", "USD")
    assert (stock.what_to_show, stock.extended_hours) == ("TRADES", False)
    assert (stock.ib_symbol, stock.local_symbol) == ("AAPL", "")


def test_two_currency_codes_are_forex():
    pair = instrument_for("USDJPY")
    assert (pair.sec_type, pair.exchange, pair.currency) == ("CASH", "IDEALPRO", "JPY")
    assert (pair.ib_symbol, pair.what_to_show) == ("USD", "MIDPOINT")


@pytest.mark.parametrize("symbol", ["GOOGLE", "USDUSD", "USDXXX"])
def test_six_letters_that_are_no_currencies_are_a_stock(symbol):
    assert instrument_for(symbol).sec_type == "STK"


@pytest.mark.parametrize(
    ("symbol", "exchange"),
    [("6EH4", "CME"), ("ESZ6", "CME"), ("CLF27", "NYMEX"), ("GCG7", "COMEX")],
)
def test_a_dated_future_is_known_by_its_name(symbol, exchange):
    future = instrument_for(symbol)
    assert (future.sec_type, future.exchange, future.local_symbol) == ("FUT", exchange, symbol)
    assert (future.ib_symbol, future.what_to_show, future.extended_hours) == ("", "TRADES", True)


def test_a_future_may_be_named_by_its_root_and_expiry():
    future = instrument_for("ES", {"sec_type": "FUT", "expiry": "202612"})
    assert (future.ib_symbol, future.local_symbol, future.expiry) == ("ES", "", "202612")


def test_crypto_shows_aggregated_trades_at_all_hours():
    coin = instrument_for("BTC", {"sec_type": "CRYPTO"})
    assert (coin.exchange, coin.what_to_show, coin.extended_hours) == ("PAXOS", "AGGTRADES", True)


def test_an_entry_wins_over_what_is_guessed():
    text = '[AAPL]\nextended_hours = true\nprimary_exchange = "NASDAQ"\nsince = 2020-01-02\n'
    stock = instrument_for("AAPL", read_instruments(text)["AAPL"])
    assert (stock.extended_hours, stock.primary_exchange) == (True, "NASDAQ")
    assert stock.since_for(Timeframe.H1) == date(2020, 1, 2)


def test_since_may_differ_by_timeframe():
    text = '[AAPL]\nsince = { "1d" = 2005-01-01 }\n'
    stock = instrument_for("AAPL", read_instruments(text)["AAPL"])
    assert stock.since_for(Timeframe.D1) == date(2005, 1, 1)
    assert stock.since_for(Timeframe.M1) is None


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[AAPL\n", "instruments.toml"),
        ("AAPL = 3\n", "AAPL"),
        ('["../x"]\n', "../x"),
        ('[AAPL]\nsec_typ = "STK"\n', "sec_typ"),
        ('[AAPL]\nsec_type = "STOCK"\n', "STOCK"),
        ('[AAPL]\nextended_hours = "yes"\n', "extended_hours"),
        ('[AAPL]\nexpiry = "2026-12"\n', "2026-12"),
        ('[AAPL]\nsince = "soon"\n', "soon"),
        ('[AAPL]\nsince = { "2m" = 2020-01-01 }\n', "2m"),
    ],
)
def test_a_wrong_entry_is_named(text, named):
    with pytest.raises(Misconfigured, match=named.replace(".", r"\.")):
        read_instruments(text)
