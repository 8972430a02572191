"""One writer at a time, judged by locks that others wrote; and what a killed one has left."""

import contextlib
import subprocess
import sys
import time

import pytest
from filelock import FileLock, Timeout

from ktrdr.store.lock import Appended, LockBusy, Unfinished, held, left_unfinished


@pytest.fixture
def path(tmp_path):
    return tmp_path / ".ktrdr" / "locks" / "AAPL_1m.lock"


def is_free(path):
    try:
        with FileLock(path, timeout=0):
            return True
    except Timeout:
        return False


def test_nobody_else_holds_it_meanwhile(path):
    with held(path, 0):
        assert not is_free(path)
        with pytest.raises(LockBusy, match=r"AAPL_1m\.lock"), held(path, 0):
            pass
    assert is_free(path)


def test_it_waits_for_its_holder(path, monkeypatch):
    other = FileLock(path)
    path.parent.mkdir(parents=True)
    other.acquire()
    monkeypatch.setattr(time, "sleep", lambda _: other.release())
    with held(path, 60):
        assert not is_free(path)


def test_a_lock_whose_file_was_removed_locks_nothing(path, monkeypatch):
    before = contextlib.ExitStack()
    before.enter_context(held(path, 0))

    def remove(_):
        path.unlink()
        before.close()

    monkeypatch.setattr(time, "sleep", remove)
    with held(path, 60):
        assert path.exists()
        assert not is_free(path)


def test_it_is_no_way_to_write_to_another_file(path, tmp_path):
    path.parent.mkdir(parents=True)
    (tmp_path / "other").write_text("untouched")
    path.symlink_to(tmp_path / "other")
    with pytest.raises(OSError, match="symbolic link"), held(path, 0):
        pass


def test_a_child_that_was_forked_meanwhile_does_not_keep_it(path):
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from filelock import FileLock\n"
        "from ktrdr.store.lock import held\n"
        "with held(Path(sys.argv[1]), 0):\n"
        "    child = os.fork()\n"
        "    if not child:\n"
        "        signal.pause()\n"
        "try:\n"
        "    FileLock(sys.argv[1], timeout=0).acquire()\n"
        "finally:\n"
        "    os.kill(child, signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code, path], check=True, timeout=60)


def test_what_is_wrong_with_the_lock_is_not_said_of_the_file(path):
    path.mkdir(parents=True)
    with pytest.raises(IsADirectoryError, match=r"its lock, .*AAPL_1m\.lock"), held(path, 0):
        pass


def test_the_next_holder_learns_that_one_was_killed(path):
    rows = Appended.of(12, b"rows")
    assert left_unfinished(path) is None
    with held(path, 0) as lock:
        assert lock.unfinished() is None
        lock.begin(4711, 12, b"rows")
    assert left_unfinished(path) == Unfinished(4711, False, False, rows)
    with held(path, 0) as lock:
        lock.withdraw()
        assert lock.unfinished() == Unfinished(4711, True, False, rows)
        lock.misplace(4711, 12, b"rows")
        assert lock.unfinished() == Unfinished(4711, False, True, rows)
        lock.begin(4712, 12, b"rows")
        assert lock.unfinished() == Unfinished(4712, False, False, rows)
        lock.end()
        assert lock.unfinished() is None
    assert left_unfinished(path) is None


def test_a_note_of_an_older_version_is_read(path):
    path.parent.mkdir(parents=True)
    path.write_text("00000000000000004711")
    assert left_unfinished(path) == Unfinished(4711, False)


def test_rows_are_found_behind_those_of_another_program(scratch):
    file = scratch / "file"
    file.write_bytes(b"head\ntheirs\nours\ntheirs\n")
    rows = Appended.of(5, b"ours\n")
    with file.open("rb") as opened:
        assert rows.found(opened.fileno()) == 12
        assert rows._replace(checksum=1).found(opened.fileno()) is None
        assert rows._replace(place=5000).found(opened.fileno()) is None


@pytest.mark.parametrize("note", ["47\0\0", "^1 2", "^1 2 x", "^" + 62 * "\0"])
def test_a_note_that_cannot_be_read_is_of_any_file(path, note):
    path.parent.mkdir(parents=True)
    path.write_text(note)
    with held(path, 0) as lock:
        assert lock.unfinished() == left_unfinished(path) == Unfinished(0, False)
