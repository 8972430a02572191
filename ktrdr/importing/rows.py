"""The rows of one file as numbers, with those that are refused and why. Opens no file."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ktrdr.importing.columns import Columns
from ktrdr.importing.dialect import Dialect
from ktrdr.importing.texts import first_cells, fixed_texts
from ktrdr.importing.time_cells import (
    NO_OFFSET,
    TimeReader,
    Times,
    date_length,
    is_epoch,
    is_time,
)
from ktrdr.market.bars import are_sound
from ktrdr.market.sessions import Int64Array

LINE, CLOCK, OFFSET, OPEN, VOLUME = 0, 1, 2, 3, 7
"""Columns of a matrix of rows: line number, time, offset, four prices, volume."""
WIDTH = 8
Matrix = NDArray[np.float64]
"""Rows, `WIDTH` columns; whole numbers are exact in them."""

_FEW_LINES = 256
_MOST_TEXT = 120
_NEWLINE, _SPACE = b"\n "
_ZERO, _NINE = b"09"
_LONGEST_EPOCH = 19
_UNITS = {"K": 3, "M": 6, "B": 9}
"""Behind volumes: how many zeros they stand for."""


class Block(NamedTuple):
    """Consecutive whole lines."""

    first_line: int
    """The number of the first one, from 1."""
    raw: bytes
    """In UTF-8; each line has an end."""


class Refused(NamedTuple):
    """A line that is no bar."""

    line: int
    text: str
    why: str


@dataclass(frozen=True)
class Parsed:
    """The rows of some lines."""

    matrix: Matrix
    refused: list[Refused]
    symbols: frozenset[str]
    """Those in its column, as they stand there."""
    lines: int
    """How many have content."""
    ends: int
    """How many of the times show the last moment of a bar."""


class _Cells(NamedTuple):
    """The cells of some lines that have as many as they should."""

    lines: NDArray[np.int64]
    times: Times
    numbers: Matrix
    """Five columns."""
    symbols: frozenset[str]
    raw: bytes
    """The lines."""


class _Form(NamedTuple):
    """What the bytes of a block show."""

    begins: Int64Array
    """Where its lines begin."""
    has_spaces: bool
    """Behind separators."""


class _Begun(NamedTuple):
    """A block, and what of it is read without any other block."""

    block: Block
    begins: Int64Array
    """Where its lines begin."""
    fixed: NDArray[np.uint8] | None
    """The bytes of their times, a row each, if all have one form."""
    frame: pd.DataFrame | None
    """Its other columns; None: some line is not as it should be."""


class RowParser:
    """Parses the lines of one file. For one thread."""

    def __init__(self, columns: Columns, dialect: Dialect, times: TimeReader) -> None:
        self._columns = columns
        self._dialect = dialect
        self._times = times

    def parse(self, blocks: Iterable[Block]) -> Iterator[Parsed]:
        """The rows of each block of whole lines, and what is refused of them.

        A thread reads the numbers of a block while the rows of the one before are made.
        """
        with ThreadPoolExecutor(1) as thread:
            waiting: Future[_Begun] | None = None
            for block in blocks:
                begun = thread.submit(self._begin, block)
                if waiting is not None:
                    yield self._parsed(waiting.result())
                waiting = begun
            if waiting is not None:
                yield self._parsed(waiting.result())

    def _parsed(self, begun: _Begun) -> Parsed:
        refused: list[Refused] = []
        parts = self._parts(begun, refused)
        count = len(refused) + sum(len(cells.lines) for cells in parts)
        matrices = [self._matrix(cells, refused) for cells in parts]
        symbols = frozenset[str]().union(*(cells.symbols for cells in parts))
        matrix = np.concatenate(matrices) if matrices else np.empty((0, WIDTH))
        ends = sum(int(cells.times.are_ends.sum()) for cells in parts)
        return Parsed(matrix, sorted(refused), symbols, count, ends)

    def _parts(self, begun: _Begun, refused: list[Refused]) -> list[_Cells]:
        """The cells of a block: all at once, or in halves until it is known which lines are bad."""
        waiting, found = [begun], []
        while waiting:
            part = waiting.pop()
            if (cells := self._quickly(part)) is not None:
                found.append(cells)
            elif part.block.raw.count(b"\n") > _FEW_LINES:
                waiting += [self._begin(half) for half in reversed(_halves(part.block))]
            else:
                found.append(self._one_by_one(part.block, refused))
        return found

    def _begin(self, block: Block) -> _Begun:
        """Read all of a block but its times: what these mean depends on the blocks before."""
        columns = self._columns
        form = _form_of(block.raw, self._dialect.separator, columns.width)
        if form is None:
            return _Begun(block, np.empty(0, np.int64), None, None)
        cells = self._fixed_cells(block.raw, form.begins)
        texts = [*(columns.times if cells is None else ()), columns.symbol]
        prices = [place for place in columns.numbers if place is not None]
        kinds: dict[Any, Any] = {place: object for place in texts if place is not None}
        kinds |= dict.fromkeys(prices, np.float64)
        frame = self._frame(block.raw, kinds, has_spaces=form.has_spaces)
        return _Begun(block, form.begins, cells, frame)

    def _quickly(self, begun: _Begun) -> _Cells | None:
        """None: some line is not as it should be."""
        block, begins, columns = begun.block, begun.begins, self._columns
        frame = begun.frame
        if frame is None or len(frame) != len(begins):
            return None
        values = np.full((len(begins), len(columns.numbers)), -1.0)
        for number, place in enumerate(columns.numbers):
            if place is not None:
                values[:, number] = frame[place].to_numpy()
        if begun.fixed is not None:
            times = self._times_of(begun.fixed)
        else:
            times = self._times.read(*(frame[place].tolist() for place in columns.times))
        symbols = () if columns.symbol is None else frame[columns.symbol].unique()
        lines = np.arange(block.first_line, block.first_line + len(begins))
        return _Cells(lines, times, values, frozenset(symbols), block.raw)

    def _frame(self, raw: bytes, kinds: dict[Any, Any], *, has_spaces: bool) -> pd.DataFrame | None:
        """Some columns by their places; None: a cell is not of its kind."""
        try:
            return pd.read_csv(
                io.BytesIO(raw),
                header=None,
                names=list(range(self._columns.width)),
                usecols=sorted(kinds),
                dtype=kinds,
                sep=self._dialect.separator,
                decimal=self._dialect.decimal,
                na_filter=False,
                skip_blank_lines=False,
                index_col=False,
                skipinitialspace=has_spaces,
                low_memory=False,
                engine="c",
            )
        except (ValueError, OverflowError, pd.errors.ParserError):
            return None

    def _fixed_cells(self, raw: bytes, begins: Int64Array) -> NDArray[np.uint8] | None:
        """The bytes of the times, a row each, if they are the first cells and of one form."""
        cells = None
        if self._columns.times == (0,):
            cells = first_cells(raw, begins, self._dialect.separator)
        if cells is None or not is_time(model := _text_of(cells[0])):
            return None
        if is_epoch(model):
            are_digits = bool(((cells >= _ZERO) & (cells <= _NINE)).all())
            return cells if are_digits and len(model) < _LONGEST_EPOCH else None
        return cells if date_length(model) else None

    def _times_of(self, cells: NDArray[np.uint8]) -> Times:
        model = _text_of(cells[0])
        if is_epoch(model):
            places = 10 ** np.arange(len(model) - 1, -1, -1)
            return self._times.read_epochs((cells - _ZERO).astype(np.int64) @ places)
        date = date_length(model)
        return self._times.read_texts(fixed_texts(cells[:, :date]), fixed_texts(cells[:, date:]))

    def _one_by_one(self, block: Block, refused: list[Refused]) -> _Cells:
        numbers, times, values, symbols, kept = [], [], [], set(), []
        columns = self._columns
        for number, raw in enumerate(_lines_of(block.raw), block.first_line):
            text = raw.decode(errors="replace").strip("\r\n\ufeff")
            if not text.strip():
                continue
            try:
                cells = self._cells(text)
                row = [self._value(cells, place) for place in columns.numbers]
            except ValueError as error:
                refused.append(Refused(number, text[:_MOST_TEXT], str(error)))
                continue
            numbers.append(number)
            times.append([cells[place] for place in columns.times])
            values.append(row)
            kept.append(raw)
            if columns.symbol is not None:
                symbols.add(cells[columns.symbol])
        return _Cells(
            np.array(numbers, np.int64),
            self._times.read(*(zip(*times, strict=True) if times else [[]] * len(columns.times))),
            np.array(values, np.float64).reshape(-1, len(columns.numbers)),
            frozenset(symbols),
            b"\n".join([*kept, b""]),
        )

    def _cells(self, text: str) -> list[str]:
        """ValueError: they are not as many as there are columns."""
        cells, width = self._dialect.cells(text), self._columns.width
        if len(cells) > width and not any(map(str.strip, cells[width:])):
            del cells[width:]
        if len(cells) != width:
            if tuple(map(str.strip, cells)) == self._columns.names:
                raise ValueError("the header again")
            raise ValueError(f"{len(cells)} cells, expected {width}")
        return cells

    def _value(self, cells: Sequence[str], place: int | None) -> float:
        if place is None:
            return -1.0
        if not cells[place].strip():
            raise ValueError(f"{self._columns.names[place]} is empty")
        unit = _UNITS.get(cells[place].strip()[-1].upper())
        if unit is not None and place == self._columns.numbers[-1]:  # `45.99M`
            number = self._dialect.number(cells[place].strip()[:-1])
            return float(Decimal(str(number)).scaleb(unit))
        return self._dialect.number(cells[place])

    def _matrix(self, cells: _Cells, refused: list[Refused]) -> Matrix:
        """The rows whose time can be read and whose prices are possible."""
        times, values = cells.times, cells.numbers
        if self._columns.divisor != 1:
            values = values.copy()
            values[:, :4] /= self._columns.divisor
        sound = are_sound(values) & (values[:, 2] != 0) if len(values) else np.zeros(0, np.bool_)
        good = times.are_good & sound
        raw = [] if good.all() else _lines_of(cells.raw)
        for row in np.flatnonzero(~good).tolist():
            text = raw[row].decode(errors="replace").strip("\r\n\ufeff")
            why = _why_unsound(values[row]) if times.are_good[row] else self._why_no_time(text)
            refused.append(Refused(int(cells.lines[row]), text[:_MOST_TEXT], why))
        matrix = np.empty((len(good), WIDTH))
        for place, part in enumerate((cells.lines, times.clocks, times.offsets, *values.T)):
            matrix[:, place] = part
        return matrix if good.all() else matrix[good]

    def _why_no_time(self, text: str) -> str:
        cells = self._cells(text)
        return f"no time: {' '.join(cells[place].strip() for place in self._columns.times)!r}"


def _text_of(cell: NDArray[np.uint8]) -> str:
    return cell.tobytes().decode(errors="replace")


def utc_of(matrix: Matrix) -> Int64Array:
    """The times of rows in UTC seconds; those without an offset as if they were UTC."""
    clocks, offsets = matrix[:, CLOCK], matrix[:, OFFSET]
    times: Int64Array = (clocks - np.where(offsets == NO_OFFSET, 0, offsets)).astype(np.int64)
    return times


def _why_unsound(values: NDArray[np.float64]) -> str:
    first, high, low, close, volume = values.tolist()
    if not np.isfinite(values).all():
        return "a number is too large"
    if 0 in (first, high, low, close) and min(first, high, low, close) >= 0:
        return "a price is 0"
    if volume < 0 and volume != -1:
        return f"the volume is {volume:g}"
    if high < max(first, low, close):
        return "its high is not its highest price"
    return "its low is not its lowest price" if low > min(first, close) else "a number is too large"


def _form_of(raw: bytes, separator: str, width: int) -> _Form | None:
    """Where its lines begin, if each has as many separators as it should; else None."""
    text = np.frombuffer(raw, np.uint8)
    marks = ((text == _NEWLINE) | (text == ord(separator))).nonzero()[0]
    if width < 2 or len(marks) % width:
        return None
    are_ends = (text[marks] == _NEWLINE).reshape(-1, width)
    if are_ends[:, :-1].any() or not are_ends[:, -1].all():
        return None
    begins = np.concatenate([[0], marks[width - 1 : -1 : width] + 1])
    has_spaces = bool((text[marks[:-1] + 1] == _SPACE).any())
    return _Form(begins, has_spaces=has_spaces)


def _lines_of(raw: bytes) -> list[bytes]:
    return raw.split(b"\n")[:-1]


def _halves(block: Block) -> list[Block]:
    middle = block.raw.index(b"\n", len(block.raw) // 2) + 1
    if middle == len(block.raw):
        middle = block.raw.rindex(b"\n", 0, len(block.raw) // 2) + 1
    first, second = block.raw[:middle], block.raw[middle:]
    return [Block(block.first_line, first), Block(block.first_line + first.count(b"\n"), second)]
