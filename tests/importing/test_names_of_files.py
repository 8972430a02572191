"""Names that seem to name a series, and do not: markets, other money, other dates."""

from datetime import UTC, datetime, timedelta

import pytest

from ktrdr.importing.series_names import money_of, name_of, series_to
from tests.importing.known_bars import CRYPTO, DAYS, FIVES, HEADER, bar, imported, read, table

ENTRY = '[BTC]\nsec_type = "CRYPTO"\n'


def rows(bars):
    return table(bars, lambda *b: ",".join(map(str, b)), HEADER)


def klines(tmp_path, name, **wishes):
    """What became of klines of this name, with their path under it."""
    path, store = tmp_path / "klines.csv", tmp_path / "store"
    store.mkdir(exist_ok=True)
    path.write_text(
        table(
            CRYPTO,
            lambda t, *b: ",".join(map(str, (int(t.timestamp()) * 1000, *b))),
            "open_time,open,high,low,close,volume\n",
        )
    )
    return imported(store, path, name, **wishes)


@pytest.mark.parametrize(
    "folder", ["US", "data", "stocks", "DATA", "NYSE", "CSV", "DAILY", "1d", "CME", "IBKR", "ALL"]
)
@pytest.mark.parametrize("name", ["2026.csv", "2026_1d.csv", "1d.csv", "2026-10.csv"])
def test_a_folder_of_a_market_or_a_length_names_no_symbol(tmp_path, folder, name):
    path = tmp_path / name
    path.write_text(rows(DAYS))
    found = imported(tmp_path / "store", path, f"files/{folder}/{name}")
    assert "neither its name nor its rows" in found.error.message
    assert found.error.hint == "say which, such as: --to AAPL_1d"


@pytest.mark.parametrize("path", ["T/2026.csv", "US/T/2026.csv", "KO/1d.csv", "1d/US.csv"])
def test_other_folders_and_all_files_may_name_a_symbol(path):
    assert name_of(path, ()).symbol in ("T", "KO", "US")


PAIRS = {
    "BTCUSDT-1m-2024-01.csv": "BTC in USDT",
    "BTCUSDT_1m.csv": "BTC in USDT",
    "Binance_BTCUSDT_minute.csv": "BTC in USDT",
    "BTC-USDC.csv": "BTC in USDC",
    "btcbusd_1m.csv": "BTC in BUSD",
    "ETHBTC-1m.csv": "ETH in BTC",
    "BTCEUR_1m.csv": "BTC in EUR",
    "SOLUSDT/1m/2024-01.csv": "SOL in USDT",
}


@pytest.mark.parametrize("name", PAIRS)
def test_prices_in_other_money_are_not_taken_for_dollars(tmp_path, name):
    found = klines(tmp_path, name)
    assert f"its prices are of {PAIRS[name]}" in found.error.message
    assert f"--to {PAIRS[name].partition(' ')[0]}_1m" in found.error.hint
    assert not list((tmp_path / "store").glob("*.csv"))


@pytest.mark.parametrize("name", ["XBTUSD_1m.csv", "BNBUSD_1m.csv", "USDTRY_1m.csv"])
def test_dollars_and_currencies_are_no_other_money(name):
    assert money_of([name]) is None


def test_what_the_refusal_of_other_money_names_leads_to_the_coin(tmp_path):
    name = "BTCUSDT-1m-2026-11.csv"
    found = klines(tmp_path, name, to=series_to("BTC_1m"))
    assert 'instruments.toml: [BTC] sec_type = "CRYPTO"' in found.error.hint
    (tmp_path / "store/instruments.toml").write_text(ENTRY)
    assert "BTC in USDT" in klines(tmp_path, name).error.message
    assert klines(tmp_path, name, to=series_to("BTC_1m")).error is None
    assert read(tmp_path / "store/BTC_1m.csv") == CRYPTO


def test_a_column_of_symbols_says_other_money_too(tmp_path):
    path = tmp_path / "bars.csv"
    text = table(CRYPTO, lambda *b: ",".join(map(str, ("BTC/USDT", *b))), f"symbol,{HEADER}")
    path.write_text(text)
    assert "BTC in USDT" in imported(tmp_path / "store", path).error.message


LENGTHS = {
    "1d": [bar(datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=n), n) for n in range(5)],
    "5m": FIVES,
}


@pytest.mark.parametrize("length", LENGTHS)
def test_bars_of_other_dates_than_the_name_s_lead_to_their_own_length(tmp_path, length):
    path = tmp_path / "AAPL_2023.csv"
    path.write_text(rows(LENGTHS[length]))
    found = imported(tmp_path / "store", path)
    assert found.error.hint == f"say which series it is: --to AAPL_{length}"
    assert imported(tmp_path / "store", path, to=series_to(f"AAPL_{length}")).error is None
