"""Absence records in the ledger: bars absent at IB, late, or unproven. Draws no conclusions."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from ktrdr.completeness.clocks import APART_S
from ktrdr.completeness.evidence import UnprovenAbsences
from ktrdr.completeness.gaps import Gap, in_runs
from ktrdr.market.sessions import Int64Array
from ktrdr.market.timeframes import DAY_S
from ktrdr.sqlite_file import Database

_RECENT_S = 7 * DAY_S
_RECENT_EXPIRY_S = DAY_S
_OLD_EXPIRY_S = 30 * DAY_S
_TWICE_EXPIRY_S = 365 * DAY_S
_EXPIRED_KEPT_S = 400 * DAY_S
"""Expired absences are kept this long: verified again, they hold for a year."""


class AbsenceRecord(NamedTuple):
    """A run of bars that IB's answers did not have; times in UTC seconds."""

    first: int
    last: int
    reason: str
    """`no_trades` (proven), `late` or `unproven`."""
    at: int
    """When the request was sent whose answer shows it; if unproven, the first such request."""
    times: int | None
    """How many answers did not have them so far; None: not counted any more."""
    again_at: int
    """When they may be requested again."""


class AbsenceRecords:
    """Absences of the series of one store, by `SeriesState.absence_key`. For one thread."""

    def __init__(self, database: Callable[[], Database]) -> None:
        """`database`: the ledger, opened when it is first needed."""
        self._db = database

    def record_absent(self, series: str, gaps: Iterable[Gap], now: int) -> None:
        """Record that IB has none of these bars.

        `series` names the series and its contract: the absences of one contract say nothing about
        another under the same symbol. Absences expire: recent bars are requested again the next
        day, old ones after 30 days, and those found absent a second time after a year; within half
        a day of that, at the same time of day for the whole series.
        """
        known = self._runs(series, "verified = 1")
        rows = [
            (gap, _expires_at(series, now + _expiry_s(gap, now, was_known=_covers(known, gap))))
            for gap in gaps
        ]
        self._record(series, rows, now, verified=True)

    def record_late(self, series: str, gaps: Iterable[Gap], now: int, until: int) -> None:
        """Record that IB does not have these bars yet; they may be requested from `until` on."""
        self._record(series, ((gap, until) for gap in gaps), now, verified=False)

    def forget_late(self, series: str) -> None:
        """Let late bars be requested again now."""
        with self._db() as database:
            database.execute("DELETE FROM absent WHERE series = ? AND verified = 0", (series,))

    def forget_missing(self, series: str) -> None:
        """Forget all absences of a series, since its bars begin at other minutes."""
        with self._db() as database:
            database.execute("DELETE FROM absent WHERE series = ?", (series,))
            database.execute("DELETE FROM doubts WHERE series = ?", (series,))

    def _record(
        self, series: str, gaps: Iterable[tuple[Gap, int]], now: int, *, verified: bool
    ) -> None:
        rows = [
            (series, gap.first, gap.last, int(verified), now, expires_at)
            for gap, expires_at in gaps
        ]
        with self._db() as database:
            database.executemany(
                "DELETE FROM absent WHERE series = ? AND first >= ? AND last <= ?",
                [(series, first, last) for _, first, last, *_ in rows],
            )
            database.executemany("INSERT OR REPLACE INTO absent VALUES (?, ?, ?, ?, ?, ?)", rows)
            database.execute(
                "DELETE FROM absent WHERE expires_at <= ? AND (verified = 0 OR expires_at <= ?)",
                (now, now - _EXPIRED_KEPT_S),
            )

    def absent(self, series: str, expected: Int64Array, now: int) -> Int64Array:
        """Which of the expected bars IB is known not to have."""
        return self._recorded(series, expected, now, verified=True)

    def late(self, series: str, expected: Int64Array, now: int) -> Int64Array:
        """Which of the expected bars IB did not have yet a moment ago."""
        return self._recorded(series, expected, now, verified=False)

    def _recorded(
        self, series: str, expected: Int64Array, now: int, *, verified: bool
    ) -> Int64Array:
        latest = now + int(APART_S)  # later findings were made by a clock that was ahead
        where = f"verified = {int(verified)} AND expires_at > {now} AND at <= {latest}"
        runs = self._runs(series, where)
        return in_runs(runs, expected)

    def within(self, series: str, start: int, end: int) -> list[AbsenceRecord]:
        """The records that touch `[start, end)`, expired ones too, oldest bars first."""
        query = (
            "SELECT first, last, CASE verified WHEN 1 THEN 'no_trades' ELSE 'late' END, at, NULL, "
            "expires_at FROM absent WHERE series = :series AND first < :end AND last >= :start "
            "UNION ALL SELECT first, last, 'unproven', first_at, times, again_at FROM doubts "
            "WHERE series = :series AND first < :end AND last >= :start ORDER BY 1"
        )
        values = {"series": series, "start": start, "end": end}
        return [AbsenceRecord(*row) for row in self._db().execute(query, values).fetchall()]

    def _runs(self, series: str, where: str) -> list[tuple[int, int]]:
        """The first and last bar of each record that meets an SQL condition, oldest first."""
        query = f"SELECT first, last FROM absent WHERE series = ? AND {where} ORDER BY first"  # noqa: S608
        return self._db().execute(query, (series,)).fetchall()

    def once_absent(self, series: str, expected: Int64Array) -> Int64Array:
        """Which of the expected bars were verified as absent before, expired or not."""
        return in_runs(self._runs(series, "verified = 1"), expected)

    def has_unproven(self, series: str) -> bool:
        """Whether unproven absences of the series are on record."""
        query = "SELECT EXISTS (SELECT 1 FROM doubts WHERE series = ?)"
        return bool(self._db().execute(query, (series,)).fetchone()[0])

    def unproven(self, series: str, expected: Int64Array) -> tuple[UnprovenAbsences, Int64Array]:
        """The unproven absences of the expected bars, and when to request these again."""
        columns = np.zeros((3, len(expected)), dtype=np.int64)
        query = "SELECT first, last, times, first_at, again_at FROM doubts WHERE series = ?"
        rows = self._db().execute(query, (series,)).fetchall()
        if rows and len(expected):
            firsts, lasts, *values = np.array(rows, dtype=np.int64).T
            begins = np.searchsorted(expected, firsts)
            ends = np.searchsorted(expected, lasts, side="right")
            for place in range(len(rows)):
                columns[:, begins[place] : ends[place]] = [[column[place]] for column in values]
        times, first_at, again_at = columns
        return UnprovenAbsences(times, first_at), again_at

    def keep_unproven(
        self, series: str, expected: Int64Array, unproven: UnprovenAbsences, again_at: Int64Array
    ) -> None:
        """Record these unproven absences in place of earlier ones of the expected bars."""
        if not len(expected):
            return
        columns = np.stack((unproven.times, unproven.first_at, again_at))
        changes = (columns[:, 1:] != columns[:, :-1]).any(axis=0).nonzero()[0] + 1
        begins = np.concatenate(([0], changes))
        ends = np.append(changes, len(expected))
        rows = [
            (series, int(expected[begin]), int(expected[end - 1]), *columns[:, begin].tolist())
            for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)
            if unproven.times[begin]
        ]
        with self._db() as database:
            database.execute(
                "DELETE FROM doubts WHERE series = ? AND first <= ? AND last >= ?",
                (series, int(expected[-1]), int(expected[0])),
            )
            database.executemany("INSERT OR REPLACE INTO doubts VALUES (?, ?, ?, ?, ?, ?)", rows)


def _expires_at(series: str, about: int) -> int:
    """The time within half a day of `about` at which absences of a series expire (UTC seconds).

    It has one time of day for each series, so that absences that were found one by one, as they
    are in an illiquid series, are requested again together. Series differ in it, so that they are
    not all requested at once.
    """
    earliest = about - DAY_S // 2
    return earliest + (zlib.crc32(series.encode()) - earliest) % DAY_S


def _expiry_s(gap: Gap, now: int, *, was_known: bool) -> int:
    if gap.last > now - _RECENT_S:
        return _RECENT_EXPIRY_S
    return _TWICE_EXPIRY_S if was_known else _OLD_EXPIRY_S


def _covers(runs: list[tuple[int, int]], gap: Gap) -> bool:
    """Whether one of the runs covers the whole gap."""
    return any(first <= gap.first and gap.last <= last for first, last in runs)
