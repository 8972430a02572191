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
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from ktrdr.market.instruments import Series, parse_series
from ktrdr.store.atomic_write import TEMPORARY
from ktrdr.store.source import METADATA_DIR

_BLOCK_BYTES = 64 * 1024
_NO_LINKS = (errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_NAME = re.compile(r"(.+)\.(\d+)\.(\d+)(?:-(\d+))?\.csv")


class GrowingFile(NamedTuple):
    """A file that another program may still be appending to."""

    path: Path
    """Its name in `.ktrdr/growing`."""
    size: int
    """What follows these bytes was not brought over yet; a line begins there."""
    replaced_by: int | None = None
    """The inode of the file that was about to replace it; None: it has replaced it."""

    def brought(self, size: int) -> GrowingFile:
        """Note that everything up to `size` was brought over."""
        match = _NAME.fullmatch(self.path.name)
        assert match is not None
        path = self.path.with_name(f"{match[1]}.{match[2]}.{size}.csv")
        self.path.rename(path)
        return GrowingFile(path, size)

    def end(self) -> None:
        """Nobody appends to it any more, or it was never replaced."""
        self.path.unlink(missing_ok=True)

    @property
    def is_over(self) -> bool:
        """Nobody has it open for writing any more."""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            return has_writer(descriptor) is False
        finally:
            os.close(descriptor)


class GrowingFiles:
    """Those of one store. A series' are for the holder of its lock."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / METADATA_DIR / "growing"

    def __repr__(self) -> str:
        return f"GrowingFiles({str(self._folder)!r})"

    def of(self, series: Series) -> list[GrowingFile]:
        """Those that were files of a series, in no order."""
        return [
            GrowingFile(self._folder / name, int(match[3]), int(match[4]) if match[4] else None)
            for name, match in self._names()
            if match[1] == str(series)
        ]

    def series(self) -> set[Series]:
        """All series that have any."""
        found = set()
        for _, match in self._names():
            with contextlib.suppress(ValueError):  # it is somebody else's
                found.add(parse_series(f"{match[1]}.csv"))
        return found

    def _names(self) -> list[tuple[str, re.Match[str]]]:
        try:
            names = os.listdir(self._folder)  # noqa: PTH208  called at each write
        except OSError:  # there is none, or none that this user may see
            return []
        return [(name, match) for name in names if (match := _NAME.fullmatch(name))]

    def has_writer(self, descriptor: int) -> bool | None:
        """As the function; None also where no name could be kept for the file."""
        found = has_writer(descriptor)
        if not found:
            return found
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            is_here = os.fstat(descriptor).st_dev == self._folder.stat().st_dev
        except OSError:
            return found
        return found if is_here and _has_leases(self._folder) else None

    @contextlib.contextmanager
    def replacing(
        self, series: Series, path: Path, descriptor: int, new: Path, until: int | None = None
    ) -> Iterator[None]:
        """Keep a name for the file that is replaced by `new` in this block, if it may still grow.

        `descriptor`: the file, open for reading. All of it up to `until`, by default all of its
        whole lines, is in the new file or is not wanted there. On a file system without links or
        leases nothing can be kept. OSError: another program has it open, and no name can be kept
        though there could be one.
        """
        inode, size = os.fstat(descriptor).st_ino, _size(descriptor)
        until = _end_of_lines(descriptor) if until is None else until
        kept = self._keep(series, path, descriptor, new, until)
        try:
            yield
        finally:
            if kept is not None:
                is_over = not has_writer(descriptor) and _size(descriptor) == size
                if is_over or _inode(path) == inode:
                    kept.end()
                else:
                    kept.brought(kept.size)

    def _keep(
        self, series: Series, path: Path, descriptor: int, new: Path, until: int
    ) -> GrowingFile | None:
        inode = os.fstat(descriptor).st_ino
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if not _has_leases(self._folder):
                return None
            for one in self.of(series):
                if _inode(one.path) == inode:  # we were killed when we were about to replace it
                    one.end()
            by = new.stat().st_ino
            kept = GrowingFile(self._folder / f"{series}.{inode}.{until}-{by}.csv", until, by)
            os.link(os.path.realpath(path), kept.path)
        except OSError as error:
            if error.errno in _NO_LINKS or not has_writer(descriptor):
                return None
            raise OSError(error.errno, f"{error.strerror} ({self._folder})") from error
        if _inode(kept.path) == inode:
            return kept
        kept.end()  # the path leads elsewhere by now
        return None


def has_writer(descriptor: int) -> bool | None:
    """Whether another program has this file open for writing; None: that cannot be known.

    `descriptor` is open for reading only. The kernel grants its owner a lease for reading only if
    nobody has the file open for writing (fcntl(2), "Leases"); it is Linux' that does.
    """
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)  # which does nothing, unlike SIGIO
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except (OSError, AttributeError) as error:
        return True if isinstance(error, OSError) and error.errno == errno.EAGAIN else None
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


@cache
def _has_leases(folder: Path) -> bool:
    """Whether a lease is granted there for a file that nobody else has: not by all servers.

    True where no file can be made, so that whoever wants to keep a name learns why.
    """
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".", suffix=TEMPORARY) as made:
            made.file.close()
            descriptor = os.open(made.name, os.O_RDONLY)
            try:
                return has_writer(descriptor) is False
            finally:
                os.close(descriptor)
    except PermissionError:
        return True


def _end_of_lines(descriptor: int) -> int:
    """Where the last whole line ends."""
    end = _size(descriptor)
    while end:
        begin = max(end - _BLOCK_BYTES, 0)
        place = os.pread(descriptor, end - begin, begin).rfind(b"\n") + 1
        if place:
            return begin + place
        end = begin
    return 0


def _size(descriptor: int) -> int:
    return os.fstat(descriptor).st_size


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None
