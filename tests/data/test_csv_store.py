import errno
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ktrdr.data.csv_store import CsvStore, parse
from ktrdr.errors import MalformedFile, StoreUnwritable, WrongSource
from ktrdr.planning.bars import Bar
from ktrdr.planning.instruments import Series
from ktrdr.planning.timeframes import Timeframe

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


def test_rows_are_told_as_bars(store, write):
    write("volume,timestamp,open,high,low,close\n100,2026-11-20 14:31:00+00:00,1,3,0.5,2.25\n")
    file = store.read(AAPL)
    start = bar(1).start
    assert file.bars_at([start, start + 60]) == [Bar(start, 1, 3, 0.5, 2.25, 100)]
    assert file.bars_at([]) == []


def test_the_nearest_row_to_a_span_is_found(store, write):
    write(HEADER + row(1) + row(4) + row(20))
    file = store.read(AAPL)
    at = [bar(minute).start for minute in range(30)]
    assert file.nearest(at[5], at[10]) == at[4]
    assert file.nearest(at[17], at[19]) == at[20]
    assert file.nearest(at[0], at[1]) == at[1]
    assert file.nearest(at[25], at[28]) == at[20]
    write(HEADER)
    assert store.read(AAPL).nearest(at[0], at[1]) is None


def test_a_file_is_swapped_in_one_step_and_the_old_one_kept(store, write, data_dir):
    path = write(HEADER + row(0))
    path.chmod(0o640)
    newer = write(HEADER + row(0, "1.0,1.0,1.0,1.0,100"), "newer.csv")
    keep = data_dir / ".ktrdr" / "replaced" / "AAPL_1m.csv"
    store.swap(AAPL, newer, keep)
    assert path.read_text() == HEADER + row(0, "1.0,1.0,1.0,1.0,100")
    assert keep.read_text() == HEADER + row(0)
    assert path.stat().st_mode & 0o777 == 0o640
    assert not newer.exists()


def test_nothing_new_leaves_the_file_alone(store, write):
    path = write(HEADER + row(0))
    before = path.stat()
    assert store.add(AAPL, [bar(0)]) == 0
    assert path.stat() == before


@pytest.mark.parametrize("text", ["", HEADER, HEADER.rstrip("\n")])
def test_a_header_alone_or_nothing_is_an_empty_series(store, write, text):
    path = write(text)
    assert len(store.read(AAPL).starts) == 0
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


def test_a_last_row_without_its_line_end_is_completed(store, write):
    path = write((HEADER + row(0) + row(1)).rstrip("\n"))
    assert len(store.read(AAPL).starts) == 1
    store.add(AAPL, [bar(2)])
    assert path.read_text() == HEADER + row(0) + row(1) + row(2)


def test_a_last_row_that_may_be_torn_gives_way_to_the_bar_that_comes(store, write):
    path = write(HEADER + row(0) + row(1).replace(",100\n", ",1"))
    store.add(AAPL, [bar(1)])
    assert path.read_text() == HEADER + row(0) + row(1)


def test_a_torn_last_row_is_no_bar_and_makes_room_for_it(store, write):
    path = write(HEADER + row(0) + row(1)[:30])
    assert store.read(AAPL).starts.tolist() == [utc("2026-11-20 14:30")]
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
        (HEADER + "2026-11-20 14:31:00+00:00,1,2,,3,5\n", 2, "numbers"),
        (HEADER + "2026-11-20 14:31:00+00:00,1,nan,3,4,5\n", 2, "numbers"),
        (HEADER + "2026-11-20 14:31:00+00:00,1,2,3,4,1_0\n", 2, "numbers"),
        (HEADER + "yesterday,1,2,3,4,5\n", 2, "time"),
        (HEADER + row(0).replace("11-20", "02-30"), 2, "time"),
        (HEADER + row(0) + row(0), 3, "after that of the row before"),
        (HEADER + row(2) + row(1), 3, "after that of the row before"),
        (HEADER + row(0).replace(":00+", ":30+"), 2, "whole minutes"),
        (HEADER + row(0) + "\n" + row(1), 3, "time"),
    ],
)
def test_a_broken_file_is_named_by_line_and_left(store, write, text, line, named):
    path = write(text)
    with pytest.raises(MalformedFile, match=f"AAPL_1m.csv line {line}:.*{named}"):
        store.add(AAPL, [bar(5)])
    assert path.read_bytes().decode() == text


