"""Other programs write to a file of the store, in their own ways: no row of theirs is lost."""

import contextlib
import errno
import fcntl
import os
import shutil
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ktrdr.check.defects import FindingState
from ktrdr.check.store import StoreCheck
from ktrdr.errors import MalformedFile, StoreUnwritable
from ktrdr.ledger.reader import own_file
from ktrdr.market.bars import Bar
from ktrdr.market.instruments import Series
from ktrdr.market.timeframes import Timeframe
from ktrdr.store.csv_store import CsvStore
from ktrdr.store.file_key import key_of
from tests.fake_connection import fill, utc
from tests.store import recorders
from tests.store.children import in_a_child

NAMES = ("open", "high", "low", "close", "volume")
HEADER = "timestamp,open,high,low,close,volume\n"
AAPL = Series("AAPL", Timeframe.M1)
FIRST = int(datetime(2026, 11, 20, 14, 30, tzinfo=UTC).timestamp())
NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root is anybody")
on_linux = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="who has a file open cannot be known"
)


def bar(minute: int) -> Bar:
    return Bar(FIRST + 60 * minute, 2.0, 2.0, 2.0, 2.0, 7.0)


def ours(minute: int) -> str:
    return f"2026-11-20 14:{30 + minute}:00+00:00,2.0,2.0,2.0,2.0,7\n"


def theirs(minute: int) -> str:
    return f"2026-11-20 14:{30 + minute}:00+00:00,1,1,1,1,1\n"


def spelled(minute: int) -> str:
    return datetime.fromtimestamp(FIRST + 60 * minute, UTC).isoformat(" ")


@pytest.fixture
def store(data_dir):
    with contextlib.closing(CsvStore(data_dir, indexed=True)) as store:
        yield store


@pytest.fixture
def path(data_dir):
    path = data_dir / "AAPL_1m.csv"
    path.write_text(HEADER + theirs(0) + theirs(4))
    return path


@pytest.fixture
def growing(data_dir):
    """The names under which replaced files are kept."""

    def names() -> list[Path]:
        folder = data_dir / ".ktrdr" / "growing"
        return list(folder.iterdir()) if folder.is_dir() else []

    return names


# A program that keeps the file open.


@on_linux
@pytest.mark.parametrize("by", ["write", "scan", "another process"])
def test_what_is_appended_to_a_replaced_file_is_brought_over(store, path, growing, data_dir, by):
    with path.open("a", buffering=1) as recorder:
        store.add(AAPL, [bar(2)])
        recorder.write(theirs(5) + theirs(6))
        match by:
            case "write":
                store.add(AAPL, [bar(3)])
            case "scan":
                store.scan()
            case _:
                CsvStore(data_dir).add(AAPL, [bar(3)])
        added = "" if by == "scan" else ours(3)
        before = HEADER + theirs(0) + ours(2) + added + theirs(4) + theirs(5) + theirs(6)
        assert path.read_text() == before
        assert len(growing()) == 1
        recorder.write(theirs(7))
    store.scan()
    assert path.read_text() == before + theirs(7)
    assert growing() == []


@on_linux
def test_each_row_is_brought_over_once(store, path):
    with path.open("a", buffering=1) as recorder:
        for minute in (2, 3, 1):
            store.add(AAPL, [bar(minute)])
            recorder.write(theirs(minute + 10))
    store.scan()
    store.scan()
    lines = path.read_text().splitlines()
    assert len(lines) == len(set(lines)) == 1 + 2 + 3 + 3


@on_linux
def test_half_a_line_in_a_replaced_file_waits_for_its_end(store, path):
    with path.open("a", buffering=1) as recorder:
        store.add(AAPL, [bar(2)])
        recorder.write(theirs(5)[:30])
        recorder.flush()
        store.scan()
        assert path.read_text() == HEADER + theirs(0) + ours(2) + theirs(4)
        recorder.write(theirs(5)[30:])
        store.scan()
    assert path.read_text() == HEADER + theirs(0) + ours(2) + theirs(4) + theirs(5)


