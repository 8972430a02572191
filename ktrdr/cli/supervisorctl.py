"""`ktrdr ctl`: supervisorctl for the group of this checkout, from any folder.

supervisorctl itself looks for a configuration in the current folder, and so finds another server or
none elsewhere.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from ktrdr.config.running_group import FOLDER
from ktrdr.config.settings import ROOT
from ktrdr.errors import Misconfigured, PeerDown
from ktrdr.unix_socket import listens

_CONFIGURATION = ROOT / "etc/supervisord.conf"
_NEEDS_NO_GROUP = ("help", "version")


ctl = typer.Typer(add_completion=False)


@ctl.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    options_metavar="",
)
def control(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="WORDS",
            help="status, start, stop, restart, tail -f, …; without any: a prompt.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Control the programs: supervisorctl for this group, from any folder.

    Commands and exit codes are supervisorctl's; `ktrdr ctl help` lists all commands.

    Example: ktrdr ctl restart gap-filler
    """
    become_supervisorctl(words or [])


def become_supervisorctl(words: Sequence[str], folder: Path = FOLDER) -> NoReturn:
    """Replace this process by supervisorctl with these arguments.

    PeerDown: no supervisord listens in `folder`. Misconfigured: this user may not read the folder.
    """
    if not words or words[0] not in _NEEDS_NO_GROUP:
        _expect_supervisord(folder)
    program = ["-P", "-m", "supervisor.supervisorctl"]  # -P: no modules from the current folder
    command = [sys.executable, *program, "-c", str(_CONFIGURATION), *words]
    os.execv(sys.executable, command)  # noqa: S606 - no shell is wanted


def _expect_supervisord(folder: Path) -> None:
    try:
        runs = (folder / "supervisor.sock").exists() and listens(folder / "supervisor.sock")
    except PermissionError as error:
        raise Misconfigured(
            f"this user may not read the group's files ({error.filename})",
            hint="run this as the user who started it",
        ) from error
    if not runs:
        raise PeerDown(f"no group runs in {ROOT}", hint=f"start it: {ROOT / 'scripts/up'}")
