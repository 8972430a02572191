"""The lines of a program's log: the last ones, those that were added since, and which are wanted.

Reads only a part of the file at a time, and never fails.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ktrdr.errors import InvalidRequest
from ktrdr.escapes import visible
from ktrdr.run_folder import open_plain, read_end

MOST_LINES = 1000

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
"""Of a line, the less important first."""

_TAIL_BYTES = 64 * 1024
_CURSOR = re.compile(r"([0-9]{1,20}):([0-9]{1,15})")
_LEVEL = re.compile(rf"[0-9T:.Z-]{{20,30}} ({'|'.join(LEVELS)})\b")
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


@dataclass(frozen=True)
class Line:
    """A line and its level; one without a level belongs to the line before."""

    level: str
    text: str


@dataclass(frozen=True)
class Chunk:
    """Lines in a row, and where they end."""

    cursor: str
    """The place behind them: file and byte. Empty: there is no file."""
    lines: tuple[str, ...] = ()
    is_new_file: bool = False
    """The lines are from the begin of a file that has replaced the one before."""
    reason: str = ""
    """Why there is no file to read; else empty."""


def levelled(lines: Iterable[str]) -> Iterator[Line]:
    """The lines with their levels; before the first one that has one it is `INFO`."""
    level = "INFO"
    for text in lines:
        found = _LEVEL.match(text)
        level = found[1] if found else level
        yield Line(level, text)


def chosen(lines: Iterable[Line], least: str, text: str) -> list[Line]:
    """Those of at least this level (empty: of any) that contain a text, in whatever case."""
    lowest = LEVELS.index(least) if least in LEVELS else 0
    wanted = text.casefold()
    return [
        line
        for line in lines
        if LEVELS.index(line.level) >= lowest and wanted in line.text.casefold()
    ]


def read_on(path: Path, cursor: str) -> Chunk:
    """What was added behind a cursor, at most 64 KiB; with an empty one the end of the file.

    The rest of a file that was put aside as `NAME.1` comes first. InvalidRequest: no cursor.
    """
    place = _CURSOR.fullmatch(cursor)
    if cursor and place is None:
        raise InvalidRequest(f"after={cursor[:40]!r}: expected the cursor of an earlier answer")
    try:
        if place is None:
            return _end_of(path)
        inode, offset = int(place[1]), int(place[2])
        return _behind(path, inode, offset)
    except FileNotFoundError:
        return Chunk("", reason="there is no such file yet")
    except OSError as error:
        return Chunk("", reason=f"it cannot be read: {error.strerror}")


def _end_of(path: Path) -> Chunk:
    with open_plain(path) as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - _TAIL_BYTES))
        if size > _TAIL_BYTES:
            file.readline(_TAIL_BYTES)  # it begins within a line
        return _chunk(file)


def _behind(path: Path, inode: int, offset: int) -> Chunk:
    with open_plain(path) as file:
        found = os.fstat(file.fileno())
        if found.st_ino == inode and found.st_size >= offset:
            file.seek(offset)
            return _chunk(file)
    aside = path.with_name(f"{path.name}.1")
    if found.st_ino != inode and aside.exists():
        with open_plain(aside) as file:
            if os.fstat(file.fileno()).st_ino == inode:
                file.seek(offset)
                rest = _chunk(file)
                if rest.lines:
                    return rest
    with open_plain(path) as file:
        begin = _chunk(file)
    return Chunk(begin.cursor, begin.lines, is_new_file=True)


def _chunk(file: BinaryIO) -> Chunk:
    """The next whole lines; of an endless one what there is."""
    begin = file.tell()
    content = file.read(_TAIL_BYTES)
    if len(content) < _TAIL_BYTES or b"\n" in content:
        content = content[: content.rfind(b"\n") + 1]  # the rest comes when it is whole
    cursor = f"{os.fstat(file.fileno()).st_ino}:{begin + len(content)}"
    return Chunk(cursor, tuple(_readable(line) for line in content.splitlines()))


def blocks(file: BinaryIO) -> Iterator[bytes]:
    """A file as it is now, in blocks; it is closed at the end."""
    with file:
        left = os.fstat(file.fileno()).st_size
        while left > 0 and (block := file.read(min(left, _TAIL_BYTES))):
            left -= len(block)
            yield block
