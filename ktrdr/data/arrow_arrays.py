"""The lines of a window as arrays, parsed by pyarrow, where that is installed and it is certain.

Certain are lines whose times name their zone and whose values are numbers. All else is left to
`frames`, which reads every file, and names what is wrong with it. Both give the same bits: each
value is the nearest number to its text. pyarrow is loaded when it is first used.
"""

from __future__ import annotations

import importlib.util
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ktrdr.market.sessions import Int64Array
from ktrdr.store.csv_text import Layout, Lines, Window

PIECE_BYTES = 512 * 1024
"""Of a file at a time: it stays in the processor's cache, and threads pay from two of them on."""
_SPARE = 1.02
"""Room for rows that are shorter than the first ones, so that the arrays seldom move."""
_VALUES = 5
_BOM = b"\xef\xbb\xbf"

Float64Array = NDArray[np.float64]


class BarArrays(NamedTuple):
    """Bars in order."""

    starts: Int64Array
    """UTC seconds, ascending, without duplicates."""
    numbers: Float64Array
    """A row each of open, high, low, close and volume."""

    def between(self, start: int, end: int) -> BarArrays:
        """The bars that start in `[start, end)`."""
        first, last = self.starts.searchsorted([start, end]).tolist()
        last = max(first, last)
        return BarArrays(self.starts[first:last], self.numbers[:, first:last])


class _Piece(NamedTuple):
    """The rows of some lines."""

    starts: Int64Array
    columns: list[Float64Array]


def is_installed() -> bool:
    """Whether pyarrow is there."""
    return importlib.util.find_spec("pyarrow") is not None


def arrays_of(window: Window) -> BarArrays | None:
    """All bars of a window; None: it is not certain what its lines mean."""
    made: _Arrays | None = None
    read = 0
    for size, piece in _parsed(window.pieces):
        if piece is None:
            return None
        read += size
        if made is None:
            made = _Arrays(len(piece.starts), window.size / size)
        made.add(piece, window.size / read)
    if made is None:
        return BarArrays(np.empty(0, np.int64), np.empty((_VALUES, 0)))
    arrays = made.filled()
    ascends = bool((arrays.starts[1:] > arrays.starts[:-1]).all())
    return arrays if ascends else None


class _Arrays:
    """Arrays that are filled piece by piece. What is not filled takes no memory."""

    def __init__(self, count: int, pieces: float) -> None:
        room = count if pieces <= 1 else int(count * pieces * _SPARE) + 1
        self._starts = np.empty(room, np.int64)
        self._numbers = np.empty((_VALUES, room))
        self._filled = 0

    def add(self, piece: _Piece, share: float) -> None:
        """Add a piece; the whole is `share` times as long as what there is then."""
        begin, end = self._filled, self._filled + len(piece.starts)
        if end > len(self._starts):
            self._move(int(end * max(share, 1) * _SPARE) + 1)
        self._starts[begin:end] = piece.starts
        for row, column in zip(self._numbers, piece.columns, strict=True):
            row[begin:end] = column
        self._filled = end

    def _move(self, room: int) -> None:
        """Go on in larger arrays."""
        before = self.filled()
        self._starts = np.empty(room, np.int64)
        self._numbers = np.empty((_VALUES, room))
        self._starts[: self._filled] = before.starts
        self._numbers[:, : self._filled] = before.numbers

    def filled(self) -> BarArrays:
        """What there is."""
        return BarArrays(self._starts[: self._filled], self._numbers[:, : self._filled])


def _parsed(pieces: Iterator[Lines]) -> Iterator[tuple[int, _Piece | None]]:
    """The pieces parsed, in order, with their bytes; several at a time, if there are several."""
    first, second = next(pieces, None), next(pieces, None)
    if first is None:
        return
    parse = _parser(first.layout)
    if second is None:
        yield len(first.raw), parse(first)
        return
    import pyarrow as pa  # noqa: PLC0415  # for those who have it

    count = max(1, pa.cpu_count())
    with ThreadPoolExecutor(count) as pool:
        waiting: deque[tuple[int, Future[_Piece | None]]] = deque()
        for lines in (first, second):
            waiting.append((len(lines.raw), pool.submit(parse, lines)))
        for lines in pieces:
            waiting.append((len(lines.raw), pool.submit(parse, lines)))
            if len(waiting) > count:
                size, piece = waiting.popleft()
                yield size, piece.result()
        for size, piece in waiting:
            yield size, piece.result()


def _parser(layout: Layout) -> Callable[[Lines], _Piece | None]:
    """What parses lines of this layout; None: it is not certain what they mean."""
    import pyarrow as pa  # noqa: PLC0415  # for those who have it
    from pyarrow import csv  # noqa: PLC0415  # as above

    names = [str(place) for place in range(len(layout.columns))]
    wanted = [names[place] for place in (layout.time_place, *layout.value_places)]
    types = dict.fromkeys(wanted, pa.float64()) | {wanted[0]: pa.timestamp("s", tz="UTC")}
    as_lines = csv.ParseOptions(quote_char=False, ignore_empty_lines=False)
    as_numbers = csv.ConvertOptions(
        column_types=types, include_columns=wanted, null_values=[], check_utf8=False
    )

    def parse(lines: Lines) -> _Piece | None:
        if lines.raw.startswith(_BOM):  # pyarrow skips it, wherever it is
            return None
        size = len(lines.raw) + 1
        at_once = csv.ReadOptions(column_names=names, use_threads=False, block_size=size)
        try:
            table = csv.read_csv(pa.BufferReader(lines.raw), at_once, as_lines, as_numbers)
        except pa.ArrowInvalid:
            return None
        return _piece(table, lines.timeframe.grid_s)

    return parse


def _piece(table: Any, grid_s: int) -> _Piece | None:
    """The rows of a table; None: a time is not where bars start, or a value is not finite."""
    times, *columns = (column.to_numpy() for column in table.columns)
    starts = times.view(np.int64)
    is_certain = all(np.isfinite(column).all() for column in columns)
    return _Piece(starts, columns) if is_certain and not (starts % grid_s).any() else None
