"""Checks a store as a whole, and fixes what can be fixed without loss. Prints nothing.

The gap filler may run meanwhile: a file is checked while nobody writes to it, and replaced under
the lock that every ktrdr writer takes.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from ktrdr.check.defects import A_PERSON, Finding, FindingState, Sessions, sessions_from
from ktrdr.check.series import Checked, SeriesCheck
from ktrdr.errors import (
    KtrdrError,
    MalformedFile,
    Misconfigured,
    StoreUnwritable,
    UnknownSeries,
)
from ktrdr.ledger.reader import sessions_of
from ktrdr.market.instruments import (
    Series,
    check_entry,
    contract_name,
    instrument_of_entry,
    parse_series,
)
from ktrdr.sqlite_file import DatabaseError, is_busy, reading
from ktrdr.store.atomic_write import TEMPORARY
from ktrdr.store.csv_store import CsvStore
from ktrdr.store.file_errors import hint_for
from ktrdr.store.instruments_file import INSTRUMENTS, tables_of
from ktrdr.store.source import METADATA_DIR, ledger_path
from ktrdr.store.subfolders import Subfolders
from ktrdr.store.unread_files import MOST_EXAMPLES

SOURCES = ("live", "simulated")

_STALE_S = 3600
"""No write takes this long: older temporary files are leftovers of killed writers."""


class StoreCheck:
    """The check of one store. `clock` returns UTC seconds."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._store = CsvStore(folder)
        self._ledger = ledger_path(folder)
        self._clock = clock
        self._tables = _read_tables(folder)[0]
        self._blocked: Mapping[Series, MalformedFile] | None = None
        """Series that may not be read, from the last call of `series`."""

    def series(self, symbol: str | None = None, timeframe: str | None = None) -> list[Series]:
        """The store's series, or those of one symbol or timeframe, by name.

        Misconfigured: there is no store. UnknownSeries: it has none of these.
        """
        if not self._folder.is_dir():
            raise Misconfigured(
                f"{self._folder} is not a folder",
                hint="set KTRDR_DATA_DIR to where the bar files are",
            )
        scan = self._store.scan()
        self._blocked = scan.blocked
        found = [
            series
            for series in (*scan.found, *scan.blocked)
            if symbol in (None, series.symbol) and timeframe in (None, series.timeframe.value)
        ]
        if not found and (symbol or timeframe):
            wanted = "_".join(part for part in (symbol or "*", timeframe or "*"))
            hint = "ktrdr check without a symbol reads the whole store"
            raise UnknownSeries(f"{self._folder} has no series {wanted}", hint=hint)
        return sorted(found, key=str)

    # A series.

    def check(self, series: Series, *, fix: bool = False) -> Checked:
        """Find defects in a series' file; with `fix`, fix those that can be fixed.

        A file that disappears meanwhile is not a finding.
        """
        if self._blocked is None:
            self._blocked = self._store.scan().blocked
        if (blocked := self._blocked.get(series)) is not None:
            what = blocked.message.removeprefix(f"{series.file_name}: ")
            return Checked(findings=(_by_hand(series.file_name, what, blocked.hint),))
        one = SeriesCheck(self._store, series, self._sessions(series), self._clock)
        try:
            return one.check(fix=fix)
        except FileNotFoundError:
            return Checked()
        except StoreUnwritable as error:
            busy = Finding(series.file_name, error.message, error.hint)
            return Checked(findings=(busy,))
        except KtrdrError as error:
            why, hint = error.message, error.hint
        except OSError as error:
            why, hint = error.strerror or str(error), hint_for(error)
        return Checked(findings=(_by_hand(series.file_name, f"it cannot be read: {why}", hint),))

    def _sessions(self, series: Series) -> Sessions | None:
        try:
            instrument = instrument_of_entry(series.symbol, self._tables.get(series.symbol))
            name = contract_name(instrument)
            found = sessions_of(self._ledger, name, series.timeframe)
            return sessions_from(*found, instrument)
        except (Misconfigured, ValueError):
            return None

    # Everything except the series.

    def check_rest(self, *, fix: bool = False) -> list[Checked]:
        """Problems outside the series: names, leftovers, and the contents of `.ktrdr`."""
        findings = [
            *self._other_files(),
            *self._source(),
            *_read_tables(self._folder)[1],
            *self._databases(),
            *self._leftovers(fix=fix),
        ]
        return [Checked(findings=(finding,)) for finding in findings]

    def _other_files(self) -> Iterator[Finding]:
        """One for each kind of files that may have bars and are not read."""
        for one in Subfolders(self._folder).unread(self._store.scan()):
            more = f" and {one.count - 1:,} more" if one.count > 1 else ""
            yield Finding(
                f"{one.examples[0].name}{more}",
                one.message,
                f"{A_PERSON}: {one.hint_naming(MOST_EXAMPLES)}",
                count=one.count,
                files={file.name: file.free_name for file in one.examples},
            )

    def _source(self) -> Iterator[Finding]:
        try:
            source = self._store.source()
        except StoreUnwritable as error:
            yield _by_hand(f"{METADATA_DIR}/source", error.message, error.hint)
            return
        if source is not None and source not in SOURCES:
            what = f"{source[:40]!r}: expected {' or '.join(SOURCES)}"
            yield _by_hand(f"{METADATA_DIR}/source", what, "write the source of these bars into it")

    def _databases(self) -> Iterator[Finding]:
        for path in sorted((self._folder / METADATA_DIR).glob("*.sqlite")):
            where = f"{METADATA_DIR}/{path.name}"
            why, is_broken = _quick_check(path)
            if is_broken:
                yield _by_hand(where, why, "stop the programs and delete it: no bar is lost")
            elif why:
                yield Finding(where, why, "nothing to fix", FindingState.NOTE)

    def _leftovers(self, *, fix: bool) -> Iterator[Finding]:
        metadata = self._folder / METADATA_DIR
        for folder in (self._folder, metadata, metadata / "renewed", metadata / "replaced"):
            for path in sorted(folder.glob(f".*{TEMPORARY}")):
                yield from self._leftover(path, fix=fix)

    def _leftover(self, path: Path, *, fix: bool) -> Iterator[Finding]:
        store = self._store.staging if path.parent.name == "renewed" else self._store
        with contextlib.suppress(FileNotFoundError, StoreUnwritable):
            with _unwritten(store, path) as is_sure:
                if not is_sure and self._clock() - path.stat().st_mtime < _STALE_S:
                    return
                path.stat()
                where, state = str(path.relative_to(self._folder)), FindingState.FIXABLE
                if fix:
                    with contextlib.suppress(OSError):
                        path.unlink()
                        state = FindingState.FIXED
            yield Finding(where, "left by a writer that was killed", "it is removed", state)


