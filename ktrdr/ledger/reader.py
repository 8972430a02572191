"""Reads a ledger for programs other than its writer. Returns nothing if it cannot; never writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ktrdr.completeness.lifetime import ContractLifetime
from ktrdr.ledger.absences import AbsenceRecords
from ktrdr.ledger.contracts import ContractRecords
from ktrdr.ledger.series import SeriesRecords
from ktrdr.market.instruments import Series
from ktrdr.market.sessions import Int64Array, Schedule
from ktrdr.market.timeframes import Timeframe
from ktrdr.sqlite_file import Database, DatabaseError, reading
from ktrdr.store.file_key import FileKey

T = TypeVar("T")


def sessions_of(
    path: Path, contract: str, timeframe: Timeframe
) -> tuple[Schedule | None, frozenset[int]]:
    """A contract's sessions in a store's ledger, and where its bars of a length begin.

    The latter as an argument of `expected`. Nothing if there is no ledger or it cannot be read now.
    """
    kept = _read(path, lambda ledger: ContractRecords(ledger).schedule(contract), None)
    return kept[0] if kept else None, _alignment_of(path, contract, timeframe)


def _alignment_of(path: Path, contract: str, timeframe: Timeframe) -> frozenset[int]:
    def alignment(ledger: Callable[[], Database]) -> frozenset[int]:
        records = ContractRecords(ledger)
        if timeframe is Timeframe.H4:
            return records.alignment(contract)
        return records.grid(contract, timeframe).alignment

    return _read(path, alignment, frozenset())


def con_id_of(path: Path, series: str) -> int | None:
    """IB's number of the contract whose bars a series has, according to a store's ledger."""
    known = _read(path, lambda ledger: ContractRecords(ledger).identity(series), None)
    return known.contract.con_id if known else None


def lifetime_of(path: Path, contract: str) -> ContractLifetime:
    """When a contract can have bars, according to a store's ledger."""
    return _read(
        path, lambda ledger: ContractRecords(ledger).lifetime(contract), ContractLifetime()
    )


def absent_of(path: Path, series: str, expected: Int64Array, now: int) -> Int64Array:
    """Which of the expected bars are absent according to a store's ledger."""
    return _read(
        path, lambda ledger: AbsenceRecords(ledger).absent(series, expected, now), expected[:0]
    )


def own_file(path: Path, series: Series) -> FileKey | None:
    """The file of a series according to a store's ledger, if all of it is owned; else None."""
    known = _read(path, lambda ledger: SeriesRecords(ledger).file(series), None)
    return known[0] if known and known[1] else None


def wanted_of(path: Path, series: Series) -> int | None:
    """From when on fills want a series, according to a store's ledger (UTC seconds)."""
    return _read(path, lambda ledger: SeriesRecords(ledger).wanted(series), None)


def _read(path: Path, read: Callable[[Callable[[], Database]], T], otherwise: T) -> T:
    """What is read from a ledger; `otherwise` if there is none or it cannot be read now."""
    try:
        with reading(path) as database:
            return read(lambda: database)
    except DatabaseError:  # such as a table that earlier ledgers do not have
        return otherwise
