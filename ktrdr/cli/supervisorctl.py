"""`ktrdr ctl`: supervisorctl for the group of this checkout, from whichever folder.

supervisorctl by itself looks for a configuration in the folder where it is called, and elsewhere
finds another server, or none.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from ktrdr.config.running_group import FOLDER
from ktrdr.config.settings import ROOT
from ktrdr.errors import Misconfigured, PeerDown
from ktrdr.unix_socket import listens

_CONFIGURATION = ROOT / "etc/supervisord.conf"
_NEEDS_NO_GROUP = ("help", "version")


def become_supervisorctl(words: Sequence[str], folder: Path = FOLDER) -> NoReturn:
    """Go on as supervisorctl with these words: its terminal, output and exit code are ours.

    PeerDown: no supervisord listens in `folder`. Misconfigured: this user may not look.
    """
    if not words or words[0] not in _NEEDS_NO_GROUP:
        _expect_supervisord(folder)
    program = ["-P", "-m", "supervisor.supervisorctl"]  # -P: no module of the caller's folder
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
