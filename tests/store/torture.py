"""The programs that the kill tests run: a writer of random bars, and readers that check all.

A row proves itself: its volume names a version, and its prices follow from the version and the
start. What was meant and what was acknowledged stands in memory that the processes share, which
no kill can take.
"""

import errno
import os
import pickle
import random
import time
from contextlib import suppress
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np

from ktrdr.errors import StoreUnwritable
from ktrdr.market.bars import Bar
from ktrdr.market.instruments import parse_series
from ktrdr.store.csv_store import CsvStore

HEADER = b"timestamp,open,high,low,close,volume"
FIRST = int(datetime(2020, 1, 1, tzinfo=UTC).timestamp())
SLOTS = 2**17
"""So many minutes may have a bar."""
SERIES = [parse_series(f"{name}_1m.csv") for name in ("EMPTY", "SMALL", "LONG", "HUGE")]
ROWS = [0, 1_000, 15_000, 50_000]
"""How many each has in the beginning: up to 3 MB."""
NEWLINES = [b"\n", b"\r\n", b"\n", b"\n"]
MODES = [0o644, 0o600, 0o640, 0o664]
READERS = 4
APPEND, SPLICE, CORRECT, MIXED = KINDS = range(4)
_SPACING = 997
_STRANGER = 4_000_000_000 // _SPACING
"""A version that must never be seen: of bars that may not take the place of those that stand."""


class Book:
    """What was meant to be written, is being written, and was acknowledged; shared by mapping."""

    def __init__(self, path: Path) -> None:
        size = 1 + 3 * len(SERIES)
        if not path.exists():
            np.zeros((size, SLOTS), np.uint32).tofile(path)
        numbers = np.memmap(path, np.uint32, "r+", shape=(size, SLOTS))
        self._of_all = numbers[0]
        self.meant, self.flight, self.acked = numbers[1:].reshape(3, len(SERIES), SLOTS)
        """For each file and slot a version, 0: none. The newest that anybody meant to write, the
        one that is being written now, and that which must be there."""

    def new_version(self) -> int:
        self._of_all[0] += 1
        return int(self._of_all[0])

    def counter(self, number: int) -> np.ndarray:
        """One number of free use."""
        return self._of_all[10 + number : 11 + number]

    @property
    def is_over(self) -> bool:
        return bool(self._of_all[1])

    def end(self) -> None:
        self._of_all[1] = 1

    def begin(self, file: int, slots, version: int) -> None:
        self.meant[file, slots] = version
        self.flight[file, slots] = version

    def acknowledge(self, file: int, slots, version: int) -> None:
        self.acked[file, slots] = version
        self.flight[file, slots] = 0


def bar(slot: int, version: int) -> Bar:
    low = 1 + (slot * 7919 + version * 104729) % 99991 / 100
    return Bar(FIRST + 60 * slot, low + 0.25, low + 1.5, low, low + 1.37, version * _SPACING)


def text(slot: int, version: int) -> bytes:
    """The line of a bar, without its end."""
    start, *prices, volume = bar(slot, version)
    stamp = datetime.fromtimestamp(start, UTC).isoformat(" ")
    return ",".join([stamp, *(repr(price) for price in prices), str(volume)]).encode()


class Torn(AssertionError):
    """What was read is not what anybody wrote."""


class Judge:
    """Knows a whole row when it sees one."""

    def __init__(self, folder: Path) -> None:
        self._known: dict[bytes, tuple[int, int]] = pickle.loads(_rows_of(folder).read_bytes())

    def versions(self, lines: list[bytes]) -> np.ndarray:
        """The version that each slot has; 0: there is no row of it."""
        found = [self._known.get(line) or self._judge(line) for line in lines]
        seen = np.zeros(SLOTS, np.uint32)
        if found:
            slots, versions = np.array(found, np.int64).T
            if (np.diff(slots) <= 0).any():
                place = int(np.flatnonzero(np.diff(slots) <= 0)[0])
                raise Torn(f"out of order: {lines[place]!r}, then {lines[place + 1]!r}")
            seen[slots] = versions
        return seen

    def _judge(self, line: bytes) -> tuple[int, int]:
        try:
            stamp, *_, volume = line.decode().split(",")
            slot = (int(datetime.fromisoformat(stamp).timestamp()) - FIRST) // 60
            version = int(volume) // _SPACING
            is_whole = text(slot, version) == line
        except ValueError:
            is_whole = False
        if not is_whole:
            raise Torn(f"no row that anybody wrote: {line[:200]!r}")
        self._known[line] = slot, version
        return slot, version


def lines_of(content: bytes, newline: bytes) -> list[bytes]:
    """The rows of a file, as any program finds them: a last line without an end is none."""
    if not content.startswith(HEADER + newline):
        raise Torn(f"no header: {content[:200]!r}")
    lines = content.split(b"\n")[1:-1]
    if newline == b"\r\n":
        if not all(line.endswith(b"\r") for line in lines):
            raise Torn("a line with another end")
        lines = [line[:-1] for line in lines]
    return lines


