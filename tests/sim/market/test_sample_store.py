import tomllib
from bisect import bisect_left
from datetime import UTC, date, datetime, timedelta

import pandas as pd
import pytest
from ib_insync import Contract, Crypto, Forex, Stock

from ktrdr.sim.market.sample_store import write_sample_store

HEADER = "timestamp,open,high,low,close,volume\n"
SIZES = {"1m": "1 min", "5m": "5 mins", "15m": "15 mins", "30m": "30 mins", "1h": "1 hour",
         "4h": "4 hours", "1d": "1 day"}  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory, monday):
    folder = tmp_path_factory.mktemp("store")
    write_sample_store(folder, 1, monday)
    return folder


def contract_of(symbol):
    if symbol in ("EURUSD", "GBPUSD", "USDJPY"):
        return Forex(symbol), "MIDPOINT", True
    if symbol in ("BTC", "ETH"):
        return Crypto(symbol, "PAXOS", "USD"), "AGGTRADES", False
    if symbol.startswith("ES"):
        return Contract(secType="FUT", localSymbol=symbol, exchange="CME"), "TRADES", False
    return Stock(symbol, "SMART", "USD"), "TRADES", True


def line(bar):
    day = (
        bar.date
        if isinstance(bar.date, datetime)
        else datetime(*bar.date.timetuple()[:3], tzinfo=UTC)
    )
    prices = ",".join(map(repr, (bar.open, bar.high, bar.low, bar.close)))
    return f"{day:%Y-%m-%d %H:%M:%S}+00:00,{prices},{int(bar.volume)}"


def test_its_bars_are_those_of_the_gateway_with_gaps(store, with_client):
    begun = [path for path in sorted(store.glob("*.csv")) if len(path.read_text()) > len(HEADER)]

    async def work(client, _):
        answers = {}
        for path in begun:
            symbol, timeframe = path.stem.split("_")
            contract, what, rth = contract_of(symbol)
            duration = "3 M" if timeframe == "1m" else "3 Y"
            answers[path.name] = await client.reqHistoricalDataAsync(
                contract, "", duration, SIZES[timeframe], what, rth, 2
            )
        return answers

    for name, bars in with_client(work).items():
        kept = (store / name).read_text().splitlines()[1:]
        served = [line(bar) for bar in bars]
        assert set(kept) < set(served), name
        assert kept == sorted(kept)
        assert len(kept) < len(served) - bisect_left(served, wanted_from(store, name))
    assert 10 <= len(begun) < 30


def wanted_from(store, name):
    symbol, _, timeframe = name.removesuffix(".csv").rpartition("_")
    return str(tomllib.loads((store / "instruments.toml").read_text())[symbol]["since"][timeframe])


def test_it_is_big_enough_to_watch(store):
    names = [path.stem for path in store.glob("*.csv")]
    assert len(names) == 60
    assert len({name.rpartition("_")[0] for name in names}) >= 20
    assert {name.rpartition("_")[2] for name in names} == set(SIZES)
    days = [date.fromisoformat(wanted_from(store, f"{name}.csv")) for name in names]
    assert sorted(set(days)) == [date(2024, 11, 23), date(2026, 9, 24)]
    assert days.count(date(2024, 11, 23)) == 57


def test_its_gaps_are_at_the_begin_in_the_middle_and_at_the_end(store, monday):
    def months(name):
        frame = pd.read_csv(store / f"{name}.csv", parse_dates=["timestamp"])
        ages = (monday - frame.timestamp).dt.days // 30
        return set(ages)

    assert months("SPY_5m") == set(range(8))
    assert months("MSFT_1h") == set(range(25))
    assert set(range(25)) - months("NVDA_1h") == {5, 6, 7, 8}
    assert months("AAPL_1d") == set(range(2, 25))
    assert "2026-11-23" not in (store / "SPY_1d.csv").read_text()


def test_no_bar_in_it_is_older_than_wanted_or_unfinished(store, monday):
    for path in store.glob("*.csv"):
        rows = path.read_text().splitlines()[1:]
        if rows:
            assert rows[0][:10] >= wanted_from(store, path.name)
            assert pd.Timestamp(rows[-1].split(",")[0]) < monday - timedelta(minutes=1)


def test_it_has_the_futures_that_trade_now_and_entries_for_coins(store):
    assert {"ESZ6_1h.csv", "NQZ6_1h.csv"} <= {path.name for path in store.iterdir()}
    entries = tomllib.loads((store / "instruments.toml").read_text())
    kinds = {symbol: entry.get("sec_type") for symbol, entry in entries.items()}
    assert {symbol for symbol, kind in kinds.items() if kind} == {"BTC", "ETH"}
    assert kinds["BTC"] == "CRYPTO"


def test_it_is_the_same_every_time(store, tmp_path_factory, monday):
    again = tmp_path_factory.mktemp("again")
    write_sample_store(again, 1, monday)
    assert {p.name: p.read_bytes() for p in store.iterdir()} == {
        p.name: p.read_bytes() for p in again.iterdir()
    }


def test_a_folder_with_bars_is_left_alone(tmp_path, monday):
    (tmp_path / "AAPL_1m.csv").write_text("mine\n")
    assert "left as it is" in write_sample_store(tmp_path, 1, monday)
    assert [p.name for p in tmp_path.iterdir()] == ["AAPL_1m.csv"]


def test_the_last_days_before_an_expiry_belong_to_the_next_future(tmp_path):
    write_sample_store(tmp_path, 1, datetime(2026, 12, 14, 12, tzinfo=UTC))
    assert (tmp_path / "ESH7_1h.csv").exists()
