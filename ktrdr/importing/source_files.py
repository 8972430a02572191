"""The files that are to be imported, by the paths of files and folders. Opens none of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from ktrdr.errors import InvalidRequest
from ktrdr.market.file_names import Kind, kind_of
from ktrdr.store.file_errors import hint_for


class SourceFile(NamedTuple):
    """A file that may have bars."""

    path: Path
    name: str
    """With its folders, which may name its symbol or timeframe."""


class SourceFiles(NamedTuple):
    """What is to be imported."""

    files: list[SourceFile]
    in_subfolders: int
    """Files that may have bars and are passed over, since their folder is in another one."""


def source_files(paths: Iterable[str], *, is_recursive: bool) -> SourceFiles:
    """All files at these paths, each once; of a folder those that may have bars, by name.

    InvalidRequest: there is no such file or folder, or it cannot be read.
    """
    found: dict[Path, SourceFile] = {}
    in_subfolders = 0
    for text in paths:
        path = Path(text)
        if not path.is_dir():
            found.setdefault(path, _named(path))
            continue
        try:
            inside = sorted(_in_folder(path))
        except OSError as error:
            what = f"{error.filename or path}: {error.strerror or error}"
            raise InvalidRequest(what, hint=hint_for(error)) from error
        for one in inside:
            if is_recursive or one.parent == path:
                found.setdefault(one, _named(one))
            else:
                in_subfolders += 1
    return SourceFiles(list(found.values()), in_subfolders)


def _named(path: Path) -> SourceFile:
    return SourceFile(path, "/".join(path.absolute().parts[-3:]))


def _in_folder(folder: Path) -> Iterator[Path]:
    """Files that may have bars, in subfolders too; not hidden ones, nor links to folders."""
    for entry in folder.iterdir():
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            if not entry.is_symlink():
                yield from _in_folder(entry)
        elif kind_of(entry.name) not in (None, Kind.FORMAT):
            yield entry
