"""ktrdr/data/following.py: whatever happens to a file, each bar is given once, in order."""

from __future__ import annotations

import csv
import tempfile
from datetime import datetime
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from ktrdr.data.following import Following
from ktrdr.market.instruments import Series
from ktrdr.market.timeframes import Timeframe
from ktrdr.store.csv_store import CsvStore
from tests.fake_connection import price, utc

FIRST = utc("2026-11-18 10:00")
AAPL, MSFT = Series("AAPL", Timeframe.M1), Series("MSFT", Timeframe.H1)
BOTH = (AAPL, MSFT)

happenings = st.lists(
    st.one_of(
        st.tuples(
            st.just("grow"), st.sampled_from(BOTH), st.integers(1, 700), st.integers(0, 9000)
        ),
        st.tuples(st.just("fill late"), st.sampled_from(BOTH), st.integers(0, 300)),
        st.tuples(st.just("correct"), st.sampled_from(BOTH), st.integers(0, 300)),
        st.tuples(st.just("cut"), st.sampled_from(BOTH), st.integers(0, 300)),
        st.tuples(st.just("rebuild"), st.sampled_from(BOTH)),
        st.tuples(st.just("vanish"), st.sampled_from(BOTH)),
        st.tuples(st.just("break"), st.sampled_from(BOTH)),
        st.tuples(st.just("read")),
        st.tuples(st.just("begin anew"), st.just(AAPL)),
    ),
    max_size=25,
)


def starts_of(path: Path) -> list[int]:
    """As a plain reader of CSV sees them; none in a file that is broken or is not there."""
    if not path.exists() or "oops" in path.read_text():
        return []
    with path.open() as file:
        times = [row[0] for row in csv.reader(file)][1:]
    return [int(datetime.fromisoformat(time).timestamp()) for time in times]


class Store:
    """A store in which things happen as they do."""

    def __init__(self, folder: Path) -> None:
        self.store = CsvStore(folder)
        for series in BOTH:
            self.store.create(series)

    def path(self, series: Series) -> Path:
        return self.store.path(series)

    def happen(self, what: str, series: Series, *how: int) -> None:
        path, length = self.path(series), series.timeframe.length_s
        there = starts_of(path)
        if what == "vanish":
            path.unlink(missing_ok=True)
        elif what == "break":
            path.write_text("oops")
        elif not path.exists() or "oops" in path.read_text():
            path.unlink(missing_ok=True)
            self.store.create(series)
        elif what == "grow":
            count, pause = how
            begin = (there[-1] if there else FIRST) + (1 + pause) * length
            self.store.add(series, [price(begin + length * i) for i in range(count)])
        elif what == "fill late":
            self.store.add(series, [price(FIRST - length * how[0])])
        elif what == "correct" and there:
            start = there[how[0] % len(there)]
            self.store.add(series, [price(start)._replace(volume=7)], correct=True)
        elif what == "cut":
            lines = path.read_text().splitlines(keepends=True)
            path.write_text("".join(lines[: 1 + how[0]]))
        elif what == "rebuild":
            self.store.begin_staging(series)
            self.store.staging.add(series, [price(start) for start in there])
            self.store.take_staged(series, "stamp")


@settings(max_examples=60, deadline=None, derandomize=True)
@given(happenings)
def test_each_bar_is_given_once_in_order(happened):
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        following = Following(store.store, dict.fromkeys(BOTH, FIRST))
        last = dict.fromkeys(BOTH, FIRST - 1)
        for what, *how in [*happened, ("read",)]:
            if what == "begin anew":
                following = Following(store.store, following.positions)
            elif what != "read":
                store.happen(what, *how)
            else:
                there = {one: starts_of(store.path(one)) for one in BOTH}
                new = {one: [x for x in there[one] if x > last[one]] for one in BOTH}
                given = read_all(following)
                assert {one: [x for x, name in given if name == one] for one in BOTH} == new
                assert given == sorted(given, key=lambda one: one[0])
                last |= {one: max(found) for one, found in new.items() if found}


def read_all(following: Following) -> list[tuple[int, Series]]:
    found, more = [], True
    while more:
        piece = following.next_piece()
        assert len(piece.bars) <= 500
        found += [(bar.start, series) for series, bar in piece.bars]
        more = piece.more
    return found