@on_linux
def test_a_recorders_row_takes_the_place_of_a_bar_that_was_there_first(store, path):
    with path.open("a", buffering=1) as recorder:
        store.add(AAPL, [bar(2), bar(5)])
        recorder.write(theirs(5))
        store.scan()
    assert path.read_text() == HEADER + theirs(0) + ours(2) + theirs(4) + theirs(5)


@on_linux
def test_a_line_that_cannot_be_read_comes_where_it_would_have_come(store, path):
    with path.open("a", buffering=1) as recorder:
        store.add(AAPL, [bar(2)])
        recorder.write("oops\n")
    store.scan()
    assert path.read_text() == HEADER + theirs(0) + ours(2) + theirs(4) + "oops\n"
    with pytest.raises(MalformedFile, match="oops"):
        store.verify(AAPL)


def test_nothing_is_kept_of_a_file_that_nobody_else_has_open(store, path, growing):
    with path.open():
        store.add(AAPL, [bar(2)])
    assert growing() == []


@on_linux
def test_nothing_is_brought_over_from_a_file_that_was_not_replaced(store, path, growing):
    """We were killed just before we replaced it."""
    with path.open("a", buffering=1) as recorder:
        store.add(AAPL, [bar(2)])
        (kept,) = growing()
        status = path.stat()
        os.link(path, kept.with_name(f"AAPL_1m.{status.st_ino}.{status.st_size}.csv"))
        with path.open("a") as other:
            other.write(theirs(5))
        recorder.write(theirs(6))
        store.scan()
    assert path.read_text() == HEADER + theirs(0) + ours(2) + theirs(4) + theirs(5) + theirs(6)


@on_linux
@pytest.mark.parametrize("is_replaced", [False, True])
def test_who_was_killed_while_replacing_a_file_has_replaced_it_or_not(
    store, path, growing, is_replaced
):
    """What another program has removed since does not come back."""
    with path.open("a", buffering=1) as recorder:
        store.add(AAPL, [bar(2)])
        (kept,) = growing()
        old, size = kept.name.split(".")[1:3]
        new = path.stat().st_ino if is_replaced else path.stat().st_ino + 1_000_000
        kept.rename(kept.with_name(f"AAPL_1m.{old}.{size}-{new}.csv"))
        recorder.write(theirs(5))
        store.scan()
        store.add(AAPL, [bar(1)])
        recorder.write(theirs(6))
        store.scan()
    brought = theirs(5) + theirs(6) if is_replaced else ""
    assert path.read_text() == HEADER + theirs(0) + ours(1) + ours(2) + theirs(4) + brought


@on_linux
def test_a_row_of_ours_that_was_never_whole_does_not_come_back(store, path, data_dir):
    """We were killed when it was written but for its end, and again just after it was removed."""
    status = path.stat()
    with store.locked(AAPL) as lock:
        lock.begin(status.st_ino, status.st_size, ours(6).encode())
    with path.open("a") as file:
        file.write(ours(6).rstrip())

    def remove_it_and_die():
        replace = Path.replace

        def replace_and_die(*arguments):
            replace(*arguments)
            os._exit(0)

        Path.replace = replace_and_die
        CsvStore(data_dir).add(AAPL, [bar(2)])

    assert in_a_child(remove_it_and_die) == 0
    assert path.read_text() == HEADER + theirs(0) + theirs(4)
    store.add(AAPL, [bar(2)])
    assert path.read_text() == HEADER + theirs(0) + ours(2) + theirs(4)


@pytest.fixture
def late(monkeypatch):
    """This is done when we are about to replace a file."""
    left, replace = [], os.replace

    def replace_late(*arguments):
        if left:
            left.pop()()
        replace(*arguments)

    monkeypatch.setattr(os, "replace", replace_late)
    monkeypatch.setattr(Path, "replace", replace_late)
    return left.append


