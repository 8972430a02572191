"""Due times: when a series is assessed since its next bar is due. Assesses none itself.

Each series is taken up once a bar, at its end and as long after it as IB is known to need. The
pace of the requests is decided by ib-connection.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ktrdr.assessment.series_state import SeriesState
from ktrdr.completeness.settle_times import Newest, SettleTimes
from ktrdr.filling.tasks import Task
from ktrdr.market.bars import Answer
from ktrdr.market.instruments import Series
from ktrdr.market.sessions import SETTLE_S

_STREAM_FIRST_S, _STREAM_LEAST_S, _STREAM_MOST_S = 4.0, 1.5, 6.0
"""How long after its end a bar may come from a stream before it is requested: at first, and the
bounds."""
_STREAM_MORE_S, _FORGETTING = 0.5, 0.02
"""So much more than streams have needed lately; and the share of that which each bar forgets."""
_AT_ONCE = 20
"""So many series are assessed before their requests are sent, and finished bars are stored."""


class DueTimes:
    """The due times of one store. For the stepping thread."""

    def __init__(self) -> None:
        self.settle_times = SettleTimes()
        self.streamed: frozenset[Series] = frozenset()
        """Series whose bars come from streams: they are requested if these do not bring them."""
        self._stream_s = _STREAM_FIRST_S
        self._taken: dict[Series, int] = {}
        """Series → the due time at which it was taken up last."""

    def take(self, states: Iterable[SeriesState], now: float) -> list[SeriesState]:
        """Some of the series that have a bar due, each once a bar; none: no more have.

        First those of which a stream should have brought it.
        """
        due = [state for state in states if (at := self._at(state)) is not None and at <= now]
        due.sort(key=lambda state: state.series not in self.streamed)
        for state in due[:_AT_ONCE]:
            assert state.assessment.next_due is not None
            self._taken[state.series] = state.assessment.next_due
        return due[:_AT_ONCE]

    def next_time(self, states: Iterable[SeriesState]) -> float:
        """When the next series has a bar due (UTC seconds); infinite: none."""
        times = (self._at(state) for state in states)
        return min((at for at in times if at is not None), default=float("inf"))

    def is_overdue(self, state: SeriesState) -> bool:
        """Its newest bar is missing, though a stream should have brought it."""
        gaps = state.coverage.open_gaps if state.coverage is not None else []
        is_newest = bool(gaps) and (state.last is None or gaps[-1].last > state.last)
        return is_newest and state.series in self.streamed

    def answered(self, task: Task, answer: Answer, revised: Sequence[int]) -> None:
        """Learn how long IB needs, from an answer; `revised`: the starts of revised bars."""
        state, request, requested_at = task.state, task.bars_request, task.requested_at
        length_s = state.series.timeframe.length_s
        waited_s = requested_at - request.end
        if state.series.timeframe.is_daily or waited_s < 0 or state.rebuilds_from is not None:
            return
        received = {bar.start for bar in (*answer.neighbours, *answer.bars[-5:])}
        start = request.end - length_s
        newest = Newest(start, waited_s, start in received)
        kind, name = state.instrument.sec_type, str(state.series)
        self.settle_times.answered(kind, name, newest, received, revised)

    def streamed_after(self, seconds: float) -> None:
        """A stream has finished a bar so long after its end: others may need as long."""
        if seconds > _STREAM_MOST_S:
            return  # as after an outage
        needed = min(max(seconds + _STREAM_MORE_S, _STREAM_LEAST_S), _STREAM_MOST_S)
        slowly = self._stream_s + _FORGETTING * (needed - self._stream_s)
        self._stream_s = max(needed, slowly)

    def _at(self, state: SeriesState) -> float | None:
        """When to take a series up; None: not until it was assessed again."""
        due = state.assessment.next_due
        if due is None or state.is_blocked or self._taken.get(state.series) == due:
            return None
        if state.series.timeframe.is_daily:
            return due
        wait_s = self.settle_times.wait_s(state.instrument.sec_type)
        if state.series in self.streamed:
            wait_s = max(wait_s, self._stream_s)
        return due + wait_s - SETTLE_S
