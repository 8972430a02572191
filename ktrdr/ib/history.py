"""The past states of the connection and their times: SQLite, the last 30 days. Decides nothing."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from ktrdr.ib.expected_outages import Outage
from ktrdr.ib.outages import NOT_RUNNING, Span
from ktrdr.ib.states import State
from ktrdr.sqlite_file import Database, DatabaseError, Schema, open_database

log = logging.getLogger(__name__)

T = TypeVar("T")

_Row = tuple[float, str, str]

KEPT_S = 30 * 86400
ROWS_MAX = 20_000
"""Enough for a month of changes every two minutes; beyond this the oldest rows are removed."""

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

    def spans(self, since: float, until: float) -> list[Span]:
        """The states in `[since, until)`, oldest first, without gaps from the first known one."""
        rows: list[_Row] = self._do(_all_rows, [])
        ends = [at for at, _, _ in rows[1:]] + [until]
        return [
            Span(max(at, since), min(end, until), state, why)
            for (at, state, why), end in zip(rows, ends, strict=bool(rows))
            if end > since and at < until
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


def outages(spans: Sequence[Span]) -> list[Outage]:
    """The times when the connection was lost and came back while the program ran.

    A broken history farm of IB's is not a lost connection.
    """
    found: list[Outage] = []
    lost_at: float | None = None
    was_up = False
    for span in spans:
        if span.has_data:
            if lost_at is not None:
                found.append(Outage(lost_at, span.start))
            lost_at, was_up = None, True
        elif span.state == NOT_RUNNING:
            lost_at, was_up = None, False
        elif was_up and lost_at is None and span.state != State.HISTORY_DOWN:
            lost_at = span.start
    return found


def uptime(spans: Sequence[Span]) -> float | None:
    """The share of the recorded time in which bars were available; None: nothing is recorded."""
    known = [span for span in spans if span.end > span.start]
    total = sum(span.end - span.start for span in known)
    return sum(s.end - s.start for s in known if s.has_data) / total if total else None


def shares(spans: Sequence[Span], since: float, until: float, slices: int) -> list[float | None]:
    """The same for each of `slices` equal parts of `[since, until)`; for a chart."""
    length = (until - since) / slices
    known, up = [0.0] * slices, [0.0] * slices
    for span in spans:
        first = max(int((span.start - since) / length), 0)
        last = min(int((span.end - since) / length), slices - 1)
        for place in range(first, last + 1):
            begin = since + place * length
            seconds = max(min(span.end, begin + length) - max(span.start, begin), 0.0)
            known[place] += seconds
            up[place] += seconds if span.has_data else 0.0
    return [u / k if k > 0 else None for u, k in zip(up, known, strict=True)]


def lost_at(spans: Sequence[Span]) -> float | None:
    """When the connection last had data; None: it has data now, or never had."""
    up = [span for span in spans if span.has_data]
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
