"""What IB has been asked, and what it answered: SQLite in the store's own folder. Holds no bars."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ktrdr.data.sqlite_file import open_database
from ktrdr.planning.gaps import Gap
from ktrdr.planning.instruments import Series
from ktrdr.planning.sessions import Int64Array, Schedule, Session
from ktrdr.planning.timeframes import DAY_S

_RECENT_S = 7 * DAY_S
_RECENT_EXPIRY_S = DAY_S
_OLD_EXPIRY_S = 30 * DAY_S
_ASKED_KEPT_S = 30 * DAY_S

_TABLES = """
CREATE TABLE IF NOT EXISTS asked (
    series TEXT, start INTEGER, end INTEGER, at INTEGER, outcome TEXT, code INTEGER, bars INTEGER
);
CREATE INDEX IF NOT EXISTS asked_at ON asked (at);
CREATE TABLE IF NOT EXISTS absent (
    series TEXT, first INTEGER, last INTEGER, verified INTEGER, at INTEGER, expires_at INTEGER,
    PRIMARY KEY (series, first, last, verified)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS schedules (contract TEXT PRIMARY KEY, fetched_at INTEGER, body TEXT);
CREATE TABLE IF NOT EXISTS alignments (contract TEXT PRIMARY KEY, minutes TEXT);
CREATE TABLE IF NOT EXISTS wanted (series TEXT PRIMARY KEY, since INTEGER);
"""


class Ledger:
    """Of one store. For one thread. Deleting its file costs requests, and no bar."""

    def __init__(self, path: Path) -> None:
        self._db = open_database(path, _TABLES)

    def close(self) -> None:
        """Write what is pending and close the file."""
        self._db.close()

    def answered(self, series: Series, start: int, end: int, now: int, bars: int) -> None:
        """IB has answered for `[start, end)` with this many bars."""
        self._asked(series, start, end, now, "bars" if bars else "no_data", None, bars)

    def refused(
        self, series: Series, start: int, end: int, now: int, outcome: str, code: int | None
    ) -> None:
        """IB has not answered for `[start, end)`, or with an error."""
        self._asked(series, start, end, now, outcome, code, 0)

    def _asked(
        self,
        series: Series,
        start: int,
        end: int,
        now: int,
        outcome: str,
        code: int | None,
        bars: int,
    ) -> None:
        row = (str(series), start, end, now, outcome, code, bars)
        with self._db:
            self._db.execute("INSERT INTO asked VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            self._db.execute("DELETE FROM asked WHERE at < ?", (now - _ASKED_KEPT_S,))

    def record_absent(self, series: str, gaps: Iterable[Gap], now: int) -> None:
        """IB was asked for these bars, answered, and has none of them.

        `series` names the series and its contract: what one contract lacks says nothing about
        another under the same name. It expires: recent bars are asked for again the next day,
        old ones after 30 days.
        """
        self._record(series, ((gap, now + _expiry_s(gap, now)) for gap in gaps), now, verified=True)

    def record_late(self, series: str, gaps: Iterable[Gap], now: int, until: int) -> None:
        """IB has not these bars yet, so soon after their end; ask again from `until` on."""
        self._record(series, ((gap, until) for gap in gaps), now, verified=False)

    def _record(
        self, series: str, gaps: Iterable[tuple[Gap, int]], now: int, *, verified: bool
    ) -> None:
        rows = [
            (series, gap.first, gap.last, int(verified), now, expires_at)
            for gap, expires_at in gaps
        ]
        with self._db:
            self._db.executemany("INSERT OR REPLACE INTO absent VALUES (?, ?, ?, ?, ?, ?)", rows)
            self._db.execute("DELETE FROM absent WHERE expires_at <= ?", (now,))

    def absent(self, series: str, expected: Int64Array, now: int) -> Int64Array:
        """Those of the expected bars that IB is known not to have."""
        return self._recorded(series, expected, now, verified=True)

    def late(self, series: str, expected: Int64Array, now: int) -> Int64Array:
        """Those of the expected bars that IB had not yet when it was asked just now."""
        return self._recorded(series, expected, now, verified=False)

    def _recorded(
        self, series: str, expected: Int64Array, now: int, *, verified: bool
    ) -> Int64Array:
        rows = self._db.execute(
            "SELECT first, last FROM absent WHERE series = ? AND verified = ? AND expires_at > ?",
            (series, int(verified), now),
        ).fetchall()
        known = np.zeros(len(expected) + 1, dtype=np.int64)
        if rows:
            firsts, lasts = np.array(rows, dtype=np.int64).T
            np.add.at(known, np.searchsorted(expected, firsts), 1)
            np.add.at(known, np.searchsorted(expected, lasts, side="right"), -1)
        return expected[np.cumsum(known)[:-1] > 0]

    def keep_schedule(self, contract: str, schedule: Schedule, now: int) -> None:
        """Remember a contract's sessions."""
        body = json.dumps([schedule.zone, schedule.start, schedule.end, schedule.sessions])
        with self._db:
            self._db.execute(
                "INSERT OR REPLACE INTO schedules VALUES (?, ?, ?)", (contract, now, body)
            )

    def schedule(self, contract: str) -> tuple[Schedule, int] | None:
        """A contract's sessions, and when they were learnt; None when they never were."""
        row = self._db.execute(
            "SELECT body, fetched_at FROM schedules WHERE contract = ?", (contract,)
        ).fetchone()
        if row is None:
            return None
        zone, start, end, sessions = json.loads(row[0])
        return Schedule(zone, start, end, tuple(Session(*s) for s in sessions)), row[1]

    def learn_alignment(self, contract: str, minutes: frozenset[int]) -> None:
        """Remember at which local minutes four-hour bars of a contract begin."""
        both = sorted(self.alignment(contract) | minutes)
        with self._db:
            self._db.execute(
                "INSERT OR REPLACE INTO alignments VALUES (?, ?)", (contract, json.dumps(both))
            )

    def alignment(self, contract: str) -> frozenset[int]:
        """What was learnt; empty when nothing was."""
        row = self._db.execute(
            "SELECT minutes FROM alignments WHERE contract = ?", (contract,)
        ).fetchone()
        return frozenset(json.loads(row[0])) if row else frozenset()

    def want(self, series: Series, since: int) -> None:
        """Somebody asks for the series from this day on."""
        with self._db:
            self._db.execute("INSERT OR REPLACE INTO wanted VALUES (?, ?)", (str(series), since))

    def wanted(self, series: Series) -> int | None:
        """From when on somebody asked for the series."""
        row = self._db.execute(
            "SELECT since FROM wanted WHERE series = ?", (str(series),)
        ).fetchone()
        return int(row[0]) if row else None


def _expiry_s(gap: Gap, now: int) -> int:
    return _RECENT_EXPIRY_S if gap.last > now - _RECENT_S else _OLD_EXPIRY_S
