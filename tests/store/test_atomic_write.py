import errno
import os

import pytest

from ktrdr.store.atomic_write import Edit, append, clear_leftovers, keep, rewrite, write_whole
from ktrdr.store.file_key import key_of

CONTENT = bytes(range(256)) * 20_000


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def path(scratch):
    path = scratch / "file"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def opened(path):
    descriptor = os.open(path, os.O_RDWR)
    yield descriptor
    os.close(descriptor)


@pytest.fixture(params=["linux", "macos", "other file system"])
def system(request, monkeypatch):
    """macOS has neither call; some file systems have no `copy_file_range` between files."""
    if request.param == "macos":
        monkeypatch.delattr(os, "copy_file_range")
        monkeypatch.delattr(os, "fdatasync")
    if request.param == "other file system":

        def cannot(*_):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

        monkeypatch.setattr(os, "copy_file_range", cannot)
    return request.param


EDITS = [
    Edit(0, 0, b"first"),
    Edit(1000, 3000, b""),
    Edit(5000, 5001, b"x"),
    Edit(9000, 9000, b""),
]


@pytest.mark.usefixtures("system")
def test_what_is_edited_is_in_its_place_and_the_rest_is_untouched(path, opened):
    assert rewrite(path, opened, EDITS, len(CONTENT), lambda _: True)
    expected = (
        b"first" + CONTENT[:1000] + CONTENT[3000:5000] + b"x" + CONTENT[5001:9000] + CONTENT[9000:]
    )  # fmt: skip
    assert path.read_bytes() == expected


def test_the_key_of_an_edited_file_is_known_and_no_later_change_keeps_it(path, opened):
    size = len(CONTENT) + 5 - 2000
    key = rewrite(path, opened, EDITS, len(CONTENT), lambda _: True)
    assert key == key_of(path.stat())
    assert key[0] == size
    path.write_bytes(b"y" * size)  # at once, in the same file
    changed = key_of(path.stat())
    assert (changed[0], changed[2]) == (key[0], key[2])
    assert changed != key


@pytest.mark.usefixtures("system")
def test_what_is_appended_follows_what_there_is(path, opened):
    assert append(path, os.fstat(opened).st_ino, b"behind")[0] == len(CONTENT)
    assert path.read_bytes() == CONTENT + b"behind"


def test_what_another_program_appended_just_before_stays(path, opened):
    with path.open("ab", buffering=0) as other:
        other.write(b"theirs")
        assert append(path, os.fstat(opened).st_ino, b"ours")[0] == len(CONTENT) + 6
        other.write(b"theirs too")
    assert path.read_bytes() == CONTENT + b"theirs" + b"ours" + b"theirs too"


def test_a_file_that_is_another_one_meanwhile_is_left_alone(path, opened):
    assert not rewrite(path, opened, EDITS, len(CONTENT), lambda _: False)
    assert append(path, os.fstat(opened).st_ino + 1, b"behind") is None
    assert path.read_bytes() == CONTENT
    assert names(path.parent) == [path.name]


CHANGES = {
    "rewrite": lambda path, opened: rewrite(path, opened, EDITS, len(CONTENT), lambda _: True),
    "append": lambda path, opened: append(path, os.fstat(opened).st_ino, b"behind"),
}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.usefixtures("system")
def test_wherever_the_disk_refuses_the_file_is_as_before(path, opened, monkeypatch, code, change):
    left = 0

    def refuse(name):
        real = getattr(os, name)

        def call(*arguments):
            nonlocal left
            left -= 1
            if left < 0:
                raise OSError(code, os.strerror(code))
            return real(*arguments)

        monkeypatch.setattr(os, name, call)

    for name in ("write", "fsync", "fdatasync", "copy_file_range"):
        if hasattr(os, name):
            refuse(name)
    for refused in range(100):
        left = refused
        try:
            CHANGES[change](path, opened)
        except OSError as error:
            assert error.errno == code  # noqa: PT017  the last time there is none
            if change == "rewrite" and path.read_bytes() != CONTENT:
                break  # in place already, and only the folder could not be waited for
            assert path.read_bytes() == CONTENT
            assert names(path.parent) == [path.name]
        else:
            break
    assert refused >= 2
    assert path.read_bytes() != CONTENT
    assert names(path.parent) == [path.name]


@pytest.mark.usefixtures("system")
def test_writes_that_take_a_part_only_are_gone_on_with(path, opened, monkeypatch):
    real_write = os.write
    monkeypatch.setattr(os, "write", lambda file, text: real_write(file, text[:7]))
    append(path, os.fstat(opened).st_ino, b"behind the end")
    small = path.with_name("small")
    write_whole(small, [b"a piece that is longer than seven", b"and one more"])
    assert path.read_bytes() == CONTENT + b"behind the end"
    assert small.read_bytes() == b"a piece that is longer than sevenand one more"


def test_a_file_is_kept_under_another_name_where_there_are_no_links(path, monkeypatch):
    def cannot(*_):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", cannot)
    keep(path, path.parent / "kept" / "copy")
    assert (path.parent / "kept" / "copy").read_bytes() == CONTENT


def test_a_new_file_takes_its_place_only_when_it_is_accepted(path):
    seen = []

    def refuse(new):
        seen.append(new.read_bytes())
        return False

    assert not write_whole(path, [b"new"], refuse)
    assert seen == [b"new"]
    assert path.read_bytes() == CONTENT
    assert names(path.parent) == ["file"]
    assert write_whole(path, [b"new"], lambda _: True)
    assert path.read_bytes() == b"new"


def test_only_what_a_writer_left_is_removed(path):
    (path.parent / ".file.1-2.ktrdr-new").write_bytes(b"half")
    (path.parent / ".file").write_bytes(b"somebody's")
    assert clear_leftovers(path.parent) == 1
    assert names(path.parent) == [".file", "file"]
