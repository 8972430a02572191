"""The printing of commands: tables and colours in a terminal, else plain lines. Nothing is cut.

Control characters in texts have no effect.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from shutil import get_terminal_size

import typer

from ktrdr.errors import KtrdrError
from ktrdr.escapes import visible, visible_lines

_FEW_WORDS = 24


def is_terminal() -> bool:
    """Whether standard output is a terminal."""
    return sys.stdout.isatty()


def has_colors() -> bool:
    """Whether standard output shows colours: a terminal, and the user does not object."""
    is_dumb = os.environ.get("TERM") == "dumb"
    return is_terminal() and not is_dumb and not os.environ.get("NO_COLOR")


def show_line(text: str, mark: str = "", color: str = "") -> None:
    """Print a line, or several, with a mark or word in a colour before it."""
    if not mark:
        typer.echo(visible_lines(text))
        return
    shown = visible(mark)
    typer.echo(f"{typer.style(shown, fg=color) if has_colors() else shown} {visible_lines(text)}")


def note(text: str) -> None:
    """Print a line on standard error."""
    typer.echo(visible_lines(text), err=True)


def show_next(hint: str, margin: str = "", *, on_error: bool = False) -> None:
    """Print the next step; its further lines, to be pasted, are indented below the first."""
    if hint:
        lines = f"{margin}next: " + hint.replace("\n", f"\n{margin}      ")
        typer.echo(visible_lines(lines), err=on_error)


def show_error(error: KtrdrError, what: str = "") -> None:
    """Print an error, of this thing, and the next step, on standard error."""
    note(f"ktrdr: {f'{what}: ' if what else ''}{error.message}")
    show_next(error.hint, on_error=True)


def show_json(content: object) -> None:
    """Print JSON, uncut and in ASCII."""
    typer.echo(json.dumps(content, indent=2, ensure_ascii=True))


def show_rows(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; without a terminal a line each, with tabs between the columns.

    In a terminal the widest column is wrapped; if the others alone do not fit, each row is shown
    as lines of their own.
    """
    if not is_terminal():
        for row in (columns, *rows):
            typer.echo("\t".join(visible(cell.replace("\n", " ")) for cell in row))
    elif _others_fit(columns, rows):
        _show_table(columns, rows)
    else:
        _show_records(columns, rows)


def _others_fit(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether all columns but the widest one fit into the terminal, and a few words of that."""
    widths = sorted(max(map(len, column)) for column in zip(columns, *rows, strict=True))
    gaps = 2 * (len(widths) - 1)
    return sum(widths[:-1]) + min(widths[-1], _FEW_WORDS) + gaps <= get_terminal_size().columns


def _show_records(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    for row in rows:
        typer.echo(visible_lines(row[0]))
        for column, cell in zip(columns[1:], row[1:], strict=True):
            if cell:
                typer.echo(f"  {visible(column)}: {visible_lines(cell)}")


def _show_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box  # noqa: PLC0415  # rich takes a while, and only a terminal needs it
    from rich.console import Console  # noqa: PLC0415  # as above
    from rich.table import Table  # noqa: PLC0415  # as above
    from rich.text import Text  # noqa: PLC0415  # as above

    widest = max(
        zip(columns, *rows, strict=True), key=lambda column: max(len(cell) for cell in column)
    )[0]
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in columns:
        table.add_column(Text(column), overflow="fold", no_wrap=column != widest)
    for row in rows:
        table.add_row(*(Text(visible_lines(cell), overflow="fold") for cell in row))
    Console(no_color=not has_colors()).print(table)
