"""ktrdr/run_folder.py: what becomes of a folder that is there already."""

import os
import socket
import stat

import pytest

from ktrdr.errors import Misconfigured
from ktrdr.run_folder import prepare_folder, prepare_run_folder, read_pid, replace_file


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def umask():
    """`umask(mask)`: for this test."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o777])
def test_a_new_one_is_for_its_owner_alone(scratch, umask, mask):
    (scratch / "var").mkdir()
    umask(mask)
    prepare_run_folder(scratch / "var" / "run")
    assert mode(scratch / "var" / "run") == 0o700


def test_one_of_ours_is_taken_again(scratch):
    prepare_run_folder(scratch / "run")
    (scratch / "run" / "gap-filler.lock").touch()
    (scratch / "run" / "notes.txt").touch()
    prepare_run_folder(scratch / "run")


@pytest.mark.parametrize("rights", [0o755, 0o750, 0o701, 0o1777])
def test_one_that_others_may_enter_is_refused_and_left_as_it_was(scratch, rights):
    folder = scratch / "shared"
    folder.mkdir()
    folder.chmod(rights)
    with pytest.raises(Misconfigured, match=f"KTRDR_RUN_DIR={folder}: expected .* {rights:04o}"):
        prepare_folder(folder)
    assert mode(folder) == rights


def test_what_a_link_leads_to_is_left_as_it_was(scratch):
    (scratch / "etc").mkdir(0o755)
    (scratch / "run").symlink_to(scratch / "etc")
    with pytest.raises(Misconfigured, match="others may enter"):
        prepare_run_folder(scratch / "run")
    assert mode(scratch / "etc") == 0o755
    assert not list((scratch / "etc").iterdir())


def test_a_folder_of_other_things_is_refused_with_one_of_them(scratch):
    (scratch / "home").mkdir(0o700)
    (scratch / "home" / ".profile").touch()
    with pytest.raises(Misconfigured, match=r"a folder of its own, and this one has '.profile'"):
        prepare_run_folder(scratch / "home")
    assert [path.name for path in (scratch / "home").iterdir()] == [".profile"]


def test_a_file_of_that_name_is_refused(scratch):
    (scratch / "run").touch()
    with pytest.raises(Misconfigured, match="expected a folder"):
        prepare_folder(scratch / "run")


def test_one_that_its_owner_may_not_use_is_refused(scratch):
    (scratch / "run").mkdir(0o500)
    with pytest.raises(Misconfigured, match=r"its owner may not use .* 0500, not 0700"):
        prepare_run_folder(scratch / "run")


@pytest.fixture(params=["link", "dangling link", "hard link", "pipe", "socket"])
def planted(request, scratch):
    """Something in the place of a file of ours, and what it leads to."""
    path, victim = scratch / "name.pid", scratch / "victim"
    victim.write_text("4711")
    if request.param == "link":
        path.symlink_to(victim)
    elif request.param == "dangling link":
        path.symlink_to(scratch / "made")
    elif request.param == "hard link":
        path.hardlink_to(victim)
    elif request.param == "pipe":
        os.mkfifo(path)
    else:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
    return path


def test_a_file_takes_the_place_of_what_was_planted(planted, scratch):
    replace_file(planted, "42\n")
    assert (scratch / "victim").read_text() == "4711"
    assert not (scratch / "made").exists()
    assert stat.S_ISREG(planted.lstat().st_mode)
    assert read_pid(planted) == 42
    assert mode(planted) == 0o600


def test_what_was_planted_is_not_read(planted):
    if planted.is_file() and not planted.is_symlink():
        pytest.skip("a hard link is the file itself")
    with pytest.raises(OSError, match=r"no file|symbolic link|No such device"):
        read_pid(planted)


def test_a_folder_in_the_place_of_a_file_is_one_line(scratch):
    (scratch / "name.pid").mkdir()
    with pytest.raises(Misconfigured, match=r"name\.pid is in the way: expected a file") as raised:
        replace_file(scratch / "name.pid", "42\n")
    assert raised.value.hint
    with pytest.raises(OSError, match=r"no file|directory"):
        read_pid(scratch / "name.pid")


@pytest.mark.parametrize("text", [b"", b"no number", b"\xff", b"1" * 33])
def test_a_pid_is_a_short_number(scratch, text):
    (scratch / "name.pid").write_bytes(text)
    with pytest.raises(ValueError, match=r"int|utf-8|longer"):
        read_pid(scratch / "name.pid")


def test_a_file_is_not_written_through_a_link(scratch):
    victim = scratch / "victim"
    victim.write_text("precious")
    (scratch / "name.pid").symlink_to(victim)
    replace_file(scratch / "name.pid", "42\n")
    assert victim.read_text() == "precious"
    assert (scratch / "name.pid").read_text() == "42\n"
    assert not (scratch / "name.pid").is_symlink()
    assert mode(scratch / "name.pid") == 0o600


def test_what_a_killed_port_forward_leaves_is_ours(tmp_path):
    folder = tmp_path / "run"
    prepare_run_folder(folder)
    (folder / "port-forward.json").write_text("{}")
    prepare_run_folder(folder)