@on_linux
@pytest.mark.parametrize("is_open", [False, True])
def test_what_comes_in_the_moment_of_replacing_is_brought_over(store, path, late, is_open):
    opened = []

    def open_it():
        opened.append(path.open("a"))
        if not is_open:
            opened[0].write(theirs(5))
            opened[0].close()

    late(open_it)
    store.add(AAPL, [bar(2)])
    if is_open:
        opened[0].write(theirs(5))
        opened[0].close()
        store.scan()
    assert path.read_text() == HEADER + theirs(0) + ours(2) + theirs(4) + theirs(5)


@on_linux
@pytest.mark.parametrize("columns", [("volume", "open", "high", "low", "close"), ("note", *NAMES)])
def test_rows_are_brought_over_by_the_names_of_their_columns(store, path, data_dir, columns):
    other = data_dir / "other"
    with path.open("a", buffering=1) as recorder:
        store.add(AAPL, [bar(2)])
        wanted = ("timestamp", *columns, *(() if "volume" in columns else NAMES))
        other.write_text(",".join(wanted) + "\n")
        other.replace(path)
        recorder.write("2026-11-20 14:35:00+00:00,10,11,9,10.5,5000\n")
        store.scan()
    (found,) = store.rows(AAPL).bars()
    assert found[1:] == (10.0, 11.0, 9.0, 10.5, 5000.0)


@on_linux
def test_nothing_is_brought_over_into_the_file_of_another_series(store, path, data_dir):
    other = data_dir / "MSFT_1m.csv"
    other.write_text(HEADER + theirs(1))
    with path.open("a", buffering=1) as recorder:
        store.add(AAPL, [bar(2)])
        path.unlink()
        path.symlink_to(other.name)
        recorder.write(theirs(5))
        store.scan()
    assert other.read_text() == HEADER + theirs(1)


@on_linux
@pytest.mark.parametrize("is_torn_there", [False, True])
def test_a_last_row_without_a_line_end_is_brought_over_once_it_is_closed(
    store, path, growing, is_torn_there
):
    with path.open("a", buffering=1) as recorder:
        store.add(AAPL, [bar(2)])
        if is_torn_there:
            path.write_text(path.read_text() + theirs(5).removesuffix("\n"))
            os.utime(path, (0, 0))
        recorder.write(theirs(6).removesuffix("\n"))
    store.scan()
    expected = HEADER + theirs(0) + ours(2) + theirs(4)
    assert path.read_text() == expected + (theirs(5) if is_torn_there else "") + theirs(6)
    assert growing() == []


@on_linux
@pytest.mark.parametrize("how", ["rebuilt", "fixed", "split"])
def test_half_a_line_at_the_moment_of_replacing_is_brought_over_whole(store, path, data_dir, how):
    recorder = path.open("a", buffering=1)
    recorder.write(theirs(5)[:30])
    recorder.flush()
    os.utime(path, (0, 0))
    match how:
        case "rebuilt":
            store.begin_staging(AAPL)
            store.staging.add(AAPL, [bar(0), bar(4)])
            store.take_staged(AAPL, "20261120T000000Z")
        case "fixed":
            StoreCheck(data_dir, lambda: FIRST + 3600.0).check(AAPL, fix=True)
        case _:
            store.add(AAPL, [bar(2)])
    recorder.write(theirs(5)[30:])
    recorder.close()
    store.scan()
    assert path.read_text().endswith(theirs(5))
    assert len(store.verify(AAPL).starts) == (4 if how == "split" else 3)


@on_linux
def test_a_recorder_that_begins_with_its_header_loses_nothing(store, path):
    path.write_text("")
    with path.open("w", buffering=1) as recorder:
        store.add(AAPL, [bar(2)])
        recorder.write(HEADER + theirs(5))
        store.scan()
    assert path.read_text() == HEADER + ours(2) + theirs(5)


@on_linux
def test_a_file_that_was_emptied_meanwhile_has_its_header_again(store, path):
    with path.open("a", buffering=1) as recorder:
        store.add(AAPL, [bar(2)])
        path.write_text("")
        recorder.write(theirs(5))
        store.scan()
    assert path.read_text() == HEADER + theirs(5)


