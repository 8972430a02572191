"""Checks whether bars can be written into a folder: present, the same, writable, with room."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import NamedTuple

from ktrdr.errors import KtrdrError, StoreGone, StoreUnwritable
from ktrdr.sqlite_file import DatabaseError, errno_of, is_damage
from ktrdr.store.atomic_write import TEMPORARY
from ktrdr.store.source import METADATA_DIR, ledger_path

_PROBE_BYTES = 65_536
_MORE_BYTES = 65_536
_ROOMY_BYTES = 16 * 2**20
"""A full disk is written to again when this much more is free, or this much in all."""
_FULL = (errno.ENOSPC, errno.EDQUOT)
_LEDGER_HINT = "see who else has .ktrdr/ledger.sqlite open, and that it may be written to"
_REFUSED = ("this user may not write to {}", "{1}")
_OUT_OF_FILES = (
    "the disk with {} can hold no more files, whatever is free",
    "remove files that are not needed, see: df -i {}; it goes on by itself",
)
_WORDS = {
    errno.ENOSPC: ("the disk with {} is full", "free some space; it goes on by itself"),
    errno.EDQUOT: (
        "the disk quota for {} is used up",
        "free some space or raise the quota; it goes on by itself",
    ),
    errno.EROFS: ("the disk with {} is read-only", "mount it writable; see: findmnt -T {}"),
    errno.EACCES: _REFUSED,
    errno.EPERM: _REFUSED,
}
"""(message, hint): `{}` is the folder, `{1}` the command that makes it writable."""


class Room(NamedTuple):
    """The room on a file system that is available to this user."""

    free: int
    """Bytes."""
    total: int
    is_out_of_files: bool = False
    """No more files can be created, however much is free."""


class StoreProbe:
    """Probes one folder repeatedly. A folder that never existed is not a problem."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: tuple[int, int] | None = None
        self._was_owned = False
        self._full_at: int | None = None
        """How much was free when the disk refused as full."""
        self.may_refuse = True
        """A write was refused since the last check or would be, or there was no check yet."""
        self.seen_room: Room | None = None
        """As of the last check of the folder."""

    def __repr__(self) -> str:
        return f"StoreProbe({str(self._folder)!r})"

    @property
    def room(self) -> Room | None:
        """The room now; None: unknown."""
        return _room(self._folder)

    def refused(self, error: BaseException) -> None:
        """Note that the disk refused a write; a full disk counts as full until more is free."""
        self.may_refuse = True
        if _number_of(error) in _FULL:
            room = self.room
            if room is None or not room.is_out_of_files:
                self._full_at = room.free if room else 0

    def check_folder(self) -> None:
        """StoreGone: the folder is missing, or is not the same as before. Notes `may_refuse`."""
        found = self.check_present()
        if found is not None:
            self._known, self._was_owned = found
            self._look()

    def check_present(self) -> tuple[tuple[int, int], bool] | None:
        """The same for any thread: notes nothing. Which folder it is, and whether it is ours."""
        try:
            found = self._folder.stat()
        except OSError as error:
            if self._known is None and isinstance(error, FileNotFoundError):
                return None
            raise self._gone(error.strerror or str(error)) from error
        known = (found.st_dev, found.st_ino)
        is_owned = (self._folder / METADATA_DIR).is_dir()
        if not is_owned:
            _refuse_other(self._folder / METADATA_DIR)
        if self._known not in (None, known) and self._was_owned and not is_owned:
            raise self._gone("it is another folder than before")
        return known, is_owned

    def _look(self) -> None:
        """Notice at little cost that the disk is full, read-only or not writable."""
        room = self.seen_room = self.room
        is_out = room is not None and (room.free < _PROBE_BYTES or room.is_out_of_files)
        if is_out or not os.access(self._folder, os.W_OK | os.X_OK):
            self.may_refuse = True

    def check(self) -> None:
        """The same; StoreUnwritable: nothing can be written. Writes and removes a small file."""
        self.check_folder()
        room = self.seen_room
        if self._known is None:
            return
        if self._full_at is not None and room is not None:
            if room.free < min(self._full_at + _MORE_BYTES, _ROOMY_BYTES):
                raise explained(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), self._folder)
            self._full_at = None
        try:
            if self._was_owned:
                _write_and_remove(self._folder / METADATA_DIR)
            _may_write(self._folder)
        except OSError as error:
            self.refused(error)
            raise explained(error, self._folder) from error
        self.may_refuse = False

    def _gone(self, why: str) -> StoreGone:
        return StoreGone(
            f"the folder {self._folder} has gone ({why})",
            hint="mount its disk again, and it goes on by itself; if the folder was replaced on "
            "purpose: .venv/bin/supervisorctl restart gap-filler",
        )


