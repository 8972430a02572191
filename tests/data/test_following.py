import asyncio
import gc
import itertools
import os
import threading
import time

import pytest

from ktrdr.data.data_manager import DataManager
from ktrdr.errors import InvalidRequest, MalformedFile, UnknownSeries
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


def test_several_series_come_in_order(manager, path, data_dir):
    other = data_dir / "MSFT_1m.csv"
    other.write_text(HEADER)
    bars = manager.follow(["MSFT", "AAPL"], "1m", "2026-11-18 10:03")
    assert [next(bars).symbol for _ in range(2)] == ["AAPL", "AAPL"]
    append(path, rows(5, 6))
    append(other, rows(5))
    assert sorted(next(bars).symbol for _ in range(3)) == ["AAPL", "AAPL", "MSFT"]


def test_ten_years_come_piece_by_piece_and_in_order(manager, path, data_dir):
    """A minute now and then, thousands in a row, and days beside them."""
    some = [-5_000_000, -4_000_000, *range(-3000, 0), *range(10, 3000)]
    path.write_text(HEADER + rows(*some))
    (data_dir / "MSFT_1m.csv").write_text(HEADER + rows(-5_000_000, *range(-100, 2000, 7)))
    given = [
        (bar.start, bar.symbol)
        for bar in manager.follow(["AAPL", "MSFT"], "1m", "1970-01-01", timeout=0.2)
    ]
    assert given == sorted(given)
    minutes_of = {"AAPL": some, "MSFT": [-5_000_000, *range(-100, 2000, 7)]}
    for symbol, expected in minutes_of.items():
        starts = [int(start.timestamp()) for start, name in given if name == symbol]
        assert starts == [FIRST + 60 * minute for minute in expected]


def test_a_file_that_vanishes_is_waited_for(manager, path):
    with_other = path.with_name("MSFT_1m.csv")
    with_other.write_text(HEADER)
    bars = manager.follow(["AAPL", "MSFT"], "1m", "2026-11-18 10:04")
    assert minutes(bars, 1) == [4]
    path.unlink()
    append(with_other, rows(5))
    assert next(bars).symbol == "MSFT"
    path.write_text(HEADER + rows(2, 3, 4, 7))
    assert minutes(bars, 1) == [7]


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


def test_a_file_that_breaks_is_named_once_and_the_others_go_on(manager, path, data_dir):
    other = data_dir / "MSFT_1m.csv"
    other.write_text(HEADER)
    bars = manager.follow(["AAPL", "MSFT"], "1m", "2026-11-18 10:04")
    next(bars)
    append(path, "oops\n")
    with pytest.raises(MalformedFile, match="AAPL_1m"):
        next(bars)
    append(other, rows(5))
    assert next(bars).symbol == "MSFT"
    replace(path, HEADER + rows(4, 5, 6))
    assert minutes(bars, 2) == [5, 6]


def test_who_waits_sees_it_closed(manager, path):
    bars = manager.follow("AAPL", "1m", "2026-11-18 10:04")
    assert minutes(bars, 1) == [4]
    closing = threading.Timer(0.1, bars.close)
    closing.start()
    assert list(bars) == []
    append(path, rows(5))
    assert list(bars) == []
    closing.join()


def test_who_drops_it_leaves_no_thread(manager, path, wait_for):
    before, begun = {*threading.enumerate()}, set()
    for _ in manager.follow("AAPL", "1m", "2026-11-18 10:04"):
        begun = {*threading.enumerate()} - before
        break
    assert path.exists()
    assert begun
    gc.collect()
    wait_for(lambda: not any(one.is_alive() for one in begun))


def test_tasks_follow_and_a_slow_one_delays_nobody(manager, path):
    async def some(count):
        async with manager.follow("AAPL", "1m", "2026-11-18 10:03") as bars:
            return [int(bar.start.timestamp() - FIRST) // 60 async for bar in to(bars, count)]

    async def to(bars, count):
        for _ in range(count):
            yield await anext(bars)

    async def all_of_them():
        slow = manager.follow("AAPL", "1m", "2026-11-18 10:03")
        await anext(slow)
        tasks = [asyncio.create_task(some(4)) for _ in range(20)]
        for minute in (5, 6):
            await asyncio.to_thread(append, path, rows(minute))
        given = await asyncio.gather(*tasks)
        assert given == [[3, 4, 5, 6]] * 20
        assert [(await anext(slow)).start.minute for _ in range(3)] == [4, 5, 6]
        await slow.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(slow)

    asyncio.run(all_of_them())


def test_a_wait_that_is_cancelled_loses_nothing(manager, path):
    async def given():
        bars, found, written = manager.follow("AAPL", "1m", "2026-11-18 10:04"), [], 4
        while len(found) < 30:
            try:
                async with asyncio.timeout(0.001 * (len(found) % 4)):
                    found.append((await anext(bars)).start)
            except TimeoutError:
                written += 1
                append(path, rows(written) if written < 34 else "")
        await bars.aclose()
        return [int(start.timestamp() - FIRST) // 60 for start in found]

    assert asyncio.run(given()) == list(range(4, 34))


def test_async_for_ends_when_nothing_has_come_for_so_long(manager, path):
    async def given():
        bars = manager.follow("AAPL", "1m", "2026-11-18 10:03", timeout=0.2)
        return [bar.start.minute async for bar in bars]

    assert asyncio.run(given()) == [3, 4]
    assert path.exists()


def test_a_series_that_is_not_there_is_named_with_the_nearest(manager, path):
    assert path.exists()
    with pytest.raises(UnknownSeries, match=r"no APPL_1m\.csv – next step: did you mean AAPL\?"):
        manager.follow(["AAPL", "APPL"], "1m")


def test_an_impossible_wish_is_refused_at_once(manager):
    with pytest.raises(InvalidRequest, match="2m"):
        manager.follow("AAPL", "2m")
    with pytest.raises(InvalidRequest, match="no symbol"):
        manager.follow([], "1m")
    with pytest.raises(InvalidRequest, match="since='soon'"):
        manager.follow("AAPL", "1m", "soon")
