"""Counts the files in a store's subfolders that may have bars. Opens none, and follows no link.

A folder is listed again only once it has changed. However many files and folders there are, and
whatever they lead to, one count takes milliseconds.
"""

from __future__ import annotations

import heapq
import os
import time
from collections import deque
from collections.abc import Iterable
from itertools import filterfalse
from pathlib import Path
from typing import NamedTuple

from ktrdr.market.file_names import kind_of
from ktrdr.market.instruments import Series
from ktrdr.store.interface import Scan
from ktrdr.store.source import METADATA_DIR
from ktrdr.store.unread_files import MOST_EXAMPLES, InSubfolders, UnreadFiles, unread_files

_MOST_DEEP = 3
_MOST_FOLDERS = 64
_MOST_ENTRIES = 5_000
"""Of one folder; of all of them it is four times this."""
_MOST_OF_ALL = 4 * _MOST_ENTRIES
_SETTLED_NS = 2 * 10**9
"""A folder that was changed within this time before it was listed may look unchanged afterwards."""
_SKIPPED = (".", "@", "#", "__", "lost+found")
"""Beginnings of the names of hidden folders, and of those of file systems and archivers."""


class _Listed(NamedTuple):
    """The contents of one folder."""

    changed_ns: int
    entries: int
    files: int
    """Those that may have bars."""
    first: tuple[str, ...]
    folders: tuple[str, ...]
    is_limited: bool


_NOTHING = _Listed(0, 0, 0, (), (), is_limited=False)


class Subfolders:
    """The subfolders of one folder. For one thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._listed: dict[str, _Listed] = {}
        """Path in the folder → its contents when it was last listed."""

    def unread(self, scan: Scan) -> tuple[UnreadFiles, ...]:
        """The files of the folder and of its subfolders that are not read, by kind."""

        def is_there(series: Series) -> bool:
            return series in scan.found or series in scan.blocked

        return unread_files(scan.other_names, is_there, self.count(scan.folders))

    def count(self, names: Iterable[str]) -> InSubfolders:
        """The files in these subfolders. Another store within this one is left out."""
        waiting = deque((name, 1) for name in sorted(filterfalse(_is_skipped, names)))
        known: dict[str, _Listed] = {}
        entries, is_limited = 0, False
        while waiting:
            path, depth = waiting.popleft()
            if len(known) >= _MOST_FOLDERS or entries >= _MOST_OF_ALL:
                is_limited = True
                break
            known[path] = one = self._contents(path)
            entries += one.entries
            is_limited |= one.is_limited
            if depth < _MOST_DEEP:
                waiting.extend((f"{path}/{name}", depth + 1) for name in one.folders)
        self._listed = known
        files = (f"{path}/{name}" for path, one in known.items() for name in one.first)
        total = sum(one.files for one in known.values())
        return InSubfolders(total, tuple(heapq.nsmallest(MOST_EXAMPLES, files)), is_limited)

    def _contents(self, path: str) -> _Listed:
        """From the last time, if the folder is unchanged. A folder that cannot be read has none."""
        try:
            changed_ns = (self._folder / path).lstat().st_mtime_ns
            known = self._listed.get(path)
            if known is not None and known.changed_ns == changed_ns:
                return known
            listed = _list(self._folder / path)
        except OSError:
            return _NOTHING
        is_settled = time.time_ns() - changed_ns > _SETTLED_NS
        return listed._replace(changed_ns=changed_ns if is_settled else 0)


def _list(folder: Path) -> _Listed:
    if os.path.lexists(folder / METADATA_DIR):
        return _NOTHING  # another store
    files, folders, entries = [], [], 0
    with os.scandir(folder) as listed:
        for entry in listed:
            entries += 1
            if entries > _MOST_ENTRIES:
                break
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
            elif not entry.name.startswith(".") and kind_of(entry.name) is not None:
                files.append(entry.name)
    inside = tuple(heapq.nsmallest(_MOST_FOLDERS, filterfalse(_is_skipped, folders)))
    first = tuple(heapq.nsmallest(MOST_EXAMPLES, files))
    return _Listed(0, entries, len(files), first, inside, entries > _MOST_ENTRIES)


def _is_skipped(name: str) -> bool:
    return name.startswith(_SKIPPED)
