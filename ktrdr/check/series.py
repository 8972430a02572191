"""Checks the file of one series, and fixes it under its writers' lock. Prints nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ktrdr.check.defects import Defect, Finding, FindingState, Sessions
from ktrdr.check.file import FixedContent, Inspection, fixed_content, inspect, misfit_of
from ktrdr.completeness.file_fit import Misfit
from ktrdr.errors import MalformedFile, StoreUnwritable
from ktrdr.ledger.ledger import Ledger
from ktrdr.ledger.reader import own_file
from ktrdr.market.instruments import Series
from ktrdr.store.atomic_write import keep, take_after, write_whole
from ktrdr.store.bar_file import BarFile
from ktrdr.store.csv_store import CsvStore, place_for_old
from ktrdr.store.file_key import FileKey, key_of
from ktrdr.store.growing_files import GrowingFiles
from ktrdr.store.source import ledger_path

_TRIES = 20


@dataclass(frozen=True)
class Checked:
    """The result of checking one file of a store."""

    rows: int = 0
    findings: tuple[Finding, ...] = ()
    kept: Path | None = None
    """Where the old file is, if it was fixed."""


@dataclass(frozen=True)
class _Snapshot:
    """A file as it was read."""

    inspection: Inspection
    key: FileKey
    now: int
    fixable: frozenset[Defect]
    is_owned: bool
    misfit: Misfit | None
    """Why rows of others cannot be what they seem to be."""


class SeriesCheck:
    """The check of one series in one store. `clock` returns UTC seconds."""

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
        """Find defects; with `fix`, fix those that can be fixed.

        FileNotFoundError: the file is gone. MalformedFile: it has no header, or is not a file.
        StoreUnwritable: other programs keep writing to it. OSError: it cannot be read.
        """
        if fix:
            with contextlib.suppress(StoreUnwritable, MalformedFile):  # `_fix` reports it
                self._store.remove_unfinished(self._series)
        for _ in range(_TRIES):
            snapshot = self._snapshot()
            if not snapshot.inspection.found and snapshot.misfit is None:
                return Checked(snapshot.inspection.rows)
            if not self._is_settled(snapshot):
                continue
            if not fix or not snapshot.fixable:
                return Checked(
                    snapshot.inspection.rows, self._findings(snapshot, FindingState.FIXABLE)
                )
            done = self._try_to_fix(snapshot)
            if done is not None:
                return done
        raise StoreUnwritable(
            f"other programs keep writing to {self._path.name}",
            hint="check it again when nobody writes to it",
        )

    def _snapshot(self) -> _Snapshot:
        with BarFile(self._path, self._series.timeframe) as file:
            now = int(self._clock())  # after the file was opened, so later than all that is in it
            inspection = inspect(file, self._sessions, now)
            if not file.layout.has_header and self._path.is_symlink():
                _hide_examples(inspection)  # its target may be anything
            is_owned = own_file(self._ledger, self._series) == file.key
            why = None if is_owned else misfit_of(file, inspection, self._sessions, now)
            return _Snapshot(
                inspection, file.key, now, inspection.fixable(is_owned=is_owned), is_owned, why
            )

    def _is_settled(self, snapshot: _Snapshot) -> bool:
        """Nobody wrote to it while it was read, so that no line was half written."""
        if not self._ledger.parent.is_dir():
            return self._is_same(snapshot)  # no ktrdr program writes here
        try:
            with self._store.locked(self._series):
                return self._is_same(snapshot)
        except OSError:
            return self._is_same(snapshot)  # this user may only read it

    def _is_same(self, snapshot: _Snapshot) -> bool:
        return key_of(self._path.stat()) == snapshot.key

    def _findings(self, snapshot: _Snapshot, state: FindingState) -> tuple[Finding, ...]:
        """In the order of `Defect`; `state` is that of the fixable ones."""
        findings = []
        for defect in (defect for defect in Defect if defect in snapshot.inspection.found):
            found = snapshot.inspection.found[defect]
            of_defect = state if defect in snapshot.fixable else FindingState.STAYS
            is_refused = defect.is_lossless and defect not in snapshot.fixable
            findings.append(
                Finding(
                    self._path.name,
                    f"{defect.what}: {found.example!r}" if found.example else defect.what,
                    defect.refusal if is_refused else defect.fix,
                    FindingState.NOTE if defect.is_note else of_defect,
                    tuple(found.lines),
                    found.count,
                )
            )
        if snapshot.misfit is not None:
            findings.append(self._misfit(snapshot.misfit))
        return tuple(findings)

    def _misfit(self, misfit: Misfit) -> Finding:
        state = FindingState.STAYS if misfit.is_sure else FindingState.NOTE
        return Finding(self._path.name, misfit.what, misfit.advice, state)

    # Fixing.

    def _try_to_fix(self, snapshot: _Snapshot) -> Checked | None:
        """None: check again, the file has changed."""
        try:
            kept = self._fix(snapshot)
        except FileNotFoundError:
            return None
        except (MalformedFile, StoreUnwritable, OSError) as error:
            why = (error.strerror if isinstance(error, OSError) else "") or str(error)
            refused = Finding(self._path.name, "it could not be fixed", why)
            findings = (*self._findings(snapshot, FindingState.FIXABLE), refused)
            return Checked(snapshot.inspection.rows, findings)
        if kept is None:
            return None
        return Checked(snapshot.inspection.rows, self._findings(snapshot, FindingState.FIXED), kept)

    def _fix(self, snapshot: _Snapshot) -> Path | None:
        """Where the old file is kept; None: check again."""
        kept: list[Path] = []
        with (
            BarFile(self._path, self._series.timeframe) as file,
            contextlib.ExitStack() as locks,
        ):
            new = fixed_content(file, snapshot.inspection, snapshot.fixable)

            def accept(path: Path) -> bool:
                self._verify(path, new, snapshot)
                locks.enter_context(self._store.locked(self._series))
                growing = GrowingFiles(self._store.folder)
                locks.enter_context(
                    growing.replacing(self._series, self._path, file.descriptor, path)
                )
                if not self._is_same(snapshot):
                    return False
                take_after(file.descriptor, path)
                kept.append(self._keep(snapshot))
                return True

            if not write_whole(self._path, new.pieces, accept):
                return None
            self._note_owned(snapshot)
        return kept[0]

    def _verify(self, path: Path, new: FixedContent, snapshot: _Snapshot) -> None:
        """MalformedFile: the new file's content is not as intended, or has new defects."""
        with BarFile(path, self._series.timeframe) as file:
            again = inspect(file, self._sessions, snapshot.now)
            left = {
                f: count
                for f, count in snapshot.inspection.broken.items()
                if f not in snapshot.fixable
            }
            is_sound = (file.size, again.rows) == (new.size, new.rows) and all(
                count <= left.get(defect, 0) for defect, count in again.broken.items()
            )
        if not is_sound:
            raise MalformedFile(
                "the fixed file would be invalid: nothing was changed",
                hint="check it again when nobody writes to it",
            )

    def _keep(self, snapshot: _Snapshot) -> Path:
        stamp = f"{datetime.fromtimestamp(snapshot.now, UTC):%Y%m%dT%H%M%SZ}"
        place = place_for_old(self._store.folder, self._series, stamp)
        keep(self._path.resolve(), place)
        return place

    def _note_owned(self, snapshot: _Snapshot) -> None:
        """Record that a file which ktrdr owned is still its own."""
        if snapshot.is_owned:
            ledger = Ledger(self._ledger)
            with contextlib.closing(ledger):
                ledger.series.keep_file(self._series, key_of(self._path.stat()), is_owned=True)


def _hide_examples(inspection: Inspection) -> None:
    for found in inspection.found.values():
        found.example = ""
