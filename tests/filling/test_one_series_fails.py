"""One series fails, in whatever way and wherever it is touched; the others are filled all the same.

The faults come through the store, whose reads and writes are every path's way to a series.
"""

import errno
import os
import sqlite3

import pytest

from ktrdr.errors import MalformedFile, StoreUnwritable
from ktrdr.gap_filler.gap_filler import GapFiller
from ktrdr.market.instruments import parse_series
from tests.fake_connection import DAY, Inline, SetClock, coverage_of, fill, price, utc
from tests.store.dict_store import DictStore

pytestmark = pytest.mark.timeout(360)  # many runs, on a machine that does more

BROKEN = parse_series("AAPL_1h.csv")
OTHERS = [parse_series(f"{name}.csv") for name in ("AAPL_30m", "MSFT_1h")]
"""Another contract, and the same contract in another timeframe."""
METHODS = ("key", "contents", "verify", "rows", "nearest", "add")


def of_system(number: int) -> OSError:
    return OSError(number, os.strerror(number), BROKEN.file_name)


ERRORS = {
    "gone": of_system(errno.ENOENT),
    "no permission": of_system(errno.EACCES),
    "a link loop": of_system(errno.ELOOP),
    "a bad disk": of_system(errno.EIO),
    "malformed": MalformedFile("AAPL_1h.csv line 7: 'x': expected a time", hint="correct it"),
    "unwritable": StoreUnwritable("AAPL_1h.csv: it is locked", hint="see who locks it"),
    "assertion": AssertionError("never"),
    "arithmetic": ZeroDivisionError("by zero"),
    "lookup": KeyError("nothing there"),
    "type": TypeError("None"),
    "value": ValueError("no number"),
    "whatever": RuntimeError("never heard of"),
}


class FaultyStore(DictStore):
    """Whose chosen method raises for one series, beside which all is well."""

    def __init__(self, folder):
        super().__init__(folder)
        self.faults = {}
        self.raised = 0

    def _fail(self, method, series):
        if series == BROKEN and method in self.faults:
            self.raised += 1
            raise self.faults[method]

    @property
    def staging(self):
        if self._renewals is None:
            self._renewals = FaultyStore(self.folder / "renewed")
        return self._renewals


def _failing(method):
    def call(self, series, *args, **kwargs):
        self._fail(method, series)
        return getattr(DictStore, method)(self, series, *args, **kwargs)

    return call


for name in (*METHODS, "create", "take_staged"):
    setattr(FaultyStore, name, _failing(name))


@pytest.fixture
def store(data_dir):
    store = FaultyStore(data_dir)
    for series in (BROKEN, *OTHERS):
        store.create(series)
    return store


@pytest.fixture
def filler(make_filler, store):
    return make_filler(store, ktrdr_gap_max_age_days=20)


def next_day(filler, clock):
    clock.now += DAY
    fill(filler)


def is_whole(store, connection, series, now):
    wanted = connection.market(series.timeframe.value, utc("2026-10-31"), int(now) - 600)
    return store.verify(series).starts.tolist() == [bar.start for bar in wanted]


def problems(filler):
    return [problem for problem in filler.status.recent_errors if problem.what == str(BROKEN)]


def state_of(filler, series):
    states = {(e["symbol"], e["timeframe"]): e["state"] for e in coverage_of(filler)["series"]}
    return states.get((series.symbol, series.timeframe.value))


@pytest.mark.parametrize("error", list(ERRORS))
@pytest.mark.parametrize("method", METHODS)
def test_the_others_are_filled_whatever_is_wrong_with_one_and_then_it_too(
    method, error, filler, store, connection, clock
):
    fill(filler)
    next_day(filler, clock)  # tomorrow there is something to be compared
    assert not problems(filler)
    store.faults = {method: ERRORS[error]}
    next_day(filler, clock)
    assert store.raised
    assert filler.status.state == "idle"
    for series in OTHERS:
        assert is_whole(store, connection, series, clock.now)
        assert state_of(filler, series) == "complete"
    if (method, error) != ("key", "gone"):  # which says that the file was removed
        (problem,) = problems(filler)
        assert problem.hint
    store.faults = {}
    filler.request_scan()
    next_day(filler, clock)
    assert is_whole(store, connection, BROKEN, clock.now)
    assert state_of(filler, BROKEN) == "complete"


