import contextlib
import errno
import os
import shutil
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ktrdr.errors import MalformedFile, StoreUnwritable, WrongSource
from ktrdr.market.bars import Bar
from ktrdr.market.instruments import Series
from ktrdr.market.timeframes import Timeframe
from ktrdr.store.csv_store import CsvStore, place_for_old
from ktrdr.store.csv_text import Layout, read_rows
from ktrdr.store.index import from_runs, joined_runs, to_runs, with_starts

HEADER = "timestamp,open,high,low,close,volume\n"
AAPL = Series("AAPL", Timeframe.M1)
REAL = Path(__file__).resolve().parents[3] / "shared" / "data"


def utc(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def bar(minute: int, price: float = 228.06, volume: float = 100) -> Bar:
    return Bar(utc("2026-11-20 14:30") + 60 * minute, price, price, price, price, volume)


def row(minute: int, values: str = "228.06,228.06,228.06,228.06,100") -> str:
    return f"2026-11-20 14:{30 + minute}:00+00:00,{values}\n"


@pytest.fixture
def store(data_dir):
    return CsvStore(data_dir)


@pytest.fixture
def write(data_dir):
    def write(text: str, name: str = "AAPL_1m.csv") -> Path:
        path = data_dir / name
        path.write_bytes(text.encode())
        return path

    return write


def test_bars_go_where_they_belong(store, write):
    path = write(HEADER + row(1) + row(4))
    assert store.add(AAPL, [bar(5), bar(0), bar(2)]) == 3
    assert path.read_text() == HEADER + row(0) + row(1) + row(2) + row(4) + row(5)


def test_a_row_that_stands_there_stays_byte_for_byte(store, write):
    odd = "2026-11-20 14:31:00+00:00,228.060, 228.10,2.2e2,228.0600,0100\n"
    path = write(HEADER + odd)
    assert store.add(AAPL, [bar(0), bar(1, price=999), bar(2)]) == 2
    assert path.read_text() == HEADER + row(0) + odd + row(2)


def test_a_correction_takes_the_place_of_its_row_and_of_no_other(store, write):
    odd = "2026-11-20 14:33:00+00:00,228.060,228.10,2.2e2,228.0600,0100\n"
    path = write(HEADER + row(1) + row(2) + odd)
    assert store.add(AAPL, [bar(0), bar(2, price=7.0), bar(9)], correct=True) == 2
    assert path.read_text() == HEADER + row(0) + row(1) + row(2, "7.0,7.0,7.0,7.0,100") + odd + row(
        9
    )


def test_the_last_row_can_be_corrected(store, write):
    path = write(HEADER + row(1) + row(2))
    store.add(AAPL, [bar(2, price=7.0)], correct=True)
    assert path.read_text() == HEADER + row(1) + row(2, "7.0,7.0,7.0,7.0,100")


def test_rows_are_read_as_bars(store, write):
    write("volume,timestamp,open,high,low,close\n100,2026-11-20 14:31:00+00:00,1,3,0.5,2.25\n")
    rows = store.rows(AAPL)
    start = bar(1).start
    assert rows.bars([start, start + 60]) == [Bar(start, 1, 3, 0.5, 2.25, 100)]
    assert rows.bars([]) == []
    assert rows.bars() == rows.bars([start])


def test_the_nearest_row_to_a_span_is_found(store, write):
    write(HEADER + row(1) + row(4) + row(20))
    at = [bar(minute).start for minute in range(30)]
    assert store.nearest(AAPL, at[5], at[10]) == at[4]
    assert store.nearest(AAPL, at[17], at[19]) == at[20]
    assert store.nearest(AAPL, at[0], at[1]) == at[1]
    assert store.nearest(AAPL, at[25], at[28]) == at[20]
    write(HEADER)
    assert store.nearest(AAPL, at[0], at[1]) is None


def test_a_file_is_swapped_in_one_step_and_the_old_one_kept(store, write, data_dir):
    path = write(HEADER + row(0))
    path.chmod(0o640)
    store.staging.create(AAPL)
    store.staging.add(AAPL, [bar(0, price=1.0)])
    kept = store.take_staged(AAPL, "20261126T000000Z")
    assert path.read_text() == HEADER + row(0, "1.0,1.0,1.0,1.0,100")
    assert kept == data_dir / ".ktrdr" / "replaced" / "AAPL_1m.20261126T000000Z.csv"
    assert kept.read_text() == HEADER + row(0)
    assert path.stat().st_mode & 0o777 == 0o640
    assert store.staging.key(AAPL) is None


def test_a_file_on_another_file_system_is_swapped_too(store, scratch, monkeypatch):
    real = scratch / "elsewhere.csv"
    real.write_text(HEADER + row(0))
    real.chmod(0o640)
    store.path(AAPL).symlink_to(real)
    store.staging.create(AAPL)
    store.staging.add(AAPL, [bar(0, price=1.0)])

    def replace_beside(old, new, replace=os.replace):
        if Path(old).parent != Path(new).parent:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        replace(old, new)

    monkeypatch.setattr(os, "replace", replace_beside)
    kept = store.take_staged(AAPL, "20261126T000000Z")
    assert store.path(AAPL).is_symlink()
    assert real.read_text() == HEADER + row(0, "1.0,1.0,1.0,1.0,100")
    assert real.stat().st_mode & 0o777 == 0o640
    assert kept.read_text() == HEADER + row(0)
    assert store.staging.key(AAPL) is None
    assert list(scratch.glob(".*")) == []


def test_a_place_for_an_old_file_is_never_taken(store):
    first = place_for_old(store.folder, AAPL, "20261126T000000Z")
    first.parent.mkdir(parents=True)
    for ending in ("", "-2"):
        taken = place_for_old(store.folder, AAPL, "20261126T000000Z")
        assert taken == first.with_name(f"AAPL_1m.20261126T000000Z{ending}.csv")
        taken.write_text("old")


def test_nothing_new_leaves_the_file_alone(store, write):
    path = write(HEADER + row(0))
    before = path.stat()
    assert store.add(AAPL, [bar(0)]) == 0
    assert path.stat() == before


@pytest.mark.parametrize("text", ["", HEADER, HEADER.rstrip("\n")])
def test_a_header_alone_or_nothing_is_an_empty_series(store, write, text):
    path = write(text)
    os.utime(path, (0, 0))
    assert len(store.rows(AAPL).starts) == 0
    store.add(AAPL, [bar(0)])
    assert path.read_text() == HEADER + row(0)


def test_further_columns_are_kept_and_empty_in_new_rows(store, write):
    header = "timestamp,open,high,low,close,volume,wap,note\n"
    old = "2026-11-20 14:30:00+00:00,1,1,1,1,5,1.0,mine\n"
    path = write(header + old)
    store.add(AAPL, [bar(1)])
    assert path.read_text() == header + old + row(1).replace("\n", ",,\n")


def test_windows_line_ends_stay(store, write):
    path = write((HEADER + row(0)).replace("\n", "\r\n"))
    store.add(AAPL, [bar(1)])
    assert path.read_bytes().decode() == (HEADER + row(0) + row(1)).replace("\n", "\r\n")


@pytest.fixture
def write_long_ago(write):
    """Nobody is still writing its last line."""

    def write_old(text: str) -> Path:
        path = write(text)
        os.utime(path, (0, 0))
        return path

    return write_old


@pytest.mark.parametrize("minute", [1, 2, -1])
def test_a_last_row_without_its_line_end_is_completed_and_kept(store, write_long_ago, minute):
    header = HEADER.replace("\n", ",note\n")
    theirs = [row(n).replace("\n", ",mine\n") for n in (0, 1)]
    path = write_long_ago((header + "".join(theirs)).rstrip("\n"))
    assert len(store.rows(AAPL).starts) == 1
    store.add(AAPL, [bar(minute)])
    lines = set(path.read_text().splitlines(keepends=True))
    assert set(theirs) <= lines
    assert len(lines) == (3 if minute == 1 else 4)


def test_a_torn_last_row_is_no_bar_and_makes_room_for_it(store, write_long_ago):
    path = write_long_ago(HEADER + row(0) + row(1)[:30])
    assert store.rows(AAPL).starts.tolist() == [utc("2026-11-20 14:30")]
    store.add(AAPL, [bar(1)])
    assert path.read_text() == HEADER + row(0) + row(1)


def test_values_are_ibs_to_the_last_digit(store, write):
    path = write(HEADER)
    store.add(AAPL, [Bar(bar(0).start, 0.1 + 0.2, 1e-05, 12345678.9, -37.63, 0.00012)])
    line = path.read_text().splitlines()[1]
    assert [float(v) for v in line.split(",")[1:]] == [
        0.1 + 0.2,
        1e-05,
        12345678.9,
        -37.63,
        0.00012,
    ]
    store.add(AAPL, [bar(1, volume=41200.0)])
    assert path.read_text().endswith(",41200\n")


def test_permissions_stay(store, write):
    path = write(HEADER)
    path.chmod(0o640)
    store.add(AAPL, [bar(0)])
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_link_stays_a_link(store, scratch):
    real = scratch / "elsewhere.csv"
    real.write_text(HEADER)
    link = store.folder / "AAPL_1m.csv"
    link.symlink_to(real)
    store.add(AAPL, [bar(0)])
    assert link.is_symlink()
    assert real.read_text() == HEADER + row(0)


@pytest.mark.parametrize(
    ("text", "line", "named"),
    [
        ("time,o,h,l,c,v\n", 1, "header"),
        (HEADER.replace("open", "close"), 1, "header"),
        (HEADER + row(0) + "2026-11-20 14:31:00+00:00,1,2\n", 3, "6 fields"),
        (HEADER + "2026-11-20 14:31:00+00:00,1,2,3,x,5\n", 2, "numbers"),
        (HEADER + "2026-11-20 14:31:00+00:00,1,1e999,3,4,5\n", 2, "numbers"),
        (HEADER + "2026-11-20 14:31:00+00:00,1,2,3,4,1_0\n", 2, "numbers"),
        (HEADER + "yesterday,1,2,3,4,5\n", 2, "time"),
        (HEADER + row(0).replace("11-20", "02-30"), 2, "time"),
        (HEADER + row(0).replace("11-20", "02-29"), 2, "time"),
        (HEADER + row(0).replace("11-20", "13-01"), 2, "time"),
        (HEADER + row(0).replace("11-20", "11-00"), 2, "time"),
        (HEADER + row(0).replace(" 14:", " 24:"), 2, "time"),
        (HEADER + row(0).replace(":30:", ":60:"), 2, "time"),
        (HEADER + row(0).replace("14:30:", "14.30:"), 2, "time"),
        (HEADER + row(0) + row(0), 3, "after that of the row before"),
        (HEADER + row(2) + row(1), 3, "after that of the row before"),
        (HEADER + row(0).replace(":00+", ":30+"), 2, "whole minutes"),
        (HEADER + row(0) + "\n" + row(1), 3, "time"),
        (HEADER + row(0).replace(":00+00:00", ":00.9"), 2, "whole seconds"),
        (HEADER + row(0).replace(":00+00:00", ":00.000001"), 2, "whole seconds"),
        (HEADER + row(0) + row(1, "1,1,1,1,\0\0\0"), 3, "numbers"),
        (HEADER + row(0) + row(1, "1,1,\0\0,1,1"), 3, "numbers"),
    ],
)
def test_a_broken_file_is_named_by_line_and_left(store, write, text, line, named):
    path = write(text)
    with pytest.raises(MalformedFile, match=f"AAPL_1m.csv line {line}:.*{named}"):
        store.verify(AAPL)
    assert path.read_bytes().decode() == text


def test_bytes_that_are_no_text_are_no_time(store, write):
    path = write(HEADER + row(0))
    later = row(0).replace("2026-11", "2200-02").encode()
    path.write_bytes(path.read_bytes() + b"\xff" * 8 + later[8:] + later)
    with pytest.raises(MalformedFile, match=r"AAPL_1m.csv line 3:.*time"):
        store.verify(AAPL)


@pytest.mark.parametrize("end", ["\n", "yesterday,1,2,3,4,5\n"])
def test_a_last_line_that_is_no_row_is_named_at_first_sight(store, write, end):
    write(HEADER + row(0) + end)
    with pytest.raises(MalformedFile, match=r"AAPL_1m.csv line 3:.*time"):
        store.contents(AAPL, bar(0).start)


def test_daily_bars_stand_at_midnight(store, write):
    write(HEADER + row(0), "AAPL_1d.csv")
    with pytest.raises(MalformedFile, match=r"line 2.*00:00:00"):
        store.verify(Series("AAPL", Timeframe.D1))


@pytest.mark.parametrize(
    "stamp", ["2026-11-20T14:30:00Z", "2026-11-20 14:30:00", "2026-11-20 09:30:00-05:00"]
)
def test_other_spellings_of_a_time_are_understood(store, write, stamp):
    write(f"{HEADER}{stamp},1,1,1,1,1\n")
    assert store.rows(AAPL).starts.tolist() == [utc("2026-11-20 14:30")]


@given(st.datetimes(datetime(1850, 1, 1), datetime(2250, 12, 31)))  # noqa: DTZ001
@example(datetime(1899, 12, 31, 23, 59))  # noqa: DTZ001
@example(datetime(1900, 1, 1))  # noqa: DTZ001
@example(datetime(2000, 2, 29, 23, 59))  # noqa: DTZ001
@example(datetime(2199, 12, 31, 23, 59))  # noqa: DTZ001
@example(datetime(2200, 1, 1))  # noqa: DTZ001
def test_times_are_read_as_the_standard_library_reads_them(moment):
    moment = moment.replace(second=0, microsecond=0, tzinfo=UTC)
    text = f"{moment.isoformat(' ')},1,1,1,1,1\n"
    found = read_rows("X_1m.csv", Layout(), text.encode(), Timeframe.M1)
    assert found.starts.tolist() == [int(moment.timestamp())]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.lists(st.sets(st.integers(0, 50), max_size=20), max_size=6))
