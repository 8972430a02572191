"""PROGRAM gap-filler: finds the holes in the store, and closes them. Never talks to IB itself.

`python -m ktrdr.data.ib_gap_filler` looks every few minutes: expected bars less those in the
file less those that IB is known not to have are the gaps; it asks ib-connection for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

from ktrdr.config.settings import Settings
from ktrdr.errors import (
    CompetingSession,
    InvalidRequest,
    KtrdrError,
    MalformedFile,
    Misconfigured,
    NotConnected,
    PeerDown,
    RequestFailed,
    StoreGone,
    StoreUnwritable,
    TimedOut,
    UnknownFill,
    UnknownSeries,
    WrongSource,
)
from ktrdr.filling.assessment import Watch
from ktrdr.filling.clocks import APART_S, BELIEVED_AFTER_S, Clocks, Moment
from ktrdr.filling.fill import DAY_HINT, Trouble, first_day
from ktrdr.filling.fill import State as FillState
from ktrdr.filling.fill_records import FillBook
from ktrdr.filling.fills import Fills, Round
from ktrdr.filling.gaps import CLOSABLE, Reason
from ktrdr.filling.ledger import Clock
from ktrdr.filling.outage_cost import cost_of
from ktrdr.filling.report import (
    StoreSnapshot,
    bars_of_day,
    count_holes,
    coverage_of,
    iso,
    moment,
)
from ktrdr.filling.scheduler import AT_ONCE, MISTAKE_HINT, Filling
from ktrdr.filling.series_state import Watched
from ktrdr.filling.series_summary import SeriesSummary, needs_person, summed_up
from ktrdr.filling.throughput import Eta
from ktrdr.ipc.client import LocalClient
from ktrdr.ipc.codec import spans_from_query, time_from_text, timeframe_from_query, to_json
from ktrdr.ipc.messages import ACCEPTED, GapFillerStatus, Json, Problem, StoreTrouble
from ktrdr.ipc.server import Handler, LocalServer, serving
from ktrdr.market.instruments import (
    Series,
    check_symbol,
    instrument_for,
    instrument_of_entry,
    parse_series,
)
from ktrdr.market.sessions import utc_midnight
from ktrdr.market.timeframes import DAY_S, Timeframe
from ktrdr.process import HINT, boot, run
from ktrdr.sqlite_file import is_damage
from ktrdr.store.csv_store import CsvStore
from ktrdr.store.file_errors import unwritable
from ktrdr.store.folder_watch import FolderWatch
from ktrdr.store.instruments_file import INSTRUMENTS, tables_of
from ktrdr.store.interface import BarStore
from ktrdr.store.probe import StoreProbe, explained
from ktrdr.store.source import OURS

log = logging.getLogger("gap-filler")  # its name is another when it is the program

_LOOK_AGAIN_S = 5.0
"""How soon to look again while there is no connection, or the store refuses."""
_HEAR_S = 0.5
"""How long answers are waited for before anything else is looked at."""
_ERRORS_KEPT = 50
_CLOCK_S = 15.0
"""How long the gateway's time is waited for."""
_CLOCKS_AGAIN_S = 60.0
"""How long clocks are not compared at most."""
_CLOCK_HINT = "set this machine's clock, and that of the machine on which the gateway runs, by NTP"
_AHEAD_HINT = "set this machine's clock by NTP; where it is right, the file's times are wrong"
_STRANGE_SHOWN = 10
_GRACE_S = 120.0
"""How long after the next scan a bar may come before its series counts as behind."""
_STRANGE_HINT = "give it the name of a series, such as AAPL_1m.csv, or move it away"
_NO_DATA = "no data from IB"
_FOR_WANT_OF_DATA = (RequestFailed, TimedOut, NotConnected, CompetingSession)
"""What a request may come to while IB has no data for anybody."""


