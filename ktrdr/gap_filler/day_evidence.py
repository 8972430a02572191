"""The evidence for a trading day, from the ledger: requests, and the absences they have proven."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ktrdr.errors import RequestFailed
from ktrdr.ipc.evidence_messages import AbsenceEvidence, DayEvidence, RequestEvidence
from ktrdr.ledger.absences import AbsenceRecord, AbsenceRecords
from ktrdr.ledger.requests import RequestRecord, RequestRecords
from ktrdr.market.instruments import Series
from ktrdr.market.sessions import Int64Array
from ktrdr.sqlite_file import DatabaseError, reading
from ktrdr.times import utc

_NO_LEDGER: tuple[list[RequestRecord], list[AbsenceRecord]] = ([], [])


def evidence_of_day(
    ledger: Path, series: Series, absence_key: str, day: str, bars: Sequence[int]
) -> DayEvidence:
    """What a ledger knows of a trading day with these `bars` (their starts, UTC seconds).

    `day`: ISO 8601. RequestFailed: the ledger cannot be read now.
    """
    if not bars:
        return DayEvidence(day, (), ())
    length_s = series.timeframe.length_s
    span = (min(bars), max(bars) + length_s)
    requests, absences = _read(ledger, series, absence_key, span)
    starts = np.array(sorted(bars), np.int64)
    found = [(one, starts[(starts >= one.first) & (starts <= one.last)]) for one in absences]
    return DayEvidence(
        day,
        tuple(_request(one, found) for one in requests),
        tuple(_absence(one, within) for one, within in found if len(within)),
    )


def _read(
    path: Path, series: Series, absence_key: str, span: tuple[int, int]
) -> tuple[list[RequestRecord], list[AbsenceRecord]]:
    if not path.exists():
        return _NO_LEDGER
    try:
        with reading(path) as database:
            requests = RequestRecords(lambda: database).within(series, *span)
            return requests, AbsenceRecords(lambda: database).within(absence_key, *span)
    except DatabaseError as error:
        raise RequestFailed(
            f"{path.name} cannot be read now: {error}", hint="try again in a moment"
        ) from error


def _request(
    one: RequestRecord, absences: Sequence[tuple[AbsenceRecord, Int64Array]]
) -> RequestEvidence:
    def count(reason: str) -> int:
        return sum(
            int(((within >= one.start) & (within < one.end)).sum())
            for absence, within in absences
            if absence.reason == reason and absence.at == one.at
        )

    return RequestEvidence(
        utc(one.at),
        utc(one.start),
        utc(one.end),
        one.outcome,
        one.code,
        one.bars,
        count("no_trades"),
        count("late"),
    )


def _absence(one: AbsenceRecord, within: Int64Array) -> AbsenceEvidence:
    return AbsenceEvidence(
        utc(int(within[0])),
        utc(int(within[-1])),
        len(within),
        one.reason,
        utc(one.at),
        one.times,
        utc(one.again_at),
    )