def test_daily_bars_stand_at_midnight(data_dir):
    text = (HEADER + row(0)).encode()
    with pytest.raises(MalformedFile, match="00:00:00"):
        parse(data_dir / "AAPL_1d.csv", text, Timeframe.D1)


@pytest.mark.parametrize(
    "stamp", ["2026-11-20T14:30:00Z", "2026-11-20 14:30:00", "2026-11-20 09:30:00-05:00"]
)
def test_other_spellings_of_a_time_are_understood(store, write, stamp):
    write(f"{HEADER}{stamp},1,1,1,1,1\n")
    assert store.read(AAPL).starts.tolist() == [utc("2026-11-20 14:30")]


@given(st.datetimes(datetime(1971, 1, 1), datetime(2099, 12, 31)))  # noqa: DTZ001
def test_times_are_read_as_the_standard_library_reads_them(moment):
    moment = moment.replace(second=0, microsecond=0, tzinfo=UTC)
    text = f"{HEADER}{moment.isoformat(' ')},1,1,1,1,1\n"
    found = parse(Path("X_1m.csv"), text.encode(), Timeframe.M1)
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
    for series in CsvStore(REAL).series()[0]:
        path = REAL / series.file_name
        expected = [
            int(datetime.fromisoformat(line.split(",")[0]).timestamp())
            for line in path.read_text().splitlines()[1:]
        ]
        assert CsvStore(REAL).read(series).starts.tolist() == expected


def test_it_lists_what_are_series_and_names_what_are_none(store, write):
    for name in ("MSFT_1d.csv", "AAPL_1m.csv", "AAPL_1h.csv", "notes.csv", ".x_1m.csv", "a.txt"):
        write(HEADER, name)
    found, strange = store.series()
    assert [str(s) for s in found] == ["AAPL_1m", "AAPL_1h", "MSFT_1d"]
    assert len(strange) == 1
    assert strange[0].startswith("'notes.csv' is no series")


def test_a_folder_or_pipe_under_a_series_name_is_none(store):
    (store.folder / "DIR_1d.csv").mkdir()
    os.mkfifo(store.folder / "PIPE_1d.csv")
    found, strange = store.series()
    assert found == []
    assert [line.split(" ")[0] for line in strange] == ["'DIR_1d.csv'", "'PIPE_1d.csv'"]
    with pytest.raises(MalformedFile, match="no regular file"):
        store.read(Series("PIPE", Timeframe.D1))


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
        "from ktrdr.data.csv_store import CsvStore\n"
        "from ktrdr.planning.bars import Bar\n"
        "from ktrdr.planning.instruments import parse_series\n"
        "store, first = CsvStore(Path(sys.argv[1])), int(sys.argv[2])\n"
        "for i in range(25):\n"
        "    store.add(parse_series('AAPL_1m.csv'), [Bar(60 * (first + 2 * i), 1, 1, 1, 1, 1)])\n"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", writer, str(store.folder), str(first)])
        for first in (0, 1)
    ]
    assert [process.wait(60) for process in running] == [0, 0]
    assert store.read(AAPL).starts.tolist() == [60 * i for i in range(50)]
    assert sorted(p.name for p in path.parent.iterdir()) == [".ktrdr", "AAPL_1m.csv"]


def test_a_full_disk_is_named_and_leaves_the_old_file_and_nothing_else(store, write, monkeypatch):
    path = write(HEADER + row(0))

    def full(_descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreUnwritable, match=r"AAPL_1m.csv: No space left"):
        store.add(AAPL, [bar(1)])
    assert path.read_text() == HEADER + row(0)
    assert sorted(p.name for p in path.parent.iterdir()) == [".ktrdr", "AAPL_1m.csv"]


def test_what_a_killed_writer_left_is_removed(store, write):
    write("half", ".AAPL_1m.csv.1-2.ktrdr-new")
    assert store.clear_leftovers() == 1
    assert list(store.folder.iterdir()) == []
