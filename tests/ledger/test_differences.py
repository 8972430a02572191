"""Records of bars that were left as they are: replaced, bounded, and apart from corrections."""

import contextlib
import sqlite3

import pytest

from ktrdr.completeness.differences import Difference
from ktrdr.ledger.file import LEDGER
from ktrdr.ledger.ledger import Ledger
from ktrdr.market.bars import Bar
from ktrdr.market.instruments import parse_series
from ktrdr.sqlite_file import open_database

DAY = 86400
NOW = 20_000 * DAY
AAPL, MSFT = parse_series("AAPL_1m.csv"), parse_series("MSFT_1d.csv")
EVER = (0, NOW * 2)


def bar(start, close=100.5):
    return Bar(start, 100.0, 101.0, 99.0, close, 10.0)


def one(start, close=100.75):
    return Difference(bar(start), bar(start, close), start)


def several(first, last, bars):
    return Difference(bar(first), bar(first, 50.25), last, bars, 0.5, None)


def test_they_are_there_after_a_restart(ledger, path):
    ledger.differences.replace(AAPL, [], [one(60), several(120, 1200, 19)], NOW)
    ledger.close()
    again = Ledger(path)
    found = again.differences.within(AAPL, *EVER)
    assert [*found.values()] == [one(60), several(120, 1200, 19)]
    assert again.differences.bars(AAPL) == 20
    again.close()


def test_those_that_reach_into_an_interval_are_found(ledger):
    ledger.differences.replace(AAPL, [], [one(60), several(120, 1200, 19), one(1260)], NOW)
    ledger.differences.replace(MSFT, [], [one(600)], NOW)
    assert [*ledger.differences.within(AAPL, 600, 660).values()] == [several(120, 1200, 19)]
    assert [*ledger.differences.within(AAPL, 1200, 1260).values()] == [
        several(120, 1200, 19),
        one(1260),
    ]


def test_what_is_gone_is_replaced(ledger):
    ledger.differences.replace(AAPL, [], [one(60), one(120)], NOW)
    (first, _) = ledger.differences.within(AAPL, *EVER)
    ledger.differences.replace(AAPL, [first], [one(60, 99.5)], NOW + 1)
    assert [*ledger.differences.within(AAPL, *EVER).values()] == [one(60, 99.5), one(120)]


def test_the_list_of_revisions_has_them_among_the_corrected_bars(ledger):
    ledger.revisions.record(AAPL, [(bar(60), bar(60, 99.0))], NOW)
    ledger.differences.replace(AAPL, [], [several(120, 1200, 19)], NOW + 1)
    left, corrected = ledger.revisions.newest(AAPL, EVER, 10)
    assert (left.at, left.old, left.new) == (NOW + 1, bar(120), bar(120, 50.25))
    assert left.left == several(120, 1200, 19)
    assert left.why.startswith("IB has all prices times 0.5 (a split, 2:1?)")
    assert corrected.left is None
    assert len(ledger.revisions.newest(AAPL, (600, 660), 10)) == 1, "it reaches into this interval"
    assert ledger.revisions.count(AAPL, (600, 660)) == 1


def test_a_thousand_of_a_series_are_kept_and_no_correction_is_lost_for_them(ledger):
    ledger.revisions.record(AAPL, [(bar(60), bar(60, 99.0))], NOW)
    many = [one(60 * n) for n in range(1, 999)] + [several(60_000, 61_200, 21), one(90_000)]
    assert ledger.differences.replace(AAPL, [], many, NOW) == []
    more = [one(120_000), several(1, 2, 30)]
    assert set(ledger.differences.replace(AAPL, [], more, NOW)) == set(more)
    assert ledger.differences.bars(AAPL) == 998 + 21 + 1
    assert len([r for r in ledger.revisions.newest(AAPL, EVER, 2000) if r.left is None]) == 1


def test_the_longest_and_the_newest_are_listed_if_there_is_no_room_for_all(ledger):
    ledger.differences.replace(AAPL, [], [one(60 * n) for n in range(2000, 2998)], NOW)
    some = [one(60), several(120, 1200, 19), one(1260), one(1320)]
    assert set(ledger.differences.replace(AAPL, [], some, NOW)) == {one(60), one(1260)}
    assert {several(120, 1200, 19), one(1320)} <= set(
        ledger.differences.within(AAPL, *EVER).values()
    )


def test_a_year_later_they_still_differ_though_corrections_are_forgotten(ledger):
    ledger.differences.replace(AAPL, [], [one(60)], NOW)
    ledger.revisions.record(MSFT, [(bar(60), bar(60, 99.0))] * 1100, NOW + 400 * DAY)
    assert ledger.differences.bars(AAPL) == 1


def test_those_of_one_series_can_be_forgotten(ledger):
    ledger.differences.replace(AAPL, [], [one(60)], NOW)
    ledger.differences.replace(MSFT, [], [one(60)], NOW)
    ledger.revisions.record(AAPL, [(bar(60), bar(60, 99.0))], NOW)
    ledger.differences.forget(AAPL)
    assert [ledger.differences.bars(series) for series in (AAPL, MSFT)] == [0, 1]
    assert ledger.revisions.count(AAPL, EVER) == 1


@pytest.fixture
def earlier(ledger, path):
    """A ledger of before there were differences, with one corrected bar."""
    ledger.revisions.record(AAPL, [(bar(60), bar(60, 99.0))], NOW)
    ledger.close()
    with contextlib.closing(sqlite3.connect(path)) as database:
        for column in ("last", "bars", "price", "volume"):
            database.execute(f"ALTER TABLE revisions DROP COLUMN {column}")
        database.commit()
    return path


def test_a_ledger_from_before_there_were_differences_gets_them(earlier):
    again = Ledger(earlier)
    again.differences.replace(AAPL, [], [one(120)], NOW)
    assert [record.left for record in again.revisions.newest(AAPL, EVER, 9)] == [one(120), None]
    again.close()


def test_of_such_a_ledger_that_is_put_aside_the_corrections_are_kept(earlier):
    with contextlib.closing(sqlite3.connect(earlier)) as database:
        database.execute("PRAGMA user_version = 99")
    open_database(earlier, LEDGER).close()
    again = Ledger(earlier)
    assert again.revisions.count(AAPL, EVER) == 1
    again.close()


def test_differences_are_not_taken_over_from_a_ledger_that_is_put_aside(ledger, path):
    ledger.differences.replace(AAPL, [], [one(60)], NOW)
    ledger.close()
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 99")
    open_database(path, LEDGER).close()
    again = Ledger(path)
    assert again.differences.bars(AAPL) == 0
    again.close()
