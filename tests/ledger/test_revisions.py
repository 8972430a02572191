"""Records of corrected bars: kept over a restart, within bounds, and by a damaged ledger."""

import contextlib
import sqlite3

import pytest

from ktrdr.ledger.file import LEDGER
from ktrdr.ledger.ledger import Ledger
from ktrdr.ledger.revisions import KEPT, RevisionRecord
from ktrdr.market.bars import Bar
from ktrdr.market.instruments import parse_series
from ktrdr.sqlite_file import open_database

DAY = 86400
NOW = 20_000 * DAY
AAPL, MSFT = parse_series("AAPL_1m.csv"), parse_series("MSFT_1d.csv")
EVER = (0, NOW * 2)


def bar(start, close=100.5, volume=10.0):
    return Bar(start, 100.0, 101.0, 99.0, close, volume)


def pair(start):
    """A bar before and after."""
    return bar(start), bar(start, 100.75, 4711.0)


def starts(records, series=AAPL, span=EVER, most=KEPT, **more):
    found = records.revisions.newest(series, span, most, **more)
    return [one.old.start if one.old else None for one in found]


def test_what_was_stored_and_what_is_stored_since_are_there_after_a_restart(ledger, path):
    ledger.revisions.record(AAPL, [pair(60)], NOW)
    ledger.close()
    again = Ledger(path)
    assert again.revisions.newest(AAPL, EVER, 10) == [
        RevisionRecord(1, NOW, *pair(60), why="", kept="")
    ]
    again.close()


def test_they_are_of_their_series_alone_and_the_newest_come_first(ledger):
    ledger.revisions.record(AAPL, [pair(60), pair(120)], NOW)
    ledger.revisions.record(MSFT, [pair(180)], NOW)
    ledger.revisions.record(AAPL, [pair(60)], NOW + 1)
    assert starts(ledger) == [60, 120, 60]
    assert starts(ledger, MSFT) == [180]
    assert starts(ledger, most=1) == [60]
    assert [ledger.revisions.count(series, EVER) for series in (AAPL, MSFT)] == [3, 1]


def test_a_page_of_them_ends_where_the_next_one_begins(ledger):
    ledger.revisions.record(AAPL, [pair(60 * n) for n in range(1, 6)], NOW)
    newest = ledger.revisions.newest(AAPL, EVER, 2)
    assert [one.old.start for one in newest] == [300, 240]
    assert starts(ledger, before=newest[-1].id) == [180, 120, 60]


def test_those_of_an_interval_have_its_start_and_not_its_end(ledger):
    ledger.revisions.record(AAPL, [pair(60), pair(120), pair(180)], NOW)
    assert starts(ledger, span=(60, 180)) == [120, 60]
    assert ledger.revisions.count(AAPL, (60, 180)) == 2


def test_a_rebuild_is_one_record_and_concerns_every_bar(ledger):
    ledger.revisions.record_rebuild(AAPL, "a split (4:1)", ".ktrdr/replaced/AAPL_1m.csv", NOW)
    (record,) = ledger.revisions.newest(AAPL, (60, 120), 10)
    assert record == RevisionRecord(
        1, NOW, None, None, "a split (4:1)", ".ktrdr/replaced/AAPL_1m.csv"
    )
    assert starts(ledger, MSFT) == []


def test_the_newest_thousand_of_a_series_stay(ledger):
    ledger.revisions.record(MSFT, [pair(60)], NOW)
    ledger.revisions.record(AAPL, [pair(60 * n) for n in range(1, 1200)], NOW)
    assert ledger.revisions.count(AAPL, EVER) == 1000
    assert starts(ledger)[-1] == 60 * 200
    assert starts(ledger, MSFT) == [60]


def test_after_a_year_they_are_forgotten(ledger):
    ledger.revisions.record(AAPL, [pair(60)], NOW)
    ledger.revisions.record(MSFT, [pair(60)], NOW + 365 * DAY)
    assert starts(ledger) == [60]
    ledger.revisions.record(MSFT, [pair(120)], NOW + 365 * DAY + 1)
    assert starts(ledger) == []


def test_one_that_a_clock_ahead_has_dated_stays_and_is_dated_now(ledger):
    ledger.revisions.record(AAPL, [pair(60)], NOW - 5)
    ledger.revisions.record(AAPL, [pair(120)], NOW + DAY)
    assert ledger.forget_after(NOW) == 0
    assert [one.at for one in ledger.revisions.newest(AAPL, EVER, 10)] == [NOW, NOW - 5]


def test_a_ledger_from_before_there_were_revisions_gets_them(ledger, path):
    ledger.requests.answered(AAPL, 0, 60, NOW, 1)
    ledger.close()
    with contextlib.closing(sqlite3.connect(path)) as old:
        old.execute("DROP TABLE revisions")
    again = Ledger(path)
    again.revisions.record(AAPL, [pair(60)], NOW)
    assert starts(again) == [60]
    again.close()


@pytest.fixture
def put_aside(path):
    """Makes the ledger one of another version, and has it replaced by a new one."""

    def put_aside(*statements):
        with contextlib.closing(sqlite3.connect(path)) as database:
            for statement in (*statements, "PRAGMA user_version = 99"):
                database.execute(statement)
            database.commit()
        open_database(path, LEDGER).close()
        return Ledger(path)

    return put_aside


def test_they_outlive_a_ledger_that_is_put_aside_but_for_what_makes_no_sense(ledger, put_aside):
    ledger.revisions.record(AAPL, [pair(60)], NOW)
    ledger.revisions.record_rebuild(AAPL, "a split", "old.csv", NOW)
    before = ledger.revisions.newest(AAPL, EVER, 10)
    for n in range(4):
        ledger.revisions.record(AAPL, [pair(120 + n)], NOW)
    ledger.close()
    new = put_aside(
        "UPDATE revisions SET start = 'soon' WHERE start = 120",
        "UPDATE revisions SET new_close = NULL WHERE start = 121",
        "UPDATE revisions SET series = 'AAPL_7m' WHERE start = 122",
        "UPDATE revisions SET at = NULL WHERE start = 123",
    )
    assert new.revisions.newest(AAPL, EVER, 10) == before
    new.close()


def test_a_ledger_without_them_that_is_put_aside_costs_nothing_else(ledger, put_aside):
    ledger.revisions.record(AAPL, [pair(60)], NOW)
    ledger.close()
    new = put_aside("DROP TABLE revisions")
    assert starts(new) == []
    new.close()
