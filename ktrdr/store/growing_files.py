"""Files that were replaced while another program had them open: what it still appends to them.

Each has a name in `.ktrdr/growing` until nobody has it open for writing any more, so that what is
appended there can be brought over, also by another process of ktrdr, and after a restart.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ktrdr.market.instruments import Series
from ktrdr.store.source import METADATA_DIR

_NAME = re.compile(r"(.+)\.(\d+)\.(\d+)\.csv")


class GrowingFile(NamedTuple):
    """A file that another program may still be appending to."""

    path: Path
    """Its name in `.ktrdr/growing`."""
    inode: int
    size: int
    """What follows these bytes was not brought over yet."""

    def brought(self, size: int) -> GrowingFile:
        """Note that everything up to `size` was brought over."""
        path = self.path.with_name(_name_of(self.path.name, self.inode, size))
        self.path.rename(path)
        return GrowingFile(path, self.inode, size)

    def end(self) -> None:
        """Nobody appends to it any more, or it was never replaced."""
        self.path.unlink(missing_ok=True)


class GrowingFiles:
    """Those of one store, for the holder of a series' lock."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / METADATA_DIR / "growing"

    def __repr__(self) -> str:
        return f"GrowingFiles({str(self._folder)!r})"

    def of(self, series: Series) -> list[GrowingFile]:
        """Those that were files of a series, in no order."""
        try:
            names = os.listdir(self._folder)  # noqa: PTH208  called at each write
        except FileNotFoundError:
            return []
        found = [(name, _NAME.fullmatch(name)) for name in names]
        return [
            GrowingFile(self._folder / name, int(match[2]), int(match[3]))
            for name, match in found
            if match and match[1] == str(series)
        ]

    def series_names(self) -> set[str]:
        """The names of all series that have any."""
        with contextlib.suppress(FileNotFoundError):
            found = map(_NAME.fullmatch, os.listdir(self._folder))  # noqa: PTH208  at each scan
            return {match[1] for match in found if match}
        return set()

    @contextlib.contextmanager
    def replacing(self, series: Series, path: Path, descriptor: int, size: int) -> Iterator[None]:
        """Keep a name for the file that is replaced in this block, if it may still grow.

        `descriptor`: the file, open for reading; `size`: what of it will be in the new file. On a
        file system without links nothing can be kept.
        """
        kept = None
        status = os.fstat(descriptor)
        if may_grow(descriptor):
            with contextlib.suppress(OSError):
                self._folder.mkdir(parents=True, exist_ok=True)
                place = self._folder / _name_of(str(series), status.st_ino, size)
                os.link(os.path.realpath(path), place)
                kept = place
        try:
            yield
        finally:
            if kept is not None and _inode(path) == status.st_ino:  # it was not replaced
                kept.unlink(missing_ok=True)


def may_grow(descriptor: int) -> bool:
    """Whether another program has this file open for writing, as far as that can be known.

    `descriptor` is open for reading only. The kernel grants its owner a lease for reading only if
    nobody has the file open for writing (fcntl(2), "Leases"); it is Linux' that does.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)  # which does nothing, unlike SIGIO
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def _name_of(name: str, inode: int, size: int) -> str:
    match = _NAME.fullmatch(name)
    return f"{match[1] if match else name}.{inode}.{size}.csv"


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None
