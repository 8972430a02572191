"""Reads a ledger for programs other than its writer. Returns nothing if it cannot; never writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ktrdr.completeness.gaps import in_runs
from ktrdr.completeness.grids import Grid
from ktrdr.completeness.lifetime import ContractLifetime
from ktrdr.market.instruments import Series
from ktrdr.market.sessions import Int64Array, Schedule, Session
from ktrdr.market.timeframes import Timeframe
from ktrdr.sqlite_file import DatabaseError, reading
from ktrdr.store.bar_file import FileKey


def sessions_of(
    path: Path, contract: str, timeframe: Timeframe
) -> tuple[Schedule | None, frozenset[int]]:
    """A contract's sessions in a store's ledger, and where its bars of a length begin.

    The latter as an argument of `expected`. Nothing if there is no ledger or it cannot be read now.
    """
    body = _one(path, "SELECT body FROM schedules WHERE contract = ?", contract)
    return stored_schedule(body[0]) if body else None, _alignment_of(path, contract, timeframe)


def _alignment_of(path: Path, contract: str, timeframe: Timeframe) -> frozenset[int]:
    if timeframe is Timeframe.H4:
        minutes = _one(path, "SELECT minutes FROM alignments WHERE contract = ?", contract)
        return frozenset(json.loads(minutes[0]) if minutes else ())
    query = "SELECT minute FROM grids WHERE contract = ? AND timeframe = ?"
    learnt = _all(path, query, contract, timeframe.value)  # earlier ledgers have no such table
    return Grid(*learnt[0]).alignment if learnt else frozenset()


def stored_schedule(body: str) -> Schedule | None:
    """The sessions of a record; None: it is invalid."""
    try:
        schedule = _parse_schedule(body)
    except (KeyError, LookupError, TypeError, ValueError):
        return None
    return schedule if schedule.is_sound else None


def lifetime_of(path: Path, contract: str) -> ContractLifetime:
    """When a contract can have bars, according to a store's ledger."""
    row = _one(path, "SELECT head, head_at, expires FROM lives WHERE contract = ?", contract)
    return ContractLifetime(*row) if row else ContractLifetime()


def absent_of(path: Path, series: str, expected: Int64Array, now: int) -> Int64Array:
    """Which of the expected bars are absent according to a store's ledger."""
    query = "SELECT first, last FROM absent WHERE series = ? AND verified AND expires_at > ?"
    return in_runs(_all(path, query, series, now), expected)


def own_file(path: Path, series: Series) -> FileKey | None:
    """The file of a series according to a store's ledger, if all of it is owned; else None."""
    query = "SELECT size, mtime_ns, inode FROM files WHERE ours AND series = ?"
    row = _one(path, query, str(series))
    return (row[0], row[1], row[2]) if row else None


def _one(path: Path, query: str, value: str) -> Any:
    """One row; None: there is none, or it cannot be read now."""
    return next(iter(_all(path, query, value)), None)


def _all(path: Path, query: str, *values: object) -> list[Any]:
    """All rows; none if the ledger cannot be read now."""
    try:
        with reading(path) as database:
            return database.execute(query, values).fetchall()
    except DatabaseError:
        return []


def _parse_schedule(body: str) -> Schedule:
    zone, start, end, sessions, source, *more = json.loads(body)
    denied = tuple(more[0]) if more else ()  # earlier ledgers had none
    return Schedule(zone, start, end, tuple(Session(*s) for s in sessions), source, denied)
