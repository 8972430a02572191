"""Controls: requests for bars that IB has, to verify that the missing ones are absent."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from ktrdr.assessment.assessment import Assessor
from ktrdr.assessment.series_state import SeriesState
from ktrdr.completeness.gaps import Gap, Reason
from ktrdr.errors import RequestFailed
from ktrdr.filling.fetcher import Fetcher
from ktrdr.filling.ingest import Ingest
from ktrdr.filling.tasks import Kind, Task
from ktrdr.market.bars import Answer
from ktrdr.market.bars_request import BarsRequest, Priority
from ktrdr.market.instruments import Instrument
from ktrdr.market.timeframes import DAY_S
from ktrdr.times import iso

log = logging.getLogger("gap-filler")

_HEAD_AGAIN_S = 30 * DAY_S


@dataclass(frozen=True)
class Controls:
    """The controls of one store. For one thread."""

    assessor: Assessor
    ingest: Ingest
    fetcher: Fetcher
    assess: Callable[[SeriesState], None]
    """Assess a series again."""
    _early: dict[Instrument, tuple[int, int]] = field(default_factory=dict)
    """Heads that came before the bars that may confirm them, and when these were requested."""

    def request_head(self, state: SeriesState, request: BarsRequest, now: int) -> None:
        """Request the time of IB's first bar, if an answer begins later than its request.

        One that came before the bars that may confirm it is looked at again instead.
        """
        if state.instrument in self._early:
            self._settle_head(state, *self._early.pop(state.instrument))
            return
        lifetime = self.assessor.contracts.lifetime(state.instrument)
        is_short = state.first is None or state.first > request.start
        has_unproven = state.coverage is not None and Reason.UNPROVEN in state.coverage.gap_counts
        is_known = lifetime.head_at is not None and now - lifetime.head_at <= _HEAD_AGAIN_S
        is_requested = self.fetcher.is_requesting_head(state.instrument)
        if is_short and has_unproven and not is_known and not is_requested:
            self.fetcher.request_head(state, now)

    def take_head(self, task: Task, head: int | None) -> None:
        """Accept IB's first bar if the stored bars confirm it; else request it again tomorrow."""
        self._settle_head(task.state, head, task.requested_at)

    def _settle_head(self, state: SeriesState, head: int | None, requested_at: int) -> None:
        contracts = self.assessor.contracts
        lifetime = contracts.lifetime(state.instrument)
        if head is not None and contracts.head_is_confirmed(state, head, requested_at):
            log.info("%s: IB has bars from %s on", state.series, iso(head))
        elif head is not None and self._is_being_filled(state):
            self._early[state.instrument] = (head, requested_at)
            return
        else:
            head, requested_at = lifetime.head, requested_at - _HEAD_AGAIN_S + DAY_S
        contracts.keep_lifetime(
            state.instrument, lifetime._replace(head=head, head_at=requested_at)
        )
        state.succeeded()
        self.assess(state)

    def _is_being_filled(self, state: SeriesState) -> bool:
        """More of its bars are requested, or will be."""
        has_open = state.coverage is not None and Reason.OPEN in state.coverage.gap_counts
        return has_open or self.fetcher.is_requesting(state, Kind.FILL)

    def request_control(self, state: SeriesState, gaps: tuple[Gap, ...], now: int) -> None:
        """Request a bar of the same series that IB should have, near the missing ones.

        If no such bar is known, none of the missing bars counts as absent.
        """
        known = self.ingest.absences.nearest_known(state, gaps[-1], now)
        if known is None:
            return
        timeframe = state.series.timeframe
        control = BarsRequest(state.instrument, timeframe, known, known + timeframe.length_s)
        self.fetcher.request_bars(Kind.CONTROL, state, control, Priority.RECENT, gaps)

    def take_control(self, task: Task, answer: Answer, *, is_sure: bool) -> None:
        """Mark the missing bars absent if the control was answered. `is_sure`: the clocks agree.

        RequestFailed: it was not answered, so nothing counts as absent.
        """
        state, start = task.state, task.bars_request.start
        is_there = any(bar.start == start for bar in answer.bars)
        if is_there and is_sure:
            self.ingest.absences.mark_absent(state, task.gaps, task.requested_at)
        elif not is_there:
            raise RequestFailed(
                f"IB returned no bar at {iso(start)}, where it had one: other missing "
                "bars are not taken for absent"
            )
        state.succeeded()
        self.assess(state)