@on_linux
def test_only_lines_that_are_no_rows_come_at_the_end(store, path):
    with path.open("a", buffering=1) as recorder:
        store.add(AAPL, [bar(2)])
        no_values = theirs(4).split(",")[0] + ",1,oops,1,1,1\n"
        recorder.write(theirs(3) + "oops\n" + no_values + "\n" + theirs(1))
    store.scan()
    rows = theirs(0) + theirs(1) + ours(2) + theirs(3) + theirs(4)
    assert path.read_text() == HEADER + rows + "oops\n" + no_values


@on_linux
@pytest.mark.parametrize("text", ["", HEADER[:20], HEADER + "oops"])
def test_a_replaced_file_that_became_shorter_stops_nothing(store, path, text):
    with path.open("a", buffering=1) as recorder:
        store.add(AAPL, [bar(2)])
        recorder.truncate(0)
        recorder.write(text)
        recorder.flush()
        assert store.add(AAPL, [bar(7)]) == 1
    assert store.add(AAPL, [bar(8)]) == 1
    assert path.read_text() == HEADER + theirs(0) + ours(2) + theirs(4) + ours(7) + ours(8)


@on_linux
def test_a_series_that_was_deleted_comes_not_back(store, path, growing):
    with path.open("a", buffering=1) as recorder:
        store.add(AAPL, [bar(2)])
        path.unlink()
        recorder.write(theirs(5))
        store.scan()
    store.scan()
    assert growing() == []
    assert not path.exists()


@on_linux
@pytest.mark.usefixtures("path")
def test_strange_files_beside_the_names_stop_nothing(store, data_dir):
    folder = data_dir / ".ktrdr" / "growing"
    (folder / "AAPL_1m.1.2.csv").mkdir(parents=True)
    (folder / "notes.1.2.csv").write_text("")
    assert store.scan().found
    assert store.add(AAPL, [bar(2)]) == 1
    shutil.rmtree(folder)
    folder.write_text("a file")
    assert store.scan().found
    assert store.add(AAPL, [bar(3)]) == 1


@on_linux
def test_who_only_reads_changes_nothing(store, path, data_dir):
    with path.open("a", buffering=1) as recorder:
        store.add(AAPL, [bar(2)])
        recorder.write(theirs(5))
        before = path.read_text()
        CsvStore(data_dir).scan()
        checked = StoreCheck(data_dir, lambda: FIRST + 3600.0)
        checked.check(AAPL)
        checked.check_rest()
        assert path.read_text() == before


@on_linux
def test_a_rebuilt_series_has_what_was_appended_to_the_old_file(store, path):
    with path.open("a", buffering=1) as recorder:
        store.begin_staging(AAPL)
        store.staging.add(AAPL, [bar(0), bar(1)])
        store.take_staged(AAPL, "20261120T000000Z")
        recorder.write(theirs(5))
        store.scan()
    assert path.read_text() == HEADER + ours(0) + ours(1) + theirs(5)


@on_linux
def test_a_fixed_file_has_what_was_appended_to_the_old_one(store, data_dir, path):
    with path.open("a", buffering=1) as recorder:
        recorder.write(theirs(4))  # a duplicate
        checked = StoreCheck(data_dir, lambda: FIRST + 3600.0).check(AAPL, fix=True)
        assert [one.state for one in checked.findings] == [FindingState.FIXED]
        recorder.write(theirs(5))
        store.scan()
    assert path.read_text() == HEADER + theirs(0) + theirs(4) + theirs(5)


@on_linux
@pytest.mark.parametrize("by", ["write", "scan"])
def test_a_row_is_not_ended_while_its_program_may_go_on_with_its_last_value(store, path, by):
    with path.open("a") as recorder:
        recorder.write(theirs(5).replace(",1\n", ",12"))
        recorder.flush()
        os.utime(path, (0, 0))
        if by == "write":
            store.add(AAPL, [bar(6)])
        else:
            store.scan()
        recorder.write("345\n")
    store.scan()
    row = theirs(5).replace(",1\n", ",12345\n")
    assert row in path.read_text()
    assert len(store.verify(AAPL).starts) == (4 if by == "write" else 3)


