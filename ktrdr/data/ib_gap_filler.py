"""PROGRAM gap-filler: finds the holes in the store, and closes them. Never talks to IB itself.

`python -m ktrdr.data.ib_gap_filler` looks every few minutes: expected bars less those in the
file less those that IB is known not to have are the gaps; it asks ib-connection for them.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from ktrdr.config import Settings
from ktrdr.data.csv_store import CsvStore
from ktrdr.data.gap_report import count_holes, coverage_of, iso, moment
from ktrdr.data.local_api import (
    ACCEPTED,
    GapFillerStatus,
    Handler,
    Json,
    LocalClient,
    LocalServer,
    Problem,
    answer_from_json,
    request_to_query,
    schedule_from_json,
    serving,
    time_from_text,
    timeframe_from_query,
    to_json,
)
from ktrdr.data.watch import Watch, Watched, contract_name
from ktrdr.errors import (
    InvalidRequest,
    KtrdrError,
    MalformedFile,
    Misconfigured,
    NotConnected,
    PeerDown,
    PeerSilent,
    RequestFailed,
    StoreUnwritable,
    WrongSource,
)
from ktrdr.planning.bars import Answer
from ktrdr.planning.gaps import Gap, Reason, runs
from ktrdr.planning.instruments import (
    Instrument,
    Series,
    instrument_for,
    instrument_of_entry,
    read_tables,
)
from ktrdr.planning.requests import BarsRequest, plan
from ktrdr.planning.sessions import Int64Array, Schedule, finished, learnt_alignment
from ktrdr.planning.timeframes import DAY_S, HOUR_S, Timeframe
from ktrdr.process import run

log = logging.getLogger("gap-filler")  # its name is another when it is the program

_LOOK_AGAIN_S = 5.0
"""How soon to look again while there is no connection, or the store refuses."""
_SCHEDULE_S, _SCHEDULE_A_YEAR_S = 400.0, 40.0
"""How long the sessions of a contract may take, and for each year more."""
_ABSENCE_SETTLE_S = 600
"""IB may be late with a bar: one missing sooner than this after its end is not taken for absent."""
_DAILY_ABSENCE_SETTLE_S = 6 * HOUR_S
"""The same for daily bars, after the end of the UTC day that they are dated by."""
_AT_ONCE = 48
"""Questions under way: the connection process says which goes when."""
_ERRORS_KEPT = 50
_STRANGE_SHOWN = 10
_REQUESTS_A_SERIES = 8
"""In one batch; the rest of a long history is for the next ones, so that nobody waits for it."""
_LATE_S, _UNSOUND_S = 60, 3600
"""When a bar that was late, or that could not be true, is asked for again at the earliest."""


class GapFiller:
    """Keeps a store complete, a batch at a time. One thread steps it; any may ask it."""

    def __init__(
        self,
        settings: Settings,
        connection: LocalClient,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._connection = connection
        self._clock = clock
        self._store = CsvStore(settings.data_dir)
        self._watch = Watch(self._store, settings.ktrdr_gap_max_age_days)
        self._watched: dict[Series, Watched] = {}
        self._problems: deque[Problem] = deque(maxlen=_ERRORS_KEPT)
        self._state, self._reason = "starting", ""
        self._source = settings.source
        self._last_scan: float | None = None
        self._scan_id: str | None = None
        self._asked_scan_id: str | None = None
        self._asked_fills: deque[tuple[Series, int]] = deque()
        self._current: tuple[str, ...] = ()
        self._detected = self._filled = self._failed = 0
        self._bars_added = self._symbols_processed = 0
        self._bars_per_s: float | None = None
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self.status = self._make_status()
        """What is known now; replaced whole, so that any thread may read it."""
        self.coverage: Json = {"scan_time": None, "series": []}

    # Any thread.

    def ask_for_scan(self) -> str:
        """Look at everything again now, also at what was given up; the scan's id."""
        self._asked_scan_id = scan_id = uuid4().hex[:12]
        self._wake.set()
        return scan_id

    def ask_for_fill(self, series: Series, since: int) -> None:
        """Fill one series from this instant on, however old."""
        self._asked_fills.append((series, since))
        self.ask_for_scan()

    def stop(self) -> None:
        """Break off what waits for answers; `step` returns soon."""
        self._stopping.set()
        self._connection.abort()
        self._wake.set()

    def wait(self) -> None:
        """Until there may be something to do."""
        self._wake.wait(self._pause_s())
        self._wake.clear()

    # The stepping thread.

    def step(self) -> bool:
        """Fill at most one batch. True: call again at once; False: wait."""
        try:
            return self._step()
        except Misconfigured as error:
            self._set_state("refused", f"{error} ({error.hint})" if error.hint else str(error))
            self._report("store", error)
            return False
        except (KtrdrError, OSError, sqlite3.Error) as error:
            trouble = error if isinstance(error, KtrdrError) else StoreUnwritable(str(error))
            self._set_state("waiting", trouble.message)
            self._report("store", trouble)
            self._watch.close()
            return False
        finally:
            self._current = ()
            self._publish()

    def close(self) -> None:
        """Close the ledger."""
        self._watch.close()

    def _step(self) -> bool:
        if not self._is_ours():
            return False
        if self._scan_is_due():
            self._scan()
        batch = self._next_batch()
        if not batch:
            self._set_state("idle")
            return False
        if not self._gateway_answers() or not self._is_ours():  # it has said what it is
            return False
        self._store.claim(self._source)
        self._set_state("filling")
        try:
            self._fill(batch)
        except (PeerDown, NotConnected) as error:
            self._set_state("waiting", error.message)
            return False
        if self._stopping.is_set():
            return False
        more = bool(self._next_batch())
        if not more:
            self._set_state("idle")
        return more

    def _is_ours(self) -> bool:
        """The store may be written to with this gateway's bars. WrongSource says why not."""
        owner = self._store.source()
        if owner is not None and owner != self._source:
            with contextlib.suppress(PeerDown):
                self._ask_gateway()
        if owner is None and self._source == "simulated" and self._settings.is_live_folder:
            raise WrongSource(
                f"{self._store.folder} is where live bars belong, and the gateway is simulated",
                hint="unset KTRDR_DATA_DIR, or set it to another folder",
            )
        if owner is not None and owner != self._source:
            self._store.claim(self._source)  # raises
        return not self._stopping.is_set()

    def _gateway_answers(self) -> bool:
        """There is a connection, and it is known what stands behind it."""
        try:
            why_not = self._ask_gateway()
        except PeerDown as error:
            why_not = f"{error.message} ({error.hint})"
        if why_not:
            self._set_state("waiting", why_not)
        return not why_not

    def _ask_gateway(self) -> str:
        """What stands behind the connection; why there are no data, or nothing."""
        status = self._connection.get("/status")
        self._source = str(status.get("gateway"))
        if status.get("connected"):
            return ""
        error = status.get("last_error") or {}
        why = status.get("expected") or error.get("message") or status.get("state")
        return f"no data from IB: {why}"

    def _scan_is_due(self) -> bool:
        if self._asked_scan_id is not None or self._last_scan is None:
            return True
        return self._clock() - self._last_scan >= self._settings.ktrdr_gap_check_interval_s

    def _scan(self) -> None:
        """Look at every file: what is there, and, where that is known, what should be."""
        self._set_state("scanning")
        self._publish()
        asked, self._asked_scan_id = self._asked_scan_id, None
        found, strange = self._store.series()
        more = (
            [f"and {len(strange) - _STRANGE_SHOWN} more"] if len(strange) > _STRANGE_SHOWN else []
        )
        for line in strange[:_STRANGE_SHOWN] + more:
            self._report("store", InvalidRequest(line))
        self._watch.notice_deletion()
        entries = self._read_instruments()
        self._watched = {s: self._known(s, entries.get(s.symbol)) for s in found}
        while self._asked_fills:
            self._watch.ledger.want(*self._asked_fills.popleft())
        for watched in list(self._watched.values()):
            if self._stopping.is_set():
                return
            if isinstance(watched.error, Misconfigured):
                continue
            if asked is not None:
                watched.succeeded()
            self._look_at(watched)
        self._last_scan = self._clock()
        self._scan_id = asked or uuid4().hex[:12]
        holes, bars = count_holes(self._watched.values())
        to_close = holes.get(Reason.OPEN, 0)
        log.info("scan: %d series, %d holes to close, %d bars", len(found), to_close, bars)

    def _known(self, series: Series, entry: object) -> Watched:
        """What was known of a series, unless it stands for something else now."""
        try:
            instrument = instrument_of_entry(series.symbol, entry)
        except Misconfigured as error:
            self._report(str(series), error)
            return Watched(series, instrument_for(series.symbol), error=error)
        known = self._watched.get(series)
        if known is None or known.instrument != instrument or known.is_blocked:
            return Watched(series, instrument)
        known.instrument = instrument  # `since` may differ
        return known

    def _read_instruments(self) -> dict[str, object]:
        """The tables of `instruments.toml`, unchecked; none when there is no such file."""
        path = self._store.folder / "instruments.toml"
        try:
            return read_tables(path.read_text(), path.name)
        except FileNotFoundError:
            return {}
        except (OSError, UnicodeDecodeError) as error:
            raise Misconfigured(f"{path} cannot be read: {error}") from error

    def _look_at(self, watched: Watched) -> None:
        """Judge a series anew; what cannot be read is reported, and left as it is."""
        try:
            self._watch.look_at(watched, int(self._clock()))
        except FileNotFoundError:
            self._watched.pop(watched.series, None)
            return
        except MalformedFile as error:
            self._report(str(watched.series), error)
        except OSError as error:
            unreadable = StoreUnwritable(f"{watched.series.file_name}: {error.strerror or error}")
            watched.failed(unreadable, self._clock())
            self._report(str(watched.series), unreadable)
        self._detected += watched.count_new_gaps()

    def _next_batch(self) -> list[Watched]:
        """The series of the few symbols that have waited longest."""
        now = self._clock()
        oldest: dict[str, float] = {}
        for watched in self._watched.values():
            if watched.has_work(now):
                symbol = watched.series.symbol
                oldest[symbol] = min(watched.tried_at, oldest.get(symbol, watched.tried_at))
        most = self._settings.ktrdr_gap_batch_symbols
        symbols = sorted(oldest, key=lambda symbol: (oldest[symbol], symbol))[:most]
        return [w for w in self._watched.values() if w.series.symbol in symbols and w.has_work(now)]

    def _fill(self, batch: list[Watched]) -> None:
        """Ask for what a batch lacks. PeerDown, NotConnected: nothing more can be asked now."""
        began, added = time.monotonic(), self._bars_added
        for watched in batch:
            watched.tried_at = self._clock()
        self._current = tuple(str(w.series) for w in batch)
        self._publish()
        with self._workers() as workers:
            self._learn_schedules(batch, workers)
            self._ask_and_take(batch, workers)
        self._symbols_processed += len({w.series.symbol for w in batch})
        self._learn_rate(self._bars_added - added, time.monotonic() - began)

    @contextlib.contextmanager
    def _workers(self) -> Iterator[ThreadPoolExecutor]:
        """Threads that ask; when something goes wrong, what has not begun is not begun."""
        workers = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="ask")
        try:
            yield workers
        finally:
            workers.shutdown(wait=True, cancel_futures=True)

    def _learn_schedules(self, batch: list[Watched], workers: ThreadPoolExecutor) -> None:
        """Ask for the sessions of the batch's contracts where they are unknown or old."""
        now = int(self._clock())
        wanted: dict[str, tuple[Instrument, int]] = {}
        for watched in batch:
            if self._watch.wants_schedule(watched, now):
                start = self._watch.look_from(watched, now)
                name = contract_name(watched.instrument)
                _, earlier = wanted.get(name, (None, start))
                wanted[name] = (watched.instrument, min(start, earlier))
        asked = {
            workers.submit(self._ask_for_schedule, instrument, start, now): name
            for name, (instrument, start) in wanted.items()
        }
        for done in as_completed(asked):
            same = [w for w in batch if contract_name(w.instrument) == asked[done]]
            with self._handled(same):
                self._watch.keep_schedule(same[0].instrument, done.result(), now)
        for watched in batch:
            self._look_at(watched)

    def _ask_and_take(self, batch: list[Watched], workers: ThreadPoolExecutor) -> None:
        """All requests of a batch; an answer that has come is kept, whatever fails beside it."""
        asked = {
            workers.submit(self._ask_for_bars, request): (watched, request, int(self._clock()))
            for watched in batch
            for request in self._requests(watched)
        }
        lost: KtrdrError | None = None
        for done in as_completed(list(asked)):
            watched, request, asked_at = asked.pop(done)
            if done.cancelled():
                continue
            try:
                self._take(watched, request, asked_at, done)
            except (PeerDown, NotConnected) as error:
                lost = error  # what has come beside it is kept
                for waiting in asked:
                    waiting.cancel()
            self._publish()
        if lost is not None:
            raise lost

    @contextlib.contextmanager
    def _handled(self, series: Iterable[Watched]) -> Iterator[None]:
        """What goes wrong with some series is theirs; a lost connection is everybody's."""
        try:
            yield
        except KtrdrError as error:
            everybodys = isinstance(error, PeerDown | NotConnected | WrongSource)
            if everybodys and not isinstance(error, PeerSilent):
                raise
            for watched in series:
                watched.failed(error, self._clock())
                self._report(str(watched.series), error)

    def _ask_for_schedule(self, instrument: Instrument, start: int, end: int) -> Schedule:
        query = request_to_query(instrument, None, start, end)
        timeout_s = _SCHEDULE_S + _SCHEDULE_A_YEAR_S * (end - start) / (365 * DAY_S)
        return schedule_from_json(self._connection.get("/sessions", timeout_s, **query))

    def _requests(self, watched: Watched) -> list[BarsRequest]:
        if watched.coverage is None or watched.retry_at > self._clock():
            return []
        series = watched.series
        return plan(watched.coverage.open_gaps, watched.instrument, series.timeframe)[
            :_REQUESTS_A_SERIES
        ]

    def _ask_for_bars(self, request: BarsRequest) -> Answer:
        query = request_to_query(request.instrument, request.timeframe, request.start, request.end)
        # The connection process gives up first.
        said = self._connection.get("/bars", 10 + request.patience_s, **query)
        if said.get("gateway") != self._source:
            raise WrongSource(f"the gateway has become {said.get('gateway')}")
        return answer_from_json(said)

    def _take(
        self, watched: Watched, request: BarsRequest, asked_at: int, done: Future[Answer]
    ) -> None:
        """Store one answer, and remember what it says IB has not."""
        span = (request.start, request.end)
        holes = _within(watched, *span)
        if watched.series not in self._watched:
            return  # its file was removed meanwhile
        with self._handled([watched]):
            try:
                answer = done.result()
                added = self._keep(watched, answer, span, asked_at)
            except FileNotFoundError:
                self._watched.pop(watched.series)
                log.info("%s: its file was removed", watched.series)
                return
            except KtrdrError as error:
                self._failed += len(holes)
                self._watch.ledger.refused(
                    watched.series, *span, asked_at, error.outcome, error.code
                )
                raise
            watched.succeeded()
            self._bars_added += added
            self._look_at(watched)
            self._filled += max(0, len(holes) - len(_within(watched, *span))) if added else 0
            log.info(
                "%s: %s to %s: %d bars, %d new",
                *(watched.series, iso(span[0]), iso(span[1]), len(answer.bars), added),
            )

    def _keep(self, watched: Watched, answer: Answer, span: tuple[int, int], asked_at: int) -> int:
        """Write the finished bars of an answer, and what IB has not; how many bars were new."""
        series, ledger = watched.series, self._watch.ledger
        schedule = self._watch.known_schedule(watched.instrument)
        if schedule is None:
            raise RequestFailed(f"{series}: its sessions are unknown, so its bars cannot be judged")
        if series.timeframe is Timeframe.H4:
            seen = learnt_alignment(schedule, [bar.start for bar in answer.bars])
            ledger.learn_alignment(contract_name(watched.instrument), seen)
        due = self._watch.expected(watched, schedule, asked_at).starts
        due = due[(due >= span[0]) & (due < span[1])]
        done = finished(answer.bars, due, series.timeframe, asked_at)
        added = self._store.add(series, done)
        ledger.answered(series, *span, asked_at, len(answer.bars))
        self._record_lacking(watched, answer, due, asked_at)
        return added

    def _record_lacking(
        self, watched: Watched, answer: Answer, due: Int64Array, asked_at: int
    ) -> None:
        """Remember which of the due bars an answer has not, or has only as what cannot be true."""
        name, ledger = watched.absence, self._watch.ledger
        unsound = np.isin(due, answer.unsound)
        lacking = ~np.isin(due, [bar.start for bar in answer.bars]) & ~unsound
        young = _is_young(due, watched.series.timeframe, asked_at)
        ledger.record_absent(name, runs(due, lacking & ~young, Reason.NO_TRADES), asked_at)
        soon = max(_LATE_S, int(self._settings.ktrdr_gap_check_interval_s / 2))
        ledger.record_late(name, runs(due, lacking & young, Reason.LATE), asked_at, asked_at + soon)
        if answer.unsound:
            count = len(answer.unsound)
            self._report(str(watched.series), RequestFailed(f"IB sent {count} bars that cannot be"))
            later = asked_at + _UNSOUND_S
            ledger.record_late(name, runs(due, unsound, Reason.LATE), asked_at, later)

    def _learn_rate(self, bars: int, seconds: float) -> None:
        """Bars per second, the later batches counting more."""
        if bars and seconds > 0:
            rate = bars / seconds
            self._bars_per_s = (
                rate if self._bars_per_s is None else 0.7 * self._bars_per_s + 0.3 * rate
            )

    def _report(self, what: str, error: KtrdrError) -> None:
        """One line in the log and in the status; not again while it is the same."""
        for problem in self._problems:
            if (problem.what, problem.message) == (what, error.message):
                self._problems.remove(problem)
                break
        else:
            hint = f" ({error.hint})" if error.hint else ""
            log.warning("%s: %s%s", what, error.message, hint)
        now = datetime.fromtimestamp(self._clock(), UTC)
        self._problems.append(Problem(now, what, error.message, error.hint))

    def _set_state(self, state: str, reason: str = "") -> None:
        if (state, reason) != (self._state, self._reason) and reason:
            log.info("%s: %s", state, reason)
        self._state, self._reason = state, reason

    def _pause_s(self) -> float:
        """How long nothing is due."""
        if self._state in ("waiting", "refused", "starting"):
            return min(_LOOK_AGAIN_S, self._settings.ktrdr_gap_check_interval_s)
        now = self._clock()
        due = (self._last_scan or now) + self._settings.ktrdr_gap_check_interval_s
        retries = [w.retry_at for w in self._watched.values() if w.retry_at > now]
        return max(0.05, min([due, *retries]) - now)

    def _publish(self) -> None:
        self.status = self._make_status()
        self.coverage = {
            "scan_time": iso(self._last_scan),
            "series": [coverage_of(w, self._state_of(w)) for w in self._watched.values()],
        }

    def _make_status(self) -> GapFillerStatus:
        settings = self._settings
        holes, missing_bars = count_holes(self._watched.values())
        last_scan = moment(self._last_scan)
        interval = timedelta(seconds=settings.ktrdr_gap_check_interval_s)
        return GapFillerStatus(
            running=not self._stopping.is_set(),
            state=self._state,
            reason=self._reason,
            source=self._source,
            data_dir=str(settings.data_dir),
            check_interval_s=settings.ktrdr_gap_check_interval_s,
            max_gap_age_days=settings.ktrdr_gap_max_age_days,
            batch_symbols=settings.ktrdr_gap_batch_symbols,
            supported_timeframes=tuple(t.value for t in Timeframe),
            last_scan_time=last_scan,
            last_scan_id=self._scan_id,
            next_scan_time=last_scan + interval if last_scan else None,
            series=len(self._watched),
            series_blocked=sum(w.is_blocked for w in self._watched.values()),
            gaps_detected=self._detected,
            gaps_filled=self._filled,
            gaps_failed=self._failed,
            gaps_remaining=holes.pop(Reason.OPEN, 0),
            unfillable={reason.value: count for reason, count in holes.items()},
            bars_added=self._bars_added,
            symbols_processed=self._symbols_processed,
            current=self._current,
            eta_s=self._eta_s(missing_bars),
            recent_errors=tuple(reversed(self._problems)),
        )

    def _eta_s(self, missing_bars: int) -> float | None:
        """Seconds until all is there, at the rate learnt; None while that cannot be known."""
        if any(w.coverage is None and not w.is_blocked for w in self._watched.values()):
            return None
        if not missing_bars:
            return 0.0
        return missing_bars / self._bars_per_s if self._bars_per_s else None

    def _state_of(self, watched: Watched) -> str:
        if self._state == "refused":
            return "refused"
        if watched.error is not None:
            return "failed"
        if str(watched.series) in self._current:
            return "filling"
        if watched.coverage is None or watched.coverage.open_gaps:
            return "waiting"
        return "complete"