def _room(folder: Path) -> Room | None:
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    is_out = found.f_files > 0 and found.f_favail == 0
    return Room(found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize, is_out)


def _is_out_of_files(folder: Path) -> bool:
    """There is room for bytes, and none for another file."""
    room = _room(folder)
    return room is not None and room.is_out_of_files and room.free >= _PROBE_BYTES


def _refuse_other(metadata: Path) -> None:
    """StoreUnwritable: ktrdr's own folder is something else, such as a link."""
    if metadata.is_symlink():
        raise StoreUnwritable(
            f"{metadata} is a link to {str(metadata.readlink())!r}, where there is no folder",
            hint="mount its disk again, and it goes on by itself; or put a folder there",
        )
    if metadata.exists():
        raise StoreUnwritable(
            f"{metadata} is not a folder", hint="move it away; it goes on by itself then"
        )


def explained(error: BaseException, folder: Path) -> StoreUnwritable:
    """An error of the disk in words, with what to do about it."""
    number = _number_of(error)
    if number in _WORDS:
        is_out_of_files = number == errno.ENOSPC and _is_out_of_files(folder)
        words, hint = _OUT_OF_FILES if is_out_of_files else _WORDS[number]
        return StoreUnwritable(words.format(folder), hint=hint.format(folder, _permit(folder)))
    hint = f"look at its disk: df -h {folder}; it goes on by itself"
    if isinstance(error, DatabaseError) and is_damage(error):
        return StoreUnwritable(
            f"{ledger_path(folder)} is damaged ({error}): a new one is begun",
            hint="see whether its disk is sound (dmesg); it goes on by itself",
        )
    if isinstance(error, DatabaseError):
        hint = f"in {folder}: {_LEDGER_HINT}; it goes on by itself"
    if isinstance(error, StoreGone):
        return error
    if isinstance(error, KtrdrError):
        return StoreUnwritable(error.message, hint=error.hint or hint)
    return StoreUnwritable(f"{folder}: {getattr(error, 'strerror', None) or error}", hint=hint)


def _permit(folder: Path) -> str:
    """The command that lets this user write there, given its owner and mode."""
    user = os.geteuid()
    metadata, ledger = folder / METADATA_DIR, ledger_path(folder)
    may_not = f"see what forbids it: lsattr -d {folder} {metadata} {metadata}/*"
    for path in (folder, metadata, ledger):
        try:
            found = path.stat()
        except OSError:
            continue
        if found.st_uid != user:
            return f"sudo chown -R {user}:{os.getegid()} {folder}"
        needed = stat.S_IRWXU if stat.S_ISDIR(found.st_mode) else stat.S_IRUSR | stat.S_IWUSR
        if found.st_mode & needed != needed:
            may_not = f"chmod -R u+rwX {folder}"
    return may_not


def _number_of(error: BaseException | None) -> int | None:
    """The system's number of an error, or of its cause; also for some errors of SQLite."""
    while error is not None:
        if isinstance(error, OSError) and error.errno is not None:
            return error.errno
        if isinstance(error, DatabaseError):
            return errno_of(error)
        error = error.__cause__
    return None


def _write_and_remove(folder: Path) -> None:
    """Write a small file to the disk itself, and remove it again."""
    path = folder / f".probe.{os.getpid()}{TEMPORARY}"
    try:
        with path.open("wb", buffering=0) as file:
            if file.write(bytes(_PROBE_BYTES)) < _PROBE_BYTES:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(file.fileno())
    finally:
        with contextlib.suppress(OSError):
            path.unlink()


def _may_write(folder: Path) -> None:
    """PermissionError, or OSError EROFS: no file can be created there. Creates none."""
    if os.access(folder, os.W_OK | os.X_OK):
        return
    is_read_only = bool(os.statvfs(folder).f_flag & os.ST_RDONLY)
    number = errno.EROFS if is_read_only else errno.EACCES
    raise OSError(number, os.strerror(number))
