"""Checks the file of one series, and mends it under the lock of its writers. Prints nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ktrdr.check.faults import Fault, Finding, Sessions, State
from ktrdr.check.file import Look, Mended, look_at, mended
from ktrdr.errors import MalformedFile, StoreUnwritable
from ktrdr.ledger.ledger import Ledger
from ktrdr.ledger.reader import own_file
from ktrdr.market.instruments import Series
from ktrdr.store.atomic_write import keep, take_after, write_whole
from ktrdr.store.bar_file import BarFile, FileKey, key_of
from ktrdr.store.csv_store import CsvStore
from ktrdr.store.source import ledger_path

_TRIES = 20


@dataclass(frozen=True)
class Checked:
    """What a look at one file of a store has shown."""

    rows: int = 0
    findings: tuple[Finding, ...] = ()
    kept: Path | None = None
    """Where the old file is, when it was mended."""


@dataclass(frozen=True)
class _Seen:
    """A file as it was looked at."""

    look: Look
    key: FileKey
    now: int
    mends: frozenset[Fault]
    is_owned: bool


class SeriesCheck:
    """Of one series in one store. `clock` tells UTC seconds."""

    def __init__(
        self,
        store: CsvStore,
        series: Series,
        sessions: Sessions | None,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._series = series
        self._sessions = sessions
        self._clock = clock
        self._path = store.path(series)
        self._ledger = ledger_path(store.folder)

    def check(self, *, fix: bool) -> Checked:
        """What is broken; with `fix` what can be mended is mended.

        FileNotFoundError: the file is gone. MalformedFile: it has no header, or is no file.
        StoreUnwritable: others write to it again and again. OSError: it cannot be read.
        """
        if fix:
            with contextlib.suppress(StoreUnwritable, MalformedFile):  # the mending says why
                self._store.mend(self._series)
        for _ in range(_TRIES):
            seen = self._look()
            if not seen.look.found:
                return Checked(seen.look.rows)
            if not self._is_settled(seen):
                continue
            if not fix or not seen.mends:
                return Checked(seen.look.rows, self._findings(seen, State.MENDABLE))
            done = self._try_to_mend(seen)
            if done is not None:
                return done
        raise StoreUnwritable(f"{self._path.name} is written to again and again")

    def _look(self) -> _Seen:
        with BarFile(self._path, self._series.timeframe) as file:
            now = int(self._clock())  # later than what the file has
            look = look_at(file, self._sessions, now)
            if not file.layout.has_header and self._path.is_symlink():
                _hide_examples(look)  # what it leads to may be anything
            is_owned = own_file(self._ledger, self._series) == file.key
            return _Seen(look, file.key, now, look.mends(is_owned=is_owned), is_owned)

    def _is_settled(self, seen: _Seen) -> bool:
        """It was not looked at while somebody wrote to it: a line may have been half there."""
        if not self._ledger.parent.is_dir():
            return self._is_same(seen)  # nobody of ours writes here
        try:
            with self._store.locked(self._series):
                return self._is_same(seen)
        except OSError:
            return self._is_same(seen)  # it may only be read

    def _is_same(self, seen: _Seen) -> bool:
        return key_of(self._path.stat()) == seen.key

    def _findings(self, seen: _Seen, state: State) -> tuple[Finding, ...]:
        """In the order of `Fault`; `state` is of those that can be mended."""
        findings = []
        for fault in (fault for fault in Fault if fault in seen.look.found):
            found = seen.look.found[fault]
            of_fault = state if fault in seen.mends else State.STAYS
            mend = fault.mend if fault in seen.mends or not fault.is_lossless else fault.refusal
            findings.append(
                Finding(
                    self._path.name,
                    f"{fault.what}: {found.example!r}" if found.example else fault.what,
                    mend,
                    State.NOTE if fault.is_note else of_fault,
                    tuple(found.lines),
                    found.count,
                )
            )
        return tuple(findings)

    # Mending.

    def _try_to_mend(self, seen: _Seen) -> Checked | None:
        """None: look again, the file has changed."""
        try:
            kept = self._mend(seen)
        except FileNotFoundError:
            return None
        except (MalformedFile, StoreUnwritable, OSError) as error:
            why = (error.strerror if isinstance(error, OSError) else "") or str(error)
            refused = Finding(self._path.name, "it could not be mended", why)
            findings = (*self._findings(seen, State.MENDABLE), refused)
            return Checked(seen.look.rows, findings)
        if kept is None:
            return None
        return Checked(seen.look.rows, self._findings(seen, State.MENDED), kept)

    def _mend(self, seen: _Seen) -> Path | None:
        """Where the old file is kept; None: look again."""
        kept: list[Path] = []
        with (
            contextlib.ExitStack() as locks,
            BarFile(self._path, self._series.timeframe) as file,
        ):
            new = mended(file, seen.look, seen.mends)

            def accept(path: Path) -> bool:
                self._verify(path, new, seen)
                locks.enter_context(self._store.locked(self._series))
                if not self._is_same(seen):
                    return False
                take_after(file.descriptor, path)
                kept.append(self._keep(seen))
                return True

            if not write_whole(self._path, new.pieces, accept):
                return None
            self._note_ours(seen)
        return kept[0]

    def _verify(self, path: Path, new: Mended, seen: _Seen) -> None:
        """MalformedFile: it has not what it should have, or something else is broken now."""
        with BarFile(path, self._series.timeframe) as file:
            again = look_at(file, self._sessions, seen.now)
            left = {f: count for f, count in seen.look.broken.items() if f not in seen.mends}
            is_sound = (file.size, again.rows) == (new.size, new.rows) and all(
                count <= left.get(fault, 0) for fault, count in again.broken.items()
            )
        if not is_sound:
            raise MalformedFile(
                "mended it would not be sound: nothing was changed",
                hint="check it again, when nobody writes to it",
            )

    def _keep(self, seen: _Seen) -> Path:
        stamp = f"{datetime.fromtimestamp(seen.now, UTC):%Y%m%dT%H%M%SZ}"
        place = self._store.place_for_old(self._series, stamp)
        keep(self._path.resolve(), place)
        return place

    def _note_ours(self, seen: _Seen) -> None:
        """A file that was all ours still is."""
        if seen.is_owned:
            ledger = Ledger(self._ledger)
            with contextlib.closing(ledger):
                ledger.series.keep_file(self._series, key_of(self._path.stat()), is_owned=True)


def _hide_examples(look: Look) -> None:
    for found in look.found.values():
        found.example = ""
