import importlib.util
import json
import time

import polars as pl
import pyarrow as pa
import pytest

from ktrdr.data.data_manager import DataManager
from ktrdr.errors import InvalidRequest, Misconfigured
from tests.fake_connection import line, price, utc

HEADER = "timestamp,open,high,low,close,volume\n"
FIRST = utc("2026-11-18 10:00")


@pytest.fixture
def manager(make_settings, data_dir):
    for symbol, bars in (("AAPL", 3), ("MSFT", 2)):
        text = HEADER + "".join(line(price(FIRST + 60 * i)) for i in range(bars))
        (data_dir / f"{symbol}_1m.csv").write_text(text)
    return DataManager(make_settings())


def test_bars_come_as_a_table_of_pyarrow(manager):
    table = manager.load("AAPL", "1m", as_="pyarrow")
    assert table.column_names == ["timestamp", "open", "high", "low", "close", "volume"]
    assert table.schema.field("timestamp").type == pa.timestamp("s", "UTC")
    assert [int(t.timestamp()) for t in table["timestamp"].to_pylist()] == [
        FIRST + 60 * i for i in range(3)
    ]
    assert tuple(table.slice(1, 1).to_pylist()[0].values())[1:] == price(FIRST + 60)[1:]
    facts = json.loads(table.schema.metadata[b"ktrdr"])
    assert (facts["symbol"], facts["complete"]) == ("AAPL", False)


def test_bars_come_as_a_table_of_polars(manager):
    table = manager.load("AAPL", "1m", as_="polars")
    assert table.schema["timestamp"] == pl.Datetime("ms", "UTC")
    assert table.row(2)[1:] == price(FIRST + 120)[1:]


def test_several_symbols_are_below_each_other(manager):
    table = manager.load(["MSFT", "AAPL"], "1m", as_="polars")
    assert table.columns[:2] == ["symbol", "timestamp"]
    assert table["symbol"].to_list() == ["MSFT"] * 2 + ["AAPL"] * 3


def test_what_cannot_be_had_is_named(manager, monkeypatch):
    with pytest.raises(InvalidRequest, match="as_='arrow': expected one of pandas, polars"):
        manager.load("AAPL", "1m", as_="arrow")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(Misconfigured, match=r"not installed.*install 'polars>=2.1,<3' 'pyarrow"):
        manager.load("AAPL", "1m", as_="polars")


def test_a_manager_shows_its_store_and_what_runs(manager, data_dir):
    (data_dir / ".ktrdr").mkdir(exist_ok=True)
    (data_dir / ".ktrdr" / "source").write_text("simulated\n")
    began = time.monotonic()
    text = repr(manager)
    assert time.monotonic() - began < 1
    for words in (f"store: {data_dir}", "source: SIMULATED", "series: 2", "is not running"):
        assert words in text
    assert "<tr><th>source</th><td>SIMULATED</td></tr>" in manager._repr_html_()
