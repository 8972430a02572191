"""Whether a folder can be written to: real folders, and real file systems where we are root."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sqlite3
import subprocess
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ktrdr.errors import StoreUnwritable
from ktrdr.store.probe import StoreProbe, explained

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store that ktrdr owns."""
    (tmp_path / "store/.ktrdr").mkdir(parents=True)
    return tmp_path / "store"


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """A file system of its own in memory."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_folder_that_can_be_written_to_is_well_and_left_as_it_was(folder):
    probe = StoreProbe(folder)
    for _ in range(2):
        probe.check()
    assert [path.name for path in folder.rglob("*")] == [".ktrdr"]
    assert probe.room.total >= probe.room.free > 0


def test_a_folder_that_never_existed_is_not_a_problem(tmp_path):
    StoreProbe(tmp_path / "none").check()


def test_a_folder_that_has_gone_is_reported_and_used_again_when_it_is_back(folder, tmp_path):
    probe = StoreProbe(folder)
    probe.check()
    folder.rename(tmp_path / "away")
    with pytest.raises(StoreUnwritable, match=r"store has gone \(No such file") as caught:
        probe.check_folder()
    assert "mount its disk again" in caught.value.hint
    folder.mkdir()  # what is below a disk that is not mounted
    with pytest.raises(StoreUnwritable, match="another folder than before"):
        probe.check_folder()
    folder.rmdir()
    (tmp_path / "away").rename(folder)
    probe.check()


def as_a_file(path):
    path.touch()
    return "move it away"


def as_a_link_to_what_is_not_there(path):
    path.symlink_to("/nowhere/ktrdr")
    return "mount its disk again"


@pytest.mark.parametrize("make", [as_a_file, as_a_link_to_what_is_not_there])
@pytest.mark.parametrize("is_known", [True, False])
def test_what_stands_in_the_place_of_our_own_folder_is_named(folder, make, is_known):
    probe = StoreProbe(folder)
    if is_known:
        probe.check()
    (folder / ".ktrdr").rmdir()
    step = make(folder / ".ktrdr")
    for check in (probe.check_folder, probe.check):
        with pytest.raises(StoreUnwritable, match=r"\.ktrdr is ") as caught:
            check()
        assert step in caught.value.hint
    (folder / ".ktrdr").unlink()
    probe.check()


def test_another_store_in_its_place_is_taken(folder):
    probe = StoreProbe(folder)
    probe.check()
    folder.rename(folder.with_name("old"))
    shutil.copytree(folder.with_name("old"), folder)
    probe.check()


def test_a_deleted_ledger_is_not_a_problem(folder):
    probe = StoreProbe(folder)
    probe.check()
    (folder / ".ktrdr").rmdir()
    probe.check()


@needs_root
def test_an_unmounted_disk_is_reported(folder):
    with mounted(folder, "size=1m"):
        (folder / ".ktrdr").mkdir()
        probe = StoreProbe(folder)
        probe.check()
    (folder / ".ktrdr").rmdir()
    with pytest.raises(StoreUnwritable, match="another folder than before"):
        probe.check_folder()


@needs_root
def test_a_full_disk_is_reported_until_there_is_room(folder):
    with mounted(folder, "size=1m"):
        (folder / ".ktrdr").mkdir()
        probe = StoreProbe(folder)
        probe.check()
        with contextlib.suppress(OSError):
            (folder / "ballast").write_bytes(bytes(2**21))
        for _ in range(2):
            with pytest.raises(StoreUnwritable, match=r"the disk with .*store is full") as caught:
                probe.check()
        assert "free some space" in caught.value.hint
        (folder / "ballast").unlink()
        probe.check()
        assert [path.name for path in (folder / ".ktrdr").iterdir()] == []


@needs_root
def test_a_disk_that_fills_up_is_noticed_before_it_refuses_a_write(folder):
    with mounted(folder, "size=1m"):
        (folder / ".ktrdr").mkdir()
        probe = StoreProbe(folder)
        probe.check()
        probe.check_folder()
        assert not probe.may_refuse
        with contextlib.suppress(OSError):
            (folder / "ballast").write_bytes(bytes(2**21))
        probe.check_folder()
        assert probe.may_refuse
        assert probe.seen_room.free == 0


@needs_root
def test_a_disk_that_becomes_read_only_is_noticed_before_it_refuses_a_write(folder):
    with mounted(folder, "size=1m"):
        (folder / ".ktrdr").mkdir()
        probe = StoreProbe(folder)
        probe.check()
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        probe.check_folder()
        assert probe.may_refuse


@needs_root
def test_a_refusal_of_a_full_disk_is_believed_though_a_small_file_has_room(folder):
    with mounted(folder, "size=1m"):
        (folder / ".ktrdr").mkdir()
        probe = StoreProbe(folder)
        (folder / "ballast").write_bytes(bytes(2**19))
        refusal = StoreUnwritable("A_1m.csv")
        refusal.__cause__ = OSError(errno.ENOSPC, "No space left on device")
        probe.check()
        probe.refused(refusal)
        with pytest.raises(StoreUnwritable, match="is full"):
            probe.check()
        (folder / "ballast").unlink()
        probe.check()


@needs_root
def test_a_disk_without_room_for_another_file_is_well_again_when_some_are_gone(folder):
    with mounted(folder, "size=8m,nr_inodes=30"):
        (folder / ".ktrdr").mkdir()
        probe = StoreProbe(folder)
        made = []
        with contextlib.suppress(OSError):
            for number in range(99):
                (folder / str(number)).touch()
                made.append(folder / str(number))
        with pytest.raises(StoreUnwritable, match="can hold no more files") as caught:
            probe.check()
        assert f"df -i {folder}" in caught.value.hint
        for path in made:
            path.unlink()
        probe.check()


@needs_root
def test_a_read_only_disk_is_reported(folder):
    with mounted(folder, "size=1m"):
        (folder / ".ktrdr").mkdir()
        probe = StoreProbe(folder)
        probe.check()
        subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
        with pytest.raises(StoreUnwritable, match="read-only"):
            probe.check()


def as_nobody(work: Callable[[], str]) -> str:
    """The output of the work in a process of a user who owns nothing."""
    reads, writes = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking while other threads run
        child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            os.write(writes, work().encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writes)
    with os.fdopen(reads) as output:
        return output.read()


@needs_root
@pytest.mark.parametrize("name", ["store", "store/.ktrdr"])
def test_a_folder_of_another_user_is_reported_with_what_to_do(scratch, name):
    scratch.chmod(0o755)
    for path in (scratch / "store", scratch / "store/.ktrdr"):
        path.mkdir()
        path.chmod(0o777)
    (scratch / name).chmod(0o555)

    def work() -> str:
        try:
            StoreProbe(scratch / "store").check()
        except StoreUnwritable as error:
            return f"{error} {error.hint}"
        return "it may be written to"

    output = as_nobody(work)
    assert "this user may not write to" in output
    assert "sudo chown -R 65534:65534" in output


def test_an_unwritable_folder_of_this_user_is_reported_with_the_command(folder):
    ledger = folder / ".ktrdr/ledger.sqlite"
    ledger.touch()
    for path in (folder, folder / ".ktrdr", ledger):
        path.chmod(0o555 if path.is_dir() else 0o444)
        refused = explained(PermissionError(errno.EACCES, "Permission denied"), folder)
        assert refused.hint == f"chmod -R u+rwX {folder}"
        subprocess.run(refused.hint.split(), check=True)
        assert path.stat().st_mode & 0o600 == 0o600


def test_a_folder_that_something_else_forbids_is_reported_with_where_to_look(folder):
    refused = explained(PermissionError(errno.EPERM, "Operation not permitted"), folder)
    assert refused.message == f"this user may not write to {folder}"
    assert f"lsattr -d {folder} {folder}/.ktrdr {folder}/.ktrdr/*" in refused.hint


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "quota"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error"),
        (StoreUnwritable("AAPL_1m.csv is locked"), "AAPL_1m.csv is locked"),
        (sqlite3.OperationalError("database is locked"), "database is locked"),
    ],
)
def test_whatever_the_disk_refuses_has_a_next_step(error, words, tmp_path):
    received = explained(error, tmp_path)
    assert words in received.message
    assert received.hint


def test_a_full_database_is_a_full_disk(tmp_path):
    db = sqlite3.connect(tmp_path / "full.sqlite")
    db.execute("PRAGMA max_page_count = 2")
    with pytest.raises(sqlite3.OperationalError) as caught:
        db.executescript("CREATE TABLE a (x); CREATE TABLE b (x); CREATE TABLE c (x)")
    db.close()
    assert "is full" in explained(caught.value, tmp_path).message
