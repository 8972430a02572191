"""`ktrdr logs`: the last lines of the programs' logs, and those that come."""

from __future__ import annotations

import contextlib
import json
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from ktrdr.cli.arguments import AsJson
from ktrdr.cli.exit_codes import ExitCode
from ktrdr.cli.log_files import LogFile
from ktrdr.cli.log_lines import LEVELS, Reader, Wanted, text_of
from ktrdr.cli.nearest import nearest_word
from ktrdr.cli.output import note, show_json
from ktrdr.config.settings import ROOT
from ktrdr.errors import InvalidRequest
from ktrdr.escapes import visible
from ktrdr.health.programs import NAMES

_POLL_S = 0.25
_MOST = 100_000


def complete_program(incomplete: str) -> list[str]:
    """The programs whose names begin so."""
    return [name for name in NAMES if name.startswith(incomplete)]


def logs(
    program: Annotated[
        str | None,
        typer.Argument(
            help=f"One of {', '.join(NAMES)}; else all, by time.",
            show_default=False,
            autocompletion=complete_program,
        ),
    ] = None,
    *,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with new lines, until Ctrl-C.")
    ] = False,
    level: Annotated[str, typer.Option(help=f"At least this one: {' '.join(LEVELS)}.")] = "debug",
    grep: Annotated[str, typer.Option(help="Only lines in which this pattern is found.")] = "",
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, max=_MOST, help="How many.")] = 50,
    folder: Annotated[Path, typer.Option(help="Where the logs are.", show_default="var/log")] = ROOT
    / "var/log",
    as_json: AsJson = False,
) -> None:
    """Show the last lines of the programs' logs, and with -f those that come.

    A traceback belongs to the line before it. Patterns are regular expressions of Python.

    Example: ktrdr logs gap-filler -f

    Example: ktrdr logs --level warning --grep "AAPL|MSFT" --lines 200
    """
    names = NAMES if program is None else (nearest_word(program, NAMES, "program"),)
    wanted = Wanted(nearest_word(level.lower(), LEVELS, "--level"), _pattern(grep))
    view = _View(is_one=program is not None, as_json=as_json)
    with contextlib.ExitStack() as stack:
        logs_read = {name: (LogFile(folder / f"{name}.log"), Reader(wanted)) for name in names}
        for file, _ in logs_read.values():
            stack.callback(file.close)
        found = {name: _kept(*one) for name, one in logs_read.items()}
        if as_json and not follow:
            show_json(_as_json(folder, found, lines, is_one=view.is_one))
            return
        _show(found, lines, view)
        if follow:
            _follow(logs_read, view)


@dataclass(frozen=True)
class _View:
    """How lines are shown."""

    is_one: bool
    """They are of one program, whose name is not shown before each."""
    as_json: bool

    def show(self, name: str, text: str) -> None:
        """Print a line."""
        if self.as_json:
            typer.echo(json.dumps({"program": name, "line": visible(text)}))
        else:
            typer.echo(visible(text) if self.is_one else f"{name:<13} {visible(text)}")


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise InvalidRequest(f"--grep {text!r}: {error}") from None


Kept = tuple[list[tuple[str, str]], str]
"""The wanted lines of a log with the time of each, and why there are none; else empty."""


def _kept(file: LogFile, reader: Reader) -> Kept:
    texts = map(text_of, file.last_lines())
    kept = [(reader.time, text) for text in texts if reader.takes(text)]
    return kept, "" if kept else file.reason or "it has no such lines"


def _as_json(folder: Path, found: dict[str, Kept], lines: int, *, is_one: bool) -> object:
    """The same as the status API's log of a program; of several by name."""
    by_name = {
        name: {
            "file": f"{folder / f'{name}.log'}",
            "lines": [visible(text) for _, text in kept[len(kept) - min(lines, len(kept)) :]],
            "reason": reason or None,
        }
        for name, (kept, reason) in found.items()
    }
    return next(iter(by_name.values())) if is_one else by_name


def _show(found: Mapping[str, Kept], lines: int, view: _View) -> None:
    """The last lines of all logs, by time; those of one log stay in its order."""
    every = [(at, name, text) for name, (kept, _) in found.items() for at, text in kept]
    every.sort(key=lambda line: line[0])
    for _, name, text in every[len(every) - min(lines, len(every)) :]:
        view.show(name, text)
    if not every:
        note("; ".join(f"{name}: {reason}" for name, (_, reason) in found.items()))


def _follow(logs_read: Mapping[str, tuple[LogFile, Reader]], view: _View) -> NoReturn:
    try:
        while True:
            for name, (file, reader) in logs_read.items():
                for text in map(text_of, file.new_lines()):
                    if reader.takes(text):
                        view.show(name, text)
            time.sleep(_POLL_S)
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)
