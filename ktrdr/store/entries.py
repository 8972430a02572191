"""The entries of a store's folder: series, blocked series, other names. Opens no file."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import NamedTuple

from ktrdr.errors import MalformedFile
from ktrdr.market.instruments import Series, parse_series
from ktrdr.store.file_errors import hint_for
from ktrdr.store.file_key import FileKey, key_of

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
}


class Entries(NamedTuple):
    """The entries of a folder, without hidden ones."""

    found: dict[Series, FileKey]
    blocked: dict[Series, MalformedFile]
    """Series without a file of their own, with the error and what to do."""
    other_names: list[str]
    """Names of files that are no series."""
    folders: list[str]
    """Names of folders that are none either."""


class _File(NamedTuple):
    """A series' file, according to the folder."""

    series: Series
    key: FileKey
    is_link: bool


def read_entries(folder: Path) -> Entries:
    """The entries of a folder; none if there is no such folder.

    A problem with one entry is reported for that entry. OSError: the folder cannot be read.
    """
    entries = Entries({}, {}, [], [])
    files: dict[tuple[int, FileKey], list[_File]] = {}
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as listed:
        for entry in listed:
            if entry.name.startswith("."):
                continue
            try:
                series = parse_series(entry.name)
            except ValueError:
                (entries.folders if _is_folder(entry) else entries.other_names).append(entry.name)
                continue
            try:
                status = _status(entry)
            except MalformedFile as error:
                entries.blocked[series] = error
                continue
            except FileNotFoundError:  # it was removed just now
                continue
            file = _File(series, key_of(status), entry.is_symlink())
            files.setdefault((status.st_dev, file.key), []).append(file)
            entries.found[series] = file.key
    for same in files.values():
        for series, why in _shared(same).items():
            del entries.found[series]
            entries.blocked[series] = why
    return entries


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Links are not followed: what they lead to may not respond."""
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _status(entry: os.DirEntry[str]) -> os.stat_result:
    """The status of the file; links are followed.

    MalformedFile: it is not a file. FileNotFoundError: there is no such entry any more.
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


def _shared(same: list[_File]) -> dict[Series, MalformedFile]:
    """Series that share their file with another series: each bar belongs to one of them only.

    Of a file and a link to it, the link is refused. Of other names of one file all are refused,
    since it is not known whose bars it has.
    """
    if len(same) < 2:
        return {}
    own = [file.series for file in same if not file.is_link]
    names = sorted(file.series.file_name for file in same)
    found = {}
    for file in same:
        name = file.series.file_name
        if len(own) == 1 and file.series != own[0]:
            what = f"it is a link to {own[0].file_name}, which has the bars of {own[0]}"
            hint = f"remove the link {name}, or put a file of its own in its place"
        elif len(own) != 1:
            what = f"{' and '.join(names)} are one file, so it is unknown whose bars it has"
            hint = f"keep one of the names, remove the other: {' or '.join(names)}"
        else:
            continue
        found[file.series] = MalformedFile(f"{name}: {what}", hint=hint)
    return found
