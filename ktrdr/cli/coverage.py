"""`ktrdr coverage`: the state of each trading day of each series, as a heat map in a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, timedelta
from shutil import get_terminal_size
from typing import Annotated

import typer

from ktrdr.cli.arguments import AsJson, OnlySymbol, OnlyTimeframe
from ktrdr.cli.group import gap_filler_of, settings_of_group, warn_if_simulated
from ktrdr.cli.half_blocks import COLORS, OUTSIDE, cells, counts
from ktrdr.cli.nearest import checked_timeframe, chosen_of
from ktrdr.cli.output import has_colors, is_terminal, show_json, show_rows
from ktrdr.escapes import visible
from ktrdr.ipc.codec import to_json
from ktrdr.ipc.series_messages import CoverageGrid, GridRow
from ktrdr.market.instruments import Series
from ktrdr.market.timeframes import Timeframe

_TROUBLES = ("failed", "refused", "waiting", "filling")
_BY_FILE = ("not_understood", "incomplete_row")
"""States of series that say more than the days do, which are called failed."""
_MARGIN = 2
_FEWEST = 14
"""Fewer days than two weeks are not worth drawing."""


def coverage(
    symbol: OnlySymbol = None,
    timeframe: OnlyTimeframe = None,
    *,
    first: Annotated[
        str | None, typer.Option("--from", help="The first day; else a year ago.")
    ] = None,
    last: Annotated[str | None, typer.Option("--to", help="The last day; else the newest.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show the state of each trading day of each series, as a heat map.

    Two days are one character, the earlier one above. As many days are drawn as fit, the newest.
    Without a terminal: a line each day.

    Example: ktrdr coverage AAPL

    Example: ktrdr coverage --from 2026-11-01 --to 2026-11-20
    """
    timeframe = checked_timeframe(timeframe)
    gap_filler = gap_filler_of(settings_of_group())
    warn_if_simulated(gap_filler.get("/status").get("source"))
    span = {name: day for name, day in (("from", first), ("to", last)) if day}
    grid = gap_filler.request(CoverageGrid, "GET", "/grid", 5.0, **span)
    grid = _chosen(grid, symbol, timeframe)
    if as_json:
        show_json(to_json(grid))
    elif is_terminal():
        for line in heat_map(grid, get_terminal_size().columns, in_color=has_colors()):
            typer.echo(line)
    else:
        show_rows(("series", "day", "state"), [*_rows(grid)])


def _chosen(grid: CoverageGrid, symbol: str | None, timeframe: str | None) -> CoverageGrid:
    """The rows of this symbol and timeframe. UnknownSeries: there are none."""
    rows = {Series(one.symbol, Timeframe.parse(one.timeframe)): one for one in grid.series}
    chosen = chosen_of(rows, "the gap filler", symbol, timeframe)
    return replace(grid, series=[row for series, row in rows.items() if series in chosen])


def _rows(grid: CoverageGrid) -> Iterator[tuple[str, str, str]]:
    """Each day of each series, except those outside of what is kept."""
    first = date.fromisoformat(grid.first)
    for one in grid.series:
        for number, character in enumerate(one.row):
            if character != OUTSIDE:
                day = f"{first + timedelta(number)}"
                state = grid.legend.get(character, character)
                yield f"{one.symbol}_{one.timeframe}", day, state


def heat_map(grid: CoverageGrid, columns: int, *, in_color: bool) -> Iterator[str]:
    """The lines of the map, `columns` wide: colours, or else the legend's characters."""
    names = [visible(f"{one.symbol} {one.timeframe}") for one in grid.series]
    troubles = [(c, state) for state in _TROUBLES for c, s in grid.legend.items() if s == state]
    notes = [_note(one, troubles) for one in grid.series]
    name_width, note_width = max(map(len, names), default=0), max(map(len, notes), default=0)
    room = max(columns - name_width - note_width - 2 * _MARGIN, _FEWEST)
    outside = min((len(one.row) - len(one.row.lstrip(OUTSIDE)) for one in grid.series), default=0)
    days = max(1, min(grid.days - outside, room * 2 if in_color else room))
    width = -(-days // 2) if in_color else days
    yield _dates(grid, days, width, name_width)
    for one, name, said in zip(grid.series, names, notes, strict=True):
        row = one.row[-days:]
        drawn = "".join(_drawn(row)) if in_color else row
        yield f"{name:{name_width}}  {drawn}  {said}"
    yield _legend(grid.legend, in_color=in_color)


def _note(one: GridRow, troubles: Sequence[tuple[str, str]]) -> str:
    """What is said of a series beside its days."""
    said = "" if one.state in _BY_FILE else ", ".join(counts(one.row, troubles))
    return said or one.state.replace("_", " ")


def _drawn(row: str) -> Iterator[str]:
    for character, color, behind in cells(row):
        yield typer.style(character, fg=color, bg=behind) if color else character


def _dates(grid: CoverageGrid, days: int, width: int, name_width: int) -> str:
    """The first and the last day above the columns."""
    last = date.fromisoformat(grid.first) + timedelta(grid.days - 1)
    first, end = f"{last - timedelta(days - 1)}", f"{last}"
    return f"{'':{name_width}}  {first}{end:>{max(width - len(first), len(end) + 1)}}"


def _legend(legend: Mapping[str, str], *, in_color: bool) -> str:
    parts = []
    for character, state in legend.items():
        if character == OUTSIDE:
            continue
        mark = typer.style("█", fg=COLORS.get(character, "white")) if in_color else character
        parts.append(f"{mark} {state.replace('_', ' ')}")
    return "  ".join(parts)
