"""How the cells of a text are separated, and how its numbers are spelled. Opens no file."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ktrdr.importing.time_cells import is_time

SEPARATORS = (",", ";", "\t", "|")
"""What may be between the cells of a line."""
_LEAST_NUMBERS = 4
_NUMBER = re.compile(
    r"[$€£]?[+-]?(?:\d{1,3}(?:([,.' \u00a0])\d{3})(?:\1\d{3})*|\d*)"
    r"(?:([.,])\d*)?(?:[eE][+-]?\d{1,3})?",
    re.ASCII,
)
_ONE_GROUP = re.compile(r"[+-]?[1-9]\d{0,2}([,.])\d{3}", re.ASCII)
"""`1,234`: a thousand and more, or a number and three decimals."""
_PLAIN = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)


class Dialect(NamedTuple):
    """How a file is spelled."""

    separator: str = ","
    decimal: str = "."

    @property
    def shown(self) -> str:
        """In words."""
        names = {",": "','", ";": "';'", "\t": "tab", "|": "'|'"}
        return f"separator {names[self.separator]}, decimal '{self.decimal}'"

    def cells(self, line: str) -> list[str]:
        """The cells of a line, without quotes. ValueError: its quotes do not match."""
        try:
            rows = list(
                csv.reader([line], delimiter=self.separator, skipinitialspace=True, strict=True)
            )
        except csv.Error as error:
            raise ValueError(str(error)) from None
        return rows[0] if rows else []

    def number(self, cell: str) -> float:
        """The number in a cell, with thousands or not. ValueError: it is none."""
        text = cell.strip().lstrip("$€£")
        if self.decimal == "." and _PLAIN.fullmatch(text):
            return float(text)
        other = "." if self.decimal == "," else ","
        whole, point, fraction = text.partition(self.decimal)
        groups = re.fullmatch(
            rf"([+-]?\d{{1,3}})(?:([{other}' \u00a0])\d{{3}}(?:\2\d{{3}})*)?", whole
        )
        plain = re.sub(rf"[{other}' \u00a0]", "", whole) if groups else whole
        text = plain + ("." + fraction if point else "")
        if not _PLAIN.fullmatch(text):
            raise ValueError(f"no number: {cell.strip()!r}")
        return float(text)


def is_number(cell: str) -> bool:
    """Whether a cell is a number in any spelling."""
    text = cell.strip()
    return any(map(str.isdigit, text)) and _NUMBER.fullmatch(text) is not None


def is_row(cells: Sequence[str]) -> bool:
    """Whether these are the cells of a bar: a time, and numbers behind it."""
    times = [place for place, cell in enumerate(cells) if is_time(cell)]
    numbers = sum(map(is_number, cells[times[0] + 1 :])) if times else 0
    numbers += sum(map(is_number, cells[: times[0]])) if times else 0
    return numbers >= _LEAST_NUMBERS


def separator_of(lines: Sequence[str]) -> str:
    """What separates the cells in most of these lines that are rows; empty: none are."""
    counts = {one: _rows(lines, Dialect(one)) for one in SEPARATORS}
    best = max(counts, key=lambda one: counts[one])
    return best if counts[best] else ""


def _rows(lines: Iterable[str], dialect: Dialect) -> int:
    count = 0
    for line in lines:
        try:
            count += is_row(dialect.cells(line))
        except ValueError:
            continue
    return count


def decimal_of(cells: Iterable[str], *, has_commas: bool = False) -> str:
    """The decimal sign of numbers; empty: they do not show whether `1,234` is above a thousand.

    `has_commas`: the rest of the file has the habits of where the comma is the decimal sign; then
    that goes for `1.234` too. ValueError: some have a point for it, and others a comma.
    """
    shown: set[str] = set()
    unclear = ",." if has_commas else ","
    may_be_comma = False
    for cell in cells:
        text = cell.strip().lstrip("$€£")
        marks = [mark for mark in text if mark in ",."]
        if not marks:
            continue
        if len(set(marks)) > 1:
            shown.add(marks[-1])
        elif len(marks) > 1:
            shown.add("." if marks[0] == "," else ",")
        elif not _ONE_GROUP.fullmatch(text):
            shown.add(marks[0])
        else:
            may_be_comma |= marks[0] in unclear
    if len(shown) > 1:
        raise ValueError("some numbers have a decimal point, and others a decimal comma")
    return shown.pop() if shown else "" if may_be_comma else "."
