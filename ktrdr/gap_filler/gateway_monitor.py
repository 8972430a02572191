"""The gateway monitor: queries gateway and clocks, and tells the gap filler's parts of changes."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass

from ktrdr.errors import KtrdrError, PeerDown
from ktrdr.filling.scheduler import Scheduler
from ktrdr.gap_filler.clock_check import ClockCheck
from ktrdr.gap_filler.gateway_check import FOR_WANT_OF_DATA, NO_DATA, GatewayCheck, GatewayStatus
from ktrdr.gap_filler.ownership import Ownership
from ktrdr.gap_filler.scan import Scan
from ktrdr.gap_filler.scan_schedule import ScanSchedule
from ktrdr.gap_filler.states import Event, Phase

log = logging.getLogger("gap-filler")

RECHECK_S = 2.0
"""How soon to check again while there is no connection, or the store refuses writes."""
_CHECK_EVERY_S = 60.0
"""The longest time between two status queries to ib-connection."""


@dataclass(frozen=True)
class GatewayMonitor:
    """Queries the status of ib-connection, and acts on changes. For the stepping thread."""

    check: GatewayCheck
    clocks: ClockCheck
    ownership: Ownership
    scheduler: Scheduler
    scan: Scan
    schedule: ScanSchedule
    phase: Phase
    report: Callable[[str, KtrdrError], None]

    @property
    def source(self) -> str:
        """`live` or `simulated`, as last reported."""
        return self.check.last.source

    @property
    def is_foreign(self) -> bool:
        """The store belongs to the other source, and nothing may be written into it."""
        return self.ownership.is_foreign(self.source)

    def check_owner(self) -> None:
        """WrongSource says why the store may not be written to with this gateway's bars."""
        if self.is_foreign:
            try:
                self.query()
            except PeerDown:
                log.debug("ib-connection cannot say what its gateway is")
        self.ownership.check(self.source)

    def answers(self) -> bool:
        """The gateway is connected and has data; else the gap filler waits."""
        try:
            status = self.query()
            why_not, hint = status.why_not, status.hint
        except PeerDown as error:
            why_not, hint = f"{error.message} ({error.hint})", error.hint
        if why_not:
            self.phase.take(Event.HOLD, why_not, hint)
        return not why_not

    def query(self) -> GatewayStatus:
        """The gateway's status now, which is acted on. PeerDown: no answer."""
        before = self.check.last
        status = self.check.query()
        if status.at_once is not None:
            self.scheduler.fetcher.allow(status.at_once)
        if status.data_back_at != before.data_back_at:
            self.schedule.is_retry_due = True  # what became due meanwhile need not wait either
            self._retry_failed(float("inf"))
        self.clocks.learn(status.clock_offset_s, self.check.measure_clock)
        self._compare_clocks()
        return status

    def _retry_failed(self, back_at: float) -> None:
        """Retry at once what was requested before data were back, and failed for want of them."""
        for state in (*self.scan.series.values(), *self.scheduler.rebuilds):
            is_over = state.error_state.retry_at > 0 and state.tried_at <= back_at
            if is_over and isinstance(state.error, FOR_WANT_OF_DATA):
                state.error_state = state.error_state.retry_now()
                self.schedule.is_retry_due = True

    def refresh(self) -> None:
        """Compare the clocks; query the gateway if they disagree, or if the last query is old."""
        self._compare_clocks()
        if self.check.last.data_back_at is not None:  # failures of before may come afterwards
            self._retry_failed(self.check.last.data_back_at.timestamp())
        if self.clocks.requested_lately(self.check_every_s):
            return
        with contextlib.suppress(KtrdrError):
            status = self.query()
            if self.scheduler.is_busy:  # its requests are kept while there are no data
                if status.why_not:
                    self.phase.take(Event.HOLD, status.why_not, status.hint)
                elif self.phase.reason.startswith(NO_DATA):
                    self.phase.take(Event.FILL)

    def withdraw_refusals(self) -> None:
        """Have contracts of which no series is kept listed as refused no longer."""
        if self.schedule.last_time is None:  # which series there are is not known yet
            return
        with contextlib.suppress(KtrdrError):
            self.check.withdraw_refusals({series.symbol for series in self.scan.series})

    def _compare_clocks(self) -> None:
        if self.clocks.compare(self.report, is_foreign=self.is_foreign):
            self.schedule.is_up_to_date = False

    @property
    def check_every_s(self) -> float:
        """The time between status queries to ib-connection: short while series wait for data."""
        if self.scheduler.is_busy:
            return RECHECK_S
        now = self.clocks.now()
        waits = any(
            w.error_state.retry_at > now and isinstance(w.error, FOR_WANT_OF_DATA)
            for w in self.scan.series.values()
        )
        return RECHECK_S if waits else _CHECK_EVERY_S
