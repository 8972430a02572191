"""A log file: its last lines, and what is added to it, also when it is rotated away."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ktrdr.run_folder import open_plain

_END_BYTES = 8 * 2**20
"""As much of the end of a file is searched."""


class LogFile:
    """A file whose lines are read once, in order; it may be missing, and come later.

    A line that has no end yet is read when it has one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reason = ""
        """Why it cannot be read; else empty."""
        self._file = self._opened()
        self._rest = b""

    def last_lines(self) -> list[bytes]:
        """The lines at the end of the file, oldest first; those that come later are new lines."""
        if self._file is None:
            return []
        size = self._file.seek(0, os.SEEK_END)
        begin = self._file.seek(max(0, size - _END_BYTES))
        lines = [*self._read(self._file)]
        return lines[1:] if begin else lines  # the first one is a part

    def new_lines(self) -> Iterator[bytes]:
        """The lines that were added since the last call."""
        if self._file is not None:
            yield from self._read(self._file)
        if self._is_replaced():
            if self._file is not None:
                yield from self._read(self._file)
            self.close()
            self._rest, self._file = b"", self._opened()
            if self._file is not None:
                yield from self._read(self._file)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _read(self, file: BinaryIO) -> Iterator[bytes]:
        if os.fstat(file.fileno()).st_size < file.tell():  # it was emptied
            file.seek(0)
            self._rest = b""
        *whole, self._rest = (self._rest + file.read()).split(b"\n")
        yield from whole

    def _is_replaced(self) -> bool:
        try:
            there = self.path.stat()
        except OSError:
            return False
        if self._file is None:
            return True
        here = os.fstat(self._file.fileno())
        return (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino)

    def _opened(self) -> BinaryIO | None:
        try:
            file = open_plain(self.path)
        except FileNotFoundError:
            self.reason = "there is no such file yet"
        except OSError as error:
            self.reason = f"it cannot be read: {error.strerror}"
        else:
            self.reason = ""
            return file
        return None
