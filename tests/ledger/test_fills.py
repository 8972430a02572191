import contextlib
import sqlite3
import threading

import pytest

from ktrdr.completeness.fill import Counts, State
from ktrdr.errors import StoreUnwritable
from ktrdr.ledger.file import LEDGER
from ktrdr.ledger.fills import FillRecords
from ktrdr.ledger.ledger import Ledger
from ktrdr.market.instruments import parse_series
from ktrdr.sqlite_file import open_database

DAY = 86400
NOW = 20_000 * DAY
COUNTS = Counts(100, 98, {"no_trades": 2})
AAPL, MSFT = parse_series("AAPL_1m.csv"), parse_series("MSFT_1d.csv")


@pytest.fixture
def records(path):
    return FillRecords(path)


def wanted(path, series=AAPL):
    with contextlib.closing(Ledger(path)) as ledger:
        return ledger.series.wanted(series)


def test_a_store_in_which_nothing_was_requested_gets_no_ledger(records, path):
    assert records.listed() == []
    assert not path.exists()


def test_a_fill_that_was_requested_is_there_after_a_restart(records, path):
    fill = records.request(AAPL, 5 * DAY, NOW)
    assert FillRecords(path).listed() == [fill]
    assert (fill.state, fill.requested_at) == (State.QUEUED, NOW)


def test_of_several_fills_the_earliest_day_stands_until_it_is_cancelled(records, path):
    first = records.request(AAPL, 5 * DAY, NOW)
    second = records.request(AAPL, 9 * DAY, NOW)
    records.request(MSFT, DAY, NOW)
    assert wanted(path) == 5 * DAY
    records.cancel({first.id}, NOW)
    assert wanted(path) == 9 * DAY
    records.cancel({second.id}, NOW)
    assert wanted(path) is None


def test_the_same_day_requested_twice_is_one_fill(records):
    assert records.request(AAPL, 5 * DAY, NOW) == records.request(AAPL, 5 * DAY, NOW + 60)


def test_what_is_done_says_how_many_bars_there_were_and_is_kept_complete(records, path):
    fill = records.request(AAPL, 5 * DAY, NOW)
    records.complete(fill.id, COUNTS, NOW + 7)
    (done,) = records.listed()
    assert (done.state, done.ended_at) == (State.DONE, NOW + 7)
    assert done.counts == COUNTS
    assert wanted(path) == 5 * DAY


def test_what_was_cancelled_in_the_meantime_is_not_done(records):
    fill = records.request(AAPL, 5 * DAY, NOW)
    records.cancel({fill.id}, NOW)
    records.complete(fill.id, COUNTS, NOW + 7)
    assert records.listed()[0].state is State.CANCELLED


def test_to_cancel_it_twice_changes_nothing(records):
    fill = records.request(AAPL, 5 * DAY, NOW)
    once = records.cancel({fill.id}, NOW)
    assert records.cancel({fill.id}, NOW + 60) == once
    assert records.cancel({99}, NOW) == []


def test_what_ended_is_forgotten_after_a_month_but_not_what_a_series_is_kept_by(records, path):
    old, later, given_up = (records.request(AAPL, day * DAY, NOW) for day in (5, 9, 3))
    for fill in (old, later):
        records.complete(fill.id, COUNTS, NOW)
    records.cancel({given_up.id}, NOW)
    records.request(MSFT, DAY, NOW + 30 * DAY)
    assert len(records.listed()) == 4
    records.request(MSFT, 2 * DAY, NOW + 30 * DAY + 1)
    assert [fill.id for fill in records.listed() if fill.series == AAPL] == [old.id]
    assert wanted(path) == 5 * DAY


def test_no_more_than_200_are_kept_that_ended_and_no_number_is_given_twice(records):
    ids = [records.request(AAPL, day * DAY, NOW).id for day in range(210)]
    records.cancel(set(ids), NOW)
    last = records.request(AAPL, DAY, NOW)
    assert len(records.listed()) == 201
    assert last.id == max(ids) + 1


def test_a_locked_ledger_is_an_error_that_says_who_to_look_for(records, path):
    records.request(AAPL, 5 * DAY, NOW)
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnwritable, match="locked") as refused:
            records.request(AAPL, 3 * DAY, NOW)
        other.rollback()
    assert refused.value.hint
    assert len(records.listed()) == 1


def test_a_folder_that_cannot_be_made_is_an_error(data_dir):
    (data_dir / ".ktrdr").write_text("in the way")
    with pytest.raises(StoreUnwritable):
        FillRecords(data_dir / ".ktrdr/ledger.sqlite").request(AAPL, DAY, NOW)


def test_nothing_is_written_next_to_the_log_of_a_ledger_that_was_just_deleted(records, path):
    ledger = Ledger(path)
    ledger.series.note_check(AAPL, "sample", NOW)
    path.unlink()
    with pytest.raises(StoreUnwritable, match="deleted a moment ago"):
        records.request(AAPL, DAY, NOW)
    ledger.close()


