"""Live series: keeps streams open for some series, and stores what they finish. Opens none itself.

A bar of a stream is stored only if it is the one bar that is missing after the last stored one.
Otherwise everything from there on is requested, as any gap; so is a bar that did not come.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ktrdr.assessment.series_state import SeriesState
from ktrdr.errors import KtrdrError
from ktrdr.filling.scheduler import Scheduler
from ktrdr.filling.tasks import Kind, Task
from ktrdr.gap_filler.live_choice import chosen
from ktrdr.gap_filler.scan import Scan
from ktrdr.gap_filler.scan_schedule import ScanSchedule
from ktrdr.gap_filler.stream_reader import StreamReader
from ktrdr.ipc.client import LocalClient
from ktrdr.ipc.query import request_to_query
from ktrdr.ipc.stream_messages import StreamsMessage
from ktrdr.market.bars import Answer, Bar
from ktrdr.market.bars_request import BarsRequest, Priority
from ktrdr.market.instruments import Series
from ktrdr.market.sessions import SETTLE_S

log = logging.getLogger("gap-filler")

_CHOOSE_EVERY_S = 15.0
_RENEW_S = 100.0
"""How often a stream is requested again, so that ib-connection keeps it."""
_POST_S = 5.0
_COMPARED_BARS = 30
"""So many streamed bars are compared at once with what IB has of them later."""
_DEAD_AFTER = 2
"""Bars in a row that had to be requested, without any update, before a stream counts as dead."""
_JUDGED_BARS = 20
"""After so many bars a stream that brought less than half of them makes room for another one."""
_REST_S = 3600.0
"""For so long it is not chosen again."""


@dataclass
class _Streamed:
    """One series whose stream is wanted."""

    renewed_at: float = float("-inf")
    first: int | None = None
    """The start of the first streamed bar that was not compared yet."""
    last: int = 0
    bars: int = 0
    missed: int = 0
    """Bars in a row that had to be requested."""
    brought: int = 0
    requested: int = 0
    """Bars that it brought, and that had to be requested, since it was judged last."""

    @property
    def is_of_use(self) -> bool:
        """It brings most bars, as far as is known; a quiet market sends no end of a bar."""
        return self.brought + self.requested < _JUDGED_BARS or self.brought >= self.requested


class Live:
    """The live series of one store. For the stepping thread, except `start` and `stop`."""

    def __init__(
        self,
        connection: LocalClient,
        scheduler: Scheduler,
        scan: Scan,
        schedule: ScanSchedule,
        clock: Callable[[], float],
        wake: Callable[[], None],
    ) -> None:
        self._connection = connection
        self._scan = scan
        self._scheduler = scheduler
        self._due_times = schedule.due_times
        self._clock = clock
        self._reader = StreamReader(connection, wake)
        self._is_started = False
        self._streamed: dict[Series, _Streamed] = {}
        self._pending: dict[Series, Bar] = {}
        """Bars that have ended just now, and are not due yet."""
        self._resting: dict[Series, float] = {}
        """Series that streams do not help, until then (UTC seconds)."""
        self._choose_at = 0.0
        self._source = ""
        """`live` or `simulated`: the source of the store's bars."""

    def start(self) -> None:
        """Begin to keep series live."""
        self._is_started = True
        self._reader.start()

    def stop(self) -> None:
        """Read no more bars."""
        self._reader.stop()

    @property
    def next_time(self) -> float:
        """When a series has a bar due, or there is something else to do (UTC seconds)."""
        next_due = self._due_times.next_time(self._scan.series.values())
        if not self._is_started:
            return next_due
        return min([next_due, self._choose_at, *(_due(*one) for one in self._pending.items())])

    def step(self, source: str, *, is_sure: bool) -> None:
        """Store the bars that are due, and now and then choose the series anew.

        `source`: of the bars that may be stored; `is_sure`: the clocks agree.
        """
        if not self._is_started:
            return
        now, last = self._clock(), self._reader.last
        if now >= self._choose_at or self._choose_at > now + _CHOOSE_EVERY_S:
            self._choose_at = now + _CHOOSE_EVERY_S
            self._choose(now, last)
        self._source = source
        for each in self._reader.take():
            state = self._scan.named(each.series)
            if state is not None and last is not None and last.gateway == source and is_sure:
                self._note(state.series, each.bar)
        for series, bar in list(self._pending.items()):
            if _due(series, bar) <= now:
                del self._pending[series]
                if (state := self._scan.series.get(series)) is not None:
                    self._store(state, bar)

    def answered(self, task: Task, answer: Answer, revised: Sequence[int]) -> None:
        """Learn from IB's answer when bars are due, and which streams may be dead.

        `revised`: the starts of revised bars. That a newest bar had to be requested is a sign.
        """
        self._due_times.answered(task, answer, revised)
        state, request = task.state, task.bars_request
        streamed = self._streamed.get(state.series)
        is_newest = request.end > self._clock() - 2 * state.series.timeframe.length_s
        if streamed is None or not answer.bars or not is_newest:
            return
        streamed.missed += 1
        streamed.requested += 1
        if streamed.missed >= _DEAD_AFTER and self._is_silent(state.series, request.start):
            log.warning("%s: its stream has sent nothing for %d bars", state.series, _DEAD_AFTER)
            streamed.missed = 0
            self._request(state, overdue=True)

    # Its streams.

    def _choose(self, now: float, last: StreamsMessage | None) -> None:
        """Request the streams of the series that gain most, and give up the others.

        `last`: what ib-connection has said of its streams; without it all series are requested.
        """
        if last is None:
            self._due_times.streamed = frozenset()
            return
        self._judge(now)
        states = [one for one in self._scan.series.values() if one.series not in self._resting]
        wanted = chosen(states, self._streamed.keys(), last.most, now)
        for series in self._streamed.keys() - set(wanted):
            self._give_up(series)
        opened = {one.series for one in last.streams}
        for series in wanted:
            streamed = self._streamed.setdefault(series, _Streamed())
            is_there = str(series) in opened
            if not is_there or not 0 <= now - streamed.renewed_at < _RENEW_S:
                streamed.renewed_at = now
                self._request(self._scan.series[series])
        self._due_times.streamed = frozenset(self._streamed)

    def _judge(self, now: float) -> None:
        """Let those rest for a while that do not gain by their streams."""
        resting = self._resting.items()
        self._resting = {one: until for one, until in resting if 0 < until - now <= _REST_S}
        for series, streamed in self._streamed.items():
            if not streamed.is_of_use:
                log.info("%s: its stream brings too few bars, they are requested", series)
                self._resting[series] = now + _REST_S
            elif streamed.brought + streamed.requested >= _JUDGED_BARS:
                streamed.brought = streamed.requested = 0

    def _give_up(self, series: Series) -> None:
        streamed, state = self._streamed.pop(series), self._scan.series.get(series)
        if state is not None:
            self._compare(state, streamed)
        try:
            symbol, timeframe = series.symbol, series.timeframe.value
            self._connection.delete("/streams", symbol=symbol, timeframe=timeframe)
        except KtrdrError as error:  # it ends by itself
            log.debug("%s: %s", series, error)

    def _request(self, state: SeriesState, *, overdue: bool = False) -> None:
        """Have its stream kept open; what is refused is requested by its due times alone."""
        query = request_to_query(state.instrument, state.series.timeframe, 0, 1)
        try:
            overdue_too = {"overdue": "true"} if overdue else {}
            self._connection.post("/streams", _POST_S, **query, **overdue_too)
        except KtrdrError as error:
            log.info("%s is not streamed: %s", state.series, error)

    def _is_silent(self, series: Series, since: int) -> bool:
        """Its stream has sent nothing since then, as far as is known."""
        last = self._reader.last
        found = [one for one in last.streams if one.series == str(series)] if last else []
        updates = [one.last_update for one in found]
        return bool(found) and all(at is None or at.timestamp() < since for at in updates)

    # Its bars.

    def _note(self, series: Series, bar: Bar) -> None:
        """Keep a bar until it is due; one that cannot be right is left to a request."""
        if bar.is_sound and series.timeframe.can_begin_at(bar.start):
            end = bar.start + series.timeframe.length_s
            self._due_times.streamed_after(self._clock() - end)
            self._pending[series] = bar
        else:
            log.warning("%s: its stream has finished an invalid bar: %s", series, bar)

    def _store(self, state: SeriesState, bar: Bar) -> None:
        """Store a bar, if nothing else is missing before it; a request gets what is."""
        if not state.may_be_requested(self._clock()) or state.error is not None:
            return
        if self._scheduler.fetcher.is_requesting(state):
            return
        self._scheduler.assess(state, only_if_changed=True)
        if not _is_next(state, bar):
            return
        self._scan.store.claim(self._source)
        self._scheduler.take_streamed(state, bar)
        streamed = self._streamed.setdefault(state.series, _Streamed())
        streamed.missed = 0
        streamed.brought += 1
        streamed.first = bar.start if streamed.first is None else streamed.first
        streamed.last, streamed.bars = bar.start, streamed.bars + 1
        if streamed.bars >= _COMPARED_BARS:
            self._compare(state, streamed)

    def _compare(self, state: SeriesState, streamed: _Streamed) -> None:
        """Compare the streamed bars once with those that IB has now; differences are revisions."""
        if streamed.first is None or not self._scheduler.has_room:
            return
        timeframe = state.series.timeframe
        end = streamed.last + timeframe.length_s
        request = BarsRequest(state.instrument, timeframe, streamed.first, end)
        self._scheduler.fetcher.source = self._source
        self._scheduler.fetcher.request_bars(Kind.CHECK, state, request, Priority.BACKFILL)
        streamed.first, streamed.bars = None, 0


def _due(series: Series, bar: Bar) -> float:
    """When a bar counts as finished, at the latest (UTC seconds)."""
    return bar.start + series.timeframe.length_s + SETTLE_S


def _is_next(state: SeriesState, bar: Bar) -> bool:
    """The bar is the only one that is expected and missing after the last stored one."""
    gaps = state.coverage.open_gaps if state.coverage is not None else []
    if state.last is None or not gaps or bar.start <= state.last:
        return False
    newest = gaps[-1]
    is_alone = len(gaps) == 1 or gaps[-2].last < state.last
    return is_alone and newest.first == newest.last == bar.start
