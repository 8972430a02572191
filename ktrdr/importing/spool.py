"""The rows of a file in a temporary one, in order of their times; few of them are in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from ktrdr.errors import MalformedFile
from ktrdr.importing.rows import OFFSET, WIDTH, Matrix, utc_of
from ktrdr.importing.time_cells import NO_OFFSET

_CHUNK = 32_768
_ROW_BYTES = WIDTH * 8
_MOST_SORTED = 1_000_000


class Spool:
    """Rows that are added in any order, and read by time. Close it. For one thread.

    `folder`: where the temporary file is, which has no name; None: where such files usually are.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  see `close`
        self.count = 0
        self.with_offset = 0
        """Of how many the time says its offset."""
        self._last: float | None = None
        self._ascends = self._descends = True

    def add(self, matrix: Matrix) -> None:
        """Add rows."""
        if not len(matrix):
            return
        times = utc_of(matrix)
        steps = np.diff(times if self._last is None else np.append(self._last, times))
        self._ascends &= bool((steps >= 0).all())
        self._descends &= bool((steps <= 0).all())
        self._last = times[-1]
        self._file.seek(self.count * _ROW_BYTES)
        self.count += len(matrix)
        self.with_offset += int((matrix[:, OFFSET] != NO_OFFSET).sum())
        self._file.write(np.ascontiguousarray(matrix).tobytes())

    def sort(self, name: str) -> None:
        """Bring the rows into order, once all were added. MalformedFile: they are too many."""
        if self._ascends or self._descends:
            return
        if self.count > _MOST_SORTED:
            what = f"{name}: its {self.count:,} rows are in no order"
            raise MalformedFile(what, hint="sort a copy of it by time, and import that")
        rows = self.rows(0, self.count)
        order = np.argsort(utc_of(rows), kind="stable")
        self._file.seek(0)
        for begin in range(0, self.count, _CHUNK):
            self._file.write(rows[order[begin : begin + _CHUNK]].tobytes())
        self._ascends = True

    def rows(self, begin: int, end: int) -> Matrix:
        """The rows `[begin, end)` in order of time."""
        end = min(end, self.count)
        if self._ascends:
            return self.added(begin, end)
        return self.added(self.count - end, self.count - begin)[::-1]

    def added(self, begin: int, end: int) -> Matrix:
        """The rows `[begin, end)` in the order in which they were added."""
        self._file.seek(begin * _ROW_BYTES)
        raw = self._file.read(max(end - begin, 0) * _ROW_BYTES)
        matrix: Matrix = np.frombuffer(raw, np.float64).reshape(-1, WIDTH)
        return matrix

    def chunks(self) -> Iterator[Matrix]:
        """All rows, some at a time."""
        for begin in range(0, self.count, _CHUNK):
            yield self.rows(begin, begin + _CHUNK)

    def close(self) -> None:
        """Remove the temporary file."""
        self._file.close()
