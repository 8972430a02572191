"""Frames of a store: the same with pyarrow and without, and the caller's own."""

import importlib.util
import os
import random
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from ktrdr.data.data_manager import DataManager
from ktrdr.data.stored_frames import StoredFrames
from ktrdr.errors import MalformedFile
from ktrdr.market.instruments import Series
from ktrdr.market.timeframes import Timeframe
from ktrdr.store.csv_store import CsvStore

HEADER = "timestamp,open,high,low,close,volume\n"
FIRST = int(datetime(2026, 1, 5, tzinfo=UTC).timestamp())
EURUSD = Series("EURUSD", Timeframe.M1)
EVER = (-(2**62), 2**62)
COUNT = 40_000
"""More than two pieces, and more than is kept at once."""


@pytest.fixture(scope="module")
def text():
    """Minutes with prices of five digits, as of a currency pair; some minutes are missing."""
    chance = random.Random(3)
    lines = []
    for n in range(COUNT):
        if n % 1000 == 7:
            continue
        prices = [f"{chance.uniform(1.05, 1.15):.5f}".rstrip("0") for _ in range(4)]
        time = datetime.fromtimestamp(FIRST + 60 * n, UTC).isoformat(" ")
        lines.append(f"{time},{','.join(prices)},-1\n")
    return "".join(lines)


@pytest.fixture
def path(data_dir, text):
    path = data_dir / EURUSD.file_name
    path.write_text(HEADER + text)
    age(path)
    return path


@pytest.fixture
def frames(data_dir):
    return StoredFrames(CsvStore(data_dir))


@pytest.fixture
def without_pyarrow(monkeypatch):
    """As where it is not installed."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)


def age(path):
    """As if it had not been written lately."""
    old = path.stat().st_mtime_ns - 60_000_000_000
    os.utime(path, ns=(old, old))


def read_by_python(text):
    """The starts and values, by Python alone."""
    rows = [line.split(",") for line in text.splitlines()]
    starts = [int(datetime.fromisoformat(row[0]).timestamp()) for row in rows]
    return starts, np.array([[float(value) for value in row[1:]] for row in rows])


def check_is(frame, starts, values):
    assert list(frame.columns) == ["open", "high", "low", "close", "volume"]
    assert frame.index.dtype == "datetime64[s, UTC]"
    assert frame.index.name == "timestamp"
    assert frame.index.as_unit("s").asi8.tolist() == starts
    assert (frame.to_numpy().view(np.uint64) == values.view(np.uint64)).all()
    assert frame.dtypes.tolist() == [np.float64] * 5


def check_windows(frames, text):
    starts, values = read_by_python(text)
    for begin, end in [(0, len(starts)), (10, 20), (0, 1), (20_000, 39_000), (39_900, len(starts))]:
        until = starts[end] if end < len(starts) else EVER[1]
        frame = frames.frame(EURUSD, (starts[begin], until))[1]
        check_is(frame, starts[begin:end], values[begin:end])


@pytest.mark.usefixtures("path")
def test_bars_are_those_of_the_file_to_the_last_bit(frames, text):
    check_windows(frames, text)


@pytest.mark.usefixtures("path", "without_pyarrow")
def test_they_are_the_same_without_pyarrow(frames, text):
    check_windows(frames, text)


@pytest.mark.usefixtures("path")
def test_both_ways_give_equal_frames(data_dir, frames, monkeypatch):
    fast = frames.frame(EURUSD, EVER)[1]
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    slow = StoredFrames(CsvStore(data_dir)).frame(EURUSD, EVER)[1]
    pd.testing.assert_frame_equal(fast, slow, check_exact=True, check_column_type="exact")


@pytest.mark.parametrize("line", ["x,1\n", "\n", "2026-01-05,1,1,1,1,1\n"])
def test_a_wrong_line_is_named_by_its_number(path, frames, text, line):
    middle = len(text) // 2
    middle = text.index("\n", middle) + 1
    path.write_text(HEADER + text[:middle] + line + text[middle:])
    number = text[:middle].count("\n") + 2
    with pytest.raises(MalformedFile, match=rf"EURUSD_1m\.csv line {number}:"):
        frames.frame(EURUSD, EVER)


def test_a_line_without_an_end_is_left_out(path, frames, text):
    path.write_text(HEADER + text[:-30])
    starts, values = read_by_python(text)
    check_is(frames.frame(EURUSD, EVER)[1], starts[:-1], values[:-1])


@pytest.mark.parametrize("span", [EVER, (FIRST, FIRST + 600)])
def test_a_frame_that_is_changed_changes_no_other(path, frames, span):  # noqa: ARG001  its file
    """The third of a large span comes from what is kept, as does the second of a small one."""
    for _ in range(4):
        frame = frames.frame(EURUSD, span)[1]
        assert frame.iloc[0, 4] == -1
        assert frame.index.name == "timestamp"
        assert frame.columns.name is None
        frame.iloc[0, 4] = 5
        frame["volume"].array[0] = 6
        frame["more"] = frame["close"] * 2
        frame.index.name = frame.columns.name = "changed"
        frame.attrs["note"] = "changed"
        assert "note" not in frames.frame(EURUSD, span)[1].attrs


@pytest.mark.usefixtures("path")
def test_a_frame_is_one_block_that_pandas_may_work_on(frames):
    frame = frames.frame(EURUSD, EVER)[1]
    assert np.shares_memory(frame.to_numpy(), frame["open"].to_numpy())
    frame["open"] += 1
    frame.loc[frame.index[:10], "high"] = 2.0
    assert frame["high"].iloc[:11].eq(2.0).sum() == 10
    assert frame["open"].min() > 2


def test_what_is_written_between_two_loads_is_seen(make_settings, path, text):
    manager = DataManager(make_settings())
    count = len(manager.load("EURUSD", "1m"))
    later = datetime.fromtimestamp(FIRST + 60 * COUNT, UTC).isoformat(" ")
    with path.open("a") as file:
        file.write(f"{later},1,1,1,1,7\n")
    frame = manager.load("EURUSD", "1m")
    assert (len(frame), frame["volume"].iloc[-1]) == (count + 1, 7)
    path.with_suffix(".new").write_text(HEADER + text[: text.index("\n") + 1])
    path.with_suffix(".new").replace(path)
    assert len(manager.load("EURUSD", "1m")) == 1
