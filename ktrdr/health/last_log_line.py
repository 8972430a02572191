"""Why a program ended, in its own words: the end of its log. Never fails."""

from __future__ import annotations

import re
from pathlib import Path

from ktrdr.escapes import shortened
from ktrdr.run_folder import open_plain

_END_BYTES = 16 * 1024
_MOST = 500
_LINE = re.compile(r"[0-9T:.-]+Z +[A-Z]+ +[^ ]+: ")
"""How a line of ours begins: time, level, and who says it."""


def last_log_line(log: Path) -> str:
    """The last line of a log, without its time; empty: there is none, or it cannot be read.

    Of an error that nobody handled, what it was as well: the last of the lines that are indented
    below it.
    """
    try:
        with open_plain(log) as file:
            file.seek(max(0, file.seek(0, 2) - _END_BYTES))
            lines = file.read(_END_BYTES).decode(errors="replace").splitlines()
    except OSError:
        return ""
    below = ""
    for line in reversed(lines):
        if not line.strip():
            continue
        if not line.startswith(" "):
            message = _LINE.sub("", line, count=1)
            return shortened(f"{message}: {below}" if below else message, _MOST)
        below = below or line.strip()
    return ""
