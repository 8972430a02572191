"""One writer to a bar file at a time, in any process; and what the last one left unfinished."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import lock_descriptor

from ktrdr.data.file_change import write_over

_POLL_S = 0.02
_NOTHING = b"-"


class WriteLock:
    """A lock that is held. Its own file tells the next one, should its holder be killed.

    That file stays and is written over: to make and remove another would cost more than the bars.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def begin(self, inode: int) -> None:
        """Rows are about to be appended to the file with this inode."""
        write_over(self._descriptor, b"%020d" % inode)

    def end(self) -> None:
        """They are whole, or gone."""
        write_over(self._descriptor, _NOTHING)

    def unfinished(self) -> int | None:
        """The inode of a file that somebody was killed at; 0: nobody knows which; None: none."""
        return _inode(os.pread(self._descriptor, 64, 0))


@contextlib.contextmanager
def held(path: Path, timeout_s: float) -> Iterator[WriteLock]:
    """Hold the lock that is at `path`. TimeoutError: somebody else does. OSError: it can't be."""
    until = time.monotonic() + timeout_s
    while True:
        descriptor = _open(path)
        try:
            _lock(descriptor, path, until)
            if os.fstat(descriptor).st_nlink:  # nobody has removed it meanwhile
                yield WriteLock(descriptor)
                return
        finally:
            os.close(descriptor)


def left_unfinished(path: Path) -> int | None:
    """What a lock that is not held tells."""
    try:
        return _inode(path.read_bytes())
    except FileNotFoundError:
        return None


def _inode(text: bytes) -> int | None:
    if not text or text.startswith(_NOTHING):
        return None
    return int(text) if text.isdigit() else 0


def _lock(descriptor: int, path: Path, until: float) -> None:
    while not lock_descriptor(descriptor, blocking=False):
        if time.monotonic() >= until:
            raise TimeoutError(f"{path} is held by another")
        time.sleep(_POLL_S)


def _open(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
    try:
        return os.open(path, flags, 0o666)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, flags, 0o666)
