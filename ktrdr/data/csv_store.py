"""The bar files: the only reader and writer of them. What is missing in them is not known here."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from ktrdr.errors import MalformedFile, StoreUnwritable, WrongSource
from ktrdr.planning.bars import Bar
from ktrdr.planning.instruments import Series, parse_series
from ktrdr.planning.sessions import Int64Array
from ktrdr.planning.timeframes import DAY_S, Timeframe

COLUMNS = ("timestamp", "open", "high", "low", "close", "volume")
HEADER = ",".join(COLUMNS)
OURS = ".ktrdr"
"""The folder inside the store that is this project's own."""

_TEMPORARY = ".ktrdr-new"
_LOCK_TIMEOUT_S = 5.0
_EXAMPLE = "2026-11-20 14:30:00+00:00"
_STAMP = len(_EXAMPLE)

FileKey = tuple[int, int, int]
"""Size, mtime in ns, inode: the same key, the same content."""


@dataclass(frozen=True)
class BarFile:
    """A bar file that was read and checked whole."""

    path: Path
    key: FileKey
    columns: tuple[str, ...]
    starts: Int64Array
    """UTC seconds, ascending, without duplicates."""
    raw: bytes
    offsets: Int64Array
    """Where each row's line begins in `raw`, and where the last one ends."""

    def rows_between(self, start: int, end: int) -> bytes:
        """The lines of the bars that start in `[start, end)`, as they stand in the file."""
        first, last = np.searchsorted(self.starts, [start, end])
        return self.raw[self.offsets[first] : self.offsets[last]]

    def bars_at(self, starts: Iterable[int]) -> list[Bar]:
        """Those of the bars of these starts that the file has, in order."""
        wanted = np.unique(np.fromiter(starts, dtype=np.int64))
        rows = np.flatnonzero(np.isin(self.starts, wanted))
        places = [self.columns.index(name) for name in COLUMNS[1:]]
        bars = []
        for row in rows.tolist():
            fields = self.raw[self.offsets[row] : self.offsets[row + 1]].split(b",")
            bars.append(Bar(int(self.starts[row]), *(float(fields[place]) for place in places)))
        return bars

    def nearest(self, start: int, end: int) -> int | None:
        """The start of the bar nearest to `[start, end)` and outside it; None: there is none."""
        first, last = np.searchsorted(self.starts, [start, end])
        before = int(self.starts[first - 1]) if first else None
        after = int(self.starts[last]) if last < len(self.starts) else None
        if before is None or after is None:
            return after if before is None else before
        return before if start - before <= after - end else after


