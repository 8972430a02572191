"""One bar file, open for reading: finds rows by their time without reading the others."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from ktrdr.errors import MalformedFile
from ktrdr.market.sessions import Int64Array
from ktrdr.market.timeframes import Timeframe
from ktrdr.store.columns import HEADER
from ktrdr.store.csv_text import (
    Layout,
    Lines,
    Rows,
    Window,
    check_values,
    complete_lines,
    left_out,
    line_start,
    read_layout,
    read_rows,
    unordered,
)
from ktrdr.store.file_advice import check_command
from ktrdr.store.file_key import key_of

_NEAR_BYTES = 32 * 1024
"""A search ends this close to a row: reading this much takes no longer than searching on."""
_LINE_BYTES = 512
_MAX_LINE_BYTES = 64 * 1024
_CHUNK_BYTES = 1024 * 1024
_FAR = 2**62
_NONE = np.empty(0, np.int64)
_MOST_BYTES = 16 * 1024 * 1024
"""Anything longer is not a row but, for example, the zeros of a file enlarged and not written."""


class FileTail(NamedTuple):
    """How a file ends."""

    line: bytes
    """The last line that has an end; empty: there is no row."""
    last: int | None
    """The start of that row, UTC seconds."""
    whole_until: int
    """Where it ends."""
    torn: bytes
    """What follows: a line without an end, or nothing."""


class BarFile:
    """The content of a file as of when it was opened.

    FileNotFoundError: there is none. MalformedFile: it is not a file, or its header is invalid.
    The rows of each reading are in order; otherwise MalformedFile names the line.
    """

    def __init__(self, path: Path, timeframe: Timeframe) -> None:
        self.path = path
        self.timeframe = timeframe
        self.descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe may have no writer
        try:
            status = _regular(self.descriptor, path.name)
            self.key = key_of(status)
            self.links = status.st_nlink
            self._head = self._read_head()
            self.layout = self._read_layout()
        except BaseException:
            os.close(self.descriptor)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        os.close(self.descriptor)

    @property
    def size(self) -> int:
        """In bytes."""
        return self.key[0]

    @property
    def header(self) -> bytes:
        """Its whole first line, or that of a new file if it has none."""
        line = os.pread(self.descriptor, self.layout.begin, 0)
        if self.layout.is_whole:
            return line
        return (line if self.layout.has_header else line + HEADER.encode()) + self.layout.newline

    @cached_property
    def first(self) -> int | None:
        """The start of the first row; None: there is no row."""
        begin = self.layout.begin
        end = self._head.find(b"\n", begin) + 1
        return line_start(self.path.name, self.layout, self._head[begin:end], 2) if end else None

    def rows(self, start: int, end: int) -> Rows:
        """The rows of the bars that start in `[start, end)`. MalformedFile."""
        return self.rows_from(start, end)[0].complete()

    def rows_from(self, start: int, end: int) -> tuple[Rows, int]:
        """The same rows and those that lack a value, and where in the file their `raw` begins."""
        begin, until = self._wide(start, end)
        return self._read(begin, until).between(start, end), begin

    def window(self, start: int, end: int, most_bytes: int) -> Window:
        """The same rows as lines, and some around them, about `most_bytes` at a time.

        MalformedFile, at the end: the file was changed meanwhile.
        """
        begin, until = self._wide(start, end)
        return Window(until - begin, self._window(begin, until, most_bytes))

    def _window(self, begin: int, until: int, most_bytes: int) -> Iterator[Lines]:
        at = begin
        while at < until:
            # cut where a line ends, so that nothing is copied
            end = self._next_line(at + most_bytes) if until - at > most_bytes else until
            for raw in self._lines(at, min(end, until), most_bytes + _LINE_BYTES):
                yield self._bars_in(raw)
            at = end
        if key_of(os.fstat(self.descriptor)) != self.key:
            name = self.path.name
            raise MalformedFile(f"{name} was changed while it was read", hint=check_command(name))

    def _wide(self, start: int, end: int) -> tuple[int, int]:
        """Two places where lines begin, with the rows of `[start, end)` between them."""
        last = self.end.last
        if last is None or end > last:
            return self._back_to(start), self.size
        begin, _ = self._around(start)
        _, until = self._around(end)
        return begin, max(begin, until)

    def pieces(self, start: int, end: int, most_bytes: int) -> Iterator[Lines]:
        """The same rows as lines, some at a time: about `most_bytes` of the file are in memory."""
        for raw in self._lines(self._place(start), self._place(end), most_bytes):
            yield self._bars_in(raw)

    def _bars_in(self, raw: bytes) -> Lines:
        """Whole lines, but those that lack a value."""
        return Lines(self.path.name, self.layout, self.timeframe, complete_lines(self.layout, raw))

    def line_of(self, start: int) -> tuple[int, str] | None:
        """The number and the text of the line of the row that starts then; None: there is none.

        The header is line 1.
        """
        rows, begin = self.rows_from(start, start + 1)
        if not len(rows.starts):
            return None
        number = 1 + _count_lines(self.descriptor, begin + int(rows.offsets[0]))
        return number, rows.text.decode(errors="replace").rstrip()

    def _place(self, time_s: int) -> int:
        """Where the line of the first row from `time_s` on begins; or the end of all lines."""
        last = self.end.last
        if last is None or time_s > last:
            return self.end.whole_until
        begin, until = self._around(time_s)
        rows = self._read(begin, until)
        return begin + int(rows.offsets[np.searchsorted(rows.starts, time_s)])

    def nearest(self, start: int, end: int) -> int | None:
        """The start of the bar nearest to `[start, end)` and outside it; None: there is none."""
        before, after = self._before(start), self._from(end)
        if before is None or after is None:
            return after if before is None else before
        return before if start - before <= after - end else after

    def _before(self, time_s: int) -> int | None:
        """The start of the last bar before this time."""
        while True:
            rows = self._read(*self._around(time_s)).between(-_FAR, time_s)
            complete = rows.complete().starts
            if len(complete) or not len(rows.starts):
                return int(complete[-1]) if len(complete) else None
            time_s = int(rows.starts[0])

    def _from(self, time_s: int) -> int | None:
        """The start of the first bar from this time on."""
        while True:
            rows = self._read(*self._around(time_s)).between(time_s, _FAR)
            complete = rows.complete().starts
            if len(complete) or not len(rows.starts):
                return int(complete[0]) if len(complete) else None
            time_s = int(rows.starts[-1]) + 1

    @cached_property
    def end(self) -> FileTail:
        """The last row, and what follows it. MalformedFile: its time cannot be read, or no row."""
        begin, reach = self.layout.begin, _LINE_BYTES
        raw = b""
        while True:
            at = max(begin, self.size - reach)
            raw = os.pread(self.descriptor, self.size - at, at)
            end = raw.rfind(b"\n") + 1
            first = raw.rfind(b"\n", 0, max(end - 1, 0)) + 1
            if at == begin or first:
                break
            if reach > _MOST_BYTES:
                name = self.path.name
                raise MalformedFile(
                    f"{name}: its last {reach >> 20} MiB have no line end", hint=check_command(name)
                )
            reach *= 4
        line = raw[first:end]
        last = self._start(line) if line else None
        return FileTail(line, last, at + end, raw[end:])

    def starts(self) -> tuple[Int64Array, Int64Array]:
        """The starts of all bars, and of the rows that lack a value, after reading every row.

        MalformedFile names the line.
        """
        parts = list(self._verified())
        lacking = [left_out(*both) for both in parts]
        bars = [complete for _, complete in parts]
        return np.concatenate([_NONE, *bars]), np.concatenate([_NONE, *lacking])

    def verify(self) -> None:
        """Read every row, and keep none. MalformedFile names the first line that is wrong."""
        for _ in self._verified():
            pass

    def _verified(self) -> Iterator[tuple[Int64Array, Int64Array]]:
        """The starts of all rows, and of the complete ones, some at a time."""
        last, line = None, 2
        for raw in self._lines(self.layout.begin, self.size, _CHUNK_BYTES, line):
            rows = read_rows(self.path.name, self.layout, raw, self.timeframe, line=line)
            if last is not None and rows.starts[0] <= last:
                raise unordered(rows, 0, line, last)
            complete = check_values(self.path.name, rows, line=line)
            last, line = rows.starts[-1], line + len(rows.starts)
            yield rows.starts, complete.starts

    def _lines(
        self, begin: int, until: int, most_bytes: int, first_line: int | None = None
    ) -> Iterator[bytes]:
        """The whole lines between two places, some at a time; `first_line` is for MalformedFile."""
        at, line, reach = begin, first_line, most_bytes
        while at < until:
            wanted = min(reach, until - at)
            raw = os.pread(self.descriptor, wanted, at)
            whole = raw.rfind(b"\n") + 1
            if whole:
                line = line and line + raw.count(b"\n")
                yield raw[:whole]
                reach = most_bytes
            elif at + wanted == until or len(raw) < wanted:
                return  # a last line without an end
            elif reach > _MOST_BYTES:
                raise self._too_long(line, reach)
            else:
                reach *= 2
            at += whole

    def _too_long(self, line: int | None, reach: int) -> MalformedFile:
        name = self.path.name
        where = name if line is None else f"{name} line {line}"
        message = f"{where}: it is longer than {reach >> 20} MiB"
        return MalformedFile(message, hint=check_command(name))

    def _read(self, begin: int, end: int) -> Rows:
        raw = os.pread(self.descriptor, end - begin, begin)
        try:
            return read_rows(self.path.name, self.layout, raw, self.timeframe)
        except MalformedFile:
            self.verify()  # names the line
            raise

    def _back_to(self, start: int) -> int:
        """A place before the first row from `start` on, where a line begins.

        It is guessed, for speed, from how dense the rows are in the whole file.
        """
        begin, first, last = self.layout.begin, self.first, self.end.last
        if first is None or last is None or first >= start:
            return begin
        density = (self.size - begin) / max(last - first, 1)
        reach = int(1.1 * density * max(last - start, 0)) + _LINE_BYTES
        while reach < self.size - begin:
            place, found, _ = self._line_after(self.size - reach)
            if found < start and place < self.size:
                return place
            reach = 2 * reach + _NEAR_BYTES
        return begin

    def _around(self, time_s: int) -> tuple[int, int]:
        """Two near places where lines begin, with the first row from `time_s` on between them.

        The second is after that row, or the end of the file.
        """
        low, high = self.layout.begin, self.size
        top = high
        while top - low > _NEAR_BYTES:
            middle = (low + top) // 2
            place, begin, end = self._line_after(middle)
            if begin < time_s and place < high:
                low = place
            else:
                high, top = min(high, end), middle
        return low, high

    def _line_after(self, place: int) -> tuple[int, int, int]:
        """The next line that has an end: its begin, its time, and its end; or the file's end."""
        for reach in (_LINE_BYTES, _MAX_LINE_BYTES):
            piece = os.pread(self.descriptor, reach, place)
            first = piece.find(b"\n") + 1
            end = piece.find(b"\n", first) + 1 if first else 0
            if end:
                return place + first, self._start(piece[first:end]), place + end
        return self.size, 0, self.size

    def _next_line(self, place: int) -> int:
        """Where the next line begins; the file's end if that is far."""
        end = os.pread(self.descriptor, _LINE_BYTES, place).find(b"\n") + 1
        return place + end if end else self.size

    def _start(self, line: bytes) -> int:
        """When a row starts."""
        try:
            return line_start(self.path.name, self.layout, line, None)
        except MalformedFile:
            self.verify()  # names the line
            raise

    def _read_layout(self) -> Layout:
        """MalformedFile: its header is invalid. The content behind a link is not shown."""
        try:
            return read_layout(self.path.name, self._head)
        except MalformedFile:
            if not self.path.is_symlink():
                raise
            message = f"{self.path.name} line 1: expected the header {HEADER}: it is a link"
            hint = "correct the first line of the file that it leads to, or remove the link"
            raise MalformedFile(message, hint=hint) from None

    def _read_head(self) -> bytes:
        """The first two lines at least, and nothing that was written after it was opened."""
        head = os.pread(self.descriptor, min(_LINE_BYTES, self.size), 0)
        is_all = len(head) < _LINE_BYTES or head.count(b"\n") >= 2
        return head if is_all else os.pread(self.descriptor, min(_MAX_LINE_BYTES, self.size), 0)


def _count_lines(descriptor: int, end: int) -> int:
    """How many lines end in the first bytes of a file."""
    places = range(0, end, _CHUNK_BYTES)
    return sum(os.pread(descriptor, min(_CHUNK_BYTES, end - at), at).count(b"\n") for at in places)


def _regular(descriptor: int, name: str) -> os.stat_result:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise MalformedFile(f"{name} is not a regular file", hint="remove it, or move it away")
    return status
