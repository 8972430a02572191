"""The lock of a bar file's writers, in any process, and what the last one left unfinished."""

from __future__ import annotations

import contextlib
import os
import re
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from filelock import lock_descriptor, unlock_descriptor

from ktrdr.store.atomic_write import write_over

_POLL_S = 0.02
_NOTHING, _WITHDRAWN, _MISPLACED = b"-", b"~", b"^"
_NOTE = re.compile(rb"([~^]?)(\d+)(?: (\d+) (\d+) ([0-9a-f]{8}) ([0-9a-f]{8}))?\s*")
_NOTE_BYTES = 72
_BEGIN_BYTES = 16
_NEAR_BYTES = 64 * 1024
"""So far behind their place rows are looked for, if those of another program came before them."""


class Appended(NamedTuple):
    """Rows that were being appended."""

    place: int
    """Where in the file they should begin."""
    size: int
    checksum: int
    begin_checksum: int
    """Of the first bytes of the first row."""

    @classmethod
    def of(cls, place: int, text: bytes) -> Appended:
        """These lines."""
        return cls(place, len(text), zlib.crc32(text), zlib.crc32(text[:_BEGIN_BYTES]))

    def may_be_begun(self, descriptor: int) -> bool:
        """At their place is the beginning of their first row, or too little to say."""
        begin = os.pread(descriptor, _BEGIN_BYTES, self.place)
        return len(begin) < _BEGIN_BYTES or zlib.crc32(begin) == self.begin_checksum

    def is_at(self, place: int, descriptor: int) -> bool:
        """All of them are there."""
        return zlib.crc32(os.pread(descriptor, self.size, place)) == self.checksum

    def found(self, descriptor: int) -> int | None:
        """Where all of them are; None: they are not there, or not whole."""
        near = os.pread(descriptor, _NEAR_BYTES, self.place)
        last = os.fstat(descriptor).st_size - self.size
        begins = (self.place + at for at in (0, *(m.end() for m in re.finditer(rb"\n", near))))
        there = (place for place in begins if place <= last and self.is_at(place, descriptor))
        return next(there, None)


class Unfinished(NamedTuple):
    """What a writer left unfinished."""

    inode: int
    """Of the file; 0: unknown."""
    is_withdrawn: bool
    """The rows were removed again, but a reader of that file may have seen some of them."""
    is_misplaced: bool = False
    """The rows are whole, but came behind what another program had written."""
    rows: Appended | None = None
    """None: it is not known which."""


class LockBusy(Exception):
    """Another process holds the lock."""


class WriteLock:
    """A lock that is held. Its file records what was begun, for the next holder.

    That file is overwritten: to create and remove one would take longer than to write the bars.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def begin(self, inode: int, place: int, text: bytes) -> None:
        """Record that rows are about to be appended to the file with this inode."""
        write_over(self._descriptor, _note(inode, place, text))

    def misplace(self, inode: int, place: int, text: bytes) -> None:
        """Record that rows came where they do not belong, and are about to be removed."""
        write_over(self._descriptor, _note(inode, place, text, _MISPLACED))

    def withdraw(self) -> None:
        """Record that the rows were removed again."""
        write_over(self._descriptor, _WITHDRAWN)

    def end(self) -> None:
        """Record that the rows are complete, or that there were none."""
        write_over(self._descriptor, _NOTHING)

    def unfinished(self) -> Unfinished | None:
        """What the previous holder left unfinished; None: nothing."""
        return _read(os.pread(self._descriptor, _NOTE_BYTES, 0))


@contextlib.contextmanager
def held(path: Path, timeout_s: float) -> Iterator[WriteLock]:
    """Hold the lock at `path`. LockBusy: another process does. OSError: it cannot be held.

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
        return _read(os.read(descriptor, _NOTE_BYTES))
    finally:
        os.close(descriptor)


def _note(inode: int, place: int, text: bytes, kind: bytes = b"") -> bytes:
    rows = Appended.of(place, text)
    note = b"%b%020d %015d %010d %08x %08x" % (kind, inode, *rows)
    return note.ljust(_NOTE_BYTES)


def _read(text: bytes) -> Unfinished | None:
    if not text or text.startswith(_NOTHING):
        return None
    kind, is_withdrawn = text[:1], text.startswith(_WITHDRAWN)
    note = _NOTE.fullmatch(text)
    if note is None:
        return Unfinished(0, is_withdrawn)
    rows = None
    if note[3] is not None:
        rows = Appended(int(note[3]), int(note[4]), int(note[5], 16), int(note[6], 16))
    return Unfinished(int(note[2]), is_withdrawn, kind == _MISPLACED, rows)


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
    """Name the lock in the message, which is not the file that it protects."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror} (its lock, {path})") from error