def test_whatever_is_added_in_whatever_order_the_file_is_the_union(store, additions):
    path = store.folder / "AAPL_1m.csv"
    path.write_text(HEADER)
    start = bar(0).start
    known: set[int] = set()
    for minutes in additions:
        new = [Bar(start + 60 * m, 1.5, 1.5, 1.5, 1.5, m) for m in minutes]
        assert store.add(AAPL, new) == len(minutes - known)
        known |= minutes
    lines = path.read_text().splitlines()[1:]
    assert [int(line.rsplit(",", 1)[1]) for line in lines] == sorted(known)


@pytest.mark.skipif(not REAL.is_dir(), reason="there is no ../shared/data")
def test_real_files_are_read_as_they_stand():
    for series in CsvStore(REAL).scan().found:
        path = REAL / series.file_name
        expected = [
            int(datetime.fromisoformat(line.split(",")[0]).timestamp())
            for line in path.read_text().splitlines()[1:]
        ]
        assert CsvStore(REAL).verify(series).starts.tolist() == expected
        assert CsvStore(REAL).rows(series).starts.tolist() == expected


def test_it_lists_series_and_names_what_are_none(store, write):
    for name in ("MSFT_1d.csv", "AAPL_1m.csv", "AAPL_1h.csv", "notes.csv", ".x_1m.csv", "a.txt"):
        write(HEADER, name)
    (store.folder / "more").mkdir()
    found, _, other_names, blocked, folders = store.scan()
    assert {str(s) for s in found} == {"AAPL_1m", "AAPL_1h", "MSFT_1d"}
    assert not blocked
    assert sorted(other_names) == ["a.txt", "notes.csv"]
    assert folders == ["more"]


