"""The ledger of a store: all its records, and what a wrong clock does to them. Holds no bars."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from ktrdr.ledger.absences import AbsenceRecords
from ktrdr.ledger.comparisons import ComparisonRecords
from ktrdr.ledger.contracts import ContractRecords
from ktrdr.ledger.differences import DifferenceRecords
from ktrdr.ledger.file import LEDGER
from ktrdr.ledger.requests import RequestRecords
from ktrdr.ledger.revisions import RevisionRecords
from ktrdr.ledger.series import SeriesRecords
from ktrdr.sqlite_file import StateFile

_OF_LATER = (
    "DELETE FROM asked WHERE at > ?",
    "DELETE FROM absent WHERE at > ?",
    "DELETE FROM doubts WHERE first_at > ?",
    "DELETE FROM lacked WHERE first_at > ?",
    "DELETE FROM unscheduled WHERE first_at > ?",
    "UPDATE grids SET seen = NULL, times = 0, first_at = 0, last_at = 0 WHERE last_at > ?",
    "DELETE FROM looks WHERE at > ?",
    "UPDATE comparisons SET empty_at = NULL WHERE empty_at > ?",
    "UPDATE lives SET head_at = NULL WHERE head_at > ?",
    "UPDATE schedules SET fetched_at = 0 WHERE fetched_at > ?",
)
"""Delete or reset findings dated after a moment."""

_DATE_AT_MOST = "UPDATE revisions SET at = :moment WHERE at > :moment"
"""What was done to files stays on record; it was done at that moment at the latest."""

_PUT_OFF = (
    "UPDATE doubts SET first_at = min(first_at + :by_s, :now)",
    "UPDATE lacked SET first_at = min(first_at + :by_s, :now)",
    "UPDATE unscheduled SET first_at = min(first_at + :by_s, :now)",
    "UPDATE grids SET first_at = min(first_at + :by_s, :now), last_at = min(last_at + :by_s, :now)",
)
"""Move the dates of evidence forward."""


class Clock(NamedTuple):
    """The machine's clock as last recorded, for the next start."""

    boot: str
    """The run of the machine; empty: not known."""
    base_s: float
    """The clock minus the monotonic one, which starts again with each run."""
    wall_s: float
    """UTC seconds."""


class Ledger:
    """The ledger of one store. For one thread. Deleting its file costs requests, but no bars.

    Its `file` is opened when first needed. DatabaseError, OSError from each call, as in
    `open_database`: it cannot be opened or read.
    """

    def __init__(self, path: Path) -> None:
        self.file = StateFile(path, LEDGER)
        self.absences = AbsenceRecords(self.file.database)
        self.comparisons = ComparisonRecords(self.file.database)
        self.contracts = ContractRecords(self.file.database)
        self.differences = DifferenceRecords(self.file.database)
        self.requests = RequestRecords(self.file.database)
        self.revisions = RevisionRecords(self.file.database)
        self.series = SeriesRecords(self.file.database)

    @property
    def exists(self) -> bool:
        """The file exists. Opening creates it, and a store of the other source must get none."""
        return self.file.exists

    def close(self) -> None:
        """Close the file; it is opened again when needed."""
        self.file.close()

    def forget_after(self, moment: int) -> int:
        """Forget findings dated after a future moment; returns how many.

        They were made by a clock that was ahead. Sessions learnt then are kept, but count as old.
        """
        if not self.exists:
            return 0
        with self.file.database() as database:
            changed = [database.execute(query, (moment,)).rowcount for query in _OF_LATER]
            database.execute(_DATE_AT_MOST, {"moment": moment})
        if forgotten := sum(changed):
            self.file.void()
        return forgotten

    def put_off(self, by_s: int, now: int) -> None:
        """Make evidence younger by the time by which a clock was set ahead."""
        if not self.exists:
            return
        with self.file.database() as database:
            for query in _PUT_OFF:
                database.execute(query, {"by_s": by_s, "now": now})
        self.file.void()

    def clock(self) -> Clock | None:
        """The clock as last recorded; None: never."""
        row = self.file.database().execute("SELECT boot, base_s, wall_s FROM clock").fetchone()
        return Clock(*row) if row else None

    def keep_clock(self, clock: Clock) -> None:
        """Record the clock."""
        with self.file.database() as database:
            database.execute("INSERT OR REPLACE INTO clock VALUES (1, ?, ?, ?)", clock)