class CsvStore:
    """A folder of bar files, `SYMBOL_TIMEFRAME.csv` each.

    Every write replaces a file whole or leaves it as it was. One writer at a time per file,
    between processes too; readers need no lock.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __repr__(self) -> str:
        return f"CsvStore({str(self.folder)!r})"

    def claim(self, source: str) -> None:
        """Make this a store of `live` or `simulated` bars, if it is none yet.

        WrongSource when it is a store of the other kind; nothing is changed then.
        """
        owner = self.source()
        if owner == source:
            return
        if owner is not None:
            raise WrongSource(
                f"the store {self.folder} holds {owner} bars, and the gateway is {source}",
                hint="set KTRDR_DATA_DIR to another folder, or IB_HOST to the right gateway",
            )
        with _reported(self.folder):
            (self.folder / OURS).mkdir(parents=True, exist_ok=True)
            _replace(self.folder / OURS / "source", [f"{source}\n".encode()], like=None)

    def source(self) -> str | None:
        """`live` or `simulated`; None for a store that nothing was written to."""
        try:
            text = (self.folder / OURS / "source").read_text(errors="replace")
        except FileNotFoundError:
            return None
        return text.strip() or None

    def series(self) -> tuple[list[Series], list[str]]:
        """The series that there are files for, and a line for each `.csv` that is none."""
        found: list[Series] = []
        strange: list[str] = []
        with contextlib.suppress(FileNotFoundError), os.scandir(self.folder) as entries:
            for entry in entries:
                if not entry.name.endswith(".csv") or entry.name.startswith("."):
                    continue
                try:
                    series = parse_series(entry.name)
                except ValueError as error:
                    strange.append(f"{entry.name!r} is no series: {error}")
                    continue
                if entry.is_file():
                    found.append(series)
                else:
                    strange.append(f"{entry.name!r} is no series: expected a regular file")
        return sorted(found, key=lambda s: (s.symbol, s.timeframe.length_s)), sorted(strange)

    def path(self, series: Series) -> Path:
        """Where the series' file is, or would be."""
        return self.folder / series.file_name

    def key(self, series: Series) -> FileKey | None:
        """Changes when the file does; None when there is no file."""
        try:
            return _key(self.path(series).stat())
        except FileNotFoundError:
            return None

    def read(self, series: Series) -> BarFile:
        """The series' file, every row checked.

        MalformedFile names the line; FileNotFoundError when there is no such file.
        """
        path = self.path(series)
        if path.exists() and not path.is_file():
            raise MalformedFile(f"{path.name} is no regular file")
        with path.open("rb") as file:
            key = _key(os.fstat(file.fileno()))
            raw = file.read()
        return parse(path, raw, series.timeframe, key)

    def add(self, series: Series, bars: Iterable[Bar], *, correct: bool = False) -> int:
        """Put bars into the series' file, where it has none of that start; how many were new.

        Rows that stand there stay byte for byte, unless they are to be corrected. StoreUnwritable:
        the disk refused, and the old file is whole. MalformedFile: it cannot be read, and is left
        as it is.
        """
        new = sorted({bar.start: bar for bar in bars}.values())
        if not new:
            return 0
        with _reported(self.path(series)), self._locked(series):
            while True:
                found = self.read(series)
                old = _mended(found, series.timeframe, {bar.start for bar in new})
                fresh = _not_in(old, new)
                written = new if correct else fresh
                if not written and old is found:
                    return 0
                if _replace(old.path, _merged(old, written), like=old.key):
                    return len(fresh)

    def swap(self, series: Series, newer: Path, keep: Path) -> None:
        """Put the file `newer` into the place of the series' file, in one step.

        The old one is kept as `keep`. StoreUnwritable: nothing has changed.
        """
        with _reported(self.path(series)), self._locked(series):
            target = Path(os.path.realpath(self.path(series)))
            keep.parent.mkdir(parents=True, exist_ok=True)
            _keep(target, keep)
            _take_after(target, newer)
            newer.replace(target)
            _sync_folder(target.parent)

    def clear_leftovers(self) -> int:
        """Remove what a killed writer left; how many files that were."""
        left = list(self.folder.glob(f".*{_TEMPORARY}"))
        for path in left:
            path.unlink(missing_ok=True)
        return len(left)

    @contextlib.contextmanager
    def _locked(self, series: Series) -> Iterator[None]:
        locks = self.folder / OURS / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        lock = FileLock(locks / f"{series}.lock", timeout=_LOCK_TIMEOUT_S)
        try:
            with lock:
                yield
        except Timeout:
            raise StoreUnwritable(
                f"{series.file_name} has been locked by another process for {_LOCK_TIMEOUT_S:g} s"
            ) from None


