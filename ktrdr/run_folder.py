"""The run folder, which is for its owner alone: made or checked, and its small files."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

from ktrdr.errors import Misconfigured

_ENDS = (".sock", ".pid", ".lock")
_BEGINS = ("supervis", "settings.json", "port-forward", ".port-forward", "status-app")
"""How the names of our files in a run folder end or begin."""

_PID_BYTES = 32
_FILE_BYTES = 2**20


def prepare_folder(folder: Path, name: str = "KTRDR_RUN_DIR") -> None:
    """Make a folder for sockets with mode 0700; an existing one must have it already.

    `name`: the setting, for errors. Misconfigured: it cannot be made, belongs to another user, or
    others may enter it too.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            _respect(folder, name)
        else:
            folder.chmod(0o700)  # a umask may have taken away more
    except OSError as error:
        raise Misconfigured(f"{name}={folder}: {error.strerror}") from error


def prepare_run_folder(folder: Path, name: str = "KTRDR_RUN_DIR") -> None:
    """The same for KTRDR_RUN_DIR itself, which must not be a folder for anything else.

    Misconfigured as above, and if it has files of which none is ours.
    """
    prepare_folder(folder, name)
    if other := other_than_ours(folder):
        raise Misconfigured(
            f"{name}={folder}: expected a folder of its own, and this one has {other!r} in it"
        )


def other_than_ours(folder: Path) -> str:
    """A name in a folder without any of our files; empty: the folder is empty, or ours."""
    names = sorted(entry.name for entry in folder.iterdir())
    return "" if any(map(_is_ours, names)) else next(iter(names), "")


def replace_file(path: Path, text: str) -> None:
    """Write a small file, replacing what has its name, and never through a link.

    Misconfigured: it cannot be written, as when a folder has its name.
    """
    try:
        make_way(path)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with os.fdopen(os.open(path, flags, 0o600), "w") as file:
            file.write(text)
    except OSError as error:
        raise Misconfigured(f"{path} cannot be written: {error.strerror}") from error


def make_way(path: Path) -> None:
    """Remove a file, link, pipe or socket of this name. Misconfigured: it is a folder."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        if path.is_dir():
            raise in_the_way(path) from error
        raise


def in_the_way(path: Path) -> Misconfigured:
    """The error for a name that we need and something else has."""
    return Misconfigured(
        f"{path} is in the way: expected a file or nothing", hint="move it away or remove it"
    )


def read_own(path: Path, most: int = _FILE_BYTES) -> str:
    """The text of a small plain file, not through a link, nor from a pipe that would block.

    OSError: it does not exist, or is something else. ValueError: it is not text, or longer than
    `most` bytes.
    """
    with open_plain(path) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise ValueError(f"{path} is longer than {most} bytes")
    return data.decode()


def open_plain(path: Path) -> BinaryIO:
    """Open a plain file to read, not through a link. OSError: there is none of this name."""
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is no file", str(path))
    return file


def read_end(path: Path, most: int) -> bytes:
    """The last bytes of a plain file, at most `most`. OSError as `open_plain`."""
    with open_plain(path) as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - most))
        return file.read(most)


def read_pid(path: Path) -> int:
    """The pid in a pid file. OSError, ValueError: there is none."""
    return int(read_own(path, _PID_BYTES))


def _respect(folder: Path, name: str) -> None:
    """Misconfigured: an existing folder is not for this user alone."""
    found = folder.stat()
    mode = stat.S_IMODE(found.st_mode)
    why = ""
    if not stat.S_ISDIR(found.st_mode):
        why = "and this is not a folder"
    elif found.st_uid != os.geteuid():
        why = "and this one is another user's"
    elif mode & 0o077:
        why = f"and others may enter this one (its mode is {mode:04o}, not 0700)"
    elif mode & 0o700 != 0o700:
        why = f"and its owner may not use this one (its mode is {mode:04o}, not 0700)"
    if why:
        raise Misconfigured(f"{name}={folder}: expected a folder of its own, {why}")


def _is_ours(name: str) -> bool:
    return name.endswith(_ENDS) or name.startswith(_BEGINS)
