import tomllib
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
from ib_insync import Contract, Crypto, Forex, Stock

from ktrdr.sim.market.sample_store import write_sample_store

SIZES = {"1m": "1 min", "5m": "5 mins", "15m": "15 mins", "30m": "30 mins", "1h": "1 hour",
         "4h": "4 hours", "1d": "1 day"}  # fmt: skip


@pytest.fixture
def store(tmp_path, monday):
    write_sample_store(tmp_path, 1, monday)
    return tmp_path


def contract_of(symbol):
    if symbol in ("EURUSD", "USDJPY"):
        return Forex(symbol), "MIDPOINT", True
    if symbol == "BTC":
        return Crypto("BTC", "PAXOS", "USD"), "AGGTRADES", False
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
    async def work(client, _):
        answers = {}
        for path in sorted(store.glob("*.csv")):
            symbol, timeframe = path.stem.split("_")
            contract, what, rth = contract_of(symbol)
            answers[path.name] = await client.reqHistoricalDataAsync(
                contract, "", "2 M", SIZES[timeframe], what, rth, 2
            )
        return answers

    answers = with_client(work)
    assert len(answers) == 14
    filled = 0
    for name, bars in answers.items():
        kept = (store / name).read_text().splitlines()[1:]
        served = [line(bar) for bar in bars]
        assert set(kept) < set(served), name
        assert kept == sorted(kept)
        assert not kept or len(kept) < len(served) - served.index(kept[0])
        filled += bool(kept)
    assert 10 <= filled < 14


def test_it_covers_thirty_days_and_no_unfinished_bar(store, monday):
    for path in store.glob("*.csv"):
        frame = pd.read_csv(path, parse_dates=["timestamp"])
        if len(frame):
            assert frame.timestamp[0] >= monday - timedelta(days=31)
            assert frame.timestamp.iloc[-1] < monday - timedelta(minutes=1)
    assert "2026-11-23" not in (store / "AAPL_1d.csv").read_text()


def test_it_has_the_future_that_trades_now_and_an_entry_for_btc(store):
    assert (store / "ESZ6_15m.csv").exists()
    assert tomllib.loads((store / "instruments.toml").read_text()) == {
        "BTC": {"sec_type": "CRYPTO"}
    }


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
    assert (tmp_path / "ESH7_15m.csv").exists()
