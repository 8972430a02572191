"""What IB has been asked, and what it answered: SQLite in the store's own folder. Holds no bars."""

from __future__ import annotations

import contextlib
import json
import logging
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ktrdr.filling.clocks import APART_S
from ktrdr.filling.evidence import Doubts, Lacked
from ktrdr.filling.fill import State
from ktrdr.filling.gaps import Gap, in_runs
from ktrdr.filling.grids import Grid
from ktrdr.filling.identity import Identity, Known
from ktrdr.filling.ledger_reader import stored_schedule
from ktrdr.filling.lifetime import Life
from ktrdr.filling.unscheduled import Unscheduled
from ktrdr.market.bars import Bar
from ktrdr.market.instruments import Series, parse_series
from ktrdr.market.sessions import Int64Array, Schedule
from ktrdr.market.timeframes import DAY_S, Timeframe
from ktrdr.sqlite_file import begin_anew, open_database
from ktrdr.store.bar_file import FileKey

log = logging.getLogger(__name__)

_RECENT_S = 7 * DAY_S
_RECENT_EXPIRY_S = DAY_S
_OLD_EXPIRY_S = 30 * DAY_S
_TWICE_EXPIRY_S = 365 * DAY_S
_EXPIRED_KEPT_S = 400 * DAY_S
"""What has expired is remembered: verified again, it is believed for a year."""
_ASKED_KEPT_S = 30 * DAY_S

_VERSION = 3
_TABLES = """
CREATE TABLE IF NOT EXISTS asked (
    series TEXT, start INTEGER, end INTEGER, at INTEGER, outcome TEXT, code INTEGER, bars INTEGER
);
CREATE INDEX IF NOT EXISTS asked_at ON asked (at);
CREATE TABLE IF NOT EXISTS absent (
    series TEXT, first INTEGER, last INTEGER, verified INTEGER, at INTEGER, expires_at INTEGER,
    PRIMARY KEY (series, first, last, verified)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS doubts (
    series TEXT, first INTEGER, last INTEGER, times INTEGER, first_at INTEGER, again_at INTEGER,
    PRIMARY KEY (series, first)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lacked (
    contract TEXT, day INTEGER, times INTEGER, first_at INTEGER, PRIMARY KEY (contract, day)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS unscheduled (
    series TEXT, start INTEGER, open REAL, high REAL, low REAL, close REAL, volume REAL,
    times INTEGER, first_at INTEGER, PRIMARY KEY (series, start)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS schedules (contract TEXT PRIMARY KEY, fetched_at INTEGER, body TEXT);
CREATE TABLE IF NOT EXISTS alignments (contract TEXT PRIMARY KEY, minutes TEXT);
CREATE TABLE IF NOT EXISTS identities (series TEXT PRIMARY KEY, known TEXT, told TEXT);
CREATE TABLE IF NOT EXISTS grids (
    contract TEXT, timeframe TEXT, minute INTEGER, seen INTEGER, times INTEGER, first_at INTEGER,
    last_at INTEGER, PRIMARY KEY (contract, timeframe)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lives (
    contract TEXT PRIMARY KEY, head INTEGER, head_at INTEGER, expires INTEGER
);
CREATE TABLE IF NOT EXISTS fills (
    id INTEGER PRIMARY KEY AUTOINCREMENT, series TEXT, since INTEGER, asked_at INTEGER, state TEXT,
    ended_at INTEGER, expected INTEGER, present INTEGER, missing TEXT
);
CREATE INDEX IF NOT EXISTS fills_of ON fills (series);
CREATE TABLE IF NOT EXISTS spans (timeframe TEXT PRIMARY KEY, days REAL);
CREATE TABLE IF NOT EXISTS files (
    series TEXT PRIMARY KEY, size INTEGER, mtime_ns INTEGER, inode INTEGER, ours INTEGER
);
CREATE TABLE IF NOT EXISTS renewals (series TEXT PRIMARY KEY, since INTEGER, why TEXT);
CREATE TABLE IF NOT EXISTS clock (
    one INTEGER PRIMARY KEY CHECK (one = 1), boot TEXT, base_s REAL, wall_s REAL
);
CREATE TABLE IF NOT EXISTS looks (series TEXT, what TEXT, at INTEGER, PRIMARY KEY (series, what));
"""

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