def _rows_of(folder: Path) -> Path:
    """Where the first rows of the store stand, so that nobody has to judge them."""
    return folder.with_name("rows")


def make_store(folder: Path, book: Book, rng: random.Random) -> None:
    """Files of all sizes, with gaps in them."""
    known = {}
    for file, series in enumerate(SERIES):
        slots = sorted(rng.sample(range(ROWS[file] * 10 // 9), ROWS[file]))
        version = book.new_version()
        path = folder / series.file_name
        rows = [text(slot, version) for slot in slots]
        known.update(zip(rows, [(slot, version) for slot in slots], strict=True))
        path.write_bytes(b"".join(line + NEWLINES[file] for line in [HEADER, *rows]))
        path.chmod(MODES[file])
        book.begin(file, slots, version)
        book.acknowledge(file, slots, version)
    _rows_of(folder).write_bytes(pickle.dumps(known))


# Reading.


def read(folder: Path, book_path: Path, number: int) -> None:
    """PROGRAM: reads files repeatedly, in all ways, and fails at the first error."""
    os.nice(3)  # writers shall get on
    book, judge, rng = Book(book_path), Judge(folder), random.Random(number)
    store = CsvStore(folder)
    while not book.is_over:
        file = rng.choices(range(len(SERIES)), (5, 5, 2, 1))[0]
        path = folder / SERIES[file].file_name
        first, last = 0, SLOTS
        before = book.acked[file].copy()
        match rng.choice(("whole", "by lines", "rows", "window", "verify")):
            case "whole":
                seen = judge.versions(lines_of(path.read_bytes(), NEWLINES[file]))
            case "by lines":
                with path.open("rb", buffering=rng.choice((512, 8192, 65536))) as opened:
                    content = b"".join(opened)
                seen = judge.versions(lines_of(content, NEWLINES[file]))
            case "rows":
                seen = judge.versions(_of_store(store, file, 0, SLOTS))
            case "window":
                first, last = sorted(rng.sample(range(SLOTS), 2))
                seen = judge.versions(_of_store(store, file, first, last))
                if seen[:first].any() or seen[last:].any():
                    raise Torn(f"{SERIES[file]}: more than was requested")
            case _:
                starts = store.verify(SERIES[file]).starts
                seen = np.zeros(SLOTS, np.uint32)
                slots = (starts - FIRST) // 60
                seen[slots] = np.maximum(before[slots], 1)
        lost = first + np.flatnonzero((seen < before)[first:last])
        if len(lost):
            raise Torn(f"{SERIES[file]} lost {[text(s, int(before[s])) for s in lost[:3]]}")
        invented = np.flatnonzero(seen > book.meant[file])
        if len(invented):
            raise Torn(f"{SERIES[file]}: {[text(s, int(seen[s])) for s in invented[:3]]}")
        book.counter(number)[0] += 1


def _of_store(store: CsvStore, file: int, first: int, last: int) -> list[bytes]:
    rows = store.rows(SERIES[file], FIRST + 60 * first, FIRST + 60 * last)
    content = HEADER + NEWLINES[file] + rows.text
    lines = lines_of(content, NEWLINES[file])
    if len(lines) != len(rows.starts) or not content.endswith(b"\n"):
        raise Torn(f"{SERIES[file]}: {len(rows.starts)} starts of {len(lines)} rows")
    return lines


# Writing.


def write(folder: Path, book_path: Path, pipe, seed: int, system: str) -> None:
    """PROGRAM: adds bars at random until it is killed; reports when it begins, and when it is done.

    `system`: `sound`, `slow` (takes pieces, and its time) or `failing` (calls fail at random).
    """
    book, rng = Book(book_path), random.Random(seed)
    store = CsvStore(folder, indexed=True)
    store.clear_leftovers()
    if system == "slow":
        slow_down(rng)
    faults = Faults(rng) if system == "failing" else None
    while True:
        file = rng.choices(range(len(SERIES)), (3, 3, 2, 2))[0]
        kind, slots = plan(rng, book.acked[file])
        version = book.new_version()
        book.begin(file, slots, version)
        pipe.send((kind, file, len(slots).bit_length()))
        bars = [bar(slot, version) for slot in slots]
        correct = kind in (CORRECT, MIXED)
        if not correct:
            there = np.flatnonzero(book.acked[file])
            bars += [bar(int(s), _STRANGER) for s in there[-rng.randint(0, 3) :] if slots[0] <= s]
        if faults is None or not refused(faults, store, book, file, bars, correct=correct):
            store.add(SERIES[file], bars, correct=correct)
        book.acknowledge(file, slots, version)
        pipe.send(None)


def plan(rng: random.Random, acked: np.ndarray) -> tuple[int, list[int]]:
    """What to write next, and where: in order, without doubles."""
    there = np.flatnonzero(acked)
    end = int(there[-1]) + 1 if len(there) else 0
    kind = rng.choices(KINDS, (4, 3, 2, 1))[0]
    count = rng.choice((1, 7, 60, 200))
    behind = [s for s in range(end, min(end + count, SLOTS)) if rng.random() < 0.9]
    missing = np.flatnonzero(acked[:end] == 0)
    place = rng.randrange(len(missing)) if len(missing) else 0
    if rng.random() < 0.5:  # close together, or far apart
        within = missing[place : place + count].tolist()
    else:
        within = sorted(rng.sample(missing.tolist(), min(count, 20, len(missing))))
    known = sorted(rng.sample(there.tolist(), min(count, 20, len(there))))
    wanted = {
        APPEND: behind,
        SPLICE: within,
        CORRECT: known,
        MIXED: sorted({*behind, *within, *known}),
    }[kind]
    if kind == MIXED and wanted == behind:
        kind = APPEND
    return (kind, wanted) if wanted else plan(rng, acked)


def slow_down(rng: random.Random) -> None:
    """From now on the system takes a part only of what it is given, and a while for it."""

    def taking_parts(call, most: int):
        def taken(*arguments):
            time.sleep(0.001)
            return call(rng.randint(1, most), *arguments)

        return taken

    write, copy = os.write, getattr(os, "copy_file_range", None)
    os.write = taking_parts(lambda most, file, text: write(file, text[:most]), 400)
    if copy is not None:
        os.copy_file_range = taking_parts(
            lambda most, source, target, count, at: copy(source, target, min(count, most), at),
            2**20,
        )


WRITES = ["write", "copy_file_range", "fsync", "fdatasync", "open", "symlink", "link"]
CALLS = [*WRITES, "pread", "stat", "fstat", "chmod", "ftruncate", "replace", "unlink", "utime"]


class Faults:
    """Makes calls of the operating system fail, once or from some moment on."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._names: list[str] = []
        self._left = self._code = 0
        self._is_lasting = False
        self.failed: set[str] = set()
        """What has failed since it was armed."""
        for name in CALLS:
            if hasattr(os, name):
                self._wrap(name)

    def arm(self) -> None:
        """One of the next calls fails."""
        self.failed.clear()
        self._code = self._rng.choice((errno.ENOSPC, errno.EIO, errno.EINTR))
        self._names = WRITES if self._code == errno.ENOSPC else CALLS
        self._left = self._rng.choice((1, 2, 3, self._rng.randint(4, 25)))
        self._is_lasting = self._code != errno.EINTR and self._rng.random() < 0.5

    def disarm(self) -> None:
        self._names = []

    def _wrap(self, name: str) -> None:
        real = getattr(os, name)

        def call(*arguments, **named):
            if name in self._names:
                self._left -= 1
                if self._left == 0 or (self._left < 0 and self._is_lasting):
                    self.failed.add(name)
                    raise OSError(self._code, os.strerror(self._code))
            return real(*arguments, **named)

        setattr(os, name, call)


def refused(faults: Faults, store: CsvStore, book: Book, file: int, bars, *, correct: bool) -> bool:
    """Try to add while a call fails; whether that was refused, and is made good since then."""
    path = store.path(SERIES[file])
    before = path.read_bytes()
    faults.arm()
    try:
        store.add(SERIES[file], bars, correct=correct)
    except StoreUnwritable:
        faults.disarm()
    else:
        faults.disarm()
        return False
    book.counter(READERS)[0] += 1
    after = path.read_bytes()
    if after != before and "ftruncate" not in faults.failed:
        is_new = Judge(path.parent).versions(lines_of(after, NEWLINES[file])) == book.flight[file]
        if not (faults.failed & {"open", "fsync"} and is_new[book.flight[file] > 0].all()):
            raise Torn(f"{path.name} is another one, though {faults.failed} failed")
    left = sorted(p.name for p in path.parent.glob(".*.ktrdr-new"))
    if left and "unlink" not in faults.failed:
        raise Torn(f"left over, though only {faults.failed} failed: {left}")
    store.clear_leftovers()
    store.add(SERIES[file], bars, correct=correct)
    return True


def whole_or_not(kind: int, wanted: np.ndarray, found: np.ndarray) -> bool:
    """Of what was being written: all or nothing, of an append the first rows."""
    is_there = wanted == found
    if kind == APPEND:
        return not any(later > sooner for sooner, later in pairwise(is_there.tolist()))
    return is_there.all() or not is_there.any()


def left_over(folder: Path) -> list[str]:
    """Names of files that nobody needs."""
    with suppress(FileNotFoundError):
        return sorted(path.name for path in folder.rglob("*.ktrdr-new"))
    return []


if __name__ in ("read", "write"):  # by runpy, in a process of its own
    globals()[__name__](*globals()["GIVEN"])
