"""What killed writers and full disks leave in a store, and what becomes of it."""

import errno
import os
import resource
import shutil
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ktrdr.errors import MalformedFile, StoreUnwritable
from ktrdr.market.bars import Bar
from ktrdr.market.instruments import Series
from ktrdr.market.timeframes import Timeframe
from ktrdr.store.bar_file import BarFile
from ktrdr.store.csv_store import CsvStore

HEADER = "timestamp,open,high,low,close,volume\n"
AAPL = Series("AAPL", Timeframe.M1)
FIRST = int(datetime(2026, 11, 20, 14, 30, tzinfo=UTC).timestamp())


def bar(minute: int, volume: float = 41200) -> Bar:
    return Bar(FIRST + 60 * minute, 1.5, 1.5, 1.5, 1.5, volume)


def row(minute: int, volume: float = 41200) -> str:
    return f"2026-11-20 14:{30 + minute}:00+00:00,1.5,1.5,1.5,1.5,{volume}\n"


@pytest.fixture
def store(data_dir):
    return CsvStore(data_dir)


@pytest.fixture
def path(data_dir):
    path = data_dir / "AAPL_1m.csv"
    path.write_text(HEADER + row(0))
    return path


def write_long_ago(path: Path, text: str) -> None:
    """Nobody is still writing its last line."""
    path.write_bytes(text.encode())
    os.utime(path, (0, 0))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def killed_at(path, store):
    """Rows are appended, and all but the last characters are written when the writer is killed."""
    program = (
        "import os, sys; from pathlib import Path\n"
        "from ktrdr.store.csv_store import CsvStore\n"
        "from ktrdr.market.bars import Bar\n"
        "from ktrdr.market.instruments import parse_series\n"
        "folder, lacking, *starts = sys.argv[1:]\n"
        "real = os.write\n"
        "def write(file, text):\n"
        "    if bytes(text[:4]) != b'2026':\n"
        "        return real(file, text)\n"
        "    real(file, text[:len(text) - int(lacking)])\n"
        "    os.kill(os.getpid(), 9)\n"
        "os.write = write\n"
        "bars = [Bar(int(start), 1.5, 1.5, 1.5, 1.5, 41200) for start in starts]\n"
        "CsvStore(Path(folder)).add(parse_series('AAPL_1m.csv'), bars)\n"
    )

    def kill(*minutes: int, lacking: int) -> None:
        starts = [str(bar(minute).start) for minute in minutes]
        command = [sys.executable, "-c", program, str(store.folder), str(lacking), *starts]
        assert subprocess.run(command, check=False).returncode == -9
        written = HEADER + row(0) + "".join(row(minute) for minute in minutes)
        assert path.read_text() == written[: len(written) - lacking]

    return kill


@pytest.mark.parametrize("lacking", [1, 3, 40])
def test_a_row_that_was_torn_is_never_taken_for_a_whole_one(store, path, killed_at, lacking):
    """A volume of 412 is as good a number as one of 41200."""
    killed_at(1, 2, lacking=lacking)
    assert store.add(AAPL, [bar(3)]) == 1
    assert path.read_text() == HEADER + row(0) + row(1) + row(3)


def test_a_torn_row_goes_at_the_next_start(store, path, killed_at):
    killed_at(1, lacking=3)
    path.chmod(0o640)
    assert store.clear_leftovers() == 1
    assert path.read_text() == HEADER + row(0)
    assert path.stat().st_mode & 0o777 == 0o640
    assert store.clear_leftovers() == 0


def test_rows_that_were_written_before_the_kill_stay(store, path, killed_at):
    killed_at(1, 2, lacking=0)
    assert store.clear_leftovers() == 1
    assert store.add(AAPL, [bar(3)]) == 1
    assert path.read_text() == HEADER + row(0) + row(1) + row(2) + row(3)


def test_the_last_row_of_a_program_that_replaced_a_torn_file_is_not_taken_for_torn(
    store, path, killed_at
):
    killed_at(1, lacking=3)
    other = path.with_name("other")
    write_long_ago(other, (HEADER + row(0) + row(1)).removesuffix("\n"))
    other.replace(path)
    store.add(AAPL, [bar(2)])
    assert path.read_text() == HEADER + row(0) + row(1) + row(2)


