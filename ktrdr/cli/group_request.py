"""A command's requests to the running group: how it gets its peers, and how errors are shown."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Sequence

import typer

from ktrdr.cli.terminal import Terminal
from ktrdr.config.running_group import settings_to_read_with
from ktrdr.errors import InvalidRequest, KtrdrError, PeerDown
from ktrdr.escapes import visible
from ktrdr.health.peers import Peers

REFUSED, USAGE, DOWN = 1, 2, 3
"""Exit codes: something was refused, the words are wrong, a program does not answer."""

out = Terminal()
_err = Terminal(stderr=True)


@contextlib.contextmanager
def peers_of_group() -> Iterator[Peers]:
    """The peers of the running group; a KtrdrError ends the command with its next step.

    The exit code is USAGE if the request itself is wrong, DOWN if a program does not answer, else
    REFUSED.
    """
    try:
        settings, note = settings_to_read_with(reads_bars=False)
        if note:
            _line(_err, f"ktrdr: {note}")
        yield Peers(settings)
    except KtrdrError as error:
        show_error(error)
        kinds = ((InvalidRequest, USAGE), (PeerDown, DOWN))
        sys.exit(next((code for kind, code in kinds if isinstance(error, kind)), REFUSED))


def show_error(error: KtrdrError, what: str = "") -> None:
    """Show an error, of this thing, and the next step, on standard error."""
    _line(_err, f"ktrdr: {f'{what}: ' if what else ''}{error.message}")
    show_hint(error.hint, on=_err)


def show_hint(hint: str, on: Terminal | None = None) -> None:
    """Show the next step; its further lines, to be pasted, are indented below the first."""
    if hint:
        _line(on or out, "next: " + hint.replace("\n", "\n      "))


def show_line(text: str) -> None:
    """Show one line, uncut."""
    _line(out, text)


def show_json(content: object) -> None:
    """Show JSON, uncut and in ASCII."""
    typer.echo(json.dumps(content, indent=2, ensure_ascii=True))


def show_rows(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Show a table in columns; without a terminal a line each, with tabs between the columns."""
    if not out.is_terminal:
        for row in (columns, *rows):
            typer.echo("\t".join(map(visible, row)))
        return
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    for row in (columns, *rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        show_line("  ".join(cells).rstrip())


def _line(on: Terminal, text: str) -> None:
    on.print(text, markup=False, highlight=False, soft_wrap=True)