def open_ledger(path: Path, wait_s: float = 10.0) -> sqlite3.Connection:
    """A store's ledger, made where there is none; errors and `wait_s` as `open_database`.

    Until there were fills, what was asked for stood in a table of its own, one day for each series.
    """
    database = open_database(path, _TABLES, _VERSION, wait_s, _take_over_fills)
    try:
        if database.execute("SELECT 1 FROM sqlite_schema WHERE name = 'wanted'").fetchone():
            _make_fills_of_what_was_wanted(database)
    except sqlite3.Error:
        database.close()
        raise
    return database


def _make_fills_of_what_was_wanted(database: sqlite3.Connection) -> None:
    with database:
        database.execute("BEGIN IMMEDIATE")
        if database.execute("SELECT 1 FROM sqlite_schema WHERE name = 'wanted'").fetchone():
            database.execute(
                "INSERT INTO fills (series, since, state) "
                "SELECT series, max(since - since % 86400, 0), 'queued' FROM wanted"
            )
            database.execute("DROP TABLE wanted")


def leave_damaged(path: Path, why: sqlite3.Error) -> None:
    """Put a store's ledger aside, and begin a new one with its fills; errors as `open_ledger`."""
    begin_anew(path, why, _TABLES, _VERSION, take_over=_take_over_fills).close()


def _take_over_fills(database: sqlite3.Connection, aside: Path) -> None:
    """What people asked for goes on, as far as a ledger that was put aside can still be read."""
    found: list[tuple[Any, ...]] = []
    query = (
        "SELECT id, series, since, asked_at, state, ended_at, expected, present, missing FROM fills"
    )
    try:
        with contextlib.closing(sqlite3.connect(aside)) as old:
            found.extend(row for row in old.execute(query) if _is_fill(row[1], row[2], row[4]))
    except sqlite3.Error as error:
        log.warning("which fills were asked for cannot be read there (%s): ask again", error)
    insert = "INSERT OR IGNORE INTO fills VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
    with database:
        database.executemany(insert, found)


def _is_fill(series: object, since: object, state: object) -> bool:
    """A row that this version understands, whichever has written it."""
    try:
        parse_series(f"{series}.csv")
        State(str(state))
    except ValueError:
        return False
    return isinstance(since, int)


