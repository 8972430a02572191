"""Contract records in the ledger: sessions, lifetimes, identities, and where bars begin."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import fields

from ktrdr.completeness.evidence import MissingSession
from ktrdr.completeness.grids import Grid
from ktrdr.completeness.identity import Identity, KnownContract
from ktrdr.completeness.lifetime import ContractLifetime
from ktrdr.completeness.unscheduled import Unscheduled
from ktrdr.market.bars import Bar
from ktrdr.market.sessions import Schedule, Session
from ktrdr.market.timeframes import Timeframe
from ktrdr.sqlite_file import Database


class ContractRecords:
    """Of one store, for one thread.

    `contract` as by `contract_name`, `series` as by `SeriesState.absence_key`.
    """

    def __init__(self, database: Callable[[], Database]) -> None:
        """`database`: the ledger, opened when it is first needed."""
        self._db = database

    def missing_sessions(self, contract: str) -> dict[int, MissingSession]:
        """Trading day → how often it was missing from IB's SCHEDULE of a contract."""
        query = "SELECT day, times, first_at FROM lacked WHERE contract = ?"
        rows = self._db().execute(query, (contract,)).fetchall()
        return {day: MissingSession(times, first_at) for day, times, first_at in rows}

    def keep_missing_sessions(self, contract: str, sessions: Mapping[int, MissingSession]) -> None:
        """Record these missing sessions in place of the earlier ones of the contract."""
        with self._db() as database:
            database.execute("DELETE FROM lacked WHERE contract = ?", (contract,))
            rows = [(contract, day, *one) for day, one in sessions.items()]
            database.executemany("INSERT INTO lacked VALUES (?, ?, ?, ?)", rows)

    def unscheduled(self, series: str) -> dict[int, Unscheduled]:
        """Start → bar received at a time without trading, and not accepted yet."""
        query = (
            "SELECT start, open, high, low, close, volume, times, first_at FROM unscheduled "
            "WHERE series = ?"
        )
        rows = self._db().execute(query, (series,)).fetchall()
        return {row[0]: Unscheduled(Bar(*row[:6]), *row[6:]) for row in rows}

    def keep_unscheduled(self, series: str, bars: Mapping[int, Unscheduled]) -> None:
        """Record these unscheduled bars in place of the earlier ones of the series."""
        with self._db() as database:
            database.execute("DELETE FROM unscheduled WHERE series = ?", (series,))
            rows = [(series, *one.bar, one.times, one.first_at) for one in bars.values()]
            database.executemany("INSERT INTO unscheduled VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def keep_schedule(self, contract: str, schedule: Schedule, now: int) -> None:
        """Record a contract's sessions."""
        body = json.dumps(tuple(getattr(schedule, field.name) for field in fields(schedule)))
        with self._db() as database:
            database.execute(
                "INSERT OR REPLACE INTO schedules VALUES (?, ?, ?)", (contract, now, body)
            )

    def schedule(self, contract: str) -> tuple[Schedule, int] | None:
        """A contract's sessions, and when they were learnt; None: never.

        None too if the record is invalid, or its time zone unknown.
        """
        query = "SELECT body, fetched_at FROM schedules WHERE contract = ?"
        row = self._db().execute(query, (contract,)).fetchone()
        schedule = _schedule_of(row[0]) if row else None
        return None if schedule is None else (schedule, row[1])

    def learn_alignment(self, contract: str, minutes: frozenset[int]) -> None:
        """Record more local minutes at which four-hour bars of a contract begin."""
        both = sorted(self.alignment(contract) | minutes)
        with self._db() as database:
            database.execute(
                "INSERT OR REPLACE INTO alignments VALUES (?, ?)", (contract, json.dumps(both))
            )

    def alignment(self, contract: str) -> frozenset[int]:
        """The learnt local minutes at which four-hour bars of a contract begin; empty: none."""
        query = "SELECT minutes FROM alignments WHERE contract = ?"
        row = self._db().execute(query, (contract,)).fetchone()
        return frozenset(json.loads(row[0])) if row else frozenset()

    def identity(self, series: str) -> KnownContract | None:
        """Which contract the bars of a series are of; None: not known."""
        query = "SELECT known, told FROM identities WHERE series = ?"
        row = self._db().execute(query, (series,)).fetchone()
        if row is None:
            return None
        try:
            known, received = (
                None if text is None else Identity(*json.loads(text)) for text in row
            )
        except (TypeError, ValueError):
            return None
        return None if known is None else KnownContract(known, received)

    def keep_identity(self, series: str, known: KnownContract) -> None:
        """Record which contract the bars of a series are of."""
        received = None if known.received is None else json.dumps(known.received)
        with self._db() as database:
            database.execute(
                "INSERT OR REPLACE INTO identities VALUES (?, ?, ?)",
                (series, json.dumps(known.contract), received),
            )

    def grid(self, contract: str, timeframe: Timeframe) -> Grid:
        """Where bars of a contract begin, other than four-hour bars."""
        query = (
            "SELECT minute, seen, times, first_at, last_at FROM grids "
            "WHERE contract = ? AND timeframe = ?"
        )
        row = self._db().execute(query, (contract, timeframe.value)).fetchone()
        return Grid(*row) if row else Grid()

    def keep_grid(self, contract: str, timeframe: Timeframe, grid: Grid) -> None:
        """Record where bars of a contract begin."""
        with self._db() as database:
            row = (contract, timeframe.value, *grid)
            database.execute("INSERT OR REPLACE INTO grids VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def lifetime(self, contract: str) -> ContractLifetime:
        """The first and last bar of a contract, as far as they are known."""
        query = "SELECT head, head_at, expires FROM lives WHERE contract = ?"
        row = self._db().execute(query, (contract,)).fetchone()
        return ContractLifetime(*row) if row else ContractLifetime()

    def keep_lifetime(self, contract: str, lifetime: ContractLifetime) -> None:
        """Record the first and last bar of a contract."""
        with self._db() as database:
            database.execute(
                "INSERT OR REPLACE INTO lives VALUES (?, ?, ?, ?)", (contract, *lifetime)
            )


def _schedule_of(body: str) -> Schedule | None:
    """The sessions of a record; None: it is invalid."""
    try:
        zone, start, end, sessions, source, *more = json.loads(body)
        denied = tuple(more[0]) if more else ()  # earlier ledgers had none
        schedule = Schedule(zone, start, end, tuple(Session(*s) for s in sessions), source, denied)
    except (KeyError, LookupError, TypeError, ValueError):
        return None
    return schedule if schedule.is_sound else None
