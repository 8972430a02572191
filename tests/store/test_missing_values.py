"""Rows that lack a value are no bars, and stay as they are."""

import contextlib
import os
import sqlite3
import time

import pytest

from ktrdr.errors import MalformedFile
from ktrdr.market.bars import Bar
from ktrdr.market.instruments import Series
from ktrdr.market.timeframes import Timeframe
from ktrdr.store.csv_store import CsvStore
from ktrdr.store.csv_text import Layout, complete_lines
from ktrdr.store.missing_values import is_missing
from tests.fake_connection import HEADER, line, price, utc

AAPL = Series("AAPL", Timeframe.M1)
FIRST = utc("2026-11-20 14:30")
CELLS = ["", " ", "nan", "NaN", "-nan", "NULL", "None", "NA", "n/a", "#N/A", "inf", "-Infinity"]


def start(minute: int) -> int:
    return FIRST + 60 * minute


def bar(minute: int) -> Bar:
    return price(start(minute))


def row(minute: int, values: str | None = None) -> str:
    whole = line(bar(minute))
    return whole if values is None else f"{whole.partition(',')[0]},{values}\n"


LACKING = row(1, "1.5,1.5,nan,1.5,7")
WITH_TEXT = HEADER.replace("\n", ",note\n")
"""A header with a column that is not always plain numbers."""


@pytest.fixture(params=[False, True], ids=["without an index", "with an index"])
def store(request, data_dir):
    store = CsvStore(data_dir, indexed=request.param)
    yield store
    store.close()


@pytest.fixture
def write(data_dir):
    """Write the file so that it counts as settled."""

    def write(text):
        path = data_dir / "AAPL_1m.csv"
        path.write_text(text, newline="")
        before = time.time_ns() - 10**10
        os.utime(path, ns=(before, before))
        return path

    return write


def plain(contents):
    return contents.starts.tolist(), contents.incomplete.tolist()


@pytest.mark.parametrize("cell", CELLS)
def test_an_empty_cell_and_the_usual_words_for_one_are_missing(cell):
    assert is_missing(cell.encode())


@pytest.mark.parametrize("cell", ["0", "-1", "1e3", "x", "nano", "1_0", '""', "\0", "1e999"])
def test_numbers_and_all_else_are_not(cell):
    assert not is_missing(cell.encode())


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("place", range(5))
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_row_that_lacks_one_of_its_values_is_no_bar(store, write, cell, place, end):
    values = ["1.5", "1.5", "1.5", "1.5", "7"]
    values[place] = cell
    text = HEADER + row(0) + row(1, ",".join(values)) + row(2)
    write(text.replace("\n", end))
    expected = ([start(0), start(2)], [start(1)])
    assert plain(store.contents(AAPL, 0)) == expected
    assert plain(store.verify(AAPL)) == expected
    assert plain(store.contents(AAPL, 0)) == expected
    assert store.rows(AAPL).bars() == [bar(0), bar(2)]
    assert store.rows(AAPL, start(1), start(2)).bars() == []
    with store.window(AAPL, 0, 2**62, 10**6) as window:
        assert [one for lines in window.pieces for one in lines.rows().bars()] == [bar(0), bar(2)]


def test_the_file_has_its_row_all_the_same(store, write):
    """Its first and last row say how far it reaches, and that it is not empty."""
    write(HEADER + row(0, ",,,,") + row(5, "1,1,1,1,"))
    contents = store.verify(AAPL)
    assert (contents.first, contents.last, len(contents.starts)) == (start(0), start(5), 0)
    assert store.contents(AAPL, 0)[1:3] == (start(0), start(5))


def test_cells_of_other_columns_may_be_empty(store, write):
    write(WITH_TEXT + row(0).replace("\n", ",\n") + row(1).replace("\n", ",nan\n"))
    assert plain(store.verify(AAPL)) == ([start(0), start(1)], [])


@pytest.mark.parametrize("values", ["1,nan,x,1,1", "1,,1,1,1_0", '1,,1,1,"1"'])
def test_a_cell_that_may_be_a_mistyped_value_is_for_a_person(store, write, values):
    write(HEADER + row(0) + row(1, values))
    with pytest.raises(MalformedFile, match=r"AAPL_1m\.csv line 3"):
        store.verify(AAPL)


def test_a_row_with_a_field_too_few_is_for_a_person(store, write):
    write(HEADER + row(0) + row(1, "1,,1,1"))
    with pytest.raises(MalformedFile, match=r"AAPL_1m\.csv line 3"):
        store.verify(AAPL)


def test_a_last_line_without_an_end_is_not_whole_because_its_last_cell_is_empty(store, write):
    path = write(HEADER + row(0) + "2026-11-20 14:31:00+00:00,1,1,1,1,")
    assert plain(store.verify(AAPL)) == ([start(0)], [])
    assert store.add(AAPL, [bar(1)]) == 1
    assert path.read_text() == HEADER + row(0) + row(1)


