"""The path of a Unix socket: whether a program listens there, and removing a dead one's socket."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

from ktrdr.errors import AlreadyRunning, Misconfigured

_ANSWER_S = 2.0


def listens(path: Path) -> bool:
    """Whether a program listens at a path, even if it hangs."""
    failure = _connect(path)
    return failure is None or isinstance(failure, TimeoutError | BlockingIOError)


def clear_place(path: Path, hint: str = "") -> None:
    """Remove a dead program's socket, so that a new one can be made at its path.

    `hint`: the next step if it is in use. AlreadyRunning: a program listens there, or may.
    Misconfigured: it is not a socket. In both cases nothing is removed.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise Misconfigured(f"{path} is in the way: expected a socket or nothing")
    if not isinstance(_connect(path), ConnectionRefusedError | FileNotFoundError):
        raise AlreadyRunning(f"another program serves {path}", hint=hint)
    path.unlink(missing_ok=True)


def _connect(path: Path) -> OSError | None:
    """Why it is not possible to connect to a path; None: it is."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_ANSWER_S)  # a program that hangs accepts no connection, or late
        try:
            probe.connect(os.fspath(path))
        except OSError as error:
            return error
    return None
