"""Changes a file so that it is whole at every moment, even if it is killed. Knows no bars."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from ktrdr.store.file_key import FileKey

TEMPORARY = ".ktrdr-new"
"""Suffix of the names of unfinished files."""

_COPY_BYTES = 1024 * 1024
_CANNOT_COPY = (errno.ENOSYS, errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM)


class Edit(NamedTuple):
    """Replaces the bytes `[start, end)` of a file."""

    start: int
    end: int
    text: bytes


def append(path: Path, inode: int, text: bytes) -> tuple[int, int] | None:
    """Append to a file at its end, and wait until that is on the disk; None: it is another file.

    Returns where the text begins: behind what another program has appended meanwhile; and the
    file's modification time, which is set, in ns of the clock and not of the system's last tick,
    so that any later change has a different one; not set if this user may not set it.
    OSError: nothing was appended. If killed midway, its last line has no end.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK)
    try:
        return _append(descriptor, text) if os.fstat(descriptor).st_ino == inode else None
    finally:
        os.close(descriptor)


def _append(descriptor: int, text: bytes) -> tuple[int, int]:
    now_ns = time.time_ns()
    place, view = None, memoryview(text)
    try:
        while view:
            count = os.write(descriptor, view)
            view = view[count:]
            end = os.lseek(descriptor, 0, os.SEEK_CUR)
            place = end - count if place is None else place
            if end - place != len(text) - len(view):
                error = OSError(errno.EAGAIN, "another program wrote between its parts")
                raise error
        with contextlib.suppress(PermissionError):
            os.utime(descriptor, ns=(now_ns, now_ns))
        sync_content(descriptor)
    except OSError:
        with contextlib.suppress(OSError):
            if place is not None and os.fstat(descriptor).st_size == place + len(text) - len(view):
                os.ftruncate(descriptor, place)
        raise
    assert place is not None
    return place, now_ns


def rewrite(
    path: Path, descriptor: int, edits: Sequence[Edit], size: int, accept: Callable[[Path], bool]
) -> FileKey | None:
    """Replace `path` by an edited copy, in one step; None: not accepted.

    Returns the key of the copy. Its time is set as in `append`, so that no other content can have
    this key; nor has the copy itself, where the time could not be set exactly. `descriptor`: the
    open file; `size`: how many of its bytes to copy; `accept`: called last, with the path of the
    copy, which still has another name. Permissions and, if allowed, the owner stay.
    """

    def fill(new: int) -> None:
        take_after(descriptor, new)
        at = 0
        for edit in edits:
            _copy(descriptor, new, at, edit.start)
            _write(new, edit.text)
            at = edit.end
        _copy(descriptor, new, at, size)

    return _replace(path, fill, accept, 0o600)


def write_whole(
    path: Path, pieces: Iterable[bytes], accept: Callable[[Path], bool] = lambda _: True
) -> bool:
    """Replace or create a file with this content; False: not accepted.

    `accept` is called last, with the path of the new file, which still has another name.
    """

    def fill(new: int) -> None:
        for piece in pieces:
            _write(new, piece)

    return _replace(path, fill, accept, 0o666) is not None


def write_new(path: Path, text: bytes) -> None:
    """Create a file with this content. FileExistsError: there is one already."""
    new = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        _write(new, text)
    except OSError:
        path.unlink()
        raise
    finally:
        os.close(new)


def write_over(descriptor: int, text: bytes) -> None:
    """Write all of it at the file's beginning."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    _write(descriptor, text)


def keep(old: Path, copy: Path) -> None:
    """Keep the content under another name, by a link if the file system has them."""
    copy.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(old, copy)
    except OSError:
        write_whole(copy, [old.read_bytes()])
    sync_folder(copy.parent)


def move(new: Path, target: Path) -> None:
    """Replace a file by another in one step; on another file system by a copy of it."""
    try:
        new.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise

        def like_new(copy: Path) -> bool:
            take_after(new, copy)
            return True

        write_whole(target, [new.read_bytes()], like_new)
        new.unlink()
    sync_folder(target.parent)


def take_after(old: int | Path, new: int | Path) -> None:
    """Give a file the permissions and, if allowed, the owner of another."""
    status = os.stat(old)  # noqa: PTH116  an open file may be meant
    with contextlib.suppress(PermissionError):
        os.chown(new, status.st_uid, status.st_gid)
    os.chmod(new, status.st_mode & 0o7777)  # noqa: PTH101  as above


def sync_content(descriptor: int) -> None:
    """Wait until what was written is on the disk; macOS has no `fdatasync`."""
    getattr(os, "fdatasync", os.fsync)(descriptor)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def clear_leftovers(folder: Path) -> int:
    """Remove what killed writers left; returns the number of files."""
    leftovers = list(folder.glob(f".*{TEMPORARY}"))
    for path in leftovers:
        path.unlink(missing_ok=True)
    return len(leftovers)


def _replace(
    path: Path, fill: Callable[[int], None], accept: Callable[[Path], bool], mode: int
) -> FileKey | None:
    target = Path(os.path.realpath(path))
    name = f".{target.name}.{os.getpid()}-{threading.get_ident()}{TEMPORARY}"
    temporary = target.with_name(name)
    try:
        new = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC, mode)
        try:
            fill(new)
            now_ns = time.time_ns()
            with contextlib.suppress(PermissionError):
                os.utime(new, ns=(now_ns, now_ns))
            os.fsync(new)
            status = os.fstat(new)
        finally:
            os.close(new)
        is_wanted = accept(temporary)
        if is_wanted:
            temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if is_wanted:
        sync_folder(target.parent)
        return status.st_size, now_ns, status.st_ino
    temporary.unlink()
    return None


def _copy(source: int, target: int, start: int, end: int) -> None:
    """Copy the bytes `[start, end)` to the target's position, inside the kernel if possible."""
    copy = getattr(os, "copy_file_range", None)
    while start < end:
        count = 0
        if copy is not None:
            try:
                count = copy(source, target, end - start, start)
            except OSError as error:
                if error.errno not in _CANNOT_COPY:
                    raise
                copy = None
        if not count:  # unsupported, or the file was cut short
            piece = os.pread(source, min(_COPY_BYTES, end - start), start)
            if not piece:
                raise OSError(errno.EIO, "the file became shorter while it was copied")
            _write(target, piece)
            count = len(piece)
        start += count


def _write(descriptor: int, text: bytes) -> None:
    """Write all of it: a single write may be partial."""
    view = memoryview(text)
    while view:
        view = view[os.write(descriptor, view) :]
