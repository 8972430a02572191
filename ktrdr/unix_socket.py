"""A Unix socket's place: whether somebody listens there, and clearing it of a dead program's."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

from ktrdr.errors import AlreadyRunning, Misconfigured

_ANSWER_S = 2.0


def listens(path: Path) -> bool:
    """Whether a program has that socket, answering or stuck."""
    failure = _connect(path)
    return failure is None or isinstance(failure, TimeoutError | BlockingIOError)


def clear_place(path: Path, hint: str = "") -> None:
    """Remove a dead program's socket, so that another can be made at this path.

    `hint`: the next step where it is taken. AlreadyRunning: somebody listens there, or may.
    Misconfigured: there is something else than a socket. Both are left as they are.
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
    """Why nobody can be reached there; None: somebody was."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_ANSWER_S)  # a program that is stuck takes no connection, or late
        try:
            probe.connect(os.fspath(path))
        except OSError as error:
            return error
    return None
