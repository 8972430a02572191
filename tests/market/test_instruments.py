import re
from datetime import date

import pytest

from ktrdr.errors import Misconfigured
from ktrdr.market.instruments import (
    Series,
    check_symbol,
    hours_group,
    instrument_for,
    parse_series,
    read_instruments,
)
from ktrdr.market.timeframes import Timeframe


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
    assert (stock.ib_symbol, stock.ib_local_symbol) == ("AAPL", "")


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
    assert (future.sec_type, future.exchange, future.ib_local_symbol) == ("FUT", exchange, symbol)
    assert (future.ib_symbol, future.what_to_show, future.extended_hours) == ("", "TRADES", True)


def test_a_future_may_be_named_by_its_root_and_expiry():
    future = instrument_for("ES", {"sec_type": "FUT", "expiry": "202612"})
    assert (future.ib_symbol, future.ib_local_symbol, future.expiry) == ("ES", "", "202612")


def test_a_known_root_without_a_month_is_requested_by_its_symbol():
    future = instrument_for("ES", {"sec_type": "FUT"})
    assert (future.ib_symbol, future.ib_local_symbol) == ("ES", "")
    elsewhere = instrument_for("FESX JUN 26", {"sec_type": "FUT", "exchange": "EUREX"})
    assert (elsewhere.ib_symbol, elsewhere.ib_local_symbol) == ("", "FESX JUN 26")


@pytest.mark.parametrize(
    ("symbol", "entry"),
    [
        ("BRK.B", 'local_symbol = "BRK B"'),
        ("CLF7", 'local_symbol = "CLF27"'),
        ("ES", 'sec_type = "FUT"\nexpiry = "202612"\nlocal_symbol = "ESZ6"'),
        ("EURUSD", 'local_symbol = "EUR.USD"'),
    ],
)
def test_a_local_symbol_stands_in_the_place_of_the_symbol(symbol, entry):
    given = read_instruments(f'["{symbol}"]\n{entry}\n')[symbol]
    instrument = instrument_for(symbol, given)
    assert (instrument.ib_symbol, instrument.ib_local_symbol) == ("", given["local_symbol"])


@pytest.mark.parametrize(
    ("written", "kept"),
    [("50", "50"), ("50.0", "50"), ("0.1", "0.1"), ("1e-3", "0.001"), ('"0.50"', "0.50")],
)
def test_a_multiplier_is_a_number_or_a_text_and_kept_as_a_text(written, kept):
    assert read_instruments(f"[ES]\nmultiplier = {written}\n")["ES"]["multiplier"] == kept


def test_an_entry_may_name_a_contract_by_its_class_and_by_its_number():
    text = '[ES]\ntrading_class = "ES"\ncon_id = 495512563\n'
    instrument = instrument_for("ES", read_instruments(text)["ES"])
    assert (instrument.trading_class, instrument.con_id) == ("ES", 495512563)


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
        ('[ES]\nmultiplier = "fifty"\n', "[ES] multiplier = 'fifty': expected a number above 0"),
        ("[ES]\nmultiplier = 0\n", "multiplier = 0"),
        ("[ES]\nmultiplier = -5\n", "multiplier = -5"),
        ("[ES]\nmultiplier = nan\n", "multiplier = nan"),
        ("[ES]\nmultiplier = true\n", "multiplier = True"),
        ('[AAPL]\ntrading_class = ""\n', "trading_class = ''"),
        ('[AAPL]\nlocal_symbol = " AAPL"\n', "[AAPL] local_symbol = ' AAPL': expected a local"),
        ('[AAPL]\nlocal_symbol = "A\\nB"\n', "local_symbol"),
        ("[AAPL]\ncon_id = 0\n", "[AAPL] con_id = 0: expected IB's number of the contract"),
        ('[AAPL]\ncon_id = "265598"\n', "con_id = '265598'"),
        ("[AAPL]\ncon_id = true\n", "con_id = True"),
        ("[AAPL]\ncon_id = 265598.0\n", "con_id = 265598.0"),
        ('[AAPL]\nsince = { "2m" = 2020-01-01 }\n', "2m"),
    ],
)
def test_a_wrong_entry_is_named(text, named):
    with pytest.raises(Misconfigured, match=re.escape(named)):
        read_instruments(text)


@pytest.mark.parametrize(
    ("one", "other", "are_alike"),
    [
        ("EURUSD", "USDJPY", True),
        ("AAPL", "MSFT", True),
        ("ESZ6", "ESH7", True),
        ("AAPL", "EURUSD", False),
        ("ESZ6", "CLF7", False),
        ("ESZ6", "6EH7", False),
    ],
)
def test_contracts_of_one_market_have_the_same_hours(one, other, are_alike):
    groups = hours_group(instrument_for(one)), hours_group(instrument_for(other))
    assert None not in groups
    assert (groups[0] == groups[1]) is are_alike


def test_stocks_in_regular_hours_have_others_than_in_all_hours():
    extended = instrument_for("AAPL", {"extended_hours": True})
    assert hours_group(extended) != hours_group(instrument_for("AAPL"))


@pytest.mark.parametrize(
    "entry",
    [{"currency": "EUR"}, {"sec_type": "IND"}, {"sec_type": "CFD"}, {"sec_type": "CONTFUT"}],
)
def test_whose_exchange_is_not_known_has_hours_of_its_own(entry):
    assert hours_group(instrument_for("ES", entry)) is None


def test_series_may_be_streamed_unless_their_entry_says_otherwise():
    entries = read_instruments('[AAPL]\nlive = false\n[MSFT]\nlive = { "1m" = false }\n')
    aapl, msft = (instrument_for(symbol, entries[symbol]) for symbol in ("AAPL", "MSFT"))
    assert not aapl.is_live(Timeframe.M1)
    assert not msft.is_live(Timeframe.M1)
    assert msft.is_live(Timeframe.M5)
    assert instrument_for("NVDA").is_live(Timeframe.M1)


def test_a_wrong_value_of_live_is_named():
    with pytest.raises(Misconfigured, match=r"AAPL.*live = 'no': expected true or false"):
        read_instruments('[AAPL]\nlive = "no"\n')
