"""Commands known by name and first line; the file of each is imported when it is run or completed.

So a command starts as fast as what it needs itself.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import typer
from typer.core import MarkupMode, TyperCommand, TyperGroup
from typer.main import get_command

from ktrdr.cli.exit_codes import code_of
from ktrdr.cli.interrupts import no_interrupt_lost
from ktrdr.cli.output import show_error
from ktrdr.errors import KtrdrError


@dataclass(frozen=True)
class Place:
    """Where a command is: a function, or a `typer.Typer` with commands of its own."""

    module: str
    """In `ktrdr.cli`."""
    attribute: str
    summary: str
    """The first line of its help."""
    panel: str
    """The heading under which it is listed."""

    def load(self, name: str) -> typer.core.TyperCommand | TyperGroup:
        """Import it. Its help has boxes only in a terminal."""
        found = getattr(importlib.import_module(f"ktrdr.cli.{self.module}"), self.attribute)
        if not isinstance(found, typer.Typer):
            found = _app_of(name, found)
        found.rich_markup_mode = markup_mode()
        command = get_command(found)
        command.name = name
        return command  # type: ignore[return-value]  # typer makes no others


class CommandTable(TyperGroup):
    """A group of the commands in `places`, which a subclass fills."""

    places: ClassVar[Mapping[str, Place]]

    def __init__(self, **attributes: Any) -> None:
        stubs = {
            name: TyperCommand(name, help=place.summary, rich_help_panel=place.panel)
            for name, place in self.places.items()
        }
        super().__init__(**attributes | {"commands": stubs, "rich_markup_mode": markup_mode()})

    def invoke(self, ctx: Any) -> Any:
        """Run the command. A KtrdrError ends it with its message, the next step and its code."""
        try:
            with no_interrupt_lost():
                return super().invoke(ctx)
        except KtrdrError as error:
            show_error(error)
            sys.exit(code_of(error))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The command that the words begin with, imported, and the other words."""
        name, stub, rest = super().resolve_command(ctx, args)
        return name, self.places[name].load(name) if name and stub else None, rest


def markup_mode() -> MarkupMode:
    """How help and errors are written: with boxes in a terminal, and else as plain text."""
    return "rich" if sys.stdout.isatty() and sys.stderr.isatty() else None


def _app_of(name: str, function: Any) -> typer.Typer:
    """A program of one command."""
    app = typer.Typer(add_completion=False)
    app.command(name)(function)
    return app