@pytest.mark.parametrize("error", ["a link loop", "assertion", "malformed", "no permission"])
@pytest.mark.parametrize("method", ["contents", "rows", "nearest", "add"])
def test_it_is_reported_once_and_tried_less_often(method, error, filler, store, clock, caplog):
    fill(filler)
    next_day(filler, clock)
    store.faults = {method: ERRORS[error]}
    next_day(filler, clock)
    for _ in range(12 * 60):  # an hour, as the program passes it
        clock.now += 5
        filler.step()
    received = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len([text for text in received if text.startswith(f"{BROKEN}: ")]) == 1
    assert len(problems(filler)) == 1
    assert store.raised <= 40  # 12 scans, and a few tries


class Meanwhile(DictStore):
    """Somebody does something to the series just before it is read for a comparison."""

    def __init__(self, folder, happens):
        super().__init__(folder)
        self._happens = happens

    def nearest(self, series, start, end):
        self._happens(self)
        return super().nearest(series, start, end)

    def empty(self):
        self._bars[BROKEN] = {}
        self._changes[BROKEN] += 1

    def remove(self):
        self._bars.pop(BROKEN, None)


@pytest.fixture
def filled_meanwhile(make_filler, clock, data_dir):
    """A store that was filled, compared with what IB tells, and changed at that very moment."""

    def meanwhile(happens):
        store = Meanwhile(data_dir, happens)
        for series in (BROKEN, *OTHERS):
            store.create(series)
        filler = make_filler(store, ktrdr_gap_max_age_days=20)
        for _ in range(3):
            fill(filler)
            clock.now += DAY
        return store, filler

    return meanwhile


def test_one_that_is_emptied_just_before_it_is_compared_is_filled_anew(filled_meanwhile):
    times = []
    store, filler = filled_meanwhile(
        lambda store: None if times.append(1) or len(times) > 1 else store.empty()
    )
    assert times
    starts = store.verify(BROKEN).starts
    assert starts[-1] > utc("2026-11-22") > utc("2026-11-03") > starts[0]
    assert (filler.status.state, problems(filler)) == ("idle", [])


def test_one_that_is_removed_just_before_it_is_compared_is_forgotten(filled_meanwhile):
    store, filler = filled_meanwhile(Meanwhile.remove)
    assert store.key(BROKEN) is None
    assert (filler.status.state, filler.status.recent_errors) == ("idle", ())
    known = {one["file"] for one in coverage_of(filler)["series"]}
    assert (BROKEN.file_name in known, OTHERS[0].file_name in known) == (False, True)


@pytest.mark.parametrize("error", ["no permission", "a link loop", "unwritable", "assertion"])
@pytest.mark.parametrize(
    ("place", "method"),
    [
        *(("copy", method) for method in ("create", "contents", "key", "add")),
        *(("file", method) for method in ("contents", "key", "rows", "take_staged")),
    ],
)
def test_one_that_cannot_be_rebuilt_holds_up_nobody(
    place, method, error, filler, store, connection, clock
):
    fill(filler)
    next_day(filler, clock)
    connection.factor = lambda bar: bar._replace(
        open=bar.open / 4, high=bar.high / 4, low=bar.low / 4, close=bar.close / 4
    )
    broken = store if place == "file" else store.staging
    broken.faults = {method: ERRORS[error]}
    for _ in range(3):
        next_day(filler, clock)
    assert broken.raised
    assert filler.status.state == "idle"
    for series in OTHERS:
        assert is_whole(store, connection, series, clock.now)
        (newest,) = store.rows(series, clock.now - DAY).bars()[-1:]
        assert newest.close == price(newest.start).close / 4
    assert problems(filler)
    broken.faults = {}
    for _ in range(3):
        filler.request_scan()
        next_day(filler, clock)
    (oldest, *_, newest) = store.rows(BROKEN).bars()
    for bar in (oldest, newest):
        assert bar.close == price(bar.start).close / 4


TOUCHES = ("key", "contents", "verify", "rows", "nearest", "add", "create", "take_staged")


class FailingOnce(DictStore):
    """Whose n-th touch of one series raises, beside the store and in the copy alike."""

    def __init__(self, folder, error, number, count=None):
        super().__init__(folder)
        self.error, self.number, self.count = error, number, count or [0]

    def touch(self, series):
        self.count[0] += series == BROKEN
        if series == BROKEN and self.count[0] == self.number:
            raise self.error

    @property
    def staging(self):
        if self._renewals is None:
            folder = self.folder / "renewed"
            self._renewals = FailingOnce(folder, self.error, self.number, self.count)
        return self._renewals


def _touching(method):
    def call(self, series, *args, **kwargs):
        self.touch(series)
        return getattr(DictStore, method)(self, series, *args, **kwargs)

    return call


for name in TOUCHES:
    setattr(FailingOnce, name, _touching(name))


