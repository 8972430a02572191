"""The running group as a command meets it: its settings, and errors with the next step."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from ktrdr.cli.terminal import Terminal
from ktrdr.config.running_group import settings_to_read_with
from ktrdr.config.settings import Settings
from ktrdr.errors import KtrdrError
from ktrdr.ipc.client import LocalClient

out = Terminal()
err = Terminal(stderr=True, soft_wrap=True)


@contextlib.contextmanager
def settings_of_group(*, reads_bars: bool = False) -> Iterator[Settings]:
    """The settings of a command, the running group's by default; errors as in `errors_shown`."""
    with errors_shown():
        settings, note = settings_to_read_with(reads_bars=reads_bars)
        if note:
            err.print(f"ktrdr: {note}", markup=False, highlight=False)
        yield settings


@contextlib.contextmanager
def errors_shown() -> Iterator[None]:
    """A KtrdrError ends the command with its message, the next step, and exit code 1."""
    try:
        yield
    except KtrdrError as error:
        err.print(f"ktrdr: {error.message}", markup=False, highlight=False)
        if error.hint:
            err.print(next_step(error.hint), markup=False, highlight=False)
        sys.exit(1)


def next_step(hint: str, margin: str = "") -> str:
    """The next step; its further lines, which are to be pasted, are indented below the first."""
    return f"{margin}next: " + hint.replace("\n", f"\n{margin}      ")


def warn_if_simulated(source: str | None) -> None:
    """Say on standard error that simulated prices are no market prices."""
    if source == "simulated":
        err.print("SIMULATED: these prices are invented", markup=False, highlight=False)


def gap_filler_of(settings: Settings) -> LocalClient:
    """The gap filler's client."""
    return LocalClient(settings.gap_filler_socket, "gap-filler")
