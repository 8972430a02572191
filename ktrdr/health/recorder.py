"""Records what the group uses and last knew, each minute, so that a restart forgets nothing.

One thread records; any may read. A file that cannot be written costs the memory of a restart, and
nothing else.
"""

from __future__ import annotations

import gzip
import json
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from ktrdr.errors import InvalidRequest, KtrdrError
from ktrdr.health.programs import Program
from ktrdr.health.system import Snapshot, System
from ktrdr.health.usage import KEPT_S, STEP_S, Load, Pace, Sample, Usage, pace_between
from ktrdr.ipc.codec import from_text, to_text
from ktrdr.ipc.messages import SeriesStatus, StoreCoverage
from ktrdr.ipc.series_messages import CoverageGrid
from ktrdr.sqlite_file import Database, DatabaseError, Schema, StateFile
from ktrdr.times import utc

FILE = "status-app.sqlite"
"""In the run folder."""

_SCHEMA = Schema("""
CREATE TABLE IF NOT EXISTS samples (
    at INTEGER PRIMARY KEY, loads TEXT NOT NULL, pace TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS starts (
    program TEXT NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (program, at)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS known (
    name TEXT PRIMARY KEY, at INTEGER NOT NULL, content BLOB NOT NULL
) WITHOUT ROWID;
""")
_SOON_S = 2.0
"""How often it is requested until it is known for the first time."""
_READ_S = 300
"""How often what the store holds is requested for the file, once all of it is assessed."""

T = TypeVar("T")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Known:
    """What the store held when the gap filler last said so."""

    at: datetime
    series: list[SeriesStatus]
    grid: CoverageGrid | None

    @property
    def is_assessed(self) -> bool:
        """It is known of each series what it has, or why that is not known."""
        return all(one.expected is not None or one.error for one in self.series)

    def find(self, symbol: str, timeframe: str) -> SeriesStatus | None:
        """One series; None: it was not there."""
        named = (one for one in self.series if one.symbol == symbol)
        return next((one for one in named if one.timeframe == timeframe), None)


