import itertools
import os
import time

import pytest

from ktrdr.data.data_manager import DataManager
from ktrdr.errors import InvalidRequest, MalformedFile
from tests.fake_connection import line, price, utc

HEADER = "timestamp,open,high,low,close,volume\n"
FIRST = utc("2026-11-18 10:00")


def rows(*minutes):
    return "".join(line(price(FIRST + 60 * minute)) for minute in minutes)


@pytest.fixture
def manager(make_settings):
    return DataManager(make_settings())


@pytest.fixture
def path(data_dir):
    path = data_dir / "AAPL_1m.csv"
    path.write_text(HEADER + rows(*range(5)))
    return path


def append(path, text):
    with path.open("a") as file:
        file.write(text)


def replace(path, text):
    whole = path.with_suffix(".new")
    whole.write_text(text)
    whole.replace(path)


def minutes(bars, count):
    """The minutes after the first bar of so many bars."""
    taken = list(itertools.islice(bars, count))
    return [int(bar.start.timestamp() - FIRST) // 60 for bar in taken]


def test_bars_from_a_time_on_are_given_once_and_then_new_ones(manager, path):
    bars = manager.follow("AAPL", "1m", "2026-11-18 10:03")
    assert minutes(bars, 2) == [3, 4]
    append(path, rows(5) + rows(6)[:30])
    assert minutes(bars, 1) == [5]
    append(path, rows(6)[30:])
    bar = next(bars)
    values = (bar.open, bar.high, bar.low, bar.close, bar.volume)
    assert (int(bar.start.timestamp()), *values) == tuple(price(FIRST + 360))
    assert (bar.symbol, bar.timeframe) == ("AAPL", "1m")


def test_what_comes_late_or_anew_is_not_given(manager, path):
    bars = manager.follow("AAPL", "1m", "2026-11-18 10:04")
    assert minutes(bars, 1) == [4]
    append(path, rows(6))
    assert minutes(bars, 1) == [6]
    revised = rows(4).replace(",", ",1", 1)
    replace(path, HEADER + rows(0, 1, 2, 3) + revised + rows(5, 6, 7))
    assert minutes(bars, 1) == [7]


def test_without_a_time_it_begins_with_bars_that_end_after_the_call(manager, data_dir):
    now = int(time.time()) // 60 * 60
    path = data_dir / "AAPL_1m.csv"
    path.write_text(HEADER + line(price(now - 600)))
    bars = manager.follow("AAPL", "1m")
    append(path, line(price(now - 300)) + line(price(now)))
    assert next(bars).start.timestamp() == now


def test_several_series_come_in_order_and_one_may_come_into_being(manager, path, data_dir):
    bars = manager.follow(["MSFT", "AAPL"], "1m", "2026-11-18 10:03")
    assert [next(bars).symbol for _ in range(2)] == ["AAPL", "AAPL"]
    (data_dir / "MSFT_1m.csv").write_text(HEADER + rows(4))
    assert next(bars).symbol == "MSFT"
    assert path.exists()


def test_it_ends_when_nothing_has_come_for_so_long(manager, path):
    bars = manager.follow("AAPL", "1m", "2026-11-18 10:04", timeout=0.2)
    assert minutes(bars, 9) == [4]
    assert path.exists()


def test_a_long_file_is_not_read_again(manager, data_dir):
    path = data_dir / "AAPL_1m.csv"
    path.write_text(HEADER + rows(*range(50_000)))
    bars = manager.follow("AAPL", "1m", "2026-12-23 03:19")
    assert minutes(bars, 1) == [49_999]
    descriptor = os.open(path, os.O_WRONLY)
    os.pwrite(descriptor, b"broken", len(HEADER) + 100)  # a reader of the whole file meets it
    os.close(descriptor)
    append(path, rows(50_000))
    assert minutes(bars, 1) == [50_000]
    with pytest.raises(MalformedFile):
        manager.load("AAPL", "1m")


def test_a_file_that_breaks_is_named(manager, path):
    bars = manager.follow("AAPL", "1m", "2026-11-18 10:04")
    next(bars)
    append(path, "oops\n")
    with pytest.raises(MalformedFile, match="AAPL_1m"):
        next(bars)


def test_an_impossible_wish_is_refused_at_once(manager):
    with pytest.raises(InvalidRequest, match="2m"):
        manager.follow("AAPL", "2m")
    with pytest.raises(InvalidRequest, match="no symbol"):
        manager.follow([], "1m")
    with pytest.raises(InvalidRequest, match="since='soon'"):
        manager.follow("AAPL", "1m", "soon")
