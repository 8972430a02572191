"""The last lines of a program's log. Reads only the end of the file, and never fails."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ktrdr.escapes import visible
from ktrdr.run_folder import read_end

MOST_LINES = 1000

_TAIL_BYTES = 64 * 1024
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


@dataclass(frozen=True)
class Tail:
    """The end of a log file, oldest line first; or no lines, and why."""

    path: Path
    lines: tuple[str, ...] = ()
    reason: str = ""


def tail(path: Path, lines: int) -> Tail:
    """At most the last `lines` lines within 64 KiB; bytes that are not UTF-8 become `�`."""
    try:
        end = read_end(path, _TAIL_BYTES + 1)
    except FileNotFoundError:
        return Tail(path, reason="there is no such file yet")
    except OSError as error:
        return Tail(path, reason=f"it cannot be read: {error.strerror}")
    if len(end) > _TAIL_BYTES:  # it begins within a line
        end = end.partition(b"\n")[2] or end[1:]
    kept = tuple(_readable(line) for line in end.splitlines()[-lines:]) if lines > 0 else ()
    return Tail(path, kept, "" if kept else "it is empty")


def _readable(line: bytes) -> str:
    return visible(_ESCAPES.sub("", line.decode("utf-8", errors="replace")).expandtabs())
