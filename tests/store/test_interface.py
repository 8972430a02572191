"""What any store of bars must do: one suite, for the files and for one that is kept in memory."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ktrdr.data.data_manager import DataManager
from ktrdr.errors import StoreUnwritable, UnknownSeries, WrongSource
from ktrdr.gap_filler.gap_filler import GapFiller
from ktrdr.market.bars import Bar
from ktrdr.market.instruments import Series
from ktrdr.market.timeframes import Timeframe
from ktrdr.store.csv_store import CsvStore
from tests.fake_connection import Inline, line, price, utc
from tests.store.dict_store import DictStore

AAPL = Series("AAPL", Timeframe.M1)
MSFT = Series("MSFT", Timeframe.H1)
FIRST = utc("2026-11-18 10:00")
STORES = {
    "files": CsvStore,
    "files, with an index": lambda folder: CsvStore(folder, indexed=True),
    "memory": DictStore,
}


def at(*minutes: int) -> list[int]:
    return [FIRST + 60 * minute for minute in minutes]


def bars(*minutes: int) -> list[Bar]:
    return [price(start) for start in at(*minutes)]


@pytest.fixture(params=list(STORES))
def store(request, data_dir):
    store = STORES[request.param](data_dir)
    yield store
    store.close()


@pytest.fixture
def filled(store):
    """A series with two gaps."""
    store.create(AAPL)
    assert store.add(AAPL, bars(3, 4, 5, 8, 20)) == 5
    return store


def test_it_belongs_to_one_source(store):
    assert store.source() is None
    store.claim("live")
    store.claim("live")
    with pytest.raises(WrongSource, match="holds live bars"):
        store.claim("simulated")
    assert store.source() == "live"


def test_what_was_created_is_there_and_empty(store):
    store.create(AAPL)
    assert store.contents(AAPL, 0)[1:4] == (None, None, 0)
    assert len(store.rows(AAPL).starts) == 0
    assert store.nearest(AAPL, *at(0, 1)) is None


def test_what_was_created_already_stays(filled):
    filled.create(AAPL)
    assert filled.verify(AAPL).starts.tolist() == at(3, 4, 5, 8, 20)


@pytest.mark.parametrize("span", [(0, 2**62), at(4, 9), at(6, 8), at(21, 30)])
@pytest.mark.parametrize("most_bytes", [100, 10**6])
def test_a_window_has_the_lines_of_its_rows(filled, span, most_bytes):
    with filled.window(AAPL, *span, most_bytes) as window:
        rows = [lines.rows() for lines in window.pieces]
    found = [start for one in rows for start in one.starts if span[0] <= start < span[1]]
    assert found == filled.rows(AAPL, *span).starts.tolist()


def read_window(store):
    with store.window(AAPL, 0, 60, 100):
        pass


@pytest.mark.parametrize(
    "read",
    [
        lambda store: store.contents(AAPL, 0),
        lambda store: store.verify(AAPL),
        lambda store: store.rows(AAPL),
        read_window,
        lambda store: store.nearest(AAPL, 0, 60),
        lambda store: store.add(AAPL, bars(1)),
    ],
    ids=["contents", "verify", "rows", "window", "nearest", "add"],
)
def test_what_is_not_there_is_not_made_up(store, read):
    with pytest.raises(FileNotFoundError):
        read(store)
    assert store.key(AAPL) is None
    assert not store.was_verified(AAPL)
    assert store.scan().found == {}


def test_a_scan_lists_every_series_with_its_key(filled):
    filled.create(MSFT)
    found = filled.scan().found
    assert found == {AAPL: filled.key(AAPL), MSFT: filled.key(MSFT)}


def test_a_scan_names_what_has_changed_since_it_was_looked_at(filled):
    assert filled.scan().changed == [AAPL]


@pytest.mark.parametrize("since", [0, *at(3, 4, 6, 20, 21)])
def test_a_look_has_the_starts_from_then_on(filled, since):
    seen = filled.contents(AAPL, since)
    there = at(3, 4, 5, 8, 20)
    assert seen.since <= since
    assert seen.starts.tolist() == [start for start in there if start >= seen.since]
    assert (seen.key, seen.first, seen.last) == (filled.key(AAPL), there[0], there[-1])


def test_a_look_of_all_is_verified_once_it_was(filled):
    assert not filled.was_verified(AAPL)
    seen = filled.verify(AAPL)
    assert seen.is_verified
    assert seen.since == 0
    assert seen.starts.tolist() == at(3, 4, 5, 8, 20)
    assert seen.starts.dtype == np.int64


def test_the_key_changes_with_every_change_and_with_nothing_else(filled):
    keys = [filled.key(AAPL)]
    filled.contents(AAPL, 0)
    filled.verify(AAPL)
    filled.rows(AAPL)
    filled.add(AAPL, bars(3))
    assert filled.key(AAPL) == keys[0]
    for minute in (21, 0, 6):
        filled.add(AAPL, bars(minute))
        keys.append(filled.key(AAPL))
    filled.add(AAPL, [Bar(at(6)[0], 9, 9, 9, 9, 9)], correct=True)
    keys.append(filled.key(AAPL))
    assert len(set(keys)) == 5


@pytest.mark.parametrize(
    ("span", "wanted"),
    [((0, 99), (3, 4, 5, 8, 20)), ((4, 8), (4, 5)), ((8, 9), (8,)), ((6, 8), ()), ((21, 99), ())],
)
def test_rows_are_lines_of_csv_from_the_start_and_before_the_end(filled, span, wanted):
    rows = filled.rows(AAPL, *at(*span))
    assert rows.text.decode() == "".join(line(bar) for bar in bars(*wanted))
    assert rows.starts.tolist() == at(*wanted)
    assert rows.bars() == bars(*wanted)


@pytest.mark.parametrize(
    ("span", "nearest"),
    [((0, 1), 3), ((6, 7), 5), ((6, 8), 8), ((3, 6), 8), ((3, 21), None), ((50, 51), 20)],
)
def test_the_nearest_bar_outside_a_span_is_found(filled, span, nearest):
    expected = None if nearest is None else at(nearest)[0]
    assert filled.nearest(AAPL, *at(*span)) == expected


def test_bars_that_are_there_stay_unless_they_are_corrected(filled):
    other = Bar(at(4)[0], 9, 9, 9, 9, 9)
    assert filled.add(AAPL, [other, *bars(6)]) == 1
    assert filled.rows(AAPL).bars() == bars(3, 4, 5, 6, 8, 20)
    assert filled.add(AAPL, [other, *bars(7)], correct=True) == 1
    assert filled.rows(AAPL).bars(at(4)) == [other]
    assert filled.add(AAPL, []) == 0


def test_values_are_exact_to_the_last_digit(store):
    store.create(AAPL)
    odd = Bar(FIRST, 0.1 + 0.2, 1e300, 5e-324, 1 / 3, -1)
    store.add(AAPL, [odd])
    assert store.rows(AAPL).bars() == [odd]


def test_a_renewed_series_takes_the_place_of_the_old_one(filled):
    filled.staging.create(AAPL)
    filled.staging.add(AAPL, bars(1, 2))
    assert filled.verify(AAPL).starts.tolist() == at(3, 4, 5, 8, 20)
    filled.take_staged(AAPL, "20261126T000000Z")
    assert filled.contents(AAPL, 0).starts.tolist() == at(1, 2)
    assert filled.staging.key(AAPL) is None


def test_a_series_that_was_changed_is_not_replaced(filled):
    filled.staging.create(AAPL)
    filled.staging.add(AAPL, bars(1, 2))
    key = filled.key(AAPL)
    filled.add(AAPL, bars(9))
    with pytest.raises(StoreUnwritable, match="was changed"):
        filled.take_staged(AAPL, "20261126T000000Z", key)
    assert filled.contents(AAPL, 0).starts.tolist() == at(3, 4, 5, 8, 9, 20)
    filled.take_staged(AAPL, "20261126T000000Z", filled.key(AAPL))
    assert filled.contents(AAPL, 0).starts.tolist() == at(1, 2)


@settings(suppress_health_check=list(HealthCheck), max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sets(st.integers(0, 30), max_size=8), st.booleans()), max_size=6))
def test_any_store_is_a_dictionary(store, additions):
    series = next(s for n in range(1000) if store.key(s := Series(f"S{n}", Timeframe.M1)) is None)
    store.create(series)
    model: dict[int, Bar] = {}
    for number, (minutes, correct) in enumerate(additions):
        given = {start: Bar(start, *[number + 0.5] * 4, number) for start in at(*minutes)}
        assert store.add(series, given.values(), correct=correct) == len(given.keys() - model)
        model = model | given if correct else given | model
        assert store.contents(series, 0).starts.tolist() == sorted(model)
    assert store.rows(series).bars() == [bar for _, bar in sorted(model.items())]


# What stands before a store.


def test_the_data_manager_reads_any_store(filled, make_settings):
    manager = DataManager(make_settings(), store=filled)
    frame = manager.load("AAPL", "1m", "2026-11-18 10:04", "2026-11-18 10:20")
    assert [tuple(row) for row in frame.to_numpy()] == [bar[1:] for bar in bars(4, 5, 8)]
    filled.add(AAPL, bars(6))
    assert len(manager.load("AAPL", "1m")) == 6
    with pytest.raises(UnknownSeries, match=r"has no MSFT_1h\.csv"):
        manager.load("MSFT", "1h")


def test_the_data_manager_resamples_from_any_store(store, make_settings):
    series = Series("BTCUSD", Timeframe.M1)
    store.create(series)
    there = [price(utc("2025-11-18") + 60 * minute) for minute in range(180)]
    store.add(series, there)
    frame = DataManager(make_settings(), store=store).resample("BTCUSD", "1m", "1h")
    assert len(frame) == 3
    assert frame["volume"].tolist() == [
        sum(bar.volume for bar in there[hour : hour + 60]) for hour in (0, 60, 120)
    ]
    assert frame["close"].iloc[0] == there[59].close


def test_the_gap_filler_fills_any_store(store, make_settings, connection):
    store.create(AAPL)
    store.add(AAPL, bars(3, 4, 5, 8, 20))
    now = utc("2026-11-20 15:00")
    filler = GapFiller(
        make_settings(ktrdr_gap_max_age_days=3), connection, lambda: now, Inline(), store=store
    )
    for _ in range(100):
        if not filler.step():
            break
    wanted = list(connection.market("1m", utc("2026-11-17"), now))
    assert store.rows(AAPL).bars() == wanted
    assert filler.status.gaps_remaining == 0
    assert store.source() == "simulated"
    filler.close()