@on_linux
def test_a_program_that_writes_where_it_is_loses_nothing(store, path):
    """It opened the file to write it anew, and does not append."""
    with path.open("w", buffering=1) as recorder:
        recorder.write(HEADER + theirs(4))
        store.add(AAPL, [bar(6)])
        recorder.write(theirs(5))
    store.scan()
    assert path.read_text() == HEADER + theirs(4) + theirs(5) + ours(6)


@on_linux
def test_many_rows_are_brought_over_quickly(store, path):
    """Line by line they would take minutes."""
    with path.open("a") as recorder:
        store.add(AAPL, [bar(2)])
        recorder.writelines(spelled(minute) + ",1,1,1,1,1\n" for minute in range(5, 40_005))
    store.scan()
    assert len(store.verify(AAPL).starts) == 40_003


@on_linux
@pytest.mark.parametrize("text", [b"\0" * (2 << 20), b"oops"])
def test_what_is_no_row_is_given_up_when_its_program_is_gone(store, path, growing, text):
    with path.open("ab") as recorder:
        store.add(AAPL, [bar(2)])
        recorder.write(text)
    store.scan()
    assert growing() == []
    assert path.read_text() == HEADER + theirs(0) + ours(2) + theirs(4)


@on_linux
def test_a_row_of_windows_without_its_end_is_completed(store, path):
    path.write_bytes((HEADER + theirs(0) + theirs(4)).replace("\n", "\r\n").encode())
    with path.open("ab") as recorder:
        store.add(AAPL, [bar(2)])
        recorder.write(theirs(5).replace("\n", "\r").encode())
    store.scan()
    expected = HEADER + theirs(0) + ours(2) + theirs(4) + theirs(5)
    assert path.read_bytes().decode() == expected.replace("\n", "\r\n")


@on_linux
def test_a_row_that_comes_while_a_file_is_fixed_is_not_lost(data_dir, path, monkeypatch):
    path.write_text(HEADER + theirs(0) + theirs(4) + theirs(4))
    link, left = os.link, [theirs(5)]

    def link_late(*arguments):
        if left:
            with path.open("a") as other:
                other.write(left.pop())
        link(*arguments)

    monkeypatch.setattr(os, "link", link_late)
    StoreCheck(data_dir, lambda: FIRST + 3600.0).check(AAPL, fix=True)
    assert path.read_text() == HEADER + theirs(0) + theirs(4) + theirs(5)


@on_linux
@needs_root
@pytest.mark.parametrize("is_open", [False, True])
def test_a_file_stays_as_it_is_where_no_name_could_be_kept(path, data_dir, is_open):
    """Another user has made the folder."""
    growing = data_dir / ".ktrdr" / "growing"
    growing.mkdir(parents=True)
    data_dir.parent.chmod(0o755)
    for one in (data_dir, path, data_dir / ".ktrdr"):
        os.chown(one, NOBODY, NOBODY)
    text = path.read_text()

    def work():
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        with contextlib.ExitStack() as stack:
            if is_open:
                stack.enter_context(path.open("a"))
            if not is_open:
                CsvStore(data_dir).add(AAPL, [bar(2)])
                return
            with pytest.raises(StoreUnwritable, match=str(growing)):
                CsvStore(data_dir).add(AAPL, [bar(2)])

    assert in_a_child(work) == 0
    assert (path.read_text() == text) is is_open


# A program that opens the file for each row, at the same time as we.


@pytest.fixture
def just_before(monkeypatch, path):
    """Another program appends this when we are about to append our rows."""
    left = []
    write = os.write

    def write_late(descriptor, text):
        if bytes(text[:5]) == b"2026-" and left:
            with path.open("a") as other:
                other.write(left.pop())
        return write(descriptor, text)

    monkeypatch.setattr(os, "write", write_late)
    return left.append