class GapFiller:
    """Keeps a store complete, a batch at a time. One thread steps it; any may ask it.

    `executor` asks ib-connection; by default in so many threads. `store`: by default the files.
    `monotonic` is a clock that nobody sets; without it `clock` is taken for one. `boot` names the
    run of the machine in which it counts; empty: not known.
    """

    def __init__(
        self,
        settings: Settings,
        connection: LocalClient,
        clock: Callable[[], float] = time.time,
        executor: Executor | None = None,
        store: BarStore | None = None,
        monotonic: Callable[[], float] | None = None,
        boot: str = "",
    ) -> None:
        self._settings = settings
        self._connection = connection
        self._wall, self._monotonic, self._boot = clock, monotonic or clock, boot
        self._clocks = Clocks()
        self._is_judged_anew = True
        """Since they agreed or ceased to, every file was looked at."""
        self._clocks_asked_at = -_CLOCKS_AGAIN_S
        """When the gateway's was asked for, by the monotonic one."""
        self._began = 0.0
        """When the clocks were first compared, by the monotonic one."""
        self._agreed = True
        """The clocks, when they were compared last."""
        self._base_s: float | None = None
        """What was believed of this machine's clock then: how far it is off the monotonic one."""
        self._store: BarStore = store or CsvStore(settings.data_dir, indexed=True)
        self._probe = StoreProbe(self._store.folder)
        self._store_trouble: StoreTrouble | None = None
        self._watch = Watch(self._store, settings.ktrdr_gap_max_age_days)
        self._watched: dict[Series, Watched] = {}
        self._filling = Filling(
            connection,
            self._watch,
            executor or ThreadPoolExecutor(AT_ONCE, thread_name_prefix="ask"),
            self._clock,
            self,
            settings.ktrdr_gap_check_interval_s,
        )
        self._problems: deque[Problem] = deque(maxlen=_ERRORS_KEPT)
        self._strange: tuple[str, ...] = ()
        """What was said of files that are of no series at the last scan."""
        self._state, self._reason, self._hint = "starting", "", ""
        self._source = settings.source
        self._data_back_at: str | None = None
        """What ib-connection says of when data could be had again."""
        self._is_freed = False
        """Series that were put back may be looked at again."""
        self._last_scan: float | None = None
        self._scan_id: str | None = None
        self._asked_scan_id: str | None = None
        self._checks_are_planned = False
        self._behind: deque[Watched] = deque()
        """Those whose past may be looked at, while there is nothing to do but to wait."""
        self._looks_back = False
        """That is being done: no answer has come for a while."""
        self._fills = Fills(FillBook(self._store.folder / OURS / "ledger.sqlite"))
        self._changed: set[str] = set()
        self._changed_lock = threading.Lock()
        """Names of files that may have changed, and were not looked at since."""
        self._symbols_processed = 0
        self._started_at = clock()
        self._stopping, self._wake = threading.Event(), threading.Event()
        self._snapshot = StoreSnapshot()
        """What is known of each series now; like the next two replaced whole, for any thread."""
        self.status = self._make_status()
        """The same in numbers."""
        self._round = self._make_round()
        """The same for the fills."""

    def _moment(self) -> Moment:
        return Moment(self._wall(), self._monotonic())

    def _clock(self) -> float:
        """The time (UTC seconds) by this machine's clock or the gateway's, whichever is behind."""
        return self._clocks.now(self._moment())

    @property
    def clocks_agree(self) -> bool:
        """Neither this machine's clock nor the gateway's is known to be wrong."""
        return self._clocks.agree(self._moment())

    # Any thread.

    def ask_for_scan(self) -> str:
        """Look at everything again now, also at what was given up; the scan's id."""
        self._asked_scan_id = scan_id = uuid4().hex[:12]
        self._wake.set()
        return scan_id

    def ask_for_fill(self, series: Series, since: int, text: str = "") -> Json:
        """Keep it in mind to fill one series from this day on, however old; what `POST /fill` says.

        `since`: UTC seconds; `text`: how that was written. InvalidRequest: there is no such file,
        or no such day. WrongSource, StoreUnwritable: it was not written down.
        """
        now = self._clock()
        day = first_day(text or str(iso(since)), since, now)
        self._refuse_unknown(series)
        try:
            others = [fill for fill in self._fills.listed() if fill.series == series]
            fill = self._fills.ask(series, day, now)
        except StoreUnwritable:
            self.look_at_files([INSTRUMENTS])  # a scan sees what became of the ledger
            raise
        seen = self._seen_now()
        already = [self._fills.said(o, seen) for o in others if o.state is not FillState.CANCELLED]
        self.look_at_files([series.file_name])
        return self._fills.said(fill, seen) | {
            "scan_id": self.ask_for_scan(),
            "already": [one for one in already if one["id"] != fill.id],
            "since": iso(self._since(series)),
        }

    def cancel_fills(self, query: Mapping[str, str]) -> Json:
        """Give up the fill with this `id`, or the open ones of `symbol` and `timeframe`.

        What was fetched stays, and what other fills or `since` want. UnknownFill: none is such.
        """
        self._refuse_foreign()
        listed = self._fills.listed()
        if "id" in query:
            chosen = [fill for fill in listed if str(fill.id) == query["id"]]
            what = f"fill {query['id']}"
        else:
            series = _series_from_query(query)
            chosen = [f for f in listed if f.series == series and f.state.is_open]
            what = f"open fill of {series}"
        if not chosen:
            raise UnknownFill(f"there is no {what}", hint=".venv/bin/ktrdr fills lists all of them")
        cancelled = self._fills.cancel({fill.id for fill in chosen}, self._clock())
        self.look_at_files({fill.series.file_name for fill in cancelled})
        seen = self._seen_now()
        return {"cancelled": [self._fills.said(fill, seen) for fill in cancelled]}

    def fills(self, symbol: str | None) -> Json:
        """All fills that are kept, of one symbol where one is named, the oldest first."""
        listed, seen = self._fills.listed(), self._seen_now()
        chosen = [fill for fill in listed if symbol in (None, fill.series.symbol)]
        return {"fills": [self._fills.said(fill, seen) for fill in chosen]}

    def _refuse_unknown(self, series: Series) -> None:
        """Where there is no such file, or the store is another source's."""
        self._refuse_foreign()
        if not self._is_there(series):
            names = {one.symbol for one in self._watched if one.symbol != series.symbol}
            alike = sorted(name for name in names if name.upper() == series.symbol.upper())
            meant = f"did you mean {' or '.join(alike)}? Else " if alike else ""
            raise InvalidRequest(
                f"{series.file_name} is not in the store",
                hint=f"{meant}create it with the header line in {self._store.folder}, then ask "
                "again",
            )

    def _refuse_foreign(self) -> None:
        """WrongSource: the store is another source's."""
        owner, folder = self._store.source(), self._store.folder
        if owner is None and self._settings.is_live_folder:
            owner = "live"
        if owner is not None and owner != self._source:
            raise WrongSource(f"{folder} is for {owner} bars, and the gateway is {self._source}")

    def _is_there(self, series: Series) -> bool:
        """The store has a file of it, which may be watched already, or may not."""
        try:
            return self._store.key(series) is not None
        except OSError:  # a scan says what is wrong with it
            return True

    def _since(self, series: Series) -> int | None:
        """From when on `instruments.toml` wants it (UTC seconds)."""
        watched = self._watched.get(series)
        since = watched.instrument.since_for(series.timeframe) if watched else None
        return utc_midnight(since) if since else None

    def look_at_files(self, names: Iterable[str]) -> None:
        """These files of the store's folder were made, changed or removed: look at them now."""
        with self._changed_lock:
            self._changed.update(names)
        self._wake.set()

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
        """Take up at most one batch, and hear what has come. True: call again; False: wait."""
        try:
            more = self._step()
        except Misconfigured as error:
            self._set_state("refused", str(error), error.hint)
            self.report("store", error)
            return False
        except (KtrdrError, OSError, sqlite3.Error) as error:
            self._wait_with(error)
            return False
        except Exception as error:  # no mistake of ours ends the program
            log.exception("a mistake of ours")
            mistaken = RequestFailed(f"a mistake of ours: {error!r}", hint=MISTAKE_HINT)
            self._store_trouble = StoreTrouble(mistaken.message, mistaken.hint)
            self._set_state("waiting", mistaken.message, mistaken.hint)
            self.report("gap-filler", mistaken)
            return False
        else:
            self._store_is_well()
            return more
        finally:
            self._publish()

    def _wait_with(self, error: KtrdrError | OSError | sqlite3.Error) -> None:
        """Nothing goes on until that is over; a damaged ledger is left for a new one."""
        if isinstance(error, sqlite3.Error) and is_damage(error):
            try:
                self._watch.leave_damaged_ledger(error)
                self._is_judged_anew = False
            except (OSError, sqlite3.Error) as refused:
                error = refused
        if isinstance(error, StoreUnwritable) or not isinstance(error, KtrdrError):
            self._probe.refused(error)
            error = explained(error, self._store.folder)
            self._store_trouble = StoreTrouble(
                error.message, error.hint, is_gone=isinstance(error, StoreGone)
            )
        self._set_state("waiting", error.message, error.hint)
        self.report("store", error)
        self._watch.close()

    def close(self) -> None:
        """End the asking threads; close the ledger and the store."""
        self._filling.close()
        self._watch.close()
        self._store.close()

    def _step(self) -> bool:
        self._look_at_store()
        self._look_at_clocks()
        if not self._is_ours():
            return False
        if self._scan_is_due():
            self._scan()
        self._look_at_changed()
        batch = self._next_batch() if self._filling.has_room else []
        wants_check = not batch and self._wants_check()
        if (batch or wants_check) and not self._take_up(batch):
            return not self._stopping.is_set() and self._look_back_at_one()
        more = bool(batch) and self._filling.has_room and bool(self._next_batch())
        heard = self._filling.heard
        lost = self._filling.hear(0.0 if more or self._looks_back else _HEAR_S)
        if lost is not None:
            self._set_state("waiting", lost.message, lost.hint)
        if lost is not None or self._stopping.is_set():
            return False
        is_quiet = not self._filling.is_busy or self._filling.heard == heard
        self._looks_back = is_quiet and not more and self._look_back_at_one()
        if self._looks_back or self._is_left(checked=wants_check):
            return True
        self._store.flush()
        why_not = self._clocks.words(self._moment())
        self._set_state("waiting" if why_not else "idle", why_not)
        return False

    @property
    def _is_foreign(self) -> bool:
        """The store belongs to the other source, and nothing may be written into it."""
        return self._store.source() not in (None, self._source)

    def _look_at_store(self) -> None:
        """StoreUnwritable: nothing can be written there now.

        What had failed for that is tried again as soon as it can; it is over when that went well.
        """
        self._probe.look()  # first: without its folder nobody can say whose the store is
        is_due = self._probe.may_refuse or self._store_trouble or self._scan_is_due()
        if self._is_foreign or not is_due:
            return
        self._probe.check()
        if self._store_trouble is not None:
            self._is_judged_anew = False
            for watched in self._watched.values():
                if isinstance(watched.error, StoreUnwritable):
                    watched.succeeded()

    def _store_is_well(self) -> None:
        """It has taken all that there was to write."""
        if self._store_trouble is not None:
            self._store_trouble = None
            log.info("the store can be written to again")

    def _look_back_at_one(self) -> bool:
        """Look at all of a file that has changed, or at its past; False: there is none left."""
        now = self._clock()
        while self._behind:
            watched = self._behind.popleft()
            is_unreadable = isinstance(watched.error, StoreUnwritable) and watched.retry_at > now
            if watched.is_blocked or is_unreadable or not self.is_watched(watched):
                continue
            if self._filling.look_back(watched):
                return True
        return False

    def _is_left(self, *, checked: bool) -> bool:
        """There is something to do at once."""
        if self._filling.is_busy or self._next_batch():
            return True
        return not checked and self._wants_check()

    def _wants_check(self) -> bool:
        """There is nothing else to do, and something to compare with what IB tells now.

        What that is, is looked up once after each scan, when its holes are closed.
        """
        if not self._checks_are_planned and not self._filling.is_busy:
            self._filling.plan_checks(self._watched.values())
            self._checks_are_planned = True
        return self._filling.wants_check

    def _take_up(self, batch: list[Watched]) -> bool:
        """Begin to fill a batch, or to check what is complete; False: that cannot be now."""
        if not self._gateway_answers() or not self._is_ours():  # it has said what it is
            return False
        self._store.claim(self._source)
        if batch:
            self._set_state("filling")
            self._symbols_processed += len({w.series.symbol for w in batch})
            self._filling.begin(batch, self._source)
        else:
            self._filling.begin_checks(self._source)
        return True

    def _is_ours(self) -> bool:
        """The store may be written to with this gateway's bars. WrongSource says why not."""
        owner = self._store.source()
        if owner is not None and owner != self._source:
            try:
                self._ask_gateway()
            except PeerDown:
                log.debug("ib-connection cannot say what its gateway is")
        if owner is None and self._source == "simulated" and self._settings.is_live_folder:
            raise WrongSource(
                f"{self._store.folder} is where live bars belong, and the gateway is simulated",
                hint="unset KTRDR_DATA_DIR, or set it to another folder; then ./scripts/up",
            )
        if owner is not None and owner != self._source:
            self._store.claim(self._source)  # raises
        return not self._stopping.is_set()

    def _gateway_answers(self) -> bool:
        """There is a connection, and it is known what stands behind it."""
        self._hint = ""
        try:
            why_not = self._ask_gateway()
        except PeerDown as error:
            why_not, self._hint = f"{error.message} ({error.hint})", error.hint
        if why_not:
            self._set_state("waiting", why_not, self._hint)
        return not why_not

    def _ask_gateway(self) -> str:
        """What stands behind the connection; why there are no data, or nothing."""
        status = self._connection.get("/status")
        self._source = str(status.get("gateway"))
        if at_once := status.get("requests_at_once"):
            self._filling.allow(int(at_once))
        self._hear_of_data(status.get("data_back_at"))
        self._learn_clocks(status.get("clock_offset_s"))
        if status.get("connected"):
            return ""
        error = status.get("last_error") or {}
        self._hint = "" if status.get("expected") else str(error.get("hint") or "")
        why = status.get("expected") or error.get("message") or status.get("state")
        return f"{_NO_DATA}: {why}"

    def _hear_of_data(self, back_at: str | None) -> None:
        """Data can be had again since then: what failed for want of them is asked for at once."""
        if back_at == self._data_back_at:
            return
        self._data_back_at = back_at
        for watched in self._watched.values():
            if isinstance(watched.error, _FOR_WANT_OF_DATA):
                watched.failures, watched.retry_at = 0, 0.0
                self._is_freed = True

    def _tell_of_data(self, why_not: str) -> None:
        """What is under way waits too while there are no data: it is kept, and not answered."""
        if not self._filling.is_busy:
            return
        if why_not:
            self._set_state("waiting", why_not, self._hint)
        elif self._reason.startswith(_NO_DATA):
            self._set_state("filling")

    @property
    def _ask_every_s(self) -> float:
        """How long ib-connection is not asked how it is: soon while something waits for data."""
        if self._filling.is_busy:
            return _LOOK_AGAIN_S
        now = self._clock()
        waits = any(
            w.retry_at > now and isinstance(w.error, _FOR_WANT_OF_DATA)
            for w in self._watched.values()
        )
        return _LOOK_AGAIN_S if waits else _CLOCKS_AGAIN_S

    def _learn_clocks(self, offset_s: float | None) -> None:
        """How far the gateway's clock is off."""
        self._clocks_asked_at = self._monotonic()
        self._clocks = self._clocks.told(offset_s, self._moment())
        if self._clocks.are_apart:  # measured a while ago: one was set since, perhaps to the right
            with contextlib.suppress(KtrdrError):
                offset_s = self._connection.get("/clock", _CLOCK_S)["clock_offset_s"]
                self._clocks = self._clocks.told(offset_s, self._moment())
        self._compare_clocks()

    def _compare_clocks(self) -> None:
        """Tell where they do not agree; what was judged meanwhile is judged anew."""
        at = self._moment()
        if self._is_foreign:
            self._clocks = self._clocks.seen(at)
            return
        if self._base_s is None:
            self._begin(at)
        self._clocks = self._clocks.seen(at)
        base_s = self._clocks.base_s or 0.0
        if self._base_s is not None and base_s - self._base_s > APART_S:
            self._watch.put_off(int(base_s - self._base_s), int(self._clock()))
        self._base_s = base_s
        if why_not := self._clocks.words(at):
            self.report("clock", RequestFailed(why_not, hint=_CLOCK_HINT))
        if self.clocks_agree != self._agreed:
            self._agreed = self.clocks_agree
            self._is_judged_anew = False

    def _begin(self, at: Moment) -> None:
        """Believe what was believed before the start; where the machine was off, no doubt aged."""
        kept = self._watch.ledger.clock() if self._watch.has_ledger else None
        if kept is not None and kept.boot and kept.boot == self._boot:
            self._clocks = replace(self._clocks, base_s=kept.base_s)
        elif kept is not None and at.wall_s - kept.wall_s > APART_S:
            self._watch.put_off(int(at.wall_s - kept.wall_s), int(at.wall_s))
        self._base_s, self._began = self._clocks.base_s, at.monotonic_s

    def _look_at_clocks(self) -> None:
        """Compare them, with the gateway's where they did not agree, or were not lately."""
        self._compare_clocks()
        since_s = self._monotonic() - self._clocks_asked_at
        if not self.clocks_agree or not 0 <= since_s < self._ask_every_s:
            with contextlib.suppress(KtrdrError):
                self._tell_of_data(self._ask_gateway())

    def _scan_is_due(self) -> bool:
        if self._asked_scan_id is not None or self._last_scan is None or not self._is_judged_anew:
            return True
        since_s = self._clock() - self._last_scan
        return (
            self._is_freed or not 0 <= since_s < self._settings.ktrdr_gap_check_interval_s
        )  # it may be set back

    def _scan(self) -> None:
        """Look at every file: what is there, and, where that is known, what should be."""
        if not self._filling.is_busy and self._state != "refused":
            self._set_state("scanning")
            self._publish()
        with contextlib.suppress(KtrdrError):
            self._ask_gateway()  # for its time
        asked = self._asked_scan_id
        self._is_freed = False
        is_anew = asked is not None or not self._is_judged_anew
        found, _, strange, blocked = self._store.scan()
        ordered = sorted((*found, *blocked), key=_order)
        self._strange = tuple(strange)
        lines = [*strange[:_STRANGE_SHOWN], self._more_strange]
        for line in filter(None, lines):
            self.report("store", InvalidRequest(line, hint=_STRANGE_HINT))
        self._watch.notice_deletion()
        self._forget_what_is_to_come()
        entries = self._entries_of_now()
        if self._state == "refused":  # no more: they can be read
            self._set_state("scanning")
        self._watched = {s: self._known(s, entries.get(s.symbol)) for s in ordered}
        self._fills.scan_begins()
        for watched in list(self._watched.values()):
            if self._stopping.is_set():
                return
            self._look_at(watched, blocked.get(watched.series), is_anew=is_anew)
        self._behind = deque(self._watched.values())
        self._checks_are_planned = False
        self._filling.renew(self._watched)
        self._last_scan = self._clock()
        if self._asked_scan_id == asked:  # else another one is asked for by now
            self._asked_scan_id = None
        self._scan_id = asked or uuid4().hex[:12]
        self._is_judged_anew = True
        self._publish()  # what was found need not wait for what comes of it
        if self._watch.has_ledger and self._base_s is not None:
            self._watch.ledger.keep_clock(Clock(self._boot, self._base_s, self._clock()))
        holes, bars = count_holes(self._watched.values())
        to_close = sum(holes.get(reason, 0) for reason in CLOSABLE)
        total = sum(bars.values())
        log.info("scan: %d series, %d holes to close, %d bars", len(found), to_close, total)

    def _look_at_changed(self) -> None:
        """Look at those series alone whose files were changed, or that are wanted anew."""
        with self._changed_lock:
            names, self._changed = self._changed, set()
        changed = {series for series in map(_series_of, names) if series is not None}
        try:
            if INSTRUMENTS in names:
                self._scan()
            elif changed:
                self._notice({series for series in changed if not self._is_as_known(series)})
        except Exception:
            self._put_back(names)  # once more, when that is mended
            raise

    def _put_back(self, names: set[str]) -> None:
        with self._changed_lock:
            self._changed |= names

    def _notice(self, changed: set[Series]) -> None:
        """The files of these series were made, changed or removed."""
        if not changed:
            return
        found, _, _, blocked = self._store.scan()  # a file may have another name by now
        entries = tables_of(self._store.folder)
        for series in sorted({*changed, *blocked, *self._barred()}, key=_order):
            if series in found or series in blocked:
                self._look_at_one(series, entries.get(series.symbol), blocked.get(series))
            elif (watched := self._watched.get(series)) is not None:
                self.forget(watched)

    def _barred(self) -> list[Series]:
        """Those that had no file of their own."""
        return [series for series, one in self._watched.items() if one.barred is not None]

    def _look_at_one(self, series: Series, entry: object, why_not: MalformedFile | None) -> None:
        watched = self._watched.get(series)
        if watched is None:
            watched = self._known(series, entry)
            known = self._watched | {series: watched}
            self._watched = {one: known[one] for one in sorted(known, key=_order)}
            log.info("%s: its file is new", series)
        self._look_at(watched, why_not, is_anew=False)
        self._behind.append(watched)
        self._checks_are_planned = False

    def _is_as_known(self, series: Series) -> bool:
        """Its file is as it was when it was looked at, such as after we have written to it."""
        watched = self._watched.get(series)
        if watched is None or watched.key is None:
            return False
        since = self._watch.fill_from(watched, int(self._clock()))
        is_wanted_anew = watched.coverage is not None and watched.coverage.since != since
        try:
            return not is_wanted_anew and self._store.key(series) == watched.key
        except OSError:
            return False

    def _look_at(self, watched: Watched, why_not: MalformedFile | None, *, is_anew: bool) -> None:
        """Judge a series, unless its entry is wrong, or it has no file of its own: `why_not`."""
        if isinstance(watched.error, Misconfigured):
            return
        watched.bar(why_not)
        if why_not is not None:
            self.report(str(watched.series), why_not)
            return
        if is_anew and not isinstance(watched.error, MalformedFile):
            watched.succeeded()
        self._filling.look_at(watched, only_if_changed=not is_anew)
        if self._is_ahead(watched):
            self.report(str(watched.series), self._to_come(watched))

    def _forget_what_is_to_come(self) -> None:
        """What was found out later than now was found out by a clock that was ahead.

        Not at once after the start: a machine may have one that is behind until NTP sets it.
        """
        is_early = self._monotonic() - self._began < BELIEVED_AFTER_S
        if is_early or not self.clocks_agree or self._clocks.offset_s is None:
            return
        if self._watch.forget_after(int(self._clock() + APART_S)):
            log.info("what was found out while a clock was ahead is asked for again")

    def _known(self, series: Series, entry: object) -> Watched:
        """What was known of a series, unless it stands for something else now."""
        try:
            instrument = instrument_of_entry(series.symbol, entry)
        except Misconfigured as error:
            hint = error.hint or f"correct [{series.symbol}] in instruments.toml"
            wrong = Misconfigured(error.message, hint=hint)
            self.report(str(series), wrong)
            return Watched(series, instrument_for(series.symbol), self._store, error=wrong)
        known = self._watched.get(series)
        is_misconfigured = known is not None and isinstance(known.error, Misconfigured)
        if known is None or known.instrument != instrument or is_misconfigured:
            return Watched(series, instrument, self._store)
        known.instrument = instrument  # `since` may differ
        return known

    def _entries_of_now(self) -> dict[str, object]:
        """The same, which need not be read once more for a change that was noticed before."""
        with self._changed_lock:
            self._changed.discard(INSTRUMENTS)
        try:
            return tables_of(self._store.folder)
        except Exception:
            self._put_back({INSTRUMENTS})
            raise

    def is_watched(self, watched: Watched) -> bool:
        """Whether a series is still watched: its file may have gone meanwhile."""
        is_shadow = any(watched is shadow for shadow in self._filling.renewals)
        return is_shadow or self._watched.get(watched.series) is watched

    def forget(self, watched: Watched) -> None:
        """Its file is gone."""
        if self._watched.get(watched.series) is not watched:
            return
        del self._watched[watched.series]
        log.info("%s: its file was removed", watched.series)

    def _next_batch(self) -> list[Watched]:
        """The series of the few symbols that have waited longest."""
        now = self._clock()
        idle = [
            watched
            for watched in (*self._watched.values(), *self._filling.renewals)
            if watched.has_work(now) and not self._filling.is_asking_for(watched)
        ]
        oldest: dict[str, float] = {}
        for watched in idle:
            symbol = watched.series.symbol
            oldest[symbol] = min(watched.tried_at, oldest.get(symbol, watched.tried_at))
        most = self._settings.ktrdr_gap_batch_symbols
        symbols = sorted(oldest, key=lambda symbol: (oldest[symbol], symbol))[:most]
        return [watched for watched in idle if watched.series.symbol in symbols]

    def report(self, what: str, error: KtrdrError) -> None:
        """One line in the log and in the status; not again while it is the same."""
        if isinstance(error, StoreUnwritable):
            self._probe.refused(error)
        for problem in self._problems:
            if (problem.what, problem.message) == (what, error.message):
                self._problems.remove(problem)
                break
        else:
            log.warning("%s: %s", what, error.message, extra={HINT: error.hint})
        now = datetime.fromtimestamp(self._clock(), UTC)
        self._problems.append(Problem(now, what, error.message, error.hint))

    def _set_state(self, state: str, reason: str = "", hint: str = "") -> None:
        if (state, reason) != (self._state, self._reason) and reason:
            log.info("%s: %s", state, reason)
        self._state, self._reason, self._hint = state, reason, hint

    def _pause_s(self) -> float:
        """How long nothing is due."""
        if self._state in ("waiting", "refused", "starting"):
            return min(_LOOK_AGAIN_S, self._settings.ktrdr_gap_check_interval_s)
        now, interval_s = self._clock(), self._settings.ktrdr_gap_check_interval_s
        due = (self._last_scan or now) + interval_s
        retries = [w.retry_at for w in self._watched.values() if w.retry_at > now]
        return max(0.05, min(interval_s, self._ask_every_s, min([due, *retries]) - now))

    def _publish(self) -> None:
        """Let other threads see what is known now: all of one moment, replaced whole."""
        self._snapshot = StoreSnapshot(
            {series: watched.snapshot for series, watched in self._watched.items()},
            self._filling.spans,
            self._last_scan,
            frozenset(self._filling.current),
            is_refused=self._state == "refused",
            is_sure=self.clocks_agree and self._is_judged_anew,
            time_to_come=self._clock() + APART_S,
        )
        self._round = self._make_round()
        # A scan ends soon, and says nothing of what is in the way; fills of others are theirs.
        if self._state not in ("scanning", "refused"):
            self._fills.look(self._round)
        self.status = self._make_status()

    def _seen_now(self) -> Round:
        """What was published last, as of now; for any thread."""
        return replace(self._round, now=self._clock())

    def _make_round(self) -> Round:
        """What is known just now."""
        is_held = self._state in ("waiting", "refused")
        why = self._reason.removesuffix(f" ({self._hint})")  # which has a place of its own
        return Round(
            self._snapshot.series,
            self._is_there,
            {*self._snapshot.current, *self.status.current},  # and whose answers are being stored
            Trouble(why, self._hint) if is_held else None,
            self.clocks_agree and self._is_judged_anew,
            self._clock(),
        )

    @property
    def coverage(self) -> Json:
        """Every series in the words of `GET /coverage`; for any thread."""
        return self.coverage_of(lambda _series: True)

    def coverage_of(
        self, is_wanted: Callable[[Series], bool], *, counts_only: bool = False
    ) -> Json:
        """The same of some series; `counts_only`: without days and gaps."""
        store = self._snapshot
        listed = [
            coverage_of(one, store, counts_only=counts_only)
            for series, one in store.series.items()
            if is_wanted(series)
        ]
        return {"scan_time": iso(store.scan_time), "series": listed}

    def cost_of(self, start: int, end: int) -> Json:
        """Bars that a time without data has made late, and those that are lost; for any thread."""
        cost = cost_of(self._snapshot.series.values(), start, end)
        return {"bars_late": cost.late, "bars_lost": cost.lost}

    def bars_of_day(self, series: Series, day: int) -> Json:
        """What is known of each bar of one trading day; for any thread.

        InvalidRequest: nothing is. UnknownSeries, MalformedFile, StoreUnwritable: its file is gone,
        is broken, or may not be read.
        """
        one = self._snapshot.series.get(series)
        if one is not None and isinstance(one.error, MalformedFile):
            raise MalformedFile(one.error.message, hint=one.error.hint)
        if one is None or one.coverage is None:
            raise InvalidRequest(f"{series}: nothing is known of its bars yet")
        try:
            return bars_of_day(one, day, int(self._clock()))
        except FileNotFoundError:
            raise UnknownSeries(
                f"{series.file_name} is not in the store any more",
                hint="put it back, or create it with the header line",
            ) from None
        except OSError as error:
            raise unwritable(series.file_name, error) from error

    def _make_status(self) -> GapFillerStatus:
        settings = self._settings
        holes, missing_bars = count_holes((*self._watched.values(), *self._filling.renewals))
        last_scan, at, now = moment(self._last_scan), self._moment(), self._clock()
        interval_s = settings.ktrdr_gap_check_interval_s
        grace_s = interval_s + _GRACE_S
        series = summed_up(
            self._watched.values(),
            lambda watched: self._snapshot.state_of(watched.snapshot),
            self._trouble_of,
            now,
            grace_s,
            is_sure=self._snapshot.is_sure,
        )
        remaining = sum(holes.get(reason, 0) for reason in CLOSABLE)
        room = self._probe.seen_room
        is_left = bool(remaining or series.states)
        waits_for = self._waits_for() if is_left else ""
        eta = self._eta(missing_bars, series) if remaining and not waits_for else None
        if not is_left and self._last_scan is not None:
            eta = Eta(0.0, 0.0, 0.0)
        return GapFillerStatus(
            running=not self._stopping.is_set(),
            state=self._state,
            reason=self._reason,
            hint=self._hint,
            source=self._source,
            data_dir=str(settings.data_dir),
            check_interval_s=interval_s,
            max_gap_age_days=settings.ktrdr_gap_max_age_days,
            batch_symbols=settings.ktrdr_gap_batch_symbols,
            supported_timeframes=tuple(t.value for t in Timeframe),
            last_scan_time=last_scan,
            last_scan_id=self._scan_id,
            next_scan_time=last_scan + timedelta(seconds=interval_s) if last_scan else None,
            series=len(self._watched),
            series_blocked=sum(w.is_blocked for w in self._watched.values()),
            gaps_detected=self._watch.detected,
            gaps_filled=self._watch.filled,
            gaps_failed=holes.get(Reason.FAILED, 0),
            gaps_remaining=remaining,
            unfillable={r.value: count for r, count in holes.items() if r not in CLOSABLE},
            bars_added=self._filling.bars_added,
            symbols_processed=self._symbols_processed,
            current=self._filling.current,
            eta_s=eta.likely if eta else None,
            recent_errors=tuple(self._marked(problem) for problem in reversed(self._problems)),
            fills=self._fills.counts,
            clock_jump_s=round(self._clocks.jump_s(at)) if self._clocks.has_jumped(at) else 0,
            as_of=moment(self._wall()),
            counted_since=moment(self._started_at),
            requests_failed=self._filling.failed,
            series_current=series.current,
            series_states=series.states,
            series_troubled=series.troubled,
            troubles=series.troubles,
            newest_bar_time=moment(series.newest),
            store_trouble=self._store_trouble,
            strange=len(self._strange),
            strange_one=self._strange[0] if self._strange else "",
            disk_free_bytes=room.free if room else None,
            disk_total_bytes=room.total if room else None,
            eta_low_s=eta.low if eta else None,
            eta_high_s=eta.high if eta else None,
            eta_words=eta.words if eta and is_left else "",
            waits_for=waits_for,
        )

    def _eta(self, missing_bars: Mapping[Timeframe, int], series: SeriesSummary) -> Eta | None:
        """How long until all is there that may be had; None while that cannot be known."""
        return self._filling.eta(missing_bars, series.unknown)

    def _waits_for(self) -> str:
        """Why nothing is asked for; empty: something is, or is about to be."""
        if self._state in ("waiting", "refused"):
            return self._reason
        now = self._clock()
        if self._state != "idle" or self._filling.is_busy or self._last_scan is None:
            return ""
        retries = [w.retry_at for w in self._watched.values() if w.retry_at > now]
        until = min([self._last_scan + self._settings.ktrdr_gap_check_interval_s, *retries])
        return f"the next try, at {datetime.fromtimestamp(until, UTC):%H:%M:%S} UTC"

    def _trouble_of(self, watched: Watched) -> KtrdrError | None:
        """What a person has to see to; None: nothing."""
        is_the_stores = self._store_trouble and isinstance(watched.error, StoreUnwritable)
        if needs_person(watched.error) and not is_the_stores:
            return watched.error
        return self._to_come(watched) if self._is_ahead(watched) else None

    def _to_come(self, watched: Watched) -> InvalidRequest:
        last = f"its last bar is of {iso(watched.last)}, which is yet to come"
        return InvalidRequest(last, hint=_AHEAD_HINT)

    def _named(self, name: str) -> Watched | None:
        """The series of this name, such as `AAPL_1m`; None: it is not watched."""
        try:
            return self._watched.get(parse_series(f"{name}.csv"))
        except ValueError:
            return None

    @property
    def _more_strange(self) -> str:
        """What is said of strange files beyond those that are named; empty: there are none."""
        more = len(self._strange) - _STRANGE_SHOWN
        return f"and {more} more" if more > 0 else ""

    def _marked(self, problem: Problem) -> Problem:
        """With whether it is over."""
        if problem.hint == _STRANGE_HINT:
            is_over = problem.message not in (*self._strange, self._more_strange)
        elif problem.what in ("store", "gap-filler"):
            is_over = self._store_trouble is None and self._state != "refused"
        elif problem.what == "clock":
            is_over = self.clocks_agree
        else:
            known = self._named(problem.what)
            is_over = known is None or (known.error is None and not self._is_ahead(known))
        return replace(problem, is_over=is_over) if is_over else problem

    def _is_ahead(self, watched: Watched) -> bool:
        """It has bars of a time to come: the clock is wrong, or they are."""
        return watched.last is not None and watched.last > self._clock() + APART_S


