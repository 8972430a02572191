"""Controls: bars that IB should have, requested to learn whether it lacks others."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from ktrdr.assessment.assessment import Assessor
from ktrdr.assessment.series_state import SeriesState
from ktrdr.completeness.gaps import Gap, Reason
from ktrdr.errors import RequestFailed
from ktrdr.filling.fetcher import Fetcher
from ktrdr.filling.ingest import Ingest
from ktrdr.filling.tasks import Kind, Task
from ktrdr.market.bars import Answer
from ktrdr.market.bars_request import BarsRequest, Priority
from ktrdr.market.timeframes import DAY_S
from ktrdr.times import iso

log = logging.getLogger("gap-filler")

_HEAD_AGAIN_S = 30 * DAY_S


@dataclass(frozen=True)
class Controls:
    """Those of one store. For one thread."""

    assessor: Assessor
    ingest: Ingest
    fetcher: Fetcher
    assess: Callable[[SeriesState], None]
    """Judge a series anew."""

    def request_head(self, watched: SeriesState, request: BarsRequest, now: int) -> None:
        """IB's first bar, where an answer begins later than what was asked for."""
        life = self.assessor.contracts.life(watched.instrument)
        is_short = watched.first is None or watched.first > request.start
        lacks = watched.coverage is not None and Reason.UNPROVEN in watched.coverage.holes
        is_known = life.head_at is not None and now - life.head_at <= _HEAD_AGAIN_S
        is_asked = self.fetcher.is_asking_for_head(watched.instrument)
        if is_short and lacks and not is_known and not is_asked:
            self.fetcher.request_head(watched, now)

    def take_head(self, task: Task, head: int | None) -> None:
        """Believe it where the bars that are there bear it out; else ask again tomorrow."""
        watched = task.watched
        contracts = self.assessor.contracts
        life = contracts.life(watched.instrument)
        known, asked_at = head, task.asked_at
        if known is None or not contracts.head_is_borne_out(watched, known, asked_at):
            known, asked_at = life.head, asked_at - _HEAD_AGAIN_S + DAY_S
        else:
            log.info("%s: IB has bars from %s on", watched.series, iso(known))
        contracts.keep_life(watched.instrument, life._replace(head=known, head_at=asked_at))
        watched.succeeded()
        self.assess(watched)

    def request_control(self, watched: SeriesState, gaps: tuple[Gap, ...], now: int) -> None:
        """Something of the same series that IB should have, near what it says it has not.

        Where nothing is known that it has, what it lacks is not believed at all.
        """
        known = self.ingest.absences.nearest_known(watched, gaps[-1], now)
        if known is None:
            return
        timeframe = watched.series.timeframe
        control = BarsRequest(watched.instrument, timeframe, known, known + timeframe.length_s)
        self.fetcher.request_bars(Kind.CONTROL, watched, control, Priority.RECENT, gaps)

    def take_control(self, task: Task, answer: Answer, *, is_sure: bool) -> None:
        """Believe what was lacking, where this was answered. `is_sure`: the clocks agree.

        RequestFailed: it was not, so that nothing is believed.
        """
        watched, start = task.watched, task.bars_request.start
        is_there = any(bar.start == start for bar in answer.bars)
        if is_there and is_sure:
            self.ingest.absences.believe_absent(watched, task.gaps, task.asked_at)
        elif not is_there:
            raise RequestFailed(
                f"IB has no bar at {iso(start)}, where it had one: what it lacks "
                "besides is not taken for absent"
            )
        watched.succeeded()
        self.assess(watched)
