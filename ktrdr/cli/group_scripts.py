"""`ktrdr up` and `ktrdr down`: hand over to the scripts that start and stop the group."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

from ktrdr.config.settings import ROOT
from ktrdr.errors import Misconfigured

SCRIPTS = ROOT / "scripts"


def up() -> None:
    """Start the group, or restart it with changed settings: ./scripts/up, from any folder.

    It waits until everything is ready. Its exit codes are the script's.

    Example: ktrdr up
    """
    become(SCRIPTS / "up")


def down() -> None:
    """Stop the group: ./scripts/down, from any folder.

    Example: ktrdr down
    """
    become(SCRIPTS / "down")


def become(script: Path) -> NoReturn:
    """Replace this process by a script. Misconfigured: it is not there, as in an image."""
    if not os.access(script, os.X_OK):
        raise Misconfigured(
            f"{script} is not there: these programs are started by something else",
            hint="in a container: docker compose up -d, docker compose down",
        )
    os.execv(script, [f"{script}"])  # noqa: S606 - no shell is wanted
