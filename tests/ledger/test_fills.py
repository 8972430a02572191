import contextlib
import sqlite3
import threading

import pytest

from ktrdr.completeness.fill import Counts, State
from ktrdr.errors import StoreUnwritable
from ktrdr.ledger.file import LEDGER
from ktrdr.ledger.fills import FillBook
from ktrdr.ledger.ledger import Ledger
from ktrdr.market.instruments import parse_series
from ktrdr.sqlite_file import open_database

DAY = 86400
NOW = 20_000 * DAY
COUNTS = Counts(100, 98, {"no_trades": 2})
AAPL, MSFT = parse_series("AAPL_1m.csv"), parse_series("MSFT_1d.csv")


@pytest.fixture
def path(data_dir):
    return data_dir / ".ktrdr/ledger.sqlite"


@pytest.fixture
def book(path):
    return FillBook(path)


def wanted(path, series=AAPL):
    with contextlib.closing(Ledger(path)) as ledger:
        return ledger.series.wanted(series)


def test_a_store_in_which_nothing_was_asked_for_gets_no_ledger(book, path):
    assert book.listed() == []
    assert not path.exists()


def test_a_fill_that_was_asked_for_is_there_after_a_restart(book, path):
    fill = book.ask(AAPL, 5 * DAY, NOW)
    assert FillBook(path).listed() == [fill]
    assert (fill.state, fill.requested_at) == (State.QUEUED, NOW)


def test_of_several_fills_the_earliest_day_stands_until_it_is_cancelled(book, path):
    first = book.ask(AAPL, 5 * DAY, NOW)
    second = book.ask(AAPL, 9 * DAY, NOW)
    book.ask(MSFT, DAY, NOW)
    assert wanted(path) == 5 * DAY
    book.cancel({first.id}, NOW)
    assert wanted(path) == 9 * DAY
    book.cancel({second.id}, NOW)
    assert wanted(path) is None


def test_the_same_day_asked_for_twice_is_one_fill(book):
    assert book.ask(AAPL, 5 * DAY, NOW) == book.ask(AAPL, 5 * DAY, NOW + 60)


def test_what_is_done_says_how_many_bars_there_were_and_is_kept_complete(book, path):
    fill = book.ask(AAPL, 5 * DAY, NOW)
    book.complete(fill.id, COUNTS, NOW + 7)
    (done,) = book.listed()
    assert (done.state, done.ended_at) == (State.DONE, NOW + 7)
    assert done.counts == COUNTS
    assert wanted(path) == 5 * DAY


def test_what_was_cancelled_meanwhile_is_not_done(book):
    fill = book.ask(AAPL, 5 * DAY, NOW)
    book.cancel({fill.id}, NOW)
    book.complete(fill.id, COUNTS, NOW + 7)
    assert book.listed()[0].state is State.CANCELLED


def test_to_cancel_it_twice_changes_nothing(book):
    fill = book.ask(AAPL, 5 * DAY, NOW)
    once = book.cancel({fill.id}, NOW)
    assert book.cancel({fill.id}, NOW + 60) == once
    assert book.cancel({99}, NOW) == []


def test_what_ended_is_forgotten_after_a_month_but_not_what_a_series_is_kept_by(book, path):
    old, later, given_up = (book.ask(AAPL, day * DAY, NOW) for day in (5, 9, 3))
    for fill in (old, later):
        book.complete(fill.id, COUNTS, NOW)
    book.cancel({given_up.id}, NOW)
    book.ask(MSFT, DAY, NOW + 30 * DAY)
    assert len(book.listed()) == 4
    book.ask(MSFT, 2 * DAY, NOW + 30 * DAY + 1)
    assert [fill.id for fill in book.listed() if fill.series == AAPL] == [old.id]
    assert wanted(path) == 5 * DAY


def test_no_more_than_200_are_kept_that_ended_and_no_number_is_given_twice(book):
    ids = [book.ask(AAPL, day * DAY, NOW).id for day in range(210)]
    book.cancel(set(ids), NOW)
    last = book.ask(AAPL, DAY, NOW)
    assert len(book.listed()) == 201
    assert last.id == max(ids) + 1


def test_a_locked_ledger_is_an_error_that_says_who_to_look_for(book, path):
    book.ask(AAPL, 5 * DAY, NOW)
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnwritable, match="locked") as refused:
            book.ask(AAPL, 3 * DAY, NOW)
        other.rollback()
    assert refused.value.hint
    assert len(book.listed()) == 1


def test_a_folder_that_cannot_be_made_is_an_error(data_dir):
    (data_dir / ".ktrdr").write_text("in the way")
    with pytest.raises(StoreUnwritable):
        FillBook(data_dir / ".ktrdr/ledger.sqlite").ask(AAPL, DAY, NOW)


def test_nothing_is_written_beside_the_log_of_a_ledger_that_was_just_deleted(book, path):
    ledger = Ledger(path)
    ledger.series.note_check(AAPL, "sample", NOW)
    path.unlink()
    with pytest.raises(StoreUnwritable, match="deleted a moment ago"):
        book.ask(AAPL, DAY, NOW)
    ledger.close()


def test_many_threads_ask_at_once_and_none_is_lost(book):
    def ask(day):
        for _ in range(100):  # who is refused, for the others take their time, asks again
            with contextlib.suppress(StoreUnwritable):
                book.ask(AAPL, day * DAY, NOW)
                return

    threads = [threading.Thread(target=ask, args=(day,)) for day in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {fill.since for fill in book.listed()} == {day * DAY for day in range(20)}


def test_of_many_that_open_a_new_ledger_at_once_each_gets_it(tmp_path):
    begin, errors = threading.Barrier(8), []

    def work(path):
        try:
            begin.wait(30)
            book = FillBook(path)
            book.ask(AAPL, DAY, NOW)
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


def test_a_ledger_of_another_version_costs_no_fill(book, path):
    fill = book.ask(AAPL, 5 * DAY, NOW)
    gone = book.ask(MSFT, 5 * DAY, NOW)
    book.cancel({gone.id}, NOW)
    odd = "INSERT INTO fills (series, since, state) VALUES ('{}', {}, '{}')"
    make_another_versions(
        path,
        odd.format("AAPL_1m", 0, "a state of its own"),
        odd.format("AAPL_7m", 0, "queued"),
        odd.format("AAPL_1m", "'a day'", "queued"),
    )
    assert wanted(path) == 5 * DAY
    assert [one.state for one in book.listed()] == [State.QUEUED, State.CANCELLED]
    assert book.listed()[0] == fill
    assert book.ask(MSFT, 6 * DAY, NOW).id > gone.id


def test_what_stands_in_the_log_of_such_a_ledger_alone_is_not_lost(book, path):
    with contextlib.closing(open_database(path, LEDGER)):  # else the log is written into the file
        fill = book.ask(AAPL, 5 * DAY, NOW)
        make_another_versions(path)
        assert path.with_name("ledger.sqlite-wal").stat().st_size
        assert book.ask(AAPL, 5 * DAY, NOW + 60) == fill