def test_many_threads_ask_at_once_and_none_is_lost(records):
    def request(day):
        for _ in range(100):  # who is refused, for the others take their time, asks again
            with contextlib.suppress(StoreUnwritable):
                records.request(AAPL, day * DAY, NOW)
                return

    threads = [threading.Thread(target=request, args=(day,)) for day in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {fill.since for fill in records.listed()} == {day * DAY for day in range(20)}


def test_of_many_that_open_a_new_ledger_at_once_each_gets_it(tmp_path):
    begin, errors = threading.Barrier(8), []

    def work(path):
        try:
            begin.wait(30)
            records = FillRecords(path)
            records.request(AAPL, DAY, NOW)
        except Exception as error:  # noqa: BLE001  whatever it is, it should not be
            errors.append(repr(error))

    for number in range(20):
        path = tmp_path / f"{number}.sqlite"
        threads = [threading.Thread(target=work, args=(path,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert errors == []
    assert not list(tmp_path.glob("*.broken*"))


def make_another_versions(path, *more):
    """As an update, or a step back, may leave it."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        for statement in ("PRAGMA user_version = 99", *more):
            database.execute(statement)
        database.commit()


def test_a_ledger_of_another_version_costs_no_fill(records, path):
    fill = records.request(AAPL, 5 * DAY, NOW)
    gone = records.request(MSFT, 5 * DAY, NOW)
    records.cancel({gone.id}, NOW)
    odd = "INSERT INTO fills (series, since, state) VALUES ('{}', {}, '{}')"
    make_another_versions(
        path,
        odd.format("AAPL_1m", 0, "a state of its own"),
        odd.format("AAPL_7m", 0, "queued"),
        odd.format("AAPL_1m", "'a day'", "queued"),
    )
    assert wanted(path) == 5 * DAY
    assert [one.state for one in records.listed()] == [State.QUEUED, State.CANCELLED]
    assert records.listed()[0] == fill
    assert records.request(MSFT, 6 * DAY, NOW).id > gone.id


def test_what_stands_in_the_log_of_such_a_ledger_alone_is_not_lost(records, path):
    with contextlib.closing(open_database(path, LEDGER)):  # else the log is written into the file
        fill = records.request(AAPL, 5 * DAY, NOW)
        make_another_versions(path)
        assert path.with_name("ledger.sqlite-wal").stat().st_size
        assert records.request(AAPL, 5 * DAY, NOW + 60) == fill


# Paused.


def test_a_paused_fill_is_wanted_no_more_until_it_is_resumed(records, path):
    fill = records.request(AAPL, 5 * DAY, NOW)
    paused = records.pause(fill.id, COUNTS, NOW + 7)
    assert (paused.state, paused.paused_at, paused.counts) == (State.PAUSED, NOW + 7, COUNTS)
    assert FillRecords(path).listed() == [paused]
    assert wanted(path) is None
    resumed = records.resume(fill.id)
    assert (resumed.state, resumed.paused_at) == (State.QUEUED, None)
    assert wanted(path) == 5 * DAY
    assert records.listed() == [resumed]


def test_a_fill_that_is_paused_twice_is_paused_since_the_first_time(records):
    fill = records.request(AAPL, 5 * DAY, NOW)
    records.pause(fill.id, COUNTS, NOW + 7)
    assert records.pause(fill.id, None, NOW + 9).paused_at == NOW + 7


def test_a_fill_that_was_paused_meanwhile_is_not_done(records):
    fill = records.request(AAPL, 5 * DAY, NOW)
    records.pause(fill.id, None, NOW)
    records.complete(fill.id, COUNTS, NOW)
    assert records.listed()[0].state is State.PAUSED


def test_what_is_not_there_is_neither_paused_nor_resumed(records):
    assert records.pause(7, None, NOW) is None
    assert records.resume(7) is None


OLD_FILLS = (
    "CREATE TABLE fills (id INTEGER PRIMARY KEY AUTOINCREMENT, series TEXT, since INTEGER, "
    "asked_at INTEGER, state TEXT, ended_at INTEGER, expected INTEGER, present INTEGER, "
    "missing TEXT)"
)


@pytest.fixture
def of_before(path):
    """A ledger as it was before fills could be paused."""
    path.parent.mkdir(exist_ok=True)
    with contextlib.closing(sqlite3.connect(path)) as old, old:
        old.execute(OLD_FILLS)
        row = (str(AAPL), 5 * DAY, NOW, "queued")
        old.execute("INSERT INTO fills (series, since, asked_at, state) VALUES (?, ?, ?, ?)", row)
        old.execute(f"PRAGMA user_version = {LEDGER.version}")


@pytest.mark.usefixtures("of_before")
def test_fills_of_before_they_could_be_paused_are_listed_and_paused(records, path):
    (fill,) = records.listed()
    assert (fill.series, fill.paused_at) == (AAPL, None)
    assert records.pause(fill.id, None, NOW).state is State.PAUSED
    assert FillRecords(path).listed()[0].paused_at == NOW


@pytest.mark.usefixtures("of_before")
def test_fills_of_a_damaged_ledger_of_before_are_taken_over(records, path):
    with contextlib.closing(sqlite3.connect(path)) as old:
        old.execute("PRAGMA user_version = 99")
    open_database(path, LEDGER).close()
    (fill,) = records.listed()
    assert (fill.series, fill.since, fill.state) == (AAPL, 5 * DAY, State.QUEUED)


def test_a_paused_fill_of_a_damaged_ledger_stays_paused(records, path):
    fill = records.request(AAPL, 5 * DAY, NOW)
    paused = records.pause(fill.id, COUNTS, NOW)
    with contextlib.closing(sqlite3.connect(path)) as old:
        old.execute("PRAGMA user_version = 99")
    open_database(path, LEDGER).close()
    assert records.listed() == [paused]