def test_a_folder_or_pipe_under_a_series_name_is_none(store):
    (store.folder / "DIR_1d.csv").mkdir()
    os.mkfifo(store.folder / "PIPE_1d.csv")
    found, _, other_names, blocked, folders = store.scan()
    assert (found, other_names, folders) == ({}, [], [])
    assert sorted(map(str, blocked)) == ["DIR_1d", "PIPE_1d"]
    with pytest.raises(MalformedFile, match="is not a regular file"):
        store.rows(Series("PIPE", Timeframe.D1))


def test_a_store_belongs_to_one_source(store):
    store.claim("simulated")
    store.claim("simulated")
    with pytest.raises(WrongSource, match="holds simulated bars, and the gateway is live"):
        store.claim("live")
    assert store.source() == "simulated"


def test_another_process_waits_for_the_lock(store, write):
    path = write(HEADER)
    writer = (
        "import sys; from pathlib import Path\n"
        "from ktrdr.store.csv_store import CsvStore\n"
        "from ktrdr.market.bars import Bar\n"
        "from ktrdr.market.instruments import parse_series\n"
        "store, first = CsvStore(Path(sys.argv[1])), int(sys.argv[2])\n"
        "for i in range(25):\n"
        "    store.add(parse_series('AAPL_1m.csv'), [Bar(60 * (first + 2 * i), 1, 1, 1, 1, 1)])\n"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", writer, str(store.folder), str(first)])
        for first in (0, 1)
    ]
    assert [process.wait(60) for process in running] == [0, 0]
    assert store.rows(AAPL).starts.tolist() == [60 * i for i in range(50)]
    assert sorted(p.name for p in path.parent.iterdir()) == [".ktrdr", "AAPL_1m.csv"]


