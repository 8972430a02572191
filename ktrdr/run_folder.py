"""The run folder: for its owner alone. One that somebody else made is looked at, never changed."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ktrdr.errors import Misconfigured

_OURS = (".sock", ".pid", ".lock", ".group", ".fifo")
"""How the names in a run folder end; supervisord's begin with its own name."""


def prepare_folder(folder: Path) -> None:
    """Make a folder for sockets, with mode 0700; one that is there must have it already.

    Misconfigured: it cannot be made, is somebody else's, or others may enter it too.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            _respect(folder)
        else:
            folder.chmod(0o700)  # a umask may have taken away more
    except OSError as error:
        raise Misconfigured(f"KTRDR_RUN_DIR={folder}: {error.strerror}") from error


def prepare_run_folder(folder: Path) -> None:
    """The same for KTRDR_RUN_DIR itself, which must not be a folder of other things.

    Misconfigured as above, and where there are files and none of them is one of ours.
    """
    prepare_folder(folder)
    names = sorted(entry.name for entry in folder.iterdir())
    if names and not any(_is_ours(name) for name in names):
        raise Misconfigured(
            f"KTRDR_RUN_DIR={folder}: expected a folder of its own, and this one has {names[0]!r}"
            " in it"
        )


def write_anew(path: Path, text: str) -> None:
    """Write a small file in the place of what has its name, and never through a link."""
    path.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with os.fdopen(os.open(path, flags, 0o600), "w") as file:
        file.write(text)


def _respect(folder: Path) -> None:
    """Misconfigured: a folder that somebody made is not for us alone."""
    found = folder.stat()
    mode = stat.S_IMODE(found.st_mode)
    why = ""
    if not stat.S_ISDIR(found.st_mode):
        why = "and this is none"
    elif found.st_uid != os.geteuid():
        why = "and this one is another user's"
    elif mode & 0o077:
        why = f"and others may enter this one (its mode is {mode:04o}, not 0700)"
    if why:
        raise Misconfigured(f"KTRDR_RUN_DIR={folder}: expected a folder of its own, {why}")


def _is_ours(name: str) -> bool:
    return name.endswith(_OURS) or name.startswith(("supervis", "settings.json"))