def routes(filler: GapFiller) -> Mapping[tuple[str, str], Handler]:
    """The local API of the gap filler."""

    async def status(_query: Mapping[str, str]) -> Json:
        return to_json(filler.status)

    async def coverage(query: Mapping[str, str]) -> Json:
        if "day" in query:
            series = Series(query.get("symbol", ""), timeframe_from_query(query))
            day = time_from_text("day", query["day"])
            return await asyncio.to_thread(filler.bars_of_day, series, day - day % DAY_S)

        def is_wanted(series: Series) -> bool:
            symbol, timeframe = query.get("symbol"), query.get("timeframe")
            return symbol in (None, series.symbol) and timeframe in (None, series.timeframe.value)

        counts_only = query.get("days") == "0"  # thousands of series are many days
        return await asyncio.to_thread(filler.coverage_of, is_wanted, counts_only=counts_only)

    async def scan(_query: Mapping[str, str]) -> Json:
        return {ACCEPTED: True, "scan_id": filler.ask_for_scan()}

    async def fill(query: Mapping[str, str]) -> Json:
        series = _series_from_query(query)
        text = query.get("from", "")
        try:
            since = time_from_text("from", text)
        except InvalidRequest as error:
            raise InvalidRequest(error.message, hint=DAY_HINT) from None
        return {ACCEPTED: True} | await asyncio.to_thread(filler.ask_for_fill, series, since, text)

    async def fills(query: Mapping[str, str]) -> Json:
        return await asyncio.to_thread(filler.fills, query.get("symbol"))

    async def cancel(query: Mapping[str, str]) -> Json:
        return await asyncio.to_thread(filler.cancel_fills, query)

    return {
        ("GET", "/status"): status,
        ("GET", "/coverage"): coverage,
        ("GET", "/cost"): _cost(filler),
        ("POST", "/scan"): scan,
        ("POST", "/fill"): fill,
        ("GET", "/fills"): fills,
        ("DELETE", "/fills"): cancel,
    }


