"""The connection's past states and their times, of the last 30 days, in SQLite. No bars."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from ktrdr.ib.expected_outages import Disconnection
from ktrdr.ib.outages import NOT_RUNNING, has_data
from ktrdr.ib.states import State
from ktrdr.ipc.messages import StateSpan
from ktrdr.sqlite_file import Database, DatabaseError, Schema, open_database

log = logging.getLogger(__name__)

T = TypeVar("T")

_Row = tuple[float, str, str]

KEPT_S = 30 * 86400
ROWS_MAX = 20_000
"""Enough for a month of changes every two minutes; beyond this the oldest rows are removed."""

_NO_TIME = timedelta(0)
_WAIT_S = 0.5
"""Seconds to wait for another process that writes; history must not delay anything."""

_SCHEMA = Schema("""
CREATE TABLE IF NOT EXISTS states (at REAL PRIMARY KEY, state TEXT NOT NULL, why TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS run (last REAL NOT NULL);
""")


class ConnectionHistory:
    """The history of one gateway, for any thread. A disk error costs history, and nothing else."""

    def __init__(self, path: Path, now: float) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._is_failing = self._is_closed = False
        self._db: Database | None = None
        self._do(lambda db: _close_last_run(db, now), None)

    def close(self, now: float) -> None:
        """The program ends."""
        self.note(now, NOT_RUNNING, "")
        with self._lock:
            self._is_closed = True
            if self._db is not None:
                self._db.close()
                self._db = None

    def reopen(self) -> None:
        """Record again, after `close`."""
        with self._lock:
            self._is_closed = False

    def note(self, at: float, state: str, why: str) -> None:
        """The connection is in this state from `at` on (UTC seconds)."""
        self._do(lambda db: _note(db, at, state, why), None)

    def note_alive(self, at: float) -> None:
        """The program still runs, and the state is unchanged."""
        self._do(lambda db: _seen(db, at), None)

    def spans(self, since: datetime, until: datetime) -> list[StateSpan]:
        """The states in `[since, until)`, oldest first, without gaps from the first known one."""
        rows: list[_Row] = self._do(_all_rows, [])
        starts = [datetime.fromtimestamp(at, UTC) for at, _, _ in rows]
        return [
            StateSpan(max(start, since), min(end, until), state, why)
            for (_, state, why), start, end in zip(rows, starts, [*starts[1:], until], strict=False)
            if end > since and start < until
        ]

    def _do(self, work: Callable[[Database], T], otherwise: T) -> T:
        """Work on the database in a transaction. A disk error is logged once, until a success."""
        try:
            with self._lock:
                if self._is_closed:
                    return otherwise
                if self._db is None:
                    self._db = open_database(self._path, _SCHEMA, _WAIT_S)
                with self._db:
                    done = work(self._db)
        except (OSError, DatabaseError) as error:
            if not self._is_failing:
                log.warning("%s cannot be kept: %s", self._path, error)
            self._is_failing = True
            return otherwise
        self._is_failing = False
        return done


def disconnections(spans: Sequence[StateSpan]) -> list[Disconnection]:
    """The times when the connection was lost and came back while the program ran.

    A broken history farm of IB's is not a lost connection.
    """
    found: list[Disconnection] = []
    lost_at: datetime | None = None
    was_up = False
    for span in spans:
        if has_data(span):
            if lost_at is not None:
                found.append(Disconnection(lost_at, span.start))
            lost_at, was_up = None, True
        elif span.state == NOT_RUNNING:
            lost_at, was_up = None, False
        elif was_up and lost_at is None and span.state != State.HISTORY_DOWN:
            lost_at = span.start
    return found


def uptime(spans: Sequence[StateSpan]) -> float | None:
    """The share of the recorded time in which bars were available; None: nothing is recorded."""
    known = [span for span in spans if span.end > span.start]
    total = sum((span.end - span.start for span in known), _NO_TIME)
    up = sum((span.end - span.start for span in known if has_data(span)), _NO_TIME)
    return up / total if total else None


def shares(
    spans: Sequence[StateSpan], since: datetime, until: datetime, slices: int
) -> list[float | None]:
    """The same for each of `slices` equal parts of `[since, until)`; for a chart."""
    length = max((until - since) / slices, timedelta.resolution)
    known, up = [_NO_TIME] * slices, [_NO_TIME] * slices
    for span in spans:
        first = max(int((span.start - since) / length), 0)
        last = min(int((span.end - since) / length), slices - 1)
        for place in range(first, last + 1):
            begin = since + place * length
            part = max(min(span.end, begin + length) - max(span.start, begin), _NO_TIME)
            known[place] += part
            up[place] += part if has_data(span) else _NO_TIME
    return [u / k if k else None for u, k in zip(up, known, strict=True)]


def lost_at(spans: Sequence[StateSpan]) -> datetime | None:
    """When the connection last had data; None: it has data now, or never had."""
    up = [span for span in spans if has_data(span)]
    return up[-1].end if up and up[-1] is not spans[-1] else None


def _note(db: Database, at: float, state: str, why: str) -> None:
    db.execute("INSERT OR REPLACE INTO states VALUES (?, ?, ?)", (at, state, why))
    _trim(db, at)
    _seen(db, at)


def _all_rows(db: Database) -> list[_Row]:
    return db.execute("SELECT at, state, why FROM states ORDER BY at").fetchall()


def _close_last_run(db: Database, now: float) -> None:
    """End a run that was killed at the last time at which it is known to have run."""
    last_seen = db.execute("SELECT last FROM run").fetchone()
    last = db.execute("SELECT at, state FROM states ORDER BY at DESC LIMIT 1").fetchone()
    if last_seen and last and last[1] != NOT_RUNNING:
        at = min(max(last_seen[0], last[0] + 0.001), now)
        db.execute("INSERT OR REPLACE INTO states VALUES (?, ?, '')", (at, NOT_RUNNING))


def _trim(db: Database, now: float) -> None:
    """Keep the last 30 days, and the row with the state in which they began."""
    db.execute(
        "DELETE FROM states WHERE at < (SELECT max(at) FROM states WHERE at <= ?)", (now - KEPT_S,)
    )
    db.execute(
        "DELETE FROM states WHERE at <= (SELECT at FROM states ORDER BY at DESC LIMIT 1 OFFSET ?)",
        (ROWS_MAX,),
    )


def _seen(db: Database, at: float) -> None:
    db.execute("DELETE FROM run")
    db.execute("INSERT INTO run VALUES (?)", (at,))