@contextlib.contextmanager
def _reported(path: Path) -> Iterator[None]:
    """Translate what the file system refuses, but for a file that is not there."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StoreUnwritable(f"{path}: {error.strerror or error}") from error


def _key(stat: os.stat_result) -> FileKey:
    return stat.st_size, stat.st_mtime_ns, stat.st_ino


def _not_in(old: BarFile, bars: Sequence[Bar]) -> list[Bar]:
    starts = np.array([bar.start for bar in bars], dtype=np.int64)
    return [bar for bar, known in zip(bars, np.isin(starts, old.starts), strict=True) if not known]


def _mended(file: BarFile, timeframe: Timeframe, coming: set[int]) -> BarFile:
    """The file with a last line that ends: completed when it is a whole row, dropped when torn.

    Nobody can tell a whole number from a torn one: a bar that comes anew is believed instead.
    """
    end = int(file.offsets[-1])
    if end == len(file.raw):
        return file
    with contextlib.suppress(MalformedFile):
        whole = parse(file.path, file.raw + b"\n", timeframe, file.key)
        if int(whole.starts[-1]) not in coming:
            return whole
    return parse(file.path, file.raw[:end], timeframe, file.key)


def _merged(old: BarFile, new: Sequence[Bar]) -> Iterator[bytes]:
    """The new content in pieces: old lines untouched, new ones where they belong.

    A new bar takes the place of an old one of the same start.
    """
    places = np.searchsorted(old.starts, [bar.start for bar in new])
    newline = b"\r\n" if b"\r\n" in old.raw[: old.offsets[0]] else b"\n"
    written = 0
    if not old.raw:
        yield HEADER.encode() + newline
    for bar, place in zip(new, places.tolist(), strict=True):
        until = int(old.offsets[place])
        if until > written:
            yield _ended(old.raw[written:until], newline)
            written = until
        yield _row(bar, old.columns).encode() + newline
        if place < len(old.starts) and int(old.starts[place]) == bar.start:
            written = int(old.offsets[place + 1])
    yield _ended(old.raw[written : old.offsets[-1]], newline)


def _ended(lines: bytes, newline: bytes) -> bytes:
    """The lines, the last one with its end: a header alone may lack it."""
    return lines if lines.endswith(b"\n") or not lines else lines + newline


def _row(bar: Bar, columns: Sequence[str]) -> str:
    """One line without its end; columns that are not ours stay empty."""
    moment = datetime.fromtimestamp(bar.start, UTC)
    values = {
        "timestamp": moment.isoformat(" "),
        "open": repr(float(bar.open)),
        "high": repr(float(bar.high)),
        "low": repr(float(bar.low)),
        "close": repr(float(bar.close)),
        "volume": repr(int(bar.volume)) if bar.volume == int(bar.volume) else repr(bar.volume),
    }
    return ",".join(values.get(name, "") for name in columns)


def _replace(path: Path, pieces: Iterable[bytes], like: FileKey | None) -> bool:
    """Write a file whole beside `path` and move it there; False: `path` has changed meanwhile.

    With `like`, the old file's key, its permissions and owner are kept.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(
        f".{target.name}.{os.getpid()}-{threading.get_ident()}{_TEMPORARY}"
    )
    try:
        with temporary.open("wb") as file:
            file.writelines(pieces)
            if like is not None:
                _take_after(target, file.fileno())
            file.flush()
            os.fsync(file.fileno())
        if like is not None and _key(target.stat()) != like:
            return False
        temporary.replace(target)
        _sync_folder(target.parent)
        return True
    finally:
        temporary.unlink(missing_ok=True)


def _keep(old: Path, copy: Path) -> None:
    """The same content under another name; by a link where the file system has them."""
    try:
        os.link(old, copy)
    except OSError:
        _replace(copy, [old.read_bytes()], like=None)
    _sync_folder(copy.parent)


def _take_after(old: Path, new: int | Path) -> None:
    """Give a file the permissions and, where that is allowed, the owner of another."""
    stat = old.stat()
    os.chmod(new, stat.st_mode & 0o7777)  # noqa: PTH101  an open file may be meant
    with contextlib.suppress(PermissionError):
        os.chown(new, stat.st_uid, stat.st_gid)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def parse(path: Path, raw: bytes, timeframe: Timeframe, key: FileKey = (0, 0, 0)) -> BarFile:
    """The content of a bar file, checked.

    A last line that does not end is no row yet, and is kept out. MalformedFile says the line
    and what was expected there.
    """
    buffer = np.frombuffer(raw, dtype=np.uint8)
    line_ends = np.flatnonzero(buffer == ord("\n")).astype(np.int64)
    header_end = int(line_ends[0]) + 1 if len(line_ends) else len(raw)
    columns = _read_header(path, raw[:header_end])
    begins = np.concatenate(([header_end], line_ends[1:] + 1)).astype(np.int64)
    lines = [raw[a:b].rstrip(b"\r\n") for a, b in itertools.pairwise(begins)]
    starts = _read_stamps(path, buffer, begins, lines, columns)
    _check_rows(path, lines, columns)
    _check_starts(path, starts, timeframe)
    return BarFile(path, key, columns, starts, raw, begins)


def _broken(path: Path, line: int, found: object, expected: str) -> MalformedFile:
    return MalformedFile(f"{path.name} line {line}: {found!r}: expected {expected}")


def _read_header(path: Path, line: bytes) -> tuple[str, ...]:
    """The columns' names; those of the contract for a file that is empty."""
    text = line.decode(errors="replace").rstrip("\r\n")
    columns = tuple(text.split(",")) if text else COLUMNS
    if set(COLUMNS) - set(columns) or len(set(columns)) != len(columns):
        raise _broken(path, 1, text, f"the header {HEADER}, further columns allowed")
    return columns


