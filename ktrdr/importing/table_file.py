"""A file with a table of bars: how its lines are read, and the reading of all of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

from ktrdr.errors import MalformedFile
from ktrdr.importing.columns import CHOICES, Columns, Stamp, dates_need_order, find_table, is_header
from ktrdr.importing.dialect import SEPARATORS, Dialect, decimal_of, is_number, is_row, separator_of
from ktrdr.importing.rows import Block, Parsed, Refused, RowParser
from ktrdr.importing.spool import Spool
from ktrdr.importing.text_blocks import blocks
from ktrdr.importing.time_cells import DateOrder, TimeReader, order_shown

_HEAD_LINES = 60
_FIRST_LINES = 1_000
_MOST_LISTED = 100_000
_SHORT_YEAR = re.compile(r"(?<!\d)\d{1,2}([-/.])(?:\d{1,2}|[A-Za-z]{3})\1\d\d(?!\d)", re.ASCII)
_GERMAN_DATE = re.compile(r"\d{1,2}\.\d{1,2}\.\d{4}", re.ASCII)
_THIRTY_SECONDS = re.compile(r"\d{2,3}'\d{3}", re.ASCII)
_QUOTE = ord('"')
_LEAST_NUMBERS = 4
_FEW_REFUSED, _REFUSED_SHARE = 10, 0.05
_DECIMALS = {"point": ".", "comma": ","}


@dataclass
class ReadRows:
    """What was read of a file, apart from its rows."""

    lines: int = 0
    """Those with content, behind the header."""
    refused: list[Refused] = field(default_factory=list)
    symbols: set[str] = field(default_factory=set)
    zone: str = ""
    """The name of the zone that the times say."""
    ends: int = 0
    """How many times show the last moment of a bar, such as `09:30:59.999`."""


@dataclass(frozen=True)
class TableFile:
    """A file whose table is understood, but not yet what its times mean."""

    path: Path
    columns: Columns
    dialect: Dialect
    first_line: int
    """That of the first row, from 1."""
    date_order: DateOrder | None
    ignores_zones: bool = False
    """What its times say of their zone counts as not said."""

    def first_rows(self) -> Parsed:
        """The rows of its first lines."""
        parser = RowParser(self.columns, self.dialect, self._time_reader())
        for block in _from_line(blocks(self.path), self.first_line):
            lines = block.raw.split(b"\n", _FIRST_LINES)[:_FIRST_LINES]
            first = Block(block.first_line, b"\n".join([*filter(None, lines), b""]))
            return next(parser.parse([first]))
        return next(parser.parse([Block(self.first_line, b"")]))

    def read(self, spool: Spool, progress: Callable[[int], None]) -> ReadRows:
        """Read all rows into the spool. MalformedFile: too many lines are none."""
        found = ReadRows()
        times = self._time_reader()
        parser = RowParser(self.columns, self.dialect, times)
        pieces = _from_line(blocks(self.path, progress), self.first_line)
        for parsed in parser.parse(pieces):
            spool.add(parsed.matrix)
            found.lines += parsed.lines
            found.symbols |= parsed.symbols
            found.refused += parsed.refused
            found.ends += parsed.ends
            self._refuse_if_many(found, _MOST_LISTED)
        found.zone = times.zone
        self._refuse_if_many(found, _FEW_REFUSED)
        if not spool.count:
            what = f"{self.path.name}: it has no row that can be read"
            raise MalformedFile(what, hint=self._hint_on(found.refused))
        return found

    def _time_reader(self) -> TimeReader:
        has_ends = self.columns.stamp is Stamp.END
        return TimeReader(self.date_order, has_ends=has_ends, ignores_zones=self.ignores_zones)

    def _refuse_if_many(self, found: ReadRows, few: int) -> None:
        count = len(found.refused)
        if count > max(few, _REFUSED_SHARE * found.lines):
            what = f"{self.path.name}: {count:,} of {found.lines:,} lines cannot be read"
            raise MalformedFile(what, hint=self._hint_on(found.refused))

    def _hint_on(self, refused: Sequence[Refused]) -> str:
        """What to do about these lines; the first one is shown."""
        shown, why = _first_of(refused), refused[0].why if refused else ""
        volume = self.columns.numbers[-1]
        if volume is not None and why == f"{self.columns.names[volume]} is empty":
            return f"if it has no volumes: --columns volume=none; else {shown}"
        is_plain = self.columns.names[0] == "1" and self.columns.numbers == (1, 2, 3, 4, 5)
        if is_plain and why.endswith("price"):
            order = "time=1,low=2,high=3,open=4,close=5,volume=6"
            what = f"if its columns are in another order, as Coinbase's: --columns {order}"
            return f"{what}; else {shown}"
        return shown


def _first_of(refused: Sequence[Refused]) -> str:
    """A hint that shows the first of these lines."""
    if not refused:
        return "see whether it is the right file"
    first = refused[0]
    return (
        f"correct them in a copy, and import that; line {first.line}: {first.why}: {first.text!r}"
    )


def table_at(path: Path, chosen: Mapping[str, str]) -> TableFile:
    """The file at this path. `chosen`: what a person says of its columns.

    MalformedFile, InvalidRequest: what cannot be understood, and what to do.
    """
    name, lines = path.name, _head(path)
    roles = {role: title for role, title in chosen.items() if role not in CHOICES}
    separator = separator_of(lines)
    if not separator and (short := next(filter(None, map(_SHORT_YEAR.search, lines)), None)):
        what = f"{name}: the year of {short[0]!r} has two digits"
        raise MalformedFile(what, hint="write years with four digits in a copy, and import that")
    if not separator and _is_header_alone(lines):
        what = f"{name}: it has a header, and no rows"
        raise MalformedFile(what, hint="leave it out, or fetch it again")
    if not separator:
        raise _no_row(name, lines)
    rows = [_cells(Dialect(separator), line) for line in lines]
    columns, first = find_table(name, rows, roles)
    models = [cells for cells in rows[first:] if len(cells) >= columns.width and is_row(cells)]
    decimal = _decimal(path, columns, Dialect(separator), models, chosen.get("decimal", ""))
    dialect = Dialect(separator, decimal)
    order = DateOrder(chosen["dates"]) if "dates" in chosen else None
    if order is None and dates_need_order(columns, models):
        order = _order(path, columns, dialect)
    ignores_zones = "offsets" in chosen
    if ignores_zones:
        columns = replace(columns, zone="")
    return TableFile(path, columns, dialect, first + 1, order, ignores_zones)


def _no_row(name: str, lines: Sequence[str]) -> MalformedFile:
    """That no line is a row: if some have numbers enough, their times are not understood."""
    dialects = [Dialect(one) for one in SEPARATORS]
    rows = [_cells(dialect, line) for line in lines for dialect in dialects]
    first = next((cells for cells in rows if sum(map(is_number, cells)) >= _LEAST_NUMBERS), None)
    if first is None:
        hint = "is it a file with bars? Its columns are separated by ',', ';', '|' or tabs"
        return MalformedFile(f"{name}: no line has a time and four prices", hint=hint)
    time = next((cell for cell in first if cell.strip() and not is_number(cell)), first[0])
    what = f"{name}: no line has a time that is understood, such as the one with {time!r}"
    hint = "write times as 2026-11-24 09:30 in a copy, and import that"
    return MalformedFile(what, hint=hint)


def _head(path: Path) -> list[str]:
    """The first lines."""
    for block in blocks(path):
        lines = block.raw.split(b"\n", _HEAD_LINES)[:_HEAD_LINES]
        return [line.decode(errors="replace").strip("\r\n\ufeff") for line in lines]
    hint = "fetch it again, or leave it out"
    raise MalformedFile(f"{path.name}: it is empty", hint=hint)


def _is_header_alone(lines: Sequence[str]) -> bool:
    """Whether the last line with content is a header."""
    last = next((line for line in reversed(lines) if line.strip()), "")
    return any(is_header(_cells(Dialect(one), last)) for one in SEPARATORS)


def _cells(dialect: Dialect, line: str) -> list[str]:
    try:
        return dialect.cells(line)
    except ValueError:
        return []


def _decimal(
    path: Path, columns: Columns, plain: Dialect, models: Sequence[Sequence[str]], given: str
) -> str:
    """The decimal sign, by the first rows; if these have none, by all. MalformedFile: unclear."""
    name, places = path.name, [place for place in columns.numbers if place is not None]
    _refuse_thirty_seconds(name, [cells[at].strip() for cells in models for at in places[:4]])
    if given:
        return _DECIMALS[given]
    dates = [cells[columns.times[0]].strip() for cells in models]
    has_commas = plain.separator == ";" or (
        plain.separator != "," and any(map(_GERMAN_DATE.match, dates))
    )
    try:
        numbers: Iterable[str] = [cells[place] for cells in models for place in places]
        found = ""
        if any(mark in cell for cell in numbers for mark in ",."):
            found = decimal_of(numbers, has_commas=has_commas)
        if not found:
            later = _rows_with_marks(path, plain, columns.width)
            numbers = (cells[place] for cells in later for place in places)
            found = decimal_of(numbers, has_commas=has_commas)
    except ValueError as error:
        hint = "say which: --columns decimal=point, or decimal=comma"
        raise MalformedFile(f"{name}: {error}", hint=hint) from None
    if not found:
        what = f"{name}: it is not clear whether ',' or '.' in its numbers is the decimal sign"
        raise MalformedFile(what, hint="say it: --columns decimal=comma, or decimal=point")
    return found


def _refuse_thirty_seconds(name: str, prices: Sequence[str]) -> None:
    """MalformedFile: all prices are such as `112'165`, of bonds or with thousands."""
    if prices and all(map(_THIRTY_SECONDS.fullmatch, prices)):
        what = f"{name}: {prices[0]!r} may be a price in 32nds, or be above a thousand"
        raise MalformedFile(what, hint="write decimal numbers in a copy, and import that")


def _rows_with_marks(path: Path, plain: Dialect, width: int) -> Iterator[list[str]]:
    """The cells of all lines that are rows, and have a comma or a point in a cell."""
    marks = b"." if plain.separator == "," else b".,"
    for block in blocks(path):
        if not any(mark in block.raw for mark in (*marks, _QUOTE)):
            continue
        for line in block.raw.decode(errors="replace").split("\n"):
            cells = _cells(plain, line)
            if len(cells) >= width and is_row(cells):
                yield cells


def _order(path: Path, columns: Columns, dialect: Dialect) -> DateOrder:
    """Which number of its dates is the day, by the first date that shows it. MalformedFile."""
    dates = chain.from_iterable(
        (
            cells[columns.times[0]]
            for line in block.raw.decode(errors="replace").split("\n")
            if len(cells := _cells(dialect, line)) >= columns.width and is_row(cells)
        )
        for block in blocks(path)
    )
    found = order_shown(dates)
    if found is None:
        what = f"{path.name}: its dates may have the day first, or the month"
        hint = "say which: --columns dates=day-first, or dates=month-first"
        raise MalformedFile(what, hint=hint)
    return found


def _from_line(pieces: Iterator[Block], first: int) -> Iterator[Block]:
    """The blocks from a line on."""
    for block in pieces:
        skipped = first - block.first_line
        if skipped <= 0:
            yield block
            continue
        parts = block.raw.split(b"\n", skipped)
        if len(parts) > skipped and parts[skipped]:
            yield Block(first, parts[skipped])