class Recorder:
    """Records one group. `step` and `run` are for one thread."""

    def __init__(self, system: System, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._system = system
        self._file = StateFile(path, _SCHEMA)
        self._store = os.fsencode(system.settings.data_dir)
        """Whose series are known: the next group may keep another store."""
        self._clock = clock
        self._last: tuple[float, Snapshot] | None = None
        self._is_failing = False
        self.usage = Usage()
        """Replaced whole."""
        self.known: Known | None = None
        """Replaced whole; None: nothing was ever known."""

    def run(self, stop: threading.Event) -> None:
        """Record each minute until `stop` is set."""
        self.load()
        while True:
            self._attempt(self.step)
            waited_s = 0.0
            while self.known is None and waited_s < STEP_S and not stop.wait(_SOON_S):
                waited_s += _SOON_S
                self._attempt(self.learn)
            if stop.wait(STEP_S - waited_s):
                break
        self.close()

    def close(self) -> None:
        """Close the file; the next step opens it again."""
        self._file.close()

    def _attempt(self, part: Callable[[], None]) -> None:
        try:
            part()
        except KtrdrError as error:
            log.warning("what is used is not recorded now: %s", error)

    def learn(self) -> None:
        """Record what the store holds, if that is due and known."""
        if self._refresh_known(self._system.snapshot(), self._clock()) and self.known is not None:
            known = self.known
            self._with_file(lambda database: self._write_known(database, known))

    def load(self) -> None:
        """Read what was recorded before the start."""
        if self._file.exists:
            self._with_file(self._load)

    def step(self) -> None:
        """Record one sample."""
        snapshot, now = self._system.snapshot(), self._clock()
        programs = {name: one.program for name, one in snapshot.services.items()}
        sample = Sample(int(now), self._loads(programs, now), self._pace(snapshot, now))
        started = {name: one.started for name, one in programs.items() if one.started}
        self.usage = self.usage.with_sample(sample, started)
        self._last = now, snapshot
        is_new = self._refresh_known(snapshot, now)
        self._with_file(lambda database: self._write(database, sample, is_new=is_new))

    def _loads(self, programs: Mapping[str, Program], now: float) -> dict[str, Load]:
        found = {}
        for name, one in programs.items():
            if one.rss_bytes is not None:
                found[name] = Load(self._cpu_percent(one, now), one.rss_bytes)
        return found

    def _cpu_percent(self, program: Program, now: float) -> float | None:
        """CPU since the sample before, of the same process."""
        if self._last is None or program.cpu_s is None:
            return None
        then, snapshot = self._last
        before = snapshot.services[program.name].program
        if before.pid != program.pid or before.cpu_s is None or now <= then:
            return None
        return 100 * max(0.0, program.cpu_s - before.cpu_s) / (now - then)

    def _pace(self, snapshot: Snapshot, now: float) -> Pace:
        current = snapshot.connection.content, snapshot.gap_filler.content
        if self._last is None:
            return pace_between((None, None), current, 0)
        then, before = self._last
        earlier = before.connection.content, before.gap_filler.content
        return pace_between(earlier, current, now - then)

    def _refresh_known(self, snapshot: Snapshot, now: float) -> bool:
        """Request what the store holds if that is due; True: it was had."""
        filler = snapshot.gap_filler.content
        age_s = now - self.known.at.timestamp() if self.known is not None else math.inf
        is_fresh = age_s < (_READ_S if self.known and self.known.is_assessed else STEP_S)
        if is_fresh or filler is None or filler.last_scan_time is None:
            return False
        series = self._system.series(snapshot).content
        if series is None:
            return False
        grid = self._system.peers.grid({}).content
        self.known = Known(utc(int(now)), series, grid)
        return True

    # The file.

    def _with_file(self, use: Callable[[Database], None]) -> None:
        try:
            self._file.notice_deletion()
            use(self._file.database())
        except (DatabaseError, OSError, ValueError, InvalidRequest) as error:
            self._file.close()
            if not self._is_failing:
                log.warning("%s: %s; a restart will forget what was used", self._file.path, error)
            self._is_failing = True
        else:
            self._is_failing = False

    def _load(self, database: Database) -> None:
        rows = database.execute(
            "SELECT at, loads, pace FROM samples WHERE at > ? ORDER BY at",
            (self._clock() - KEPT_S,),
        )
        samples = tuple(_sample(*row) for row in rows)
        starts: dict[str, tuple[int, ...]] = {}
        for name, at in database.execute("SELECT program, at FROM starts ORDER BY at"):
            starts[name] = (*starts.get(name, ()), at)
        self.usage = Usage(samples, starts)
        contents = {
            name: (at, gzip.decompress(content))
            for name, at, content in database.execute("SELECT name, at, content FROM known")
        }
        if "series" in contents and contents.get("store", (0, b""))[1] == self._store:
            at, content = contents["series"]
            grid = from_text(CoverageGrid, contents["grid"][1]) if "grid" in contents else None
            self.known = Known(utc(at), from_text(StoreCoverage, content).series, grid)

    def _write(self, database: Database, sample: Sample, *, is_new: bool) -> None:
        loads = json.dumps({k: [v.cpu_percent, v.rss_bytes] for k, v in sample.loads.items()})
        starts = self.usage.starts
        with database:
            row = (sample.at, loads, json.dumps(asdict(sample.pace)))
            database.execute("INSERT OR REPLACE INTO samples VALUES (?, ?, ?)", row)
            database.execute("DELETE FROM samples WHERE at <= ?", (sample.at - KEPT_S,))
            database.execute("DELETE FROM starts")
            named = [(name, at) for name, times in starts.items() for at in times]
            database.executemany("INSERT INTO starts VALUES (?, ?)", named)
        if is_new and self.known is not None:
            self._write_known(database, self.known)

    def _write_known(self, database: Database, known: Known) -> None:
        at = int(known.at.timestamp())
        contents = {"series": to_text(StoreCoverage(known.series)), "store": self._store}
        if known.grid is not None:
            contents["grid"] = to_text(known.grid)
        with database:
            database.execute("DELETE FROM known")
            for name, content in contents.items():
                packed = gzip.compress(content, 6)
                database.execute("INSERT INTO known VALUES (?, ?, ?)", (name, at, packed))


def _sample(at: int, loads: str, pace: str) -> Sample:
    """A row of the file. ValueError: it is not one of ours."""
    try:
        found = {name: Load(*values) for name, values in json.loads(loads).items()}
        return Sample(at, found, Pace(**json.loads(pace)))
    except (TypeError, AttributeError) as error:
        raise ValueError(f"a sample cannot be read: {error}") from error