def test_a_full_disk_is_named_and_leaves_the_old_file_and_nothing_else(store, write, monkeypatch):
    path = write(HEADER + row(1))

    def full(_descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    monkeypatch.setattr(os, "fdatasync", full)
    for minute in (0, 2):  # into the middle, and behind the end
        with pytest.raises(StoreUnwritable, match=r"AAPL_1m.csv: No space left"):
            store.add(AAPL, [bar(minute)])
        assert path.read_text() == HEADER + row(1)
        assert sorted(p.name for p in path.parent.iterdir()) == [".ktrdr", "AAPL_1m.csv"]
    monkeypatch.undo()
    assert store.add(AAPL, [bar(0), bar(2)]) == 2
    assert path.read_text() == HEADER + row(0) + row(1) + row(2)


def test_what_a_killed_writer_left_is_removed(store, write):
    write("half", ".AAPL_1m.csv.1-2.ktrdr-new")
    assert store.clear_leftovers() == 1
    assert list(store.folder.iterdir()) == []


def test_bars_behind_the_last_one_are_appended_to_the_same_file(store, write):
    path = write(HEADER + row(0))
    before = path.stat().st_ino
    store.add(AAPL, [bar(1), bar(2)])
    assert path.stat().st_ino == before
    assert path.read_text() == HEADER + row(0) + row(1) + row(2)


def test_another_name_of_the_file_keeps_its_content(store, write, scratch):
    """Such as a snapshot that was made with links."""
    path = write(HEADER + row(0))
    snapshot = scratch / "snapshot.csv"
    snapshot.hardlink_to(path)
    store.add(AAPL, [bar(1)])
    assert snapshot.read_text() == HEADER + row(0)
    assert path.read_text() == HEADER + row(0) + row(1)


def test_a_byte_order_mark_is_no_part_of_the_header(store, write):
    path = write("\ufeff" + HEADER + row(0))
    assert store.rows(AAPL).starts.tolist() == [bar(0).start]
    store.add(AAPL, [bar(1)])
    assert path.read_text() == "\ufeff" + HEADER + row(0) + row(1)


def many_rows(first: int, last: int) -> str:
    return "".join(
        f"{datetime.fromtimestamp(60 * i, UTC).isoformat(' ')},{i},{i}.5,{i},{i},7\n"
        for i in range(first, last)
    )


@pytest.fixture
def long_file(write):
    """A file of 20,000 minutes, far more than is read at once: half a chunk is 8,000."""
    return write(HEADER + many_rows(1000, 21000))


@pytest.mark.usefixtures("long_file")
@pytest.mark.parametrize(
    ("first", "last"), [(1000, 1001), (0, 3), (5000, 5007), (20999, 30000), (0, 22000), (7, 8)]
)
def test_a_window_of_a_long_file_has_its_rows_and_no_other(store, first, last):
    found = store.rows(AAPL, 60 * first, 60 * last)
    assert found.text.decode() == many_rows(max(first, 1000), min(last, 21000))


@pytest.mark.timeout(20)
@pytest.mark.parametrize("wanted", [0, 1, 3, 4])
def test_rows_of_many_pages_are_found(store, write, wanted):
    rows = [row(minute)[:-1] + f",{'x' * 24_000}\n" for minute in range(5)]
    write(HEADER[:-1] + ",note\n" + "".join(rows))
    start = bar(wanted).start
    assert store.rows(AAPL, start, start + 60).text.decode() == rows[wanted]


@pytest.mark.usefixtures("long_file")
def test_a_long_file_is_spliced_where_its_bars_lack(store, write):
    path = write(HEADER + many_rows(1000, 4000) + many_rows(4100, 21000))
    new = [Bar(60 * i, i, i + 0.5, i, i, 7) for i in range(3990, 4110)]
    assert store.add(AAPL, new) == 100
    wanted = HEADER + many_rows(1000, 21000)
    lines, expected = path.read_text().splitlines(), wanted.splitlines()
    assert [line.split(",")[0] for line in lines] == [line.split(",")[0] for line in expected]
    assert lines[:3001] == expected[:3001]
    assert lines[3101:] == expected[3101:]


@pytest.mark.parametrize("place", [0, 9999, 19999])
def test_a_row_out_of_order_is_named_wherever_it_is(store, write, long_file, place):
    rows = many_rows(1000, 21000).splitlines(keepends=True)
    rows[place : place + 2] = reversed(rows[place : place + 2])
    rows[0:0] = ["1970-01-01 00:00:00+00:00,1,1,1,1,1\n"] if place == 19999 else []
    write(HEADER + "".join([*rows, rows[-1]]))
    line = place + 3 if place != 19999 else 20003
    with pytest.raises(MalformedFile, match=f"AAPL_1m.csv line {line}: .*after that of the row"):
        store.verify(AAPL)
    assert long_file.exists()


# What was seen is remembered.


@pytest.fixture
def indexed(data_dir):
    store = CsvStore(data_dir, indexed=True)
    yield store
    store.close()


def age(path: Path) -> None:
    """As if the file had been written some time ago."""
    old = path.stat().st_mtime_ns - 10_000_000_001
    os.utime(path, ns=(old, old))


def test_a_file_that_was_seen_is_not_opened_again(indexed, long_file):
    age(long_file)
    seen = indexed.contents(AAPL, 60 * 20000)
    assert seen.starts.tolist() == [60 * i for i in range(20000, 21000)]
    assert (seen.first, seen.last, seen.since) == (60000, 60 * 20999, 60 * 20000)
    assert indexed.scan().changed == []
    indexed.close()
    stamp = long_file.stat()
    long_file.write_text("x" * stamp.st_size)  # which nobody reads
    os.utime(long_file, ns=(stamp.st_mtime_ns, stamp.st_mtime_ns))
    with contextlib.closing(CsvStore(indexed.folder, indexed=True)) as other:
        again = other.contents(AAPL, 60 * 20000)
    assert again.starts.tolist() == seen.starts.tolist()


def test_a_file_that_another_program_changed_is_read_again(indexed, write):
    path = write(HEADER + row(0) + row(1))
    age(path)
    assert len(indexed.contents(AAPL, 0).starts) == 2
    assert not indexed.scan().changed
    path.write_text(HEADER + row(0) + row(2))
    age(path)
    assert indexed.scan().changed == [AAPL]
    assert indexed.contents(AAPL, 0).starts.tolist() == [bar(0).start, bar(2).start]


def test_a_file_that_was_written_just_now_is_not_trusted_to_stay(indexed, write):
    """A second change within the clock's tick leaves size, time and inode as they are."""
    path = write(HEADER + row(0))
    stamp = path.stat()
    indexed.contents(AAPL, 0)
    path.write_text(HEADER + row(5))
    os.utime(path, ns=(stamp.st_mtime_ns, stamp.st_mtime_ns))
    assert indexed.scan().changed == [AAPL]
    assert indexed.contents(AAPL, 0).starts.tolist() == [bar(5).start]


def test_what_is_appended_is_known_and_the_rest_stays_verified(indexed, long_file):
    age(long_file)
    assert not indexed.contents(AAPL, 60 * 20000).is_verified
    assert len(indexed.verify(AAPL).starts) == 20000
    indexed.add(AAPL, [Bar(60 * 21000, 1, 1, 1, 1, 1), Bar(60 * 21002, 1, 1, 1, 1, 1)])
    assert indexed.scan().changed == []
    seen = indexed.contents(AAPL, 0)
    assert seen.is_verified
    assert seen.starts.tolist() == [60 * i for i in [*range(1000, 21001), 21002]]
    indexed.flush()
    assert CsvStore(long_file.parent).was_verified(AAPL)


def test_what_is_spliced_is_known_and_the_rest_stays_verified(indexed, long_file):
    age(long_file)
    indexed.verify(AAPL)
    indexed.add(AAPL, [Bar(60 * at, 1, 1, 1, 1, 1) for at in (0, 5, 999, 5000, 5001)])
    indexed.add(AAPL, [Bar(60 * at, 1, 1, 1, 1, 1) for at in (998, 5000, 20999, 21000)])
    indexed.add(AAPL, [Bar(60 * 5000, 2, 2, 2, 2, 2)], correct=True)
    assert indexed.scan().changed == []
    stamp = long_file.stat()
    content = long_file.read_bytes()
    long_file.write_text("x" * stamp.st_size)  # which nobody reads
    os.utime(long_file, ns=(stamp.st_mtime_ns, stamp.st_mtime_ns))
    seen = indexed.contents(AAPL, 0)
    assert (seen.first, seen.last, seen.is_verified) == (0, 60 * 21000, True)
    long_file.write_bytes(content)
    assert seen.starts.tolist() == indexed.verify(AAPL).starts.tolist()
    assert seen.starts.tolist() == [60 * at for at in (0, 5, *range(998, 21001))]


def test_what_is_spliced_into_rows_that_were_not_all_read_leaves_these_unverified(
    indexed, long_file
):
    age(long_file)
    assert not indexed.contents(AAPL, 60 * 20000).is_verified
    indexed.add(AAPL, [Bar(60 * 20500, 2, 2, 2, 2, 2)], correct=True)
    indexed.add(AAPL, [Bar(60, 1, 1, 1, 1, 1), Bar(60 * 22000, 1, 1, 1, 1, 1)])
    assert not indexed.was_verified(AAPL)
    seen = indexed.contents(AAPL, 0)
    assert seen.starts.tolist() == [60 * at for at in (1, *range(1000, 21000), 22000)]
    assert (seen.first, seen.last) == (60, 60 * 22000)


def test_what_another_program_writes_after_a_splice_is_read_again(indexed, write):
    path = write(HEADER + row(0) + row(2))
    age(path)
    indexed.verify(AAPL)
    indexed.add(AAPL, [bar(1)])
    assert indexed.scan().changed == []
    path.write_text(HEADER + row(0) + row(1) + row(3))  # as long as before
    assert indexed.scan().changed == [AAPL]
    assert indexed.contents(AAPL, 0).starts.tolist() == [bar(at).start for at in (0, 1, 3)]


def test_what_is_known_is_given_up_if_the_file_has_other_rows(indexed, write):
    path = write(HEADER + row(0) + row(2) + row(3))
    age(path)
    indexed.verify(AAPL)
    stamp = path.stat()
    path.write_text(HEADER + row(0) + row(1) + row(3))  # by a program that hides it
    os.utime(path, ns=(stamp.st_mtime_ns, stamp.st_mtime_ns))
    assert indexed.add(AAPL, [bar(1), bar(2)]) == 1
    assert indexed.contents(AAPL, 0).starts.tolist() == [bar(at).start for at in (0, 1, 2, 3)]


@pytest.mark.parametrize("content", [b"", b"no database at all" * 100])
def test_a_broken_index_is_made_anew(indexed, long_file, content):
    age(long_file)
    indexed.verify(AAPL)
    indexed.close()
    (long_file.parent / ".ktrdr" / "ledger.sqlite").write_bytes(content)
    for companion in ("-wal", "-shm"):
        (long_file.parent / ".ktrdr" / f"ledger.sqlite{companion}").unlink(missing_ok=True)
    assert indexed.scan().changed == [AAPL]
    assert len(indexed.contents(AAPL, 0).starts) == 20000
    assert indexed.scan().changed == []


def test_an_index_that_is_deleted_is_made_anew(indexed, long_file):
    age(long_file)
    indexed.verify(AAPL)
    indexed.flush()
    shutil.rmtree(long_file.parent / ".ktrdr")
    assert len(indexed.contents(AAPL, 0).starts) == 20000
    indexed.add(AAPL, [Bar(60 * 21000, 1, 1, 1, 1, 1)])
    assert len(indexed.contents(AAPL, 0).starts) == 20001


def leave_index_of_before(folder: Path, version: int) -> Path:
    """Have what was seen stand in a file of its own, as release 0.1 kept it."""
    ours = folder / ".ktrdr"
    with contextlib.closing(sqlite3.connect(ours / "index.sqlite")) as old, old:
        old.execute(f"PRAGMA user_version = {version}")
        old.execute("ATTACH ? AS now", (str(ours / "ledger.sqlite"),))
        old.execute("""
            CREATE TABLE files (
                name TEXT PRIMARY KEY, size INTEGER, mtime_ns INTEGER, inode INTEGER,
                settled INTEGER, first INTEGER, last INTEGER, since INTEGER, verified INTEGER,
                runs BLOB
            ) WITHOUT ROWID
        """)
        old.execute(
            "INSERT INTO files SELECT name, size, mtime_ns, inode, settled, first, last, since, "
            "verified, runs FROM now.file_index"
        )
        old.execute("DELETE FROM now.file_index")
    return ours / "index.sqlite"


def test_what_an_earlier_release_has_seen_is_taken_over(indexed, long_file):
    age(long_file)
    indexed.verify(AAPL)
    indexed.close()
    before = leave_index_of_before(indexed.folder, version=2)
    with contextlib.closing(CsvStore(indexed.folder, indexed=True)) as store:
        assert store.contents(AAPL, 0).is_verified
        assert store.scan().changed == []
    assert not list(before.parent.glob("index*"))


@pytest.mark.parametrize("is_broken", [False, True])
def test_an_earlier_index_that_cannot_be_read_costs_one_reading(indexed, long_file, is_broken):
    age(long_file)
    indexed.verify(AAPL)
    indexed.close()
    before = leave_index_of_before(indexed.folder, version=1)
    if is_broken:
        before.write_bytes(b"no database at all" * 1000)
    with contextlib.closing(CsvStore(indexed.folder, indexed=True)) as store:
        assert store.scan().changed == [AAPL]
        assert len(store.contents(AAPL, 0).starts) == 20000
        assert store.scan().changed == []
    assert not list(before.parent.glob("index*"))


@given(st.sets(st.integers(0, 300)), st.integers(0, 320), st.sampled_from([60, 3600, 86400]))
def test_runs_return_the_starts_that_were_put_into_them(places, since, step_s):
    starts = np.array(sorted(places), np.int64) * step_s + 7 * step_s
    both = joined_runs(to_runs(starts[:5], step_s), to_runs(starts[5:], step_s), step_s)
    assert both == to_runs(starts, step_s)
    found = from_runs(both, since * step_s, step_s).tolist()
    assert found == [t for t in starts.tolist() if t >= since * step_s]


@given(
    st.sets(st.integers(0, 60)),
    st.sets(st.integers(0, 60), min_size=1),
    st.sampled_from([60, 3600, 86400]),
    st.sampled_from([0, 7, 60]),
)
def test_runs_with_starts_added_are_those_of_all_of_them(places, more, step_s, shift_s):
    there = np.array(sorted(places), np.int64) * step_s
    new = np.array(sorted(more), np.int64) * step_s + shift_s
    together = np.union1d(there, new)
    runs, added = with_starts(to_runs(there, step_s), new, step_s)
    assert from_runs(runs, 0, step_s).tolist() == together.tolist()
    assert added == len(together) - len(there)
    assert from_runs(runs, int(new[0]), step_s).tolist() == [
        start for start in together.tolist() if start >= new[0]
    ]


@pytest.mark.parametrize("name", [".ktrdr", ".ktrdr/source"])
def test_the_source_of_a_store_without_a_record_is_not_guessed(store, name):
    path = store.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if name == ".ktrdr":
        path.touch()
    else:
        path.mkdir()
    with pytest.raises(StoreUnwritable, match="source: ") as caught:
        store.source()
    assert caught.value.hint


@pytest.mark.parametrize("minutes", [[7], [1], [1, 7]], ids=["behind", "between", "both"])
def test_rows_that_are_written_count_though_the_index_cannot_be_opened(data_dir, write, minutes):
    path = write(HEADER + row(0) + row(2))
    (data_dir / ".ktrdr" / "ledger.sqlite").mkdir(parents=True)
    store = CsvStore(data_dir, indexed=True)
    assert store.add(AAPL, [bar(minute) for minute in minutes]) == len(minutes)
    assert len(path.read_text().splitlines()) == 3 + len(minutes)


def test_what_is_known_of_a_file_goes_with_its_change_and_others_see_it(indexed, write):
    write(HEADER + row(0) + row(2))
    indexed.contents(AAPL, 0)
    indexed.flush()
    write(HEADER + row(0) + row(2) + row(3))
    indexed.add(AAPL, [bar(1)])
    indexed.close()
    path = indexed.folder / ".ktrdr" / "ledger.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT count(*) FROM file_index").fetchone() == (0,)
    assert indexed.contents(AAPL, 0).starts.tolist() == [bar(at).start for at in range(4)]
