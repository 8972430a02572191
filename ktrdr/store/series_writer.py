"""Writes into the file of one series, for the holder of its lock. Takes no lock itself."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ktrdr.errors import KtrdrError, MalformedFile, StoreUnwritable
from ktrdr.market.bars import Bar
from ktrdr.market.instruments import Series
from ktrdr.sqlite_file import DatabaseError
from ktrdr.store.atomic_write import Edit, append, rewrite
from ktrdr.store.bar_file import BarFile, FileTail
from ktrdr.store.edits import (
    edits_for,
    edits_for_lines,
    is_behind,
    is_being_written,
    is_row,
    lacks_only_its_end,
    lines,
)
from ktrdr.store.entries import read_entries
from ktrdr.store.file_key import FileKey, key_of
from ktrdr.store.growing_files import GrowingFile, GrowingFiles, has_writer
from ktrdr.store.known_files import KnownFiles
from ktrdr.store.lock import Unfinished, WriteLock
from ktrdr.store.written_rows import WrittenRows

_TRIES = 20
_LINE_S = 0.05
"""How long another program is given to end its line, each time."""
_MOST_BYTES = 1024 * 1024
"""So much of a replaced file is brought over at a time."""


class SeriesWriter:
    """Every write extends the file or replaces it whole, or leaves it as it was.

    `like`: a folder whose file of this series gives the spelling of times, if this one has no rows.
    """

    def __init__(
        self,
        folder: Path,
        series: Series,
        lock: WriteLock,
        known_files: KnownFiles,
        written: WrittenRows,
        like: Path | None,
    ) -> None:
        self._folder = folder
        self._series = series
        self._lock = lock
        self._known_files = known_files
        self.written = written
        """The record of the rows that are written."""
        self._like = like
        self._path = folder / series.file_name
        self._growing = GrowingFiles(folder)
        self._first_key: FileKey | None = None
        """That of the file when it was first opened to add bars."""
        self.keys: tuple[FileKey, FileKey] | None = None
        """Of the file, before and after the bars were added; None: others have changed it too."""

    def add(self, bars: Sequence[Bar], *, correct: bool) -> int:
        """Add bars, ascending, unless the file has one of that start; returns how many were new.

        Raises as `CsvStore.add`, and OSError if the disk refuses.
        """
        self.remove_unfinished()
        self.bring_over()
        is_written = False
        for _ in range(_TRIES):
            with self._open() as file:
                refuse_shared(file, self._folder, self._series)
                self._first_key = self._first_key or file.key
                is_written = is_being_written(file)
                added = None if is_written else self._put(file, bars, correct=correct)
            if added is not None:
                return added
            self.written.withdraw()
            if is_written:
                time.sleep(_LINE_S)
        raise kept_busy(
            self._path, "is writing its last line" if is_written else "keeps replacing it"
        )

    def bring_over(self) -> None:
        """Add what other programs have appended to replaced files that they still have open.

        Their rows take the place of bars of the same time. What is half a line waits for its end.
        What cannot be added now waits too.
        """
        for growing in self._growing.of(self._series):
            with contextlib.suppress(KtrdrError, OSError):
                self._bring_from(growing)

    def _bring_from(self, growing: GrowingFile) -> None:
        try:
            old = BarFile(growing.path, self._series.timeframe)
        except MalformedFile:
            if growing.is_over:
                growing.end()
            return
        with old:
            is_over = has_writer(old.descriptor) is False
            inode = self._path.stat().st_ino if self._path.exists() else None
            was_replaced = growing.replaced_by in (inode, None) and inode != old.key[2]
            if not was_replaced or (inode is None and is_over):
                growing.end()
            elif inode is not None:
                if growing.replaced_by is not None:  # we were killed in that moment
                    growing = growing.brought(growing.size)
                self._bring_all(growing, old, is_over=is_over)

    def _bring_all(self, growing: GrowingFile, old: BarFile, *, is_over: bool) -> None:
        size = os.fstat(old.descriptor).st_size
        begin = max(growing.size if growing.size <= size else 0, old.layout.begin)
        while begin < size:
            raw = os.pread(old.descriptor, min(size - begin, _MOST_BYTES), begin)
            whole, at_end = raw.rfind(b"\n") + 1, begin + len(raw) == size
            if is_over and at_end and is_row(old, raw[whole:]):
                raw += b"\n" if raw.endswith(b"\r") else old.layout.newline
                whole = len(raw)
            if not whole:
                break
            self._bring(old, raw[:whole])
            begin = min(begin + whole, size)
            growing = growing.brought(begin)
        if is_over:
            growing.end()

    def _bring(self, old: BarFile, raw: bytes) -> None:
        """Add lines of another program. StoreUnwritable, MalformedFile: not now."""
        for _ in range(_TRIES):
            with self._open() as file:
                refuse_shared(file, self._folder, self._series)
                torn, end = file.end.torn, raw.index(b"\n") + 1
                if torn and is_row(file, torn + raw[: end - 1]):
                    raw = torn + raw  # its first half was copied
                elif is_being_written(file) and not raw.startswith(torn):
                    time.sleep(_LINE_S)
                    continue
                if self._is_completed(file):
                    continue
                self.written.disown(raw)
                edits = edits_for_lines(file, old, raw)
                if not edits:
                    return
                is_done = self.rewrite(file, edits) is not None
            if is_done:
                self._known_files.forget(self._series)
                return
        raise kept_busy(self._path, "keeps writing to it")

    def remove_unfinished(self) -> bool:
        """Remove rows that a killed writer left unfinished; returns whether there were any.

        By replacing the file, since a reader may have seen some of them. Only rows that ktrdr was
        writing: the last row of another program may lack nothing but its line end.
        """
        for _ in range(_TRIES):
            left = self._lock.unfinished()
            if left is None:
                return False
            with self._open() as file:
                is_this = left.inode in (file.key[2], 0)
                if is_this and not self._remove(file, left):
                    continue
            self._known_files.forget(self._series)
            self._lock.end()
            return is_this
        return False

    def _remove(self, file: BarFile, left: Unfinished) -> bool:
        """Remove what was left unfinished; False: the file has changed."""
        rows, until = left.rows, file.end.whole_until
        if left.is_withdrawn:
            return self.rewrite(file, [], file.size) is not None
        if rows is not None:
            found = rows.place if left.is_misplaced else rows.found(file.descriptor)
            if found is not None and rows.is_at(found, file.descriptor):
                is_right = found == rows.place and not left.is_misplaced
                edits = [Edit(found, found + rows.size, b"")]
                return is_right or self.rewrite(file, edits, file.size) is not None
            is_near = rows.place <= until < rows.place + rows.size
            if left.is_misplaced or not is_near or not rows.may_be_begun(file.descriptor):
                return True  # it is another program's, or the file is another one
        return not file.end.torn or self.rewrite(file, [], until, file.size) is not None

    def _open(self) -> BarFile:
        return BarFile(self._path, self._series.timeframe)

    def _put(self, file: BarFile, bars: Sequence[Bar], *, correct: bool) -> int | None:
        """Add bars to an open file; None: it has changed, and must be read again."""
        end = file.end
        if self._is_completed(file):
            return None
        has_writer = self._growing.has_writer(file.descriptor)
        is_extended = not end.torn and file.links == 1 and not has_writer
        if is_extended and file.layout.is_whole and is_behind(end, bars):
            return self._append(file, bars)
        edits, added = edits_for(file, end, bars, correct=correct)
        if not edits:
            return 0
        self.written.note(file, b"".join(edit.text for edit in edits))
        key = self.rewrite(file, edits)
        if key is None:
            return None
        self._note_keys(file, key)
        self._remember(file, bars, added, key)
        self.bring_over()
        return added

    def rewrite(
        self,
        file: BarFile,
        edits: Sequence[Edit],
        size: int | None = None,
        wanted_from: int | None = None,
    ) -> FileKey | None:
        """Replace the file by an edited copy of `size` bytes; None: it has changed.

        By default a last line without an end is left out. What another program appends to the
        replaced file meanwhile, or later, can be brought over: what follows `wanted_from`, by
        default its whole lines.
        """
        until = max(file.end.whole_until, edits[-1].end) if size is None else size
        os.close(os.open(file.path, os.O_WRONLY | os.O_NONBLOCK))  # OSError: it is to stay as it is
        with contextlib.ExitStack() as kept:

            def accept(new: Path) -> bool:
                names = (self._series, file.path, file.descriptor, new, wanted_from)
                kept.enter_context(self._growing.replacing(*names))
                return _is_same(file)

            return rewrite(file.path, file.descriptor, edits, until, accept)

    def _is_completed(self, file: BarFile) -> bool:
        """Add the line end that a whole last row lacks; True: the file is to be read again.

        Not while another program has the file open, and may add to the last value too.
        """
        torn = file.end.torn
        if not lacks_only_its_end(file, file.end) or self._growing.has_writer(file.descriptor):
            return False
        text = b"\n" if torn.endswith(b"\r") else file.layout.newline
        self.written.note_completed(file)
        is_done = False
        if file.links > 1:
            is_done = self.rewrite(file, [Edit(file.size, file.size, text)]) is not None
        elif _is_same(file):
            appended = append(file.path, file.key[2], text)
            is_done = appended is not None and appended[0] == file.size
            if appended is not None and not is_done:
                self._take_back(file, appended[0], text)
        if not is_done:
            self.written.note_completed(file, is_done=False)
        return True

    def _append(self, file: BarFile, bars: Sequence[Bar]) -> int | None:
        """Append bars; None: the file has changed."""
        text = lines(bars, file, _model(file, self._like))
        if not _is_same(file):
            return None
        self.written.note(file, text)
        self._lock.begin(file.key[2], file.size, text)
        try:
            appended = append(file.path, file.key[2], text)
        except OSError:
            with contextlib.suppress(OSError):
                if os.fstat(file.descriptor).st_size == file.size:
                    self._lock.withdraw()
            raise
        if appended is not None and appended[0] != file.size:
            self._take_back(file, appended[0], text)
            return None
        with contextlib.suppress(OSError):
            self._lock.end()
        if appended is None:
            return None
        return self._learn(file, bars, (file.size + len(text), appended[1]))

    def _take_back(self, file: BarFile, place: int, text: bytes) -> None:
        """Remove what was appended: another program's came before it, perhaps only half a line."""
        self._lock.misplace(file.key[2], place, text)
        for _ in range(_TRIES):
            with self._open() as now:
                is_there = os.pread(now.descriptor, len(text), place) == text
                edits = [Edit(place, place + len(text), b"")]
                is_other = now.key[2] != file.key[2] or not is_there
                if is_other or self.rewrite(now, edits, now.size) is not None:
                    self._known_files.forget(self._series)
                    self._lock.end()
                    return
        raise kept_busy(self._path, "keeps writing to it")

    def _learn(
        self, file: BarFile, bars: Sequence[Bar], size_and_time: tuple[int, int]
    ) -> int | None:
        """Record appended bars; None: the file has been replaced by another."""
        try:
            key = key_of(file.path.stat())
        except FileNotFoundError:
            raise
        except OSError:
            self._known_files.forget(self._series)
            return len(bars)  # they are written, and on the disk
        if key[2] != file.key[2]:
            return None
        if key[0] == size_and_time[0]:
            self._note_keys(file, key)
        self._remember(file, bars, len(bars), key if key[:2] == size_and_time else None)
        return len(bars)

    def _note_keys(self, file: BarFile, after: FileKey) -> None:
        """Note that the file was changed by nobody else."""
        self.keys = (file.key, after) if file.key == self._first_key else None

    def _remember(
        self, file: BarFile, bars: Sequence[Bar], added: int, key: FileKey | None
    ) -> None:
        """Keep what is known of the file, which has these bars and this key now; None: not sure."""
        starts = np.array([bar.start for bar in bars], np.int64)
        try:
            known = self._known_files.of(self._series)
            if key is not None and known is not None and known.is_current(file.key):
                self._known_files.extend(self._series, key, starts, added)
            else:
                self._known_files.forget(self._series)
        except (DatabaseError, OSError):  # the bars are added all the same
            self._known_files.forget(self._series)


def _is_same(file: BarFile) -> bool:
    """The path still leads to this file, and nobody has written to it."""
    return key_of(file.path.stat()) == file.key


def _model(file: BarFile, like: Path | None) -> FileTail:
    """The last row, whose spelling new rows follow; without one, that of the file in `like`."""
    if like is not None and file.end.last is None:
        path = like / file.path.name
        with contextlib.suppress(OSError, MalformedFile), BarFile(path, file.timeframe) as opened:
            return opened.end
    return file.end


def refuse_shared(file: BarFile, folder: Path, series: Series) -> None:
    """MalformedFile: another series shares the file, perhaps only since the last scan."""
    if file.links > 1 or file.path.is_symlink():
        error = read_entries(folder).blocked.get(series)
        if error is not None:
            raise error


def kept_busy(path: Path, what: str) -> StoreUnwritable:
    """The error that another program does this all the time."""
    return StoreUnwritable(
        f"{path}: another program {what}",
        hint="end that program, or have it write elsewhere; it is tried again",
    )
