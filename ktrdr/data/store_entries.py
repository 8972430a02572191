"""What stands in a store's folder under the names of series, and what is none. Opens no file."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import NamedTuple

from ktrdr.data.bar_file import FileKey, key_of
from ktrdr.data.file_errors import hint_for
from ktrdr.errors import MalformedFile
from ktrdr.planning.instruments import Series, parse_series

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
}


class Entries(NamedTuple):
    """The entries of a folder whose names end like those of bar files."""

    found: dict[Series, FileKey]
    blocked: dict[Series, MalformedFile]
    """Those whose name stands for no file of their own, with what it is and what to do."""
    strange: list[str]
    """A line for each name that is none of a series."""


def read_entries(folder: Path) -> Entries:
    """What is in a store; nothing where there is no such folder.

    Whatever is wrong with one entry is told of that one. OSError: the folder cannot be read.
    """
    entries = Entries({}, {}, [])
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as listed:
        for entry in listed:
            if not entry.name.endswith(".csv") or entry.name.startswith("."):
                continue
            try:
                series = parse_series(entry.name)
            except ValueError as error:
                entries.strange.append(f"{entry.name!r} is no series: {error}")
                continue
            try:
                status = _status(entry)
            except MalformedFile as error:
                entries.blocked[series] = error
                continue
            except FileNotFoundError:  # it was removed just now
                continue
            entries.found[series] = key_of(status)
    entries.strange.sort()
    return entries


def _status(entry: os.DirEntry[str]) -> os.stat_result:
    """That of the file. MalformedFile: there is none behind the name; FileNotFoundError: nor that.

    Links are followed.
    """
    try:
        status = entry.stat()
    except FileNotFoundError:
        if not entry.is_symlink():
            raise
        target = str(Path(entry.path).readlink())
        raise MalformedFile(
            f"{entry.name}: it is a link to {target!r}, which is not there",
            hint=f"put a file there, or remove the link {entry.name}",
        ) from None
    except OSError as error:
        raise MalformedFile(
            f"{entry.name}: {error.strerror or error}", hint=hint_for(error)
        ) from error
    kind = stat.S_IFMT(status.st_mode)
    if kind != stat.S_IFREG:
        raise MalformedFile(
            f"{entry.name}: it is {_KINDS.get(kind, 'a device')}, and no regular file",
            hint=f"remove it, or give it another name than {entry.name}",
        )
    return status
