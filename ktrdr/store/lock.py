"""One writer to a bar file at a time, in any process; and what the last one left unfinished."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from filelock import lock_descriptor, unlock_descriptor

from ktrdr.store.atomic_write import write_over

_POLL_S = 0.02
_NOTHING, _WITHDRAWN = b"-", b"~"


class Unfinished(NamedTuple):
    """What a writer left unfinished."""

    inode: int
    """Of the file; 0: unknown."""
    is_withdrawn: bool
    """The rows are gone again; but a reader of that file may have seen some of them."""


class LockBusy(Exception):
    """Another holds the lock."""


class WriteLock:
    """A lock that is held. Its own file tells the next holder, should this one be killed.

    That file stays and is overwritten: making and removing another would cost more than the bars.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def begin(self, inode: int) -> None:
        """Rows are about to be appended to the file with this inode."""
        write_over(self._descriptor, b"%020d" % inode)

    def withdraw(self) -> None:
        """The file is as it was before, except for what others did."""
        write_over(self._descriptor, _WITHDRAWN)

    def end(self) -> None:
        """The rows are whole; or there were none."""
        write_over(self._descriptor, _NOTHING)

    def unfinished(self) -> Unfinished | None:
        """What the previous holder left."""
        return _read(os.pread(self._descriptor, 64, 0))


@contextlib.contextmanager
def held(path: Path, timeout_s: float) -> Iterator[WriteLock]:
    """Hold the lock at `path`. LockBusy: another does. OSError: it cannot be held.

    One process cannot hold it twice either.
    """
    until = time.monotonic() + timeout_s
    while True:
        descriptor = _open(path)
        try:
            _lock(descriptor, path, until)
            if os.fstat(descriptor).st_nlink:  # it was not removed meanwhile
                try:
                    yield WriteLock(descriptor)
                finally:
                    unlock_descriptor(descriptor)  # a child forked meanwhile has it too
                return
        finally:
            os.close(descriptor)


def left_unfinished(path: Path) -> Unfinished | None:
    """The content of a lock that is not held. OSError: it cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    try:
        return _read(os.read(descriptor, 64))
    finally:
        os.close(descriptor)


def _read(text: bytes) -> Unfinished | None:
    if not text or text.startswith(_NOTHING):
        return None
    digits = text.removeprefix(_WITHDRAWN)
    return Unfinished(int(digits) if digits.isdigit() else 0, digits != text)


def _lock(descriptor: int, path: Path, until: float) -> None:
    with _named(path):
        while not lock_descriptor(descriptor, blocking=False):
            if time.monotonic() >= until:
                raise LockBusy(path)
            time.sleep(_POLL_S)


def _open(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    with _named(path):
        try:
            return os.open(path, flags, 0o666)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            return os.open(path, flags, 0o666)


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """The message shows that the lock is meant, and not the file that it is for."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror} (its lock, {path})") from error
