"""Names of files with bars that are not read: the kind, and the name that each should have."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktrdr.market.file_names import Kind, file_meant, kind_of, proper_name, proper_symbol
from ktrdr.market.instruments import parse_series

PROPER = {
    "AAPL-1d.csv": "AAPL_1d.csv",
    "AAPL.1d.csv": "AAPL_1d.csv",
    "AAPL 1d.csv": "AAPL_1d.csv",
    "AAPL_1D.csv": "AAPL_1d.csv",
    "AAPL_1day.csv": "AAPL_1d.csv",
    "AAPL_daily.csv": "AAPL_1d.csv",
    "AAPL_day.csv": "AAPL_1d.csv",
    "AAPL_24h.csv": "AAPL_1d.csv",
    "AAPL 1 day.csv": "AAPL_1d.csv",
    "AAPL-1min.csv": "AAPL_1m.csv",
    "AAPL_minute.csv": "AAPL_1m.csv",
    "AAPL_30 mins.csv": "AAPL_30m.csv",
    "AAPL_hourly.csv": "AAPL_1h.csv",
    "GOOG_60m.csv": "GOOG_1h.csv",
    "GOOG_240min.csv": "GOOG_4h.csv",
    "EURUSD_D1.csv": "EURUSD_1d.csv",
    "EURUSD_M5.csv": "EURUSD_5m.csv",
    "EURUSD.H4.csv": "EURUSD_4h.csv",
    "EURUSDM15.csv": "EURUSD_15m.csv",
    "EURUSD60.csv": "EURUSD_1h.csv",
    "EURUSD1440.csv": "EURUSD_1d.csv",
    "EUR.USD_1h.csv": "EURUSD_1h.csv",
    "eur-usd-1h.csv": "EURUSD_1h.csv",
    "EURUSD=X_1d.csv": "EURUSD_1d.csv",
    "BTC-USD_1d.csv": "BTC_1d.csv",
    "ETHUSD-1m.csv": "ETH_1m.csv",
    "BRK.B_1d.csv": "BRK B_1d.csv",
    "brk-b-1d.csv": "BRK B_1d.csv",
    "BRK B 1d.csv": "BRK B_1d.csv",
    "aapl-1d.csv": "AAPL_1d.csv",
    "aapl.us-1d.csv": "AAPL_1d.csv",
    "700-1d.csv": "700_1d.csv",
    "ESZ6-1m.csv": "ESZ6_1m.csv",
    "AMZN_1d (1).csv": "AMZN_1d.csv",
    "AMZN_1d - Copy.csv": "AMZN_1d.csv",
    "AMZN_1d copy 2.csv": "AMZN_1d.csv",
    "MSFT_1d.CSV": "MSFT_1d.csv",
    "IBM_1d.csv.gz": "IBM_1d.csv",
    "IBM-1D.CSV.ZIP": "IBM_1d.csv",
    "IBM_1d.txt": "IBM_1d.csv",
    "IBM_1d.parquet": "IBM_1d.csv",
    "IBM_1d.xlsx": "IBM_1d.csv",
    "stocks/META_1d.csv": "META_1d.csv",
    "a/b/META-1d.csv.gz": "META_1d.csv",
    "NFLX/1d.csv": "NFLX_1d.csv",
    "stocks/NFLX/M5.csv": "NFLX_5m.csv",
    "1d/NFLX.csv": "NFLX_1d.csv",
    "daily/aapl.us.txt": "AAPL_1d.csv",
}
UNCERTAIN = [
    "AAPL.csv",  # of which timeframe?
    "AAPL_1M.csv",  # months, or minutes
    "AAPL_2m.csv",
    "AAPL_1w.csv",
    "AAPL_0d.csv",
    "BTC_USDT-1d.csv",  # its prices are not in dollars
    "DOGE_EUR-1d.csv",
    "ES=F_1d.csv",
    "^GSPC_1d.csv",
    "Ärger_1d.csv",
    "Aapl-1d.csv",
    "data-1d.csv",
    "transactions-1d.csv",
    "GOOGLE60.csv",
    "EUREUR60.csv",
    "AAPL_1d_2024.csv",
    "prices.csv",
    "stocks/1d.csv",
    "daily/prices.csv",
    ".csv",
    "(1).csv",
    "",
]


@pytest.mark.parametrize("name", list(PROPER))
def test_the_name_that_it_should_have(name):
    found = proper_name(name)
    assert found is not None
    assert found.file_name == PROPER[name]
    assert parse_series(found.file_name) == found.series


@pytest.mark.parametrize("name", UNCERTAIN)
def test_what_is_not_certain_is_not_proposed(name):
    assert proper_name(name) is None


def test_a_coin_needs_an_entry_since_its_symbol_is_a_stocks_too():
    assert proper_name("BTC-USD_1d.csv").is_coin
    assert not proper_name("BTC_1day.csv").is_coin


@given(st.text(max_size=30), st.sampled_from([".csv", ".CSV", ".csv.gz", ".txt", ""]))
def test_whatever_is_proposed_is_the_name_of_a_series(stem, ending):
    kind_of(stem + ending)
    found = proper_name(stem + ending)
    assert found is None or parse_series(found.file_name) == found.series


SYMBOLS = {
    "BRK.B": "BRK B",
    "BRK-B": "BRK B",
    "EUR.USD": "EURUSD",
    "USD CAD": "USDCAD",
    "BTC-USD": "BTC",
    "aapl": "AAPL",
    "AAPL": "AAPL",
}


@pytest.mark.parametrize("text", list(SYMBOLS))
def test_the_symbol_as_ib_spells_it(text):
    assert proper_symbol(text).symbol == SYMBOLS[text]


@pytest.mark.parametrize("text", ["", "A_B", "AGM.PR", "XYZ.B", "Aapl", "data", "ABCDEFG"])
def test_other_symbols_are_not_respelt(text):
    assert proper_symbol(text) is None


def test_the_file_that_only_needs_another_name():
    names = ["notes.csv", "AAPL_1d.csv.gz", "AAPL-1h.csv", "AAPL.1d.csv", "AAPL-1d.csv"]
    assert file_meant(parse_series("AAPL_1d.csv"), names) == "AAPL-1d.csv"
    assert file_meant(parse_series("AAPL_1m.csv"), names) == ""


KINDS = {
    Kind.NAME: ["AAPL-1d.csv", "notes.csv"],
    Kind.CAPITALS: ["MSFT_1d.CSV", "x.Csv"],
    Kind.COMPRESSED: ["x.csv.gz", "x.csv.zip", "AAPL_1d.zip", "x.CSV.ZST", "EURUSD M5 2024.zip"],
    Kind.TEXT: ["AAPL_1d.txt", "AAPL.txt", "aapl.us.txt", "EURUSD_M5_2024.txt", "x.tsv"],
    Kind.FORMAT: ["x.parquet", "x.feather", "AAPL_1d.xlsx", "AAPL-1d.json"],
    None: [
        "notes.txt",
        "README.txt",
        "README.md",
        "requirements.txt",
        "backup.zip",
        "budget.xlsx",
        "package.json",
        "instruments.toml",
        "daily report.txt",
        "AAPL_1d.csv~",
        "AAPL_1d.csv.bak",
    ],
}


@pytest.mark.parametrize(("kind", "name"), [(k, n) for k, names in KINDS.items() for n in names])
def test_the_kind_of_a_file(kind, name):
    assert kind_of(name) is kind
