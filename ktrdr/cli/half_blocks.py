"""A heat map of text: a row a series, two trading days a character, in colour. Values only."""

from __future__ import annotations

from collections.abc import Sequence

OUTSIDE = " "
COLORS = {
    "c": "green",
    "n": "cyan",
    "f": "blue",
    "w": "yellow",
    "x": "magenta",
    "!": "red",
    ".": "bright_black",
}
"""Character of a day, as in the grid's legend → colour; others are white."""

Cell = tuple[str, str | None, str | None]
"""A character, its colour, and the colour behind it."""


def cells(row: str) -> list[Cell]:
    """Two days a cell, the earlier one above; a row of an odd length begins with one day alone."""
    padded = OUTSIDE * (len(row) % 2) + row
    return [_cell(upper, lower) for upper, lower in zip(padded[::2], padded[1::2], strict=True)]


def _cell(upper: str, lower: str) -> Cell:
    above, below = _color(upper), _color(lower)
    if above is None:
        return (" ", None, None) if below is None else ("▄", below, None)
    return "▀", above, below


def _color(day: str) -> str | None:
    return None if day == OUTSIDE else COLORS.get(day, "white")


def counts(row: str, legend: Sequence[tuple[str, str]]) -> list[str]:
    """How many days of a row are in each of these states, in words: `3 failed`."""
    return [f"{n} {words}" for character, words in legend if (n := row.count(character))]
