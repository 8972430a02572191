"""The lines of the programs' logs, and which of them are wanted. Values only."""

from __future__ import annotations

import re
from dataclasses import dataclass

LEVELS = ("debug", "info", "warning", "error", "critical")
_BEGIN = re.compile(r"(?P<time>[0-9T:.-]+Z) +(?P<level>[A-Z]+) +[^ ]+: ")
_ESCAPES = re.compile(rb"\x1b\[[0-9;?]*[ -/]*[@-~]")


@dataclass(frozen=True)
class Wanted:
    """Which lines are wanted: of this level at least, and with this pattern in them."""

    level: str = LEVELS[0]
    pattern: re.Pattern[str] = re.compile("")


@dataclass
class Reader:
    """Takes the lines of one log in order, and gives those that are wanted.

    A line without a beginning of ours, such as one of a traceback, belongs to the one before it.
    """

    wanted: Wanted
    time: str = ""
    """That of the last line with one."""
    _is_high: bool = True

    def takes(self, line: str) -> bool:
        """Whether this line is wanted."""
        if begin := _BEGIN.match(line):
            self.time = begin["time"]
            self._is_high = _rank(begin["level"]) >= _rank(self.wanted.level)
        return self._is_high and self.wanted.pattern.search(line) is not None


def text_of(line: bytes) -> str:
    """A line as text, without a terminal's control sequences."""
    return _ESCAPES.sub(b"", line).decode("utf-8", errors="replace").expandtabs()


def _rank(level: str) -> int:
    """A level that is not known, such as of another program, counts as the highest."""
    name = level.lower()
    return LEVELS.index(name) if name in LEVELS else len(LEVELS)
