"""What IB has been asked, and what it answered: SQLite in the store's own folder. Holds no bars."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ktrdr.ledger.absences import AbsenceRecords
from ktrdr.ledger.contracts import ContractRecords
from ktrdr.ledger.file import leave_damaged, open_ledger
from ktrdr.ledger.requests import RequestRecords
from ktrdr.ledger.series import SeriesRecords

_OF_LATER = (
    "DELETE FROM asked WHERE at > ?",
    "DELETE FROM absent WHERE at > ?",
    "DELETE FROM doubts WHERE first_at > ?",
    "DELETE FROM lacked WHERE first_at > ?",
    "DELETE FROM unscheduled WHERE first_at > ?",
    "UPDATE grids SET seen = NULL, times = 0, first_at = 0, last_at = 0 WHERE last_at > ?",
    "DELETE FROM looks WHERE at > ?",
    "UPDATE lives SET head_at = NULL WHERE head_at > ?",
    "UPDATE schedules SET fetched_at = 0 WHERE fetched_at > ?",
)
"""What forgets what was found out later than a moment."""

_PUT_OFF = (
    "UPDATE doubts SET first_at = min(first_at + :by_s, :now)",
    "UPDATE lacked SET first_at = min(first_at + :by_s, :now)",
    "UPDATE unscheduled SET first_at = min(first_at + :by_s, :now)",
    "UPDATE grids SET first_at = min(first_at + :by_s, :now), last_at = min(last_at + :by_s, :now)",
)
"""What makes evidence younger."""


class Clock(NamedTuple):
    """How this machine's clock stood when it was looked at last, for the next start."""

    boot: str
    """The run of the machine; empty: not known."""
    base_s: float
    """The clock minus the monotonic one, which begins anew with each run."""
    wall_s: float
    """UTC seconds."""


class Ledger:
    """Of one store. For one thread. Deleting its file costs requests, and no bar.

    Opened when it is first needed, and again after it was closed, deleted or left as damaged.
    sqlite3.Error, OSError from each call, as `open_ledger` has it: it cannot be opened or read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened: tuple[sqlite3.Connection, int] | None = None
        """And the file's inode."""
        self._readers: list[Callable[[], None]] = []
        self.absences = AbsenceRecords(self._database)
        self.contracts = ContractRecords(self._database)
        self.requests = RequestRecords(self._database)
        self.series = SeriesRecords(self._database)

    def _database(self) -> sqlite3.Connection:
        if self._opened is None:
            database = open_ledger(self._path)
            self._opened = database, self._path.stat().st_ino
        return self._opened[0]

    @property
    def exists(self) -> bool:
        """There is one, so that looking into it makes none: a store that is not ours has none."""
        return self._opened is not None or self._path.exists()

    @property
    def is_in_place(self) -> bool:
        """Nobody has removed or replaced its file since it was opened."""
        if self._opened is None:
            return True
        try:
            return self._path.stat().st_ino == self._opened[1]
        except FileNotFoundError:
            return False

    def when_void(self, forget: Callable[[], None]) -> None:
        """Call this each time what was read of the ledger does not hold any more."""
        self._readers.append(forget)

    def _void(self) -> None:
        for forget in self._readers:
            forget()

    def close(self) -> None:
        """Write what is pending and close the file; it is opened again when it is needed."""
        if self._opened is not None:
            self._opened[0].close()
            self._opened = None

    def notice_deletion(self) -> None:
        """Somebody may delete the file at any time: then begin a new one."""
        if not self.is_in_place:
            self.close()
            self._void()
            self._remove_remains()

    def leave_damaged(self, why: sqlite3.Error) -> None:
        """What stands in it cannot be read: begin a new one. sqlite3.Error, OSError: as to open."""
        self.close()
        self._void()
        leave_damaged(self._path, why)

    def _remove_remains(self) -> None:
        """SQLite would take the log of a deleted ledger for that of a new one."""
        if not self._path.exists():
            for companion in ("-wal", "-shm"):
                path = self._path.with_name(self._path.name + companion)
                path.unlink(missing_ok=True)

    def forget_after(self, moment: int) -> int:
        """Forget what was found out later than a moment that is yet to come; how much that is.

        By a clock that was ahead. Sessions that were learnt then are kept, as those that are old.
        """
        if not self.exists:
            return 0
        with self._database() as database:
            changed = [database.execute(query, (moment,)).rowcount for query in _OF_LATER]
        if forgotten := sum(changed):
            self._void()
        return forgotten

    def put_off(self, by_s: int, now: int) -> None:
        """Count a time by which a clock was set ahead as none that has passed since a doubt."""
        if not self.exists:
            return
        with self._database() as database:
            for query in _PUT_OFF:
                database.execute(query, {"by_s": by_s, "now": now})
        self._void()

    def clock(self) -> Clock | None:
        """As it was kept last; None: never."""
        row = self._database().execute("SELECT boot, base_s, wall_s FROM clock").fetchone()
        return Clock(*row) if row else None

    def keep_clock(self, clock: Clock) -> None:
        """Remember it."""
        with self._database() as database:
            database.execute("INSERT OR REPLACE INTO clock VALUES (1, ?, ?, ?)", clock)
