"""The last line of a program's log, which says why it ended. Never fails."""

from __future__ import annotations

import re
from pathlib import Path

from ktrdr.escapes import shortened
from ktrdr.run_folder import read_end

_END_BYTES = 16 * 1024
_MOST = 500
_LINE = re.compile(r"[0-9T:.-]+Z +[A-Z]+ +[^ ]+: ")
"""How our log lines begin: time, level and logger."""


def last_log_line(log: Path) -> str:
    """The last line of a log, without its beginning; empty: none, or it cannot be read.

    If indented lines follow it, such as a traceback, the last of these is added.
    """
    try:
        lines = read_end(log, _END_BYTES).decode(errors="replace").splitlines()
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