def a_week_with_a_split(make_settings, connection, data_dir, error, number):
    """All paths of the stepping thread to a series: filled, compared, pulled again, compared."""
    clock, store = SetClock(), FailingOnce(data_dir, error, 0)
    for series in (BROKEN, *OTHERS):
        store.create(series)
    connection.factor = lambda bar: bar
    filler = GapFiller(make_settings(), connection, clock, Inline(), store=store)
    store.number = store.staging.number = number
    for day in range(8):
        fill(filler)
        clock.now += DAY
        if day == 3:
            connection.factor = lambda bar: bar._replace(
                open=bar.open / 4, high=bar.high / 4, low=bar.low / 4, close=bar.close / 4
            )
        filler.request_scan()
    fill(filler)
    filler.close()
    (data_dir / ".ktrdr" / "ledger.sqlite").unlink()
    return store, filler, clock.now


def test_a_fault_at_any_touch_of_a_series_costs_nobody_a_bar(make_settings, connection, data_dir):
    """One after the other: each is survived, and a week later nothing of it is to be seen."""
    store, *_ = a_week_with_a_split(make_settings, connection, data_dir, None, -1)
    touches = store.count[0] * 3 // 4  # those later have no time left to be seen to
    assert touches > 100
    kept = utc("2026-11-01")  # for thirty days, by the end of that week
    errors = [ERRORS[name] for name in ("assertion", "no permission", "gone", "malformed")]
    for number in range(1, touches, 3):
        error = errors[number // 3 % len(errors)]
        store, filler, now = a_week_with_a_split(make_settings, connection, data_dir, error, number)
        assert store.count[0] >= number
        assert filler.status.state == "idle", (number, error)
        for series in (BROKEN, *OTHERS):
            bars = [bar for bar in store.rows(series).bars() if bar.start >= kept]
            wanted = connection.market(series.timeframe.value, kept, int(now) - 600)
            assert [bar.start for bar in bars] == [bar.start for bar in wanted], (number, error)
            assert {bar.close / price(bar.start).close for bar in bars} == {0.25}, (number, error)
            assert state_of(filler, series) == "complete", (number, error)


class Refusing(DictStore):
    """Whose disk, or whose ledger, refuses: that is every series' trouble."""

    error: Exception | None = None

    def contents(self, series, since):
        if self.error is not None:
            raise self.error
        return super().contents(series, since)


@pytest.mark.parametrize(
    "error",
    [of_system(errno.ENOSPC), of_system(errno.EROFS), sqlite3.OperationalError("it is locked")],
)
def test_what_is_wrong_with_the_whole_store_is_put_to_no_series(
    error, make_settings, connection, clock, data_dir
):
    store = Refusing(data_dir)
    for series in (BROKEN, *OTHERS):
        store.create(series)
    filler = GapFiller(make_settings(), connection, clock, Inline(), store=store)
    fill(filler)
    store.error = error
    next_day(filler, clock)
    assert filler.status.state == "waiting"
    assert {problem.what for problem in filler.status.recent_errors} == {"store"}
    assert filler.status.recent_errors[0].hint == filler.status.store_trouble.hint != ""
    store.error = None
    fill(filler)
    assert filler.status.state == "idle"
    filler.close()


def test_a_bug_that_is_of_no_series_is_reported_and_ends_nothing(filler, store, monkeypatch, clock):
    fill(filler)

    def fail():
        raise AssertionError("never")

    monkeypatch.setattr(store, "scan", fail)
    next_day(filler, clock)
    assert filler.status.state == "waiting"
    (problem,) = filler.status.recent_errors
    assert "a bug in ktrdr: AssertionError('never')" in problem.message
    assert problem.hint
    assert not problem.is_over
    monkeypatch.undo()
    fill(filler)
    assert filler.status.state == "idle"
    assert [problem.is_over for problem in filler.status.recent_errors] == [True]


def test_of_a_folder_that_is_gone_no_series_is_forgotten(
    make_settings, connection, clock, data_dir
):
    """As a disk that is unmounted."""
    for series in (BROKEN, *OTHERS):
        (data_dir / series.file_name).write_text("timestamp,open,high,low,close,volume\n")
    filler = GapFiller(make_settings(), connection, clock, Inline())
    fill(filler)
    away = data_dir.rename(data_dir.with_name("away"))
    next_day(filler, clock)
    assert filler.status.state == "waiting"
    assert filler.status.reason.startswith(f"the folder {data_dir} has gone")
    (problem,) = filler.status.recent_errors
    assert (problem.what, "mount its disk" in problem.hint) == ("store", True)
    assert filler.status.series == 3
    assert not data_dir.exists()
    away.rename(data_dir)
    fill(filler)
    assert filler.status.state == "idle"
    for series in (BROKEN, *OTHERS):
        assert state_of(filler, series) == "complete"
    filler.close()