def _read_stamps(
    path: Path,
    buffer: np.typing.NDArray[np.uint8],
    begins: Int64Array,
    lines: Sequence[bytes],
    columns: Sequence[str],
) -> Int64Array:
    """Every row's start: fixed-width stamps are viewed, others parsed one by one."""
    place = columns.index("timestamp")
    if place == 0 and len(lines) and int(np.diff(begins).min()) > _STAMP:
        window = buffer[begins[:-1, None] + np.arange(_STAMP + 1)]
        starts, viewed = view_stamps(window[:, :_STAMP])
        viewed &= window[:, _STAMP] == ord(",")
    else:
        starts, viewed = np.zeros(len(lines), np.int64), np.zeros(len(lines), np.bool_)
    for row in np.flatnonzero(~viewed).tolist():
        fields = lines[row].decode(errors="replace").split(",")
        starts[row] = _parse_stamp(path, row + 2, fields[place] if place < len(fields) else "")
    return starts


def view_stamps(
    text: np.typing.NDArray[np.uint8],
) -> tuple[Int64Array, np.typing.NDArray[np.bool_]]:
    """UTC seconds of stamps `YYYY-MM-DD HH:MM:SS+00:00`, an (n, 25) array of their bytes.

    Also which of them have this form; the seconds of the others mean nothing.
    """
    pattern = np.frombuffer(_EXAMPLE.encode(), dtype=np.uint8)
    fixed = [4, 7, 10, 13, 16, *range(19, 25)]
    digits = [i for i in range(19) if i not in fixed]
    good = (text[:, fixed] == pattern[fixed]).all(axis=1)
    values = text[:, digits].astype(np.int64) - ord("0")
    good &= ((values >= 0) & (values <= 9)).all(axis=1)
    tens = np.array([10, 1])
    year = values[:, :4] @ np.array([1000, 100, 10, 1])
    month, day, hour, minute, second = (values[:, i : i + 2] @ tens for i in range(4, 14, 2))
    good &= (year >= 1900) & (month >= 1) & (month <= 12) & (day >= 1)
    good &= (hour < 24) & (minute < 60) & (second < 60)
    months = (12 * (year - 1970) + month - 1).astype("datetime64[M]")
    days = months.astype("datetime64[D]").astype(np.int64) + day - 1
    next_month = (months + np.timedelta64(1, "M")).astype("datetime64[D]").astype(np.int64)
    good &= days < next_month
    return days * DAY_S + hour * 3600 + minute * 60 + second, good


def _parse_stamp(path: Path, line: int, text: str) -> int:
    """A stamp in another spelling of ISO 8601; without a zone it is UTC."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise _broken(path, line, text, f"a time such as {_EXAMPLE}") from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def _check_rows(path: Path, lines: Sequence[bytes], columns: Sequence[str]) -> None:
    """Each row has its fields, and the five of ours are numbers."""
    ours = [columns.index(name) for name in COLUMNS[1:]]
    for number, line in enumerate(lines, start=2):
        fields = line.split(b",")
        if len(fields) != len(columns) or not all(_is_number(fields[place]) for place in ours):
            row = line.decode(errors="replace")
            raise _broken(path, number, row, f"{len(columns)} fields, prices as numbers")


def _is_number(text: bytes) -> bool:
    try:
        return math.isfinite(float(text)) and b"_" not in text
    except ValueError:
        return False


def _check_starts(path: Path, starts: Int64Array, timeframe: Timeframe) -> None:
    """Rows ascend, and begin on whole minutes or days."""
    unordered = np.flatnonzero(np.diff(starts) <= 0)
    if len(unordered):
        row = int(unordered[0]) + 1
        found = datetime.fromtimestamp(int(starts[row]), UTC).isoformat(" ")
        raise _broken(path, row + 2, found, "a time after that of the row before")
    unit = DAY_S if timeframe.is_daily else 60
    uneven = np.flatnonzero(starts % unit)
    if len(uneven):
        found = datetime.fromtimestamp(int(starts[uneven[0]]), UTC).isoformat(" ")
        raise _broken(
            path, int(uneven[0]) + 2, found, "00:00:00 UTC" if unit == DAY_S else "whole minutes"
        )