def _within(watched: Watched, start: int, end: int) -> list[Gap]:
    """The series' open gaps that reach into `[start, end)`."""
    gaps = watched.coverage.open_gaps if watched.coverage else []
    return [gap for gap in gaps if gap.first < end and gap.last >= start]


def _is_young(due: Int64Array, timeframe: Timeframe, now: int) -> NDArray[np.bool_]:
    """Which bars ended so lately that IB may merely be late with them."""
    settle_s = _DAILY_ABSENCE_SETTLE_S if timeframe.is_daily else _ABSENCE_SETTLE_S
    return due + timeframe.length_s + settle_s > now


def routes(filler: GapFiller) -> Mapping[tuple[str, str], Handler]:
    """The local API of the gap filler."""

    async def status(_query: Mapping[str, str]) -> Json:
        return to_json(filler.status)

    async def coverage(query: Mapping[str, str]) -> Json:
        said = filler.coverage
        chosen = {key: query[key] for key in ("symbol", "timeframe") if key in query}
        listed = [s for s in said["series"] if all(s[k] == v for k, v in chosen.items())]
        if query.get("days") == "0":  # thousands of series are many days
            listed = [{k: v for k, v in s.items() if k not in ("days", "gaps")} for s in listed]
        return said | {"series": listed}

    async def scan(_query: Mapping[str, str]) -> Json:
        return {ACCEPTED: True, "scan_id": filler.ask_for_scan()}

    async def fill(query: Mapping[str, str]) -> Json:
        series = Series(query.get("symbol", ""), timeframe_from_query(query))
        listed = filler.coverage["series"]
        if not any(s["file"] == series.file_name for s in listed):
            raise InvalidRequest(
                f"{series.file_name} is not in the store",
                hint="create it with the header line, then ask again",
            )
        filler.ask_for_fill(series, time_from_text("from", query.get("from", "")))
        return {ACCEPTED: True}

    return {
        ("GET", "/status"): status,
        ("GET", "/coverage"): coverage,
        ("POST", "/scan"): scan,
        ("POST", "/fill"): fill,
    }


def serve(settings: Settings, stop: threading.Event) -> None:
    """The program: step after step, until it is told to stop."""
    filler = GapFiller(settings, LocalClient(settings.connection_socket, "ib-connection"))

    def stop_filler() -> None:
        stop.wait()
        filler.stop()

    threading.Thread(target=stop_filler, name="stop", daemon=True).start()
    _prepare(settings.data_dir)
    with serving(LocalServer(settings.gap_filler_socket, routes(filler))):
        try:
            while not stop.is_set():
                if not filler.step():
                    filler.wait()
        finally:
            filler.close()


def _prepare(folder: Path) -> None:
    """The store's folder, without what a killed writer left in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        left = CsvStore(folder).clear_leftovers()
    except OSError as error:
        raise Misconfigured(f"KTRDR_DATA_DIR={folder}: {error.strerror}") from error
    if left:
        log.info("removed %d half-written files of a killed writer", left)


if __name__ == "__main__":
    run("gap-filler", serve)
