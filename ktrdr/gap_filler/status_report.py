"""The gap filler's status message, and the frozen record of one moment for any thread. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta

from ktrdr.assessment.assessment import Assessor
from ktrdr.assessment.series_state import SeriesState
from ktrdr.completeness.clocks import APART_S
from ktrdr.completeness.fill import Trouble
from ktrdr.completeness.gaps import FILLABLE, Reason
from ktrdr.completeness.throughput import Eta
from ktrdr.config.settings import Settings
from ktrdr.errors import InvalidRequest, KtrdrError, MalformedFile, StoreUnwritable, UnknownSeries
from ktrdr.filling.scheduler import Scheduler
from ktrdr.gap_filler.clock_check import ClockCheck
from ktrdr.gap_filler.fill_requests import is_there
from ktrdr.gap_filler.fills import FillContext, Fills
from ktrdr.gap_filler.other_files import WHAT
from ktrdr.gap_filler.outage_cost import cost_of
from ktrdr.gap_filler.problems import Problems
from ktrdr.gap_filler.report import (
    StoreSnapshot,
    bars_of_day,
    count_gaps,
    coverage_of,
    gaps_within,
    status_of,
)
from ktrdr.gap_filler.scan import Scan
from ktrdr.gap_filler.scan_schedule import ScanSchedule
from ktrdr.gap_filler.series_summary import SeriesSummary, needs_person, summed_up
from ktrdr.gap_filler.states import Phase, State
from ktrdr.gap_filler.store_health import StoreHealth
from ktrdr.ipc.messages import (
    DetailedCoverage,
    GapFillerStatus,
    Json,
    OutageCost,
    Problem,
    QueuedSeries,
    StoreCoverage,
)
from ktrdr.market.instruments import Series
from ktrdr.market.timeframes import Timeframe
from ktrdr.store.file_errors import unwritable
from ktrdr.times import moment

_GRACE_S = 120.0
"""How long after the next scan a bar may arrive before its series counts as behind."""


@dataclass(frozen=True)
class Published:
    """What other threads may know of a gap filler, as of one moment."""

    status: GapFillerStatus
    store: StoreSnapshot
    fill_context: FillContext
    queue: tuple[QueuedSeries, ...] = ()
    """The series that are filled now, next and later."""

    def counts_of(self, is_wanted: Callable[[Series], bool]) -> StoreCoverage:
        """Some series, without their days and gaps."""
        store = self.store
        listed = [status_of(one, store) for key, one in store.series.items() if is_wanted(key)]
        return StoreCoverage(listed, moment(store.scan_time))

    def coverage_of(self, is_wanted: Callable[[Series], bool]) -> DetailedCoverage:
        """Some series, with their days and gaps."""
        store = self.store
        listed = [coverage_of(one, store) for key, one in store.series.items() if is_wanted(key)]
        return DetailedCoverage(listed, moment(store.scan_time))

    def gaps_of(
        self, is_wanted: Callable[[Series], bool], span: tuple[int, int]
    ) -> DetailedCoverage:
        """Some series, with their gaps in an interval (UTC seconds), and without days."""
        store = self.store
        wanted = [one for key, one in store.series.items() if is_wanted(key)]
        listed = [gaps_within(one, store, span) for one in wanted]
        return DetailedCoverage(listed, moment(store.scan_time))

    def cost_of(self, start: int, end: int) -> OutageCost:
        """The cost of an outage (UTC seconds)."""
        return cost_of(self.store.series.values(), start, end)

    def bars_of_day(self, series: Series, day: int, now: int) -> Json:
        """What is known of each bar of one trading day.

        InvalidRequest: nothing is. UnknownSeries, MalformedFile, StoreUnwritable: its file is gone,
        is broken, or may not be read.
        """
        one = self.store.series.get(series)
        if one is not None and isinstance(one.error, MalformedFile):
            raise MalformedFile(one.error.message, hint=one.error.hint)
        if one is None or one.coverage is None:
            raise InvalidRequest(
                f"{series}: its bars have not been assessed yet",
                hint="try again after the scan; ktrdr status shows when that is",
            )
        try:
            return bars_of_day(one, day, now)
        except FileNotFoundError:
            raise UnknownSeries(
                f"{series.file_name} is not in the store any more",
                hint="put it back, or create it with the header line",
            ) from None
        except OSError as error:
            raise unwritable(series.file_name, error) from error


@dataclass
class StatusReport:
    """Publishes that record. For the stepping thread; `published` is for any."""

    settings: Settings
    assessor: Assessor
    clocks: ClockCheck
    health: StoreHealth
    scheduler: Scheduler
    scan: Scan
    schedule: ScanSchedule
    problems: Problems
    fills: Fills
    phase: Phase
    published: Published = field(init=False)
    started_at: float = field(init=False)

    def __post_init__(self) -> None:
        self.started_at = self.clocks.wall()
        store = StoreSnapshot()
        status = self._status(store, self.settings.source, is_running=True)
        self.published = Published(status, store, self._fill_context(store, ()))

    def publish(self, source: str, *, is_running: bool) -> None:
        """Publish what is known now, replacing the record as a whole."""
        store = StoreSnapshot(
            {series: state.snapshot for series, state in self.scan.series.items()},
            self.scheduler.fetcher.requested,
            self.schedule.last_time,
            self.scan.unwatched,
            frozenset(self.scheduler.fetcher.current),
            self.schedule.due_times.streamed,
            is_refused=self.phase.state is State.REFUSED,
            is_sure=self.clocks.agree and self.schedule.is_up_to_date,
            time_to_come=self.clocks.now() + APART_S,
        )
        known = self._fill_context(store, self.published.status.current)
        # A scan ends soon, and does not know the problem; fills of a foreign store are left alone.
        if self.phase.state not in (State.SCANNING, State.REFUSED):
            self.fills.assess(known)
        status = self._status(store, source, is_running=is_running)
        self.published = Published(status, store, known, tuple(self.scan.queue()))

    def snapshot_now(self) -> FillContext:
        """What fills are assessed by, as last published, with the time now. From any thread."""
        return replace(self.published.fill_context, now=self.clocks.now())

    def _fill_context(self, store: StoreSnapshot, current_before: tuple[str, ...]) -> FillContext:
        """What fills are assessed by, as of now."""
        phase = self.phase
        why = phase.reason.removesuffix(f" ({phase.hint})")  # the hint has a field of its own
        return FillContext(
            store.series,
            lambda series: is_there(self.scan.store, series),
            {*store.current, *current_before},  # and those whose answers are being handled
            Trouble(why, phase.hint) if phase.state.is_held else None,
            self.clocks.agree and self.schedule.is_up_to_date,
            self.clocks.now(),
            store.unwatched,
        )

    def _status(self, store: StoreSnapshot, source: str, *, is_running: bool) -> GapFillerStatus:
        counts, missing_bars = count_gaps((*self.scan.series.values(), *self.scheduler.rebuilds))
        series = self._summary(store)
        status = self._activity(counts, source, is_running=is_running)
        return self._with_eta(self._with_health(status, series), series, missing_bars)

    def _activity(
        self, counts: Mapping[Reason, int], source: str, *, is_running: bool
    ) -> GapFillerStatus:
        """What it is doing, with which settings, and how many gaps it has (`counts`)."""
        settings, phase, schedule = self.settings, self.phase, self.schedule
        last_scan = moment(schedule.last_time)
        interval = timedelta(seconds=schedule.interval_s)
        return GapFillerStatus(
            running=is_running,
            state=phase.state.value,
            reason=phase.reason,
            hint=phase.hint,
            source=source,
            data_dir=str(settings.data_dir),
            check_interval_s=schedule.interval_s,
            max_gap_age_days=settings.ktrdr_gap_max_age_days,
            batch_symbols=settings.ktrdr_gap_batch_symbols,
            supported_timeframes=tuple(t.value for t in Timeframe),
            last_scan_time=last_scan,
            last_scan_id=schedule.last_id,
            next_scan_time=last_scan + interval if last_scan else None,
            series=len(self.scan.series),
            series_blocked=sum(state.is_blocked for state in self.scan.series.values()),
            gaps_detected=self.assessor.detected,
            gaps_filled=self.assessor.filled,
            gaps_failed=counts.get(Reason.FAILED, 0),
            gaps_remaining=sum(counts.get(reason, 0) for reason in FILLABLE),
            unfillable={r.value: count for r, count in counts.items() if r not in FILLABLE},
            bars_added=self.scheduler.summary.bars_added,
            symbols_processed=self.scheduler.summary.symbols,
            current=self.scheduler.fetcher.current,
            eta_s=None,
            fills=self.fills.counts,
            as_of=moment(self.clocks.wall()),
            counted_since=moment(self.started_at),
            requests_failed=self.scheduler.summary.failed,
            streams=tuple(sorted(map(str, self.schedule.due_times.streamed))),
        )

    def _with_health(self, status: GapFillerStatus, series: SeriesSummary) -> GapFillerStatus:
        """The status with the state of series, store and clock, and recent problems."""
        room, unread = self.health.room, self.scan.other_files.kinds
        compared = [state.compared for state in self.scan.series.values()]
        return replace(
            status,
            recent_errors=self.problems.newest_first(self._is_over),
            clock_jump_s=self.clocks.jump_s,
            series_current=series.current,
            series_states=series.states,
            series_troubled=series.troubled,
            troubles=series.troubles,
            newest_bar_time=moment(series.newest),
            store_trouble=self.health.trouble,
            strange=sum(one.count for one in unread),
            strange_one=unread[0].cause if unread else "",
            unread=unread,
            series_differing=sum(one.differ > 0 for one in compared),
            bars_differing=sum(one.differ for one in compared),
            series_comparing=sum(one.total > 0 and not one.is_over for one in compared),
            disk_free_bytes=room.free if room else None,
            disk_total_bytes=room.total if room else None,
        )

    def _with_eta(
        self, status: GapFillerStatus, series: SeriesSummary, missing: Mapping[Timeframe, int]
    ) -> GapFillerStatus:
        """The status with how long the rest will take, or what it waits for."""
        is_left = bool(status.gaps_remaining or series.states)
        waits_for = self._waits_for() if is_left else ""
        eta = None
        if not is_left and self.schedule.last_time is not None:
            eta = Eta(0.0, 0.0, 0.0)
        elif status.gaps_remaining and not waits_for:
            eta = self.scheduler.fetcher.eta(missing, series.unknown)
        if eta is None:
            return replace(status, waits_for=waits_for)
        return replace(
            status,
            eta_s=eta.likely,
            eta_low_s=eta.low,
            eta_high_s=eta.high,
            eta_words=eta.words if is_left else "",
            waits_for=waits_for,
        )

    def _summary(self, store: StoreSnapshot) -> SeriesSummary:
        return summed_up(
            self.scan.series.values(),
            lambda state: store.state_of(state.snapshot),
            self._trouble_of,
            self.clocks.now(),
            self.schedule.interval_s + _GRACE_S,
            is_sure=store.is_sure,
        )

    def _waits_for(self) -> str:
        """Why nothing is requested; empty: bars are being requested, or will be soon."""
        if self.phase.state.is_held:
            return self.phase.reason
        is_idle = self.phase.state is State.IDLE and not self.scheduler.is_busy
        if not is_idle or self.schedule.last_time is None:
            return ""
        until = min([self.schedule.next_time(self.clocks.now()), *self.scan.retry_times()])
        return f"the next try, at {moment(until):%H:%M:%S} UTC"

    def _trouble_of(self, state: SeriesState) -> KtrdrError | None:
        """The error of a series that needs a person; None: there is none."""
        is_the_stores = self.health.trouble and isinstance(state.error, StoreUnwritable)
        if needs_person(state.error) and not is_the_stores:
            return state.error
        return self.scan.trouble_of(state)

    def _is_over(self, problem: Problem) -> bool:
        """The problem is solved, or what it concerns is gone."""
        if problem.what == WHAT:
            return self.scan.other_files.is_over(problem)
        if problem.what in ("store", "gap-filler"):
            return self.health.trouble is None and self.phase.state is not State.REFUSED
        if problem.what == "clock":
            return self.clocks.agree
        known = self.scan.named(problem.what)
        return known is None or (known.error is None and self.scan.trouble_of(known) is None)