def test_rows_in_the_wrong_place_are_removed_by_the_next_writer_if_we_are_killed(
    store, path, just_before, late
):
    def work():
        just_before(theirs(6))
        late(lambda: os._exit(9))
        store.add(AAPL, [bar(5)])

    assert in_a_child(work) == 9
    assert path.read_text() == HEADER + theirs(0) + theirs(4) + theirs(6) + ours(5)
    assert CsvStore(path.parent).add(AAPL, [bar(5)]) == 1
    assert path.read_text() == HEADER + theirs(0) + theirs(4) + ours(5) + theirs(6)


@pytest.mark.parametrize(("minute", "new"), [(6, 5), (5, 6)])
def test_a_row_that_comes_just_before_ours_stays(store, path, just_before, minute, new):
    just_before(theirs(minute))
    assert store.add(AAPL, [bar(new)]) == 1
    rows = sorted([theirs(minute), ours(new)])
    assert path.read_text() == HEADER + theirs(0) + theirs(4) + "".join(rows)
    assert len(store.verify(AAPL).starts) == 4


def test_ours_is_taken_back_where_half_a_line_came_before_it(store, path, just_before):
    just_before(theirs(5)[:30])
    with pytest.raises(StoreUnwritable, match="is writing its last line"):
        store.add(AAPL, [bar(6)])
    assert path.read_text() == HEADER + theirs(0) + theirs(4) + theirs(5)[:30]
    with path.open("a") as other:
        other.write(theirs(5)[30:])
    assert store.add(AAPL, [bar(6)]) == 1
    assert path.read_text() == HEADER + theirs(0) + theirs(4) + theirs(5) + ours(6)


def test_ours_is_found_behind_theirs_by_the_next_writer_if_we_are_killed(
    store, path, just_before, monkeypatch
):
    def work():
        just_before(theirs(6))
        monkeypatch.setattr(os, "fdatasync", lambda _: os._exit(9))
        store.add(AAPL, [bar(5)])

    assert in_a_child(work) == 9
    assert path.read_text() == HEADER + theirs(0) + theirs(4) + theirs(6) + ours(5)
    assert CsvStore(path.parent).add(AAPL, [bar(5)]) == 1
    assert path.read_text() == HEADER + theirs(0) + theirs(4) + ours(5) + theirs(6)


@pytest.mark.parametrize("text", [theirs(5)[:30], theirs(5)[:-1]])
def test_what_another_program_began_behind_ours_is_not_taken_for_ours(
    store, path, monkeypatch, text
):
    def work():
        monkeypatch.setattr(os, "fdatasync", lambda _: os._exit(9))
        store.add(AAPL, [bar(5)])

    assert in_a_child(work) == 9
    before = path.read_text()
    with path.open("a") as other:
        other.write(text)
    store.clear_leftovers()
    assert path.read_text() == before + text


def test_a_file_that_was_written_anew_stays_though_rows_were_to_be_removed(
    store, path, just_before, late
):
    def work():
        just_before(theirs(6))
        late(lambda: os._exit(9))
        store.add(AAPL, [bar(5)])

    assert in_a_child(work) == 9
    for text in (HEADER + "".join(map(theirs, range(1, 9))), HEADER):
        path.write_text(text)
        store.clear_leftovers()
        assert path.read_text() == text


@on_linux
def test_where_no_leases_are_granted_nobody_is_taken_for_a_writer(
    store, path, growing, monkeypatch
):
    """As on some file servers, which refuse all of them as if somebody had the file open."""
    control = fcntl.fcntl

    def refuse(descriptor, command, *arguments):
        if command == fcntl.F_SETLEASE:
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return control(descriptor, command, *arguments)

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    path.write_text(path.read_text().removesuffix("\n"))
    os.utime(path, (0, 0))
    inode = path.stat().st_ino
    store.add(AAPL, [bar(5)])
    assert path.read_text() == HEADER + theirs(0) + theirs(4) + ours(5)
    assert path.stat().st_ino == inode
    store.add(AAPL, [bar(2)])
    assert path.read_text() == HEADER + theirs(0) + ours(2) + theirs(4) + ours(5)
    assert growing() == []