@pytest.mark.parametrize("correct", [False, True])
def test_bars_are_added_around_it_and_it_stays_with_no_second_row_of_its_time(
    store, write, correct
):
    path = write(HEADER + row(0) + LACKING + row(4))
    store.verify(AAPL)
    assert store.add(AAPL, [bar(minute) for minute in range(6)], correct=correct) == 3
    assert path.read_text() == HEADER + row(0) + LACKING + "".join(map(row, range(2, 6)))
    expected = ([start(minute) for minute in (0, 2, 3, 4, 5)], [start(1)])
    assert plain(store.contents(AAPL, 0)) == expected


def test_bars_are_appended_behind_it(store, write):
    path = write(HEADER + row(0) + LACKING)
    assert store.add(AAPL, [bar(1), bar(2)]) == 1
    assert path.read_text() == HEADER + row(0) + LACKING + row(2)


def test_the_index_keeps_it_and_a_write_leaves_the_file_verified(data_dir, write):
    write(HEADER + row(0) + LACKING + row(4))
    with contextlib.closing(CsvStore(data_dir, indexed=True)) as store:
        store.verify(AAPL)
        store.add(AAPL, [bar(1), bar(2)])
        assert store.was_verified(AAPL)
    with contextlib.closing(CsvStore(data_dir, indexed=True)) as store:
        assert store.scan().changed == []
        assert store.was_verified(AAPL)
        assert plain(store.contents(AAPL, 0)) == ([start(0), start(2), start(4)], [start(1)])


def test_an_index_of_before_is_used_as_far_as_its_files_were_verified(data_dir, write):
    """Unverified entries may have such rows among the bars."""
    write(HEADER + row(0) + row(2))
    with contextlib.closing(CsvStore(data_dir, indexed=True)) as store:
        store.verify(AAPL)
    with contextlib.closing(sqlite3.connect(data_dir / ".ktrdr/ledger.sqlite")) as old, old:
        old.execute("ALTER TABLE file_index DROP COLUMN incomplete")
        old.execute(
            "INSERT INTO file_index SELECT 'MSFT_1m.csv', size, mtime_ns, inode, settled, first, "
            "last, since, 0, runs FROM file_index"
        )
    with contextlib.closing(CsvStore(data_dir, indexed=True)) as store:
        assert store.was_verified(AAPL)
        assert plain(store.contents(AAPL, 0)) == ([start(0), start(2)], [])
    with contextlib.closing(sqlite3.connect(data_dir / ".ktrdr/ledger.sqlite")) as now:
        assert now.execute("SELECT name FROM file_index").fetchall() == [("AAPL_1m.csv",)]


def test_the_nearest_bar_is_one_with_all_values(store, write):
    write(HEADER + row(0) + row(3, "1,1,1,1,") + row(4, "1,1,1,1,") + row(9))
    assert store.nearest(AAPL, start(5), start(5)) == start(9)
    assert store.nearest(AAPL, start(4), start(6)) == start(9)
    assert store.nearest(AAPL, start(3), start(3)) == start(0)
    assert store.nearest(AAPL, start(20), start(21)) == start(9)


def test_there_is_no_nearest_bar_where_no_row_has_all_values(store, write):
    write(HEADER + row(3, "1,1,1,1,") + row(4, "1,1,1,1,"))
    assert store.nearest(AAPL, start(4), start(4)) is None


def test_its_line_is_named(store, write):
    text = HEADER + "".join(map(row, range(30))) + row(30, "1,1,,1,1") + row(31)
    write(text)
    assert store.line_of(AAPL, start(30)) == (32, row(30, "1,1,,1,1").strip())
    assert store.line_of(AAPL, start(31)) == (33, row(31).strip())
    assert store.line_of(AAPL, start(40)) is None


def test_a_recorders_row_that_lacks_a_value_is_brought_over_to_its_place(store, write):
    path = write(HEADER + row(0) + row(5))
    with path.open("a") as recorder:
        assert store.add(AAPL, [bar(2), bar(8)]) == 2
        recorder.write(row(6, "1,1,1,1,nan"))
        recorder.flush()
        store.add(AAPL, [bar(3)])
    expected = [row(0), row(2), row(3), row(5), row(6, "1,1,1,1,nan"), row(8)]
    assert path.read_text() == HEADER + "".join(expected)


@pytest.mark.parametrize("values", [",1,1,1,1", "1,,1,1,1", "1,1,1,1,"])
def test_an_empty_cell_is_found_wherever_it_is_in_a_long_file(values):
    """Bytes are looked at in blocks of 64 KiB: a cell may lie on the border of two."""
    usual = row(0).encode()
    lacking = row(1, values).encode()
    before = usual * ((65_536 - len(lacking)) // len(usual) - 1)
    for shift in range(2 * len(usual)):
        first = usual.rstrip() + b"0" * shift + b"\n"
        text = first + before + lacking + usual
        assert complete_lines(Layout(), text) == first + before + usual
