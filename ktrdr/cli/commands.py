"""All commands of `ktrdr`, in the order in which its help lists them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import typer

from ktrdr import __version__
from ktrdr.cli.command_table import CommandTable, Place

_LOOK, _KEEP, _READ, _RUN = "Look", "Keep series complete", "Read bars", "Run the programs"


class _Commands(CommandTable):
    places: ClassVar[Mapping[str, Place]] = {
        "status": Place("status", "status", "Show the group's health and what needs you.", _LOOK),
        "doctor": Place("doctor", "doctor", "Diagnose the group and its connection to IB.", _LOOK),
        "gaps": Place(
            "gaps",
            "gaps",
            "Show each series: bars expected, bars there, and why the others are not.",
            _LOOK,
        ),
        "coverage": Place(
            "coverage",
            "coverage",
            "Show the state of each trading day of each series, as a heat map.",
            _LOOK,
        ),
        "logs": Place(
            "logs",
            "logs",
            "Show the last lines of the programs' logs, and with -f those that come.",
            _LOOK,
        ),
        "config": Place(
            "config",
            "config",
            "Show the settings that are in force, and where each is from.",
            _LOOK,
        ),
        "watch": Place("watch", "watch", "The series that are kept complete.", _KEEP),
        "contract": Place(
            "contract", "contract", "Show which contracts a symbol may stand for.", _KEEP
        ),
        "fill": Place("fills", "fill", "Fill a series from a day on, however old.", _KEEP),
        "fills": Place("fills", "fills", "List the fills requested with `ktrdr fill`.", _KEEP),
        "import": Place(
            "imports",
            "import_files",
            "Bring files of other programs into the store, as files of its own.",
            _KEEP,
        ),
        "scan": Place(
            "gaps", "scan", "Look for gaps now, also in series that were given up.", _KEEP
        ),
        "show": Place("bars", "show", "Print the bars of a series as CSV.", _READ),
        "follow": Place("follow", "follow", "Print each finished bar once, as it comes.", _READ),
        "export": Place(
            "export", "export", "Write bars into a Parquet or Feather file, or a folder.", _READ
        ),
        "check": Place("check", "check", "Read the whole store and report what is broken.", _READ),
        "release": Place(
            "release", "release", "Take ktrdr's rows out of a file that others began.", _KEEP
        ),
        "init": Place(
            "init",
            "init",
            "Choose the gateway: find it, test the connection, and write it into `.env`.",
            _RUN,
        ),
        "up": Place(
            "group_scripts",
            "up",
            "Start the group, or restart it with changed settings: ./scripts/up, from any folder.",
            _RUN,
        ),
        "down": Place(
            "group_scripts", "down", "Stop the group: ./scripts/down, from any folder.", _RUN
        ),
        "reconnect": Place(
            "reconnect",
            "reconnect",
            "Close the connection to IB, or cut a wait short, and make it anew.",
            _RUN,
        ),
        "ctl": Place(
            "supervisorctl",
            "ctl",
            "Control the programs: supervisorctl for this group, from any folder.",
            _RUN,
        ),
        "alerts": Place(
            "alerts",
            "alerts",
            "Notifications of the group's problems, such as by mail or ntfy.",
            _RUN,
        ),
        "sim": Place("sim", "sim", "The simulated gateway: what it does, and how it fails.", _RUN),
    }


app = typer.Typer(
    cls=_Commands,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
)


def _show_version(*, is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"ktrdr {__version__}")
        raise typer.Exit


@app.callback()
def ktrdr(
    ctx: typer.Context,
    *,
    version: Annotated[  # noqa: ARG001  # its callback shows it
        bool,
        typer.Option(
            "--version",
            help="Show the version.",
            callback=lambda value: _show_version(is_wanted=value),
            is_eager=True,
        ),
    ] = False,
) -> None:
    """Keeps a folder of OHLCV CSV files complete from Interactive Brokers.

    Alone it shows the verdict in a sentence, and what needs you.

    Example: ktrdr
    """
    if ctx.invoked_subcommand is None:
        from ktrdr.cli.status import show_what_needs_you  # noqa: PLC0415  # not for other commands

        show_what_needs_you()