def _series_of(name: str) -> Series | None:
    """None: it is the name of no series, which the next scan says."""
    try:
        return parse_series(name)
    except ValueError:
        return None


def _cost(filler: GapFiller) -> Handler:
    """What times without data have cost, in the order of the question."""

    async def cost(query: Mapping[str, str]) -> Json:
        spans = spans_from_query(query)
        return {"costs": await asyncio.to_thread(lambda: [filler.cost_of(*s) for s in spans])}

    return cost


def _series_from_query(query: Mapping[str, str]) -> Series:
    """The series of a query. InvalidRequest: its symbol or its timeframe is none."""
    symbol, timeframe = query.get("symbol", ""), timeframe_from_query(query)
    try:
        return Series(check_symbol(symbol), timeframe)
    except ValueError as error:
        raise InvalidRequest(str(error)) from error


def _order(series: Series) -> tuple[str, int]:
    return series.symbol, series.timeframe.length_s


def serve(settings: Settings, stop: threading.Event) -> None:
    """The program: step after step, until it is told to stop."""
    connection = LocalClient(settings.connection_socket, "ib-connection")
    filler = GapFiller(settings, connection, monotonic=time.monotonic, boot=boot())

    def stop_filler() -> None:
        stop.wait()
        filler.stop()

    threading.Thread(target=stop_filler, name="stop", daemon=True).start()
    _prepare(settings.data_dir, settings.source)
    watch = FolderWatch(
        settings.data_dir,
        lambda names: filler.look_at_files([INSTRUMENTS] if names is None else names),
    )
    watch.start()
    try:
        with serving(LocalServer(settings.gap_filler_socket, routes(filler))):
            while not stop.is_set():
                if not filler.step():
                    filler.wait()
    finally:
        watch.stop()
        filler.close()


def _prepare(folder: Path, source: str) -> None:
    """The store's folder, without what a killed writer left in it; another source's is left."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        store = CsvStore(folder)
        left = store.clear_leftovers() if store.source() in (None, source) else 0
    except OSError as error:
        refused = f"KTRDR_DATA_DIR={folder}: {error.strerror}"
        raise Misconfigured(refused, hint="set it to a folder that may be written to") from error
    if left:
        log.info("removed %d half-written files of a killed writer", left)


if __name__ == "__main__":
    run("gap-filler", serve)