def _by_hand(where: str, what: str, advice: str) -> Finding:
    return Finding(where, what, f"{A_PERSON}: {advice}")


@contextlib.contextmanager
def _unwritten(store: CsvStore, path: Path) -> Iterator[bool]:
    """No ktrdr program writes to the series of this temporary file; False: unknown.

    StoreUnwritable: one does.
    """
    try:
        series = parse_series(path.name.removeprefix(".").rsplit(".", 2)[0])
    except ValueError:
        series = None
    with contextlib.ExitStack() as locks:
        is_sure = False
        if series is not None and (store.folder / METADATA_DIR).is_dir():
            with contextlib.suppress(OSError):
                locks.enter_context(store.locked(series))
                is_sure = True
        yield is_sure


def _read_tables(folder: Path) -> tuple[dict[str, object], list[Finding]]:
    """The entries of `instruments.toml`, unchecked, and their defects."""
    try:
        tables = tables_of(folder)
    except Misconfigured as error:
        return {}, [_by_hand(INSTRUMENTS, error.message, error.hint)]
    return tables, [finding for one in tables.items() for finding in _entry(INSTRUMENTS, *one)]


def _entry(name: str, symbol: str, entry: object) -> Iterator[Finding]:
    try:
        check_entry(f"[{symbol}]", symbol, entry)
    except Misconfigured as error:
        yield _by_hand(name, error.message, error.hint or f"correct [{symbol}]")


def _quick_check(path: Path) -> tuple[str, bool]:
    """What is wrong with a database, empty: nothing; and whether it is certainly broken."""
    try:
        with reading(path) as database:
            result = database.execute("PRAGMA quick_check(1)").fetchone()[0]
    except DatabaseError as error:
        return str(error), not is_busy(error)
    return ("", False) if result == "ok" else (str(result), True)
