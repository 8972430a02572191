"""The gap filler: keeps a store complete, step by step. Does not talk to IB itself.

The gaps are the expected bars minus those in the file minus those that IB is known not to have;
the missing bars are requested from ib-connection.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor

from ktrdr.assessment.assessment import Assessor
from ktrdr.assessment.series_state import SeriesState
from ktrdr.completeness.gaps import FILLABLE
from ktrdr.config.settings import Settings
from ktrdr.errors import KtrdrError, Misconfigured, RequestFailed, StoreUnwritable
from ktrdr.filling.fetcher import MAX_IN_FLIGHT
from ktrdr.filling.isolation import MISTAKE_HINT
from ktrdr.filling.scheduler import Scheduler
from ktrdr.filling.tasks import Task
from ktrdr.gap_filler.clock_check import ClockCheck
from ktrdr.gap_filler.fill_requests import FillRequests
from ktrdr.gap_filler.fills import Fills
from ktrdr.gap_filler.gateway_check import GatewayCheck
from ktrdr.gap_filler.gateway_monitor import RECHECK_S, GatewayMonitor
from ktrdr.gap_filler.live import Live
from ktrdr.gap_filler.problems import Problems
from ktrdr.gap_filler.report import count_gaps
from ktrdr.gap_filler.scan import Scan
from ktrdr.gap_filler.scan_schedule import ScanSchedule
from ktrdr.gap_filler.states import Event, Phase, State
from ktrdr.gap_filler.status_report import Published, StatusReport
from ktrdr.gap_filler.store_health import StoreHealth
from ktrdr.gap_filler.watch_list import WatchRequests
from ktrdr.ipc.client import LocalClient
from ktrdr.ipc.messages import GapFillerStatus, Json
from ktrdr.ledger.fills import FillRecords
from ktrdr.ledger.ledger import Ledger
from ktrdr.market.bars import Answer
from ktrdr.market.instruments import Series
from ktrdr.sqlite_file import DatabaseError, is_damage
from ktrdr.store.csv_store import CsvStore
from ktrdr.store.instruments_file import INSTRUMENTS
from ktrdr.store.interface import BarStore
from ktrdr.store.source import ledger_path

log = logging.getLogger("gap-filler")

_RECEIVE_S = 0.2
"""How long to wait for answers before anything else is done."""


class Signals:
    """Signals from other threads to the stepping one."""

    def __init__(self) -> None:
        self.stopping, self.wake = threading.Event(), threading.Event()


class GapFiller:
    """Keeps a store complete, a batch at a time. Stepped by one thread; any thread may query it.

    `executor` runs requests to ib-connection; by default each in a thread of its own. `store`: by
    default the files. `monotonic` is a clock that cannot be set; by default `clock`. `boot` names
    the run of the machine in which it counts; empty: not known.
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
        executor = executor or ThreadPoolExecutor(MAX_IN_FLIGHT, thread_name_prefix="request")
        assessor = _assessor_of(settings, store)
        store = assessor.main_store
        clocks = ClockCheck(clock, monotonic or clock, boot, assessor)
        now, interval_s = clocks.now, settings.ktrdr_gap_check_interval_s
        self._health = StoreHealth(store, is_live_folder=settings.is_live_folder)
        self._problems = Problems(now, self._health.refused)
        self._schedule = ScanSchedule(interval_s)
        self._phase = Phase()
        self._scheduler = Scheduler(connection, assessor, executor, now, self, interval_s)
        due_times, batch = self._schedule.due_times, settings.ktrdr_gap_batch_symbols
        self._scan = Scan(assessor, self._scheduler, due_times, now, self.report, batch)
        shared = (self._scheduler, self._scan, self._schedule)
        check = GatewayCheck(connection, settings.source)
        self._gateway = GatewayMonitor(
            check, clocks, self._health.ownership, *shared, self._phase, self.report
        )
        self._signals = Signals()
        self.live = Live(connection, *shared, now, self._signals.wake.set)
        """Which series are kept new by streams; does nothing before it is started."""
        fills = Fills(FillRecords(assessor.ledger.file.path))
        self._report = StatusReport(
            settings, assessor, clocks, self._health, *shared, self._problems, fills, self._phase
        )
        self.requests = self._fill_requests(fills)
        """Fills, as people request them. For any thread."""
        self.watch_list = self._watch_requests(connection)
        """Which series are kept. For any thread."""

    def _fill_requests(self, fills: Fills) -> FillRequests:
        return FillRequests(
            fills,
            self._scan.store,
            lambda: self._health.check_owner(self._gateway.source),
            self._report.snapshot_now,
            self.note_changed_files,
            self.request_scan,
        )

    def _watch_requests(self, connection: LocalClient) -> WatchRequests:
        return WatchRequests(
            self._scan.store,
            connection,
            lambda: self._health.check_owner(self._gateway.source),
            lambda: self.published.store,
            self.note_changed_files,
            self._gateway.clocks.now,
        )

    # Any thread.

    @property
    def published(self) -> Published:
        """Everything that is known, as of one moment."""
        return self._report.published

    @property
    def status(self) -> GapFillerStatus:
        """The status as published."""
        return self.published.status

    def bars_of_day(self, series: Series, day: int) -> Json:
        """What is known of each bar of one trading day; errors as in `Published`."""
        return self.published.bars_of_day(series, day, int(self._gateway.clocks.now()))

    def request_scan(self) -> str:
        """Scan everything now, including what was given up; returns the scan's id."""
        scan_id = self._schedule.request()
        self._signals.wake.set()
        return scan_id

    def note_changed_files(self, names: Iterable[str]) -> None:
        """Assess these files of the store's folder now: they were created, changed or removed."""
        self._scan.note_changed(names)
        self._signals.wake.set()

    def stop(self) -> None:
        """Cancel the requests that wait for answers; `step` returns soon."""
        self._signals.stopping.set()
        self._gateway.check.abort()
        self._signals.wake.set()

    def wait(self) -> None:
        """Wait until there may be something to do."""
        self._signals.wake.wait(self.pause_s)
        self._signals.wake.clear()

    # For the scheduler.

    @property
    def clocks_agree(self) -> bool:
        """Neither this machine's clock nor the gateway's is known to be wrong."""
        return self._gateway.clocks.agree

    def is_tracked(self, state: SeriesState) -> bool:
        """The series is still there: its file was not removed."""
        return self._scan.is_tracked(state)

    def forget(self, state: SeriesState) -> None:
        """Its file is gone."""
        self._scan.forget(state)

    def answered(self, task: Task, answer: Answer, revised: Sequence[int]) -> None:
        """Learn when bars are due; `revised`: the starts of revised bars."""
        self.live.answered(task, answer, revised)

    def report(self, what: str, error: KtrdrError) -> None:
        """One line in the log and in the status; not repeated while it is the same."""
        self._problems.report(what, error)

    # The stepping thread.

    def step(self) -> bool:
        """Request at most one batch, and handle answers. True: call again at once; False: wait."""
        try:
            more = self._step()
        except Misconfigured as error:
            self._phase.take(Event.REFUSE, error.message, error.hint)
            self.report("store", error)
            return False
        except (KtrdrError, OSError, DatabaseError) as error:
            self._wait_with(error)
            return False
        except Exception as error:  # a bug must not end the program
            log.exception("a bug in ktrdr")
            mistaken = RequestFailed(f"a bug in ktrdr: {error!r}", hint=MISTAKE_HINT)
            self._health.mistaken(mistaken)
            self._phase.take(Event.HOLD, mistaken.message, mistaken.hint)
            self.report("gap-filler", mistaken)
            return False
        else:
            self._health.is_well()
            return more
        finally:
            self._publish()

    def _publish(self) -> None:
        self._report.publish(self._gateway.source, is_running=not self._signals.stopping.is_set())

    def _wait_with(self, error: KtrdrError | OSError | DatabaseError) -> None:
        """Wait until the cause is over; a damaged ledger is replaced by a new one."""
        if isinstance(error, DatabaseError) and is_damage(error):
            try:
                self._scan.leave_damaged_ledger(error)
                self._schedule.is_up_to_date = False
            except (OSError, DatabaseError) as refused:
                error = refused
        if isinstance(error, StoreUnwritable) or not isinstance(error, KtrdrError):
            error = self._health.fails(error)
        self._phase.take(Event.HOLD, error.message, error.hint)
        self.report("store", error)
        self._scan.close_ledger()

    def close(self) -> None:
        """End the requesting threads, and close the ledger and the store."""
        self._scheduler.close()
        self._scan.close_ledger()
        self._scan.store.close()

    def _step(self) -> bool:
        self._check_store()
        self._gateway.refresh()
        if not self._may_write():
            return False
        if self._schedule.is_due(self._gateway.clocks.now()):
            self._scan_all()
        self._assess_changed()
        self.live.step(self._gateway.source, is_sure=self.clocks_agree)
        are_due = self._scan.assess_due()
        self._gateway.withdraw_refusals()
        batch = self._scan.next_batch() if self._scheduler.has_room else []
        is_more = bool(batch) or self._scheduler.has_postponed
        wants_check = not is_more and self._scan.wants_check()
        if (is_more or wants_check) and not self._take_up(batch):
            self._scheduler.receive(0.0)
            return not self._signals.stopping.is_set() and self._scan.assess_histories()
        if not is_more and self._scheduler.has_room:
            self._scheduler.extend()
        more = bool(batch) and self._scheduler.has_room and bool(self._scan.next_batch())
        if not self._receive(more=more or are_due):
            return False
        is_left = are_due or self._schedule.assesses_history or self._is_left(checked=wants_check)
        if not is_left or self._scheduler.fetcher.only_compares:  # nothing is being filled
            self._scan.store.flush()
            why_not = self._gateway.clocks.words
            self._phase.take(Event.HOLD if why_not else Event.REST, why_not)
        return is_left

    def _receive(self, *, more: bool) -> bool:
        """Handle answers, or assess past days if there are none. False: nothing more now."""
        received = self._scheduler.summary.received
        wait_s = 0.0 if more or self._schedule.assesses_history else _RECEIVE_S
        lost = self._scheduler.receive(wait_s)
        if lost is not None:
            self._phase.take(Event.HOLD, lost.message, lost.hint)
        if lost is not None or self._signals.stopping.is_set():
            return False
        is_quiet = not self._scheduler.is_busy or self._scheduler.summary.received == received
        self._schedule.assesses_history = is_quiet and not more and self._scan.assess_histories()
        return True

    def _is_left(self, *, checked: bool) -> bool:
        """There is more to do at once."""
        if self._scheduler.is_busy or self._scheduler.has_postponed or self._scan.next_batch():
            return True
        return self._scan.wants_check(goes_on=checked)

    def _take_up(self, batch: list[SeriesState]) -> bool:
        """Begin to fill a batch, or what comes after all of them; False: not possible now."""
        if not self._gateway.answers() or not self._may_write():  # they have reported why
            return False
        source = self._gateway.source
        self._health.claim(source)
        if batch or self._scheduler.has_postponed:
            self._phase.take(Event.FILL)
            self._scheduler.begin(batch, source)
        else:
            self._scheduler.begin_checks(source)
        return True

    # The store.

    def _check_store(self) -> None:
        """StoreUnwritable: nothing can be written there now.

        Once it can be written to again, the series that failed for that are retried at once.
        """
        self._health.check_folder()  # first: without its folder the owner of the store is unknown
        is_due = self._health.may_refuse or self._schedule.is_due(self._gateway.clocks.now())
        if self._gateway.is_foreign or not is_due:
            return
        self._health.check()
        if self._health.trouble is not None:
            self._schedule.is_up_to_date = False
            self._scan.retry_unwritable()

    def _may_write(self) -> bool:
        """The store may be written to with this gateway's bars; WrongSource says why not."""
        self._gateway.check_owner()
        return not self._signals.stopping.is_set()

    def _scan_all(self) -> None:
        """Assess every file: which bars it has, and which it should have, if that is known."""
        if not self._scheduler.is_busy and self._phase.state is not State.REFUSED:
            self._phase.take(Event.SCAN)
            self._publish()
        with contextlib.suppress(KtrdrError):
            self._gateway.query()  # for its clock
        requested, is_anew = self._schedule.begin()
        blocked = self._scan.list_all()
        self._gateway.clocks.forget_future_findings()
        self._phase.take(Event.READ)
        self.requests.fills.scan_begins()
        if not self._scan.assess_all(blocked, self._signals.stopping.is_set, is_anew=is_anew):
            return
        self._schedule.end(requested, self._gateway.clocks.now())
        self._publish()  # the findings need not wait for what follows
        self._gateway.clocks.keep()
        _log_scan(self._scan, len(self._scan.series) - len(blocked))

    def _assess_changed(self) -> None:
        """Assess only series whose files were changed, or that are newly wanted."""
        names = self._scan.take_changed()
        try:
            if INSTRUMENTS in names:
                self._scan_all()
            else:
                self._scan.assess_changed(names)
        except Exception:
            self._scan.note_changed(names)  # to be assessed again once the cause is repaired
            raise

    @property
    def pause_s(self) -> float:
        """Seconds until something is due."""
        interval_s = self._schedule.interval_s
        if self._phase.state.is_held or self._phase.state is State.STARTING:
            return min(RECHECK_S, interval_s)
        now = self._gateway.clocks.now()
        due = min([self._schedule.next_time(now), self.live.next_time, *self._scan.retry_times()])
        return max(0.05, min(interval_s, self._gateway.check_every_s, due - now))


def _assessor_of(settings: Settings, store: BarStore | None) -> Assessor:
    """Assesses the series of this store, by default of the files, with its ledger."""
    ledger = Ledger(ledger_path(store.folder if store else settings.data_dir))
    store = store or CsvStore(settings.data_dir, state=ledger.file)
    return Assessor(store, ledger, settings.ktrdr_gap_max_age_days)


def _log_scan(scan: Scan, series: int) -> None:
    counts, bars = count_gaps(scan.series.values())
    to_fill = sum(counts.get(reason, 0) for reason in FILLABLE)
    total = sum(bars.values())
    log.info("scan: %d series, %d gaps to fill, %d bars", series, to_fill, total)