class Ledger:
    """Of one store. For one thread. Deleting its file costs requests, and no bar."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._db = open_ledger(path)
        self._inode = path.stat().st_ino

    @property
    def is_in_place(self) -> bool:
        """Nobody has removed or replaced its file since it was opened."""
        try:
            return self._path.stat().st_ino == self._inode
        except FileNotFoundError:
            return False

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
        old ones after 30 days, and what was found absent a second time after a year.
        """
        known = self._runs(series, "verified = 1")
        rows = [(gap, now + _expiry_s(gap, now, was_known=_covers(known, gap))) for gap in gaps]
        self._record(series, rows, now, verified=True)

    def record_late(self, series: str, gaps: Iterable[Gap], now: int, until: int) -> None:
        """IB has not these bars yet, so soon after their end; ask again from `until` on."""
        self._record(series, ((gap, until) for gap in gaps), now, verified=False)

    def forget_after(self, moment: int) -> int:
        """Forget what was found out later than a moment that is yet to come; how much that is.

        Sessions that were learnt then are kept, as those that are old.
        """
        with self._db:
            changed = [self._db.execute(query, (moment,)).rowcount for query in _OF_LATER]
        return sum(changed)

    def clock(self) -> Clock | None:
        """As it was kept last; None: never."""
        row = self._db.execute("SELECT boot, base_s, wall_s FROM clock").fetchone()
        return Clock(*row) if row else None

    def keep_clock(self, clock: Clock) -> None:
        """Remember it."""
        with self._db:
            self._db.execute("INSERT OR REPLACE INTO clock VALUES (1, ?, ?, ?)", clock)

    def put_off(self, by_s: int, now: int) -> None:
        """Count a time by which a clock was set ahead as none that has passed since a doubt."""
        with self._db:
            for query in _PUT_OFF:
                self._db.execute(query, {"by_s": by_s, "now": now})

    def forget_late(self, series: str) -> None:
        """Ask again now for what IB had not yet."""
        with self._db:
            self._db.execute("DELETE FROM absent WHERE series = ? AND verified = 0", (series,))

    def forget_lacking(self, series: str) -> None:
        """Its bars begin elsewhere: what IB has not, or not yet, was said of others."""
        with self._db:
            self._db.execute("DELETE FROM absent WHERE series = ?", (series,))
            self._db.execute("DELETE FROM doubts WHERE series = ?", (series,))

    def _record(
        self, series: str, gaps: Iterable[tuple[Gap, int]], now: int, *, verified: bool
    ) -> None:
        rows = [
            (series, gap.first, gap.last, int(verified), now, expires_at)
            for gap, expires_at in gaps
        ]
        with self._db:
            self._db.executemany(
                "DELETE FROM absent WHERE series = ? AND first >= ? AND last <= ?",
                [(series, first, last) for _, first, last, *_ in rows],
            )
            self._db.executemany("INSERT OR REPLACE INTO absent VALUES (?, ?, ?, ?, ?, ?)", rows)
            self._db.execute(
                "DELETE FROM absent WHERE expires_at <= ? AND (verified = 0 OR expires_at <= ?)",
                (now, now - _EXPIRED_KEPT_S),
            )

    def absent(self, series: str, expected: Int64Array, now: int) -> Int64Array:
        """Those of the expected bars that IB is known not to have."""
        return self._recorded(series, expected, now, verified=True)

    def late(self, series: str, expected: Int64Array, now: int) -> Int64Array:
        """Those of the expected bars that IB had not yet when it was asked just now."""
        return self._recorded(series, expected, now, verified=False)

    def _recorded(
        self, series: str, expected: Int64Array, now: int, *, verified: bool
    ) -> Int64Array:
        latest = now + int(APART_S)  # what was found out later was so by a clock that was ahead
        where = f"verified = {int(verified)} AND expires_at > {now} AND at <= {latest}"
        runs = self._runs(series, where)
        return in_runs(runs, expected)

    def _runs(self, series: str, where: str) -> list[tuple[int, int]]:
        """First and last bar of what is recorded under a condition of ours, oldest first."""
        query = f"SELECT first, last FROM absent WHERE series = ? AND {where} ORDER BY first"  # noqa: S608
        return self._db.execute(query, (series,)).fetchall()

    def once_absent(self, series: str, expected: Int64Array) -> Int64Array:
        """Those of the expected bars that were verified to be absent before, expired or not."""
        return in_runs(self._runs(series, "verified = 1"), expected)

    def doubts(self, series: str, expected: Int64Array) -> tuple[Doubts, Int64Array]:
        """What IB has left out of the expected bars and nobody believes, and when to ask again."""
        columns = np.zeros((3, len(expected)), dtype=np.int64)
        rows = self._db.execute(
            "SELECT first, last, times, first_at, again_at FROM doubts WHERE series = ?", (series,)
        ).fetchall()
        if rows and len(expected):
            firsts, lasts, *values = np.array(rows, dtype=np.int64).T
            begins = np.searchsorted(expected, firsts)
            ends = np.searchsorted(expected, lasts, side="right")
            for place in range(len(rows)):
                columns[:, begins[place] : ends[place]] = [[column[place]] for column in values]
        times, first_at, again_at = columns
        return Doubts(times, first_at), again_at

    def keep_doubts(
        self, series: str, expected: Int64Array, doubts: Doubts, again_at: Int64Array
    ) -> None:
        """Remember it, in the place of what was doubted of these expected bars."""
        if not len(expected):
            return
        columns = np.stack((doubts.times, doubts.first_at, again_at))
        changes = (columns[:, 1:] != columns[:, :-1]).any(axis=0).nonzero()[0] + 1
        begins = np.concatenate(([0], changes))
        ends = np.append(changes, len(expected))
        rows = [
            (series, int(expected[begin]), int(expected[end - 1]), *columns[:, begin].tolist())
            for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)
            if doubts.times[begin]
        ]
        with self._db:
            self._db.execute(
                "DELETE FROM doubts WHERE series = ? AND first <= ? AND last >= ?",
                (series, int(expected[-1]), int(expected[0])),
            )
            self._db.executemany("INSERT OR REPLACE INTO doubts VALUES (?, ?, ?, ?, ?, ?)", rows)

    def last_bars_at(self, series: Series, around: Gap, reach_s: int) -> int | None:
        """When a request that was answered with bars near a gap was sent last; None: never."""
        row = self._db.execute(
            "SELECT max(at) FROM asked WHERE series = ? AND outcome = 'bars' "
            "AND start < ? AND end > ?",
            (str(series), around.last + reach_s, around.first - reach_s),
        ).fetchone()
        return None if row[0] is None else int(row[0])

    def lacked(self, contract: str) -> dict[int, Lacked]:
        """Trading day → how often IB's SCHEDULE of a contract has lacked it."""
        rows = self._db.execute(
            "SELECT day, times, first_at FROM lacked WHERE contract = ?", (contract,)
        ).fetchall()
        return {day: Lacked(times, first_at) for day, times, first_at in rows}

    def keep_lacked(self, contract: str, lacked: Mapping[int, Lacked]) -> None:
        """Remember that, in the place of what was known of the contract."""
        with self._db:
            self._db.execute("DELETE FROM lacked WHERE contract = ?", (contract,))
            rows = [(contract, day, *one) for day, one in lacked.items()]
            self._db.executemany("INSERT INTO lacked VALUES (?, ?, ?, ?)", rows)

    def unscheduled(self, series: str) -> dict[int, Unscheduled]:
        """Start → bar that was told at a time without trading, and is not believed yet."""
        rows = self._db.execute(
            "SELECT start, open, high, low, close, volume, times, first_at FROM unscheduled "
            "WHERE series = ?",
            (series,),
        ).fetchall()
        return {row[0]: Unscheduled(Bar(*row[:6]), *row[6:]) for row in rows}

    def keep_unscheduled(self, series: str, bars: Mapping[int, Unscheduled]) -> None:
        """Remember them, in the place of what was known of the series."""
        with self._db:
            self._db.execute("DELETE FROM unscheduled WHERE series = ?", (series,))
            rows = [(series, *one.bar, one.times, one.first_at) for one in bars.values()]
            self._db.executemany("INSERT INTO unscheduled VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def keep_schedule(self, contract: str, schedule: Schedule, now: int) -> None:
        """Remember a contract's sessions."""
        body = json.dumps(tuple(getattr(schedule, field.name) for field in fields(schedule)))
        with self._db:
            self._db.execute(
                "INSERT OR REPLACE INTO schedules VALUES (?, ?, ?)", (contract, now, body)
            )

    def schedule(self, contract: str) -> tuple[Schedule, int] | None:
        """A contract's sessions, and when they were learnt; None when they never were.

        None too where they are none, or in a time zone that nobody knows.
        """
        row = self._db.execute(
            "SELECT body, fetched_at FROM schedules WHERE contract = ?", (contract,)
        ).fetchone()
        schedule = stored_schedule(row[0]) if row else None
        return None if schedule is None else (schedule, row[1])

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

    def identity(self, series: str) -> Known | None:
        """Which contract the bars of a series are of; None: nobody has ever said."""
        row = self._db.execute(
            "SELECT known, told FROM identities WHERE series = ?", (series,)
        ).fetchone()
        if row is None:
            return None
        try:
            known, told = (None if text is None else Identity(*json.loads(text)) for text in row)
        except (TypeError, ValueError):
            return None
        return None if known is None else Known(known, told)

    def keep_identity(self, series: str, known: Known) -> None:
        """Remember it."""
        told = None if known.told is None else json.dumps(known.told)
        with self._db:
            self._db.execute(
                "INSERT OR REPLACE INTO identities VALUES (?, ?, ?)",
                (series, json.dumps(known.contract), told),
            )

    def grid(self, contract: str, timeframe: Timeframe) -> Grid:
        """Where bars of a contract begin that are of another length than four hours."""
        row = self._db.execute(
            "SELECT minute, seen, times, first_at, last_at FROM grids "
            "WHERE contract = ? AND timeframe = ?",
            (contract, timeframe.value),
        ).fetchone()
        return Grid(*row) if row else Grid()

    def keep_grid(self, contract: str, timeframe: Timeframe, grid: Grid) -> None:
        """Remember it."""
        with self._db:
            row = (contract, timeframe.value, *grid)
            self._db.execute("INSERT OR REPLACE INTO grids VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def life(self, contract: str) -> Life:
        """What is known of a contract's first and last bar."""
        row = self._db.execute(
            "SELECT head, head_at, expires FROM lives WHERE contract = ?", (contract,)
        ).fetchone()
        return Life(*row) if row else Life()

    def keep_life(self, contract: str, life: Life) -> None:
        """Remember it."""
        with self._db:
            self._db.execute("INSERT OR REPLACE INTO lives VALUES (?, ?, ?, ?)", (contract, *life))

    def spans(self) -> dict[str, float]:
        """Timeframe → days in one request, as learnt."""
        return dict(self._db.execute("SELECT timeframe, days FROM spans").fetchall())

    def keep_spans(self, days: Mapping[str, float]) -> None:
        """Remember them."""
        with self._db:
            self._db.executemany("INSERT OR REPLACE INTO spans VALUES (?, ?)", days.items())

    def file(self, series: Series) -> tuple[FileKey, bool] | None:
        """The file as it was when it was written or seen last, and whether all of it is ours."""
        row = self._db.execute(
            "SELECT size, mtime_ns, inode, ours FROM files WHERE series = ?", (str(series),)
        ).fetchone()
        return ((row[0], row[1], row[2]), bool(row[3])) if row else None

    def keep_file(self, series: Series, key: FileKey, *, is_ours: bool) -> None:
        """Remember it."""
        with self._db:
            self._db.execute(
                "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)",
                (str(series), *key, int(is_ours)),
            )

    def looked_at(self, series: Series, what: str) -> int | None:
        """When this was looked at last."""
        row = self._db.execute(
            "SELECT at FROM looks WHERE series = ? AND what = ?", (str(series), what)
        ).fetchone()
        return int(row[0]) if row else None

    def note_look(self, series: Series, what: str, now: int) -> None:
        """It is looked at now."""
        with self._db:
            self._db.execute(
                "INSERT OR REPLACE INTO looks VALUES (?, ?, ?)", (str(series), what, now)
            )

    def renewals(self) -> dict[str, tuple[int, str]]:
        """Series that are being pulled again: from when on, and why."""
        rows = self._db.execute("SELECT series, since, why FROM renewals").fetchall()
        return {series: (since, why) for series, since, why in rows}

    def keep_renewal(self, series: Series, since: int, why: str) -> None:
        """Pull the series again."""
        with self._db:
            row = (str(series), since, why)
            self._db.execute("INSERT OR REPLACE INTO renewals VALUES (?, ?, ?)", row)

    def end_renewal(self, series: Series) -> None:
        """It was pulled again."""
        with self._db:
            self._db.execute("DELETE FROM renewals WHERE series = ?", (str(series),))

    def wanted(self, series: Series) -> int | None:
        """From when on somebody wants the series, by all fills that were not cancelled."""
        row = self._db.execute(
            "SELECT min(since) FROM fills WHERE series = ? AND state != 'cancelled'",
            (str(series),),
        ).fetchone()
        return None if row[0] is None else int(row[0])


def _expiry_s(gap: Gap, now: int, *, was_known: bool) -> int:
    if gap.last > now - _RECENT_S:
        return _RECENT_EXPIRY_S
    return _TWICE_EXPIRY_S if was_known else _OLD_EXPIRY_S


def _covers(runs: list[tuple[int, int]], gap: Gap) -> bool:
    """Whether one of the runs reaches over the whole gap."""
    return any(first <= gap.first and gap.last <= last for first, last in runs)