def test_a_row_that_another_program_began_where_ours_should_have_come_stays(
    store, path, monkeypatch
):
    def work():
        monkeypatch.setattr(os, "write", nothing)
        store.add(AAPL, [bar(5)])

    write = os.write

    def nothing(file, text):
        if bytes(text[:5]) == b"2026-":
            os._exit(9)
        return write(file, text)

    assert in_a_child(work) == 9
    text = path.read_text() + theirs(6).removesuffix("\n")
    path.write_text(text)
    store.clear_leftovers()
    assert path.read_text() == text


# Whose rows a file has.


@pytest.fixture
def filler(make_filler, path, clock):
    """It has filled a file without rows."""
    path.write_text(HEADER)
    clock.now = utc("2026-11-20 11:00:30")
    fill(filler := make_filler())
    assert is_owned(path)
    return filler


@pytest.fixture
def a_minute_later(filler, path, clock):
    """One more bar has been written."""

    def wait() -> None:
        rows = len(path.read_text().splitlines())
        clock.now += 62
        fill(filler)
        assert len(path.read_text().splitlines()) > rows

    return wait


def is_owned(path) -> bool:
    return own_file(path.parent / ".ktrdr" / "ledger.sqlite", AAPL) == key_of(path.stat())


def test_a_file_stays_ours_while_only_we_write_to_it(path, a_minute_later):
    for _ in range(3):
        a_minute_later()
        assert is_owned(path)


@on_linux
def test_a_file_with_a_row_that_was_brought_over_is_not_ours(filler, path, a_minute_later, clock):
    lines = path.read_text().splitlines(keepends=True)
    with path.open("a", buffering=1) as recorder:
        a_minute_later()
        assert is_owned(path)
        recorder.write(lines[-1].split(",")[0] + ",1,1,1,1,1\n")
        a_minute_later()
    assert ",1,1,1,1,1\n" in path.read_text()
    clock.now += 400
    fill(filler)
    assert not is_owned(path)


def test_a_file_with_a_row_that_came_just_before_ours_is_not_ours(
    filler, path, a_minute_later, just_before
):
    just_before("2026-11-20 11:01:00+00:00,1,1,1,1,1\n")
    a_minute_later()
    assert ",1,1,1,1,1\n" in path.read_text()
    fill(filler)
    assert not is_owned(path)


# Half a line.


def test_a_line_that_is_being_written_is_waited_for(store, path, monkeypatch):
    recorder = path.open("a", buffering=1)
    recorder.write(theirs(5)[:30])
    recorder.flush()
    ends = iter([lambda: None, lambda: recorder.write(theirs(5)[30:]), recorder.close])
    monkeypatch.setattr(time, "sleep", lambda _: next(ends)())
    assert store.add(AAPL, [bar(6)]) == 1
    recorder.close()
    assert path.read_text() == HEADER + theirs(0) + theirs(4) + theirs(5) + ours(6)


@pytest.mark.parametrize("minute", [2, 5, 6])
def test_half_a_line_is_left_for_some_seconds(store, path, monkeypatch, minute):
    text = HEADER + theirs(0) + theirs(4) + theirs(5)[:30]
    path.write_text(text)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    with pytest.raises(StoreUnwritable, match=r"AAPL_1m\.csv: another program is writing"):
        store.add(AAPL, [bar(minute)])
    assert path.read_text() == text
    os.utime(path, (time.time() - 6, time.time() - 6))
    assert store.add(AAPL, [bar(minute)]) == 1


# All of them, for real.


@on_linux
def test_recorders_lose_no_row_beside_splices(data_dir):
    told = recorders.beside(data_dir, seconds=4.0, splices=20)
    assert told.lost == []
    assert told.splices == 20
    assert all(count > 20 for count in told.written.values())