def test_the_last_row_of_another_program_survives_a_refused_append(store, path, monkeypatch):
    def full(_file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", full)
        with pytest.raises(StoreUnwritable, match="No space left"):
            store.add(AAPL, [bar(1)])
    theirs = HEADER + row(0) + row(1).removesuffix("\n")
    write_long_ago(path, theirs)
    store.clear_leftovers()
    assert path.read_text() == theirs
    os.utime(path, (0, 0))
    store.add(AAPL, [bar(2)])
    assert path.read_text() == HEADER + row(0) + row(1) + row(2)


@pytest.mark.parametrize("name", ["AAPL_1m.lock", "AAPL_1m (conflict).lock", "x.lock"])
def test_foreign_files_in_the_folder_of_locks_do_not_stop_a_start(store, path, killed_at, name):
    killed_at(1, lacking=3)
    locks = path.parent / ".ktrdr" / "locks"
    (locks / "AAPL_1m.lock").rename(locks / "SPY_1m.lock")
    (locks / name).mkdir()
    assert store.clear_leftovers() == 0
    (locks / name).rmdir()
    (locks / "SPY_1m.lock").rename(locks / "AAPL_1m.lock")
    assert store.clear_leftovers() == 1


def test_a_reader_of_a_torn_row_does_not_continue_in_another_one(store, path):
    """Programs that read line by line ask for more when they have come to the end."""
    write_long_ago(path, HEADER + row(0) + row(1)[:40])
    with path.open("rb", buffering=0) as opened:
        seen = opened.read(1000)
        store.add(AAPL, [bar(1), bar(2)])
        seen += opened.read(1000)
    assert seen.decode() == HEADER + row(0) + row(1)[:40]
    assert path.read_text() == HEADER + row(0) + row(1) + row(2)


def test_a_reader_of_refused_rows_does_not_continue_in_others(store, path, monkeypatch):
    seen = b""

    def full(_file):
        nonlocal seen
        seen += opened.read(len(HEADER + row(0)) + 40)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with path.open("rb", buffering=0) as opened:
        monkeypatch.setattr(os, "fdatasync", full)
        with pytest.raises(StoreUnwritable):
            store.add(AAPL, [bar(1)])
        monkeypatch.undo()
        assert path.read_text() == HEADER + row(0)
        store.add(AAPL, [bar(2)])
        seen += opened.read(1000)
    assert seen.decode() == HEADER + row(0) + row(1)[:40]
    assert path.read_text() == HEADER + row(0) + row(2)


def test_half_a_line_end_of_windows_is_completed(store, path):
    text = (HEADER + row(0)).replace("\n", "\r\n")
    write_long_ago(path, text.removesuffix("\n"))
    store.add(AAPL, [bar(1)])
    assert path.read_bytes().decode() == text + row(1).replace("\n", "\r\n")


def test_another_name_of_a_file_that_lacks_its_last_end_keeps_its_content(store, path, scratch):
    text = (HEADER + row(0)).removesuffix("\n")
    write_long_ago(path, text)
    snapshot = scratch / "snapshot"
    snapshot.hardlink_to(path)
    store.add(AAPL, [bar(1)])
    assert snapshot.read_text() == text
    assert path.read_text() == HEADER + row(0) + row(1)


def test_a_file_that_becomes_shorter_while_it_is_read_ends_there(path):
    path.write_text(HEADER + row(0) + row(1) + row(2))
    with BarFile(path, AAPL.timeframe) as file:
        os.truncate(path, len(HEADER + row(0)) + 30)
        assert file.starts()[0].tolist() == [FIRST]


def test_a_file_that_is_just_being_made_is_empty(path, monkeypatch):
    path.write_text("")
    real = os.pread

    def pread(*arguments):
        path.write_text(HEADER + row(0))
        return real(*arguments)

    monkeypatch.setattr(os, "pread", pread)
    with BarFile(path, AAPL.timeframe) as file:
        assert file.end.last is None
        assert len(file.rows(0, FIRST + 60).starts) == 0


def test_what_is_left_over_is_found_wherever_it_may_be(store, scratch):
    elsewhere = scratch / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "AAPL.csv").write_text(HEADER)
    (store.folder / "AAPL_1m.csv").symlink_to(elsewhere / "AAPL.csv")
    ours = store.folder / ".ktrdr"
    folders = [store.folder, elsewhere, ours, ours / "renewed", ours / "replaced"]
    for folder in folders:
        folder.mkdir(exist_ok=True)
        (folder / ".AAPL.csv.1-2.ktrdr-new").write_text("half")
    assert store.clear_leftovers() == len(folders)
    assert names(elsewhere) == ["AAPL.csv"]
    assert names(ours) == ["renewed", "replaced"]


def test_nobody_else_can_read_a_private_file_while_it_is_copied(store, path, monkeypatch):
    path.chmod(0o600)
    modes = []
    real = os.write

    def write(file, text):
        modes.append(os.fstat(file).st_mode & 0o777)
        return real(file, text)

    monkeypatch.setattr(os, "write", write)
    store.add(AAPL, [bar(-1)])
    assert modes == [0o600]


