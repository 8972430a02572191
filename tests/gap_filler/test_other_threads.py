"""Other threads query the gap filler while it works: each answer is of one moment."""

import contextlib
import sys
import threading
import time
from concurrent.futures import Future
from functools import partial

import pytest

from ktrdr.errors import InvalidRequest, MalformedFile, StoreUnwritable, UnknownSeries
from ktrdr.gap_filler.gap_filler import GapFiller
from ktrdr.gap_filler.routes import routes
from ktrdr.ipc.client import LocalClient
from ktrdr.ipc.server import LocalServer, serving
from ktrdr.market.instruments import parse_series
from tests.fake_connection import HEADER, NOW, Inline, coverage_of, fill, utc

THE_DAY = utc("2026-11-19")
NAMES = [f"S{number:02}_1h" for number in range(12)]


@pytest.fixture
def filler(make_filler):
    return make_filler()


@pytest.fixture
def hurried():
    """Threads take turns as often as can be."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


class Readers:
    """Threads that send one query after another until they are stopped."""

    def __init__(self, queries, count=4):
        self.stopping = threading.Event()
        self.answers = 0
        self.errors = []
        self.threads = [threading.Thread(target=self._query, args=(queries,)) for _ in range(count)]

    def _query(self, queries):
        while not self.stopping.is_set() and not self.errors:
            for query in queries:
                try:
                    query()
                except Exception as error:  # noqa: BLE001  whatever it is, it should not be
                    self.errors.append(repr(error))
                self.answers += 1

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join()


def remove_ledger(data_dir):
    """As somebody may do at any time: it is closed then, and begun again."""
    for path in (data_dir / ".ktrdr").glob("ledger.sqlite*"):
        path.unlink(missing_ok=True)


@pytest.mark.usefixtures("hurried")
def test_queries_are_answered_while_the_ledger_is_closed_and_begun_again(
    filler, put, data_dir, clock
):
    """This crashed the program: another thread had closed the connection to the ledger.

    Until the sessions are requested again, nothing is known of any day.
    """
    for name in NAMES:
        put(name)
    fill(filler)
    series = [parse_series(f"{name}.csv") for name in NAMES]

    def query_of(one):
        with contextlib.suppress(InvalidRequest):
            filler.bars_of_day(one, THE_DAY)

    queries = [partial(query_of, one) for one in series]
    until, rounds = time.monotonic() + 2.0, 0
    with Readers([*queries, lambda: coverage_of(filler), lambda: filler.status]) as readers:
        while (time.monotonic() < until or rounds < 2) and not readers.errors:
            rounds += 1
            clock.now += 300
            for entries in [*["[broken"] * 9, ""]:  # what is forgotten is not requested at once
                (data_dir / "instruments.toml").write_text(entries)
                remove_ledger(data_dir)
                filler.request_scan()
                filler.step()
    assert not readers.errors
    assert readers.answers > 100
    assert filler.status.last_scan_time.timestamp() > NOW + 300  # there was something to disturb


@pytest.mark.usefixtures("hurried")
def test_what_is_reported_of_all_series_is_of_one_moment(filler, put, clock):
    """All are assessed at each scan, by the same clock: each answer is of one scan."""
    for name in NAMES:
        put(name)
    fill(filler)

    def query():
        coverage = coverage_of(filler)
        untils = {entry["until"] for entry in coverage["series"]}
        assert untils == {coverage["scan_time"]}

    until = time.monotonic() + 1.0
    with Readers([query]) as readers:
        while time.monotonic() < until and not readers.errors:
            clock.now += 300
            filler.request_scan()
            filler.step()
    assert not readers.errors
    assert readers.answers > 100


def test_what_is_requested_is_reported_with_the_gaps_that_it_is_for(
    make_settings, connection, clock, put
):
    put("AAPL_1h")

    class Never(Inline):
        def submit(self, work, /, *args, **kwargs):
            is_bars = "_bars" in repr(work)
            return Future() if is_bars else super().submit(work, *args, **kwargs)

    filler = GapFiller(make_settings(ktrdr_gap_max_age_days=3), connection, clock, Never())
    for _ in range(3):
        filler.step()
    (entry,) = coverage_of(filler)["series"]
    assert entry["state"] == "filling"
    assert {reason for *_, reason in entry["gaps"]} == {"asked"}
    filler.close()


# GET /coverage?day=


@pytest.fixture
def query_day(filler, make_settings):
    """Over the socket, as the page does."""
    path = make_settings().gap_filler_socket
    with serving(LocalServer(path, routes(filler))):
        client = LocalClient(path, "gap-filler")
        yield lambda: client.get("/coverage", symbol="AAPL", timeframe="1h", day="2026-11-19")


def test_each_bar_of_a_day_is_reported(filler, put, query_day):
    put("AAPL_1h")
    fill(filler)
    ten = utc("2026-11-19 10:00")
    assert query_day() == {
        "day": "2026-11-19",
        "state": "open",
        "bars": [[ten, "present"], [ten + 3600, "present"]],
    }


def test_of_a_file_that_was_removed_since_it_is_reported_that_it_is_gone(filler, put, query_day):
    path = put("AAPL_1h")
    fill(filler)
    path.unlink()
    with pytest.raises(UnknownSeries, match=r"AAPL_1h\.csv is not in the store any more") as raised:
        query_day()
    assert "create it with the header" in raised.value.hint


def test_of_a_file_that_was_broken_since_its_line_is_reported(filler, put, query_day):
    path = put("AAPL_1h")
    fill(filler)
    path.write_text(path.read_text().replace("2026-11-19 10", "2026-11-19 x"))
    with pytest.raises(MalformedFile, match=r"AAPL_1h\.csv line \d: '2026-11-19 x"):
        query_day()


def test_of_a_file_that_is_known_to_be_broken_the_same_is_reported(filler, put, query_day):
    path = put("AAPL_1h")
    path.write_text(HEADER + "yesterday,1,1,1,1,1\n")
    fill(filler)
    with pytest.raises(MalformedFile, match=r"AAPL_1h\.csv line 2: 'yesterday'") as raised:
        query_day()
    assert "ktrdr check AAPL 1h" in raised.value.hint


def test_of_a_file_that_cannot_be_opened_it_is_reported_why(filler, put, query_day):
    path = put("AAPL_1h")
    fill(filler)
    path.unlink()
    path.symlink_to(path.name)
    with pytest.raises(StoreUnwritable, match=r"AAPL_1h\.csv: Too many levels") as raised:
        query_day()
    assert raised.value.hint


def test_of_a_series_that_was_never_assessed_nothing_is_known(query_day):
    with pytest.raises(InvalidRequest, match="its bars have not been assessed yet"):
        query_day()