def test_another_change_within_the_same_tick_of_the_clock_is_noticed(data_dir, path):
    """It leaves size, time of change and inode as they are."""
    store = CsvStore(data_dir, indexed=True)
    path.write_text(HEADER + row(0) + row(1))
    stamp = path.stat().st_mtime_ns
    store.verify(AAPL)
    path.write_text(HEADER + row(0) + row(2))
    os.utime(path, ns=(stamp, stamp))
    assert not store.was_verified(AAPL)
    store.add(AAPL, [bar(5)])
    assert not store.was_verified(AAPL)
    starts = [bar(minute).start for minute in (0, 2, 5)]
    seen = store.contents(AAPL, starts[2])
    assert seen.starts.tolist() == [start for start in starts if start >= seen.since]
    assert store.contents(AAPL, 0).starts.tolist() == starts
    store.close()


def test_what_we_append_is_known_at_once(data_dir, path):
    os.utime(path, (1, 1))
    store = CsvStore(data_dir, indexed=True)
    store.verify(AAPL)
    store.add(AAPL, [bar(1)])
    assert store.was_verified(AAPL)
    assert store.scan().changed == []
    assert store.contents(AAPL, 0).starts.tolist() == [bar(0).start, bar(1).start]
    path.write_text(path.read_text().replace(row(1), row(2)))
    assert store.scan().changed == [AAPL]
    assert store.contents(AAPL, 0).starts.tolist() == [bar(0).start, bar(2).start]
    store.close()


# What the system refuses.

LATER, SOONER = bar(1), bar(-1)


def test_a_series_that_could_not_be_created_is_not_there(store, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StoreUnwritable, match="No space left"):
        store.create(AAPL)
    assert names(store.folder) == []
    monkeypatch.undo()
    store.create(AAPL)
    assert (store.folder / "AAPL_1m.csv").read_text() == HEADER


@pytest.mark.parametrize("new", [LATER, SOONER])
def test_a_file_that_may_not_be_longer_is_left_whole(store, path, new):
    before = path.read_text()
    allowed = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, allowed[1]))
    try:
        with pytest.raises(StoreUnwritable, match=r"AAPL_1m.csv: File too large"):
            store.add(AAPL, [new])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, allowed)
    assert path.read_text() == before
    assert names(path.parent) == [".ktrdr", "AAPL_1m.csv"]
    assert store.add(AAPL, [new]) == 1
    assert sorted(path.read_text().splitlines()) == sorted(
        [*before.splitlines(), row(-1 if new == SOONER else 1).rstrip()]
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_to_is_named_and_left(store, path):
    store.folder.chmod(0o500)
    try:
        for new in (LATER, SOONER):
            with pytest.raises(StoreUnwritable, match="Permission denied"):
                store.add(AAPL, [new])
    finally:
        store.folder.chmod(0o700)
    assert path.read_text() == HEADER + row(0)
    assert store.add(AAPL, [LATER, SOONER]) == 2


FULL_DISK = """
import os, subprocess, sys
from pathlib import Path
from ktrdr.store.csv_store import CsvStore
from ktrdr.errors import MalformedFile, StoreUnwritable
from ktrdr.market.bars import Bar
from ktrdr.market.instruments import parse_series

folder, series = Path(sys.argv[1]), parse_series("AAPL_1m.csv")
path, ballast = folder / series.file_name, folder / "ballast"
bars = [Bar(6000000 + 60 * i, i, i, i, i, i) for i in range(4000)]
later = [Bar(60000000 + 60 * i, i, i, i, i, i) for i in range(4000)]
sooner = [Bar(60 * i, i, i, i, i, i) for i in range(4000)]
store = CsvStore(folder)
store.create(series)
store.add(series, bars)
before = path.read_bytes()

def is_refused(new, why):
    for room in (0, 4096, 65536):
        if why == "No space left":
            filled = open(ballast, "wb", buffering=0)
            try:
                while filled.write(b"x" * 4096):
                    pass
            except OSError:
                os.truncate(ballast, os.path.getsize(ballast) - room)
            filled.close()
        try:
            store.add(series, new)
        except StoreUnwritable as error:
            assert why in str(error), error
        else:
            raise AssertionError(why)
        assert path.read_bytes() == before
        assert set(os.listdir(folder)) <= {"AAPL_1m.csv", ".ktrdr", "ballast"}

is_refused(later, "No space left")
is_refused(sooner, "No space left")
ballast.unlink()
subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
is_refused(later, "Read-only file system")
is_refused(sooner, "Read-only file system")
subprocess.run(["mount", "-o", "remount,rw,size=4m", folder], check=True)
assert store.add(series, sooner) == store.add(series, later) == 4000
assert len(store.verify(series).starts) == 12000
print("done")
"""


def own_mounts() -> list[str]:
    """How to run a command with mounts of its own; nothing where that may not be."""
    ways = [["unshare", "--mount"], ["unshare", "--map-root-user", "--mount"]]
    for way in ways:
        with suppress(OSError, subprocess.CalledProcessError):
            trial = [*way, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
            subprocess.run(trial, check=True, capture_output=True)
            return way
    return []


@pytest.mark.skipif(not shutil.which("unshare"), reason="there are no mount namespaces")
def test_a_disk_that_is_full_or_read_only_leaves_the_old_file_until_it_is_not(scratch):
    way = own_mounts()
    if not way:
        pytest.skip("no file system may be mounted")
    disk = scratch / "disk"
    disk.mkdir()
    mount = 'mount -t tmpfs -o size=700k tmpfs "$1" && exec "$2" -c "$3" "$1"'
    command = [*way, "sh", "-c", mount, "sh", str(disk), sys.executable, FULL_DISK]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.stdout == "done\n", done.stderr


# What others do meanwhile.


def test_rows_on_the_disk_are_counted_even_if_their_file_cannot_be_examined(
    store, path, monkeypatch
):
    real_append, real_stat = os.write, os.stat

    def write(file, text):
        def broken(*_, **__):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        if bytes(text[:5]) == b"2026-":
            monkeypatch.setattr(os, "stat", broken)
        return real_append(file, text)

    monkeypatch.setattr(os, "write", write)
    added = store.add(AAPL, [LATER])
    monkeypatch.setattr(os, "stat", real_stat)
    assert added == 1
    assert path.read_text() == HEADER + row(0) + row(1)


class Meanwhile:
    """Something happens just before a call of the system, as long as a file is only looked at."""

    CALLS = ("open", "pread", "copy_file_range", "write", "chmod", "fsync", "stat", "replace")

    def __init__(self, monkeypatch) -> None:
        self._monkeypatch = monkeypatch
        self._left = 0

    def each(self, prepare, work, happen):
        """Once for each call before which it can happen; then once more without. Whether it did."""
        number, has_happened = 0, True
        while has_happened:
            number += 1
            self._left = number
            prepare()
            with self._monkeypatch.context() as patched:
                for name in self.CALLS:
                    if hasattr(os, name):
                        patched.setattr(os, name, self._watched(name, happen))
                work()
            has_happened = self._left <= 0
            yield has_happened

    def _watched(self, name: str, happen):
        real = getattr(os, name)

        def call(*arguments, **named):
            if name == "replace" and self._left > 0:
                self._left = 1000
            self._left -= 1
            if self._left == 0:
                happen()
            return real(*arguments, **named)

        return call


@pytest.fixture
def meanwhile(monkeypatch):
    return Meanwhile(monkeypatch)


@pytest.mark.parametrize("new", [LATER, SOONER])
def test_a_file_that_is_replaced_while_it_is_changed_gets_the_bars_too(store, path, meanwhile, new):
    def prepare() -> None:
        path.write_text(HEADER + row(0))
        path.with_name("other").write_text(HEADER + row(0) + row(5))

    def replace() -> None:
        path.with_name("other").rename(path)

    times = 0
    for has_happened in meanwhile.each(prepare, lambda: store.add(AAPL, [new]), replace):
        times += has_happened
        more = [bar(5).start] if has_happened else []
        assert store.verify(AAPL).starts.tolist() == sorted([FIRST, new.start, *more])
    assert times >= 4


@pytest.mark.parametrize("new", [LATER, SOONER])
def test_a_file_that_vanishes_while_it_is_changed_is_gone(store, path, meanwhile, new):
    def prepare() -> None:
        path.write_text(HEADER + row(0))

    def add() -> None:
        with suppress(FileNotFoundError):
            store.add(AAPL, [new])

    times = 0
    for has_happened in meanwhile.each(prepare, add, path.unlink):
        times += has_happened
        assert names(path.parent) == [".ktrdr", *(["AAPL_1m.csv"] if not has_happened else [])]
    assert times >= 4
    assert store.add(AAPL, [bar(7)]) == 1


@pytest.mark.parametrize("how", ["contents", "verify", "add"])
def test_a_file_that_was_made_far_larger_and_not_written_is_named_and_not_read(store, path, how):
    os.truncate(path, 10**12)
    requested = {"contents": (0,), "add": ([bar(1)],), "verify": ()}[how]
    with pytest.raises(MalformedFile, match=r"AAPL_1m.csv.* MiB") as caught:
        getattr(store, how)(AAPL, *requested)
    assert caught.value.hint == ".venv/bin/ktrdr check AAPL 1m"
    assert path.stat().st_size == 10**12
