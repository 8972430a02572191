"""What an answer means for file and ledger: bars written, absence believed, drift found."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ktrdr.data.ledger import Ledger
from ktrdr.data.watch import Watch, Watched
from ktrdr.errors import KtrdrError, RequestFailed
from ktrdr.planning.bars import Answer, Bar
from ktrdr.planning.drift import Drift, compare
from ktrdr.planning.gaps import Gap, Reason, runs
from ktrdr.planning.requests import BarsRequest
from ktrdr.planning.sessions import Expected, finished, learnt_alignment
from ktrdr.planning.timeframes import DAY_S, HOUR_S, Timeframe

log = logging.getLogger("gap-filler")

BoolArray = NDArray[np.bool_]

_ABSENCE_SETTLE_S = 600
"""IB may be late with a bar: one missing sooner than this after its end is not taken for absent."""
_DAILY_ABSENCE_SETTLE_S = 6 * HOUR_S
"""The same for daily bars, after the end of the UTC day that they are dated by."""
_LATE_S, _UNSOUND_S = 60, 3600
"""When a bar that was late, or that could not be true, is asked for again at the earliest."""

Report = Callable[[str, KtrdrError], None]
"""Tells of a trouble with one thing, such as a series."""


@dataclass(frozen=True)
class Taken:
    """What came of one answer."""

    added: int
    """New bars in the file."""
    unproven: tuple[Gap, ...] = ()
    """What it lacks, and does not prove to be absent: whole days at an edge of it, or all of it."""
    drift: Drift | None = None
    """Bars that are told otherwise than they are stored."""


class Books:
    """Keeps file and ledger of each series. For one thread."""

    def __init__(self, watch: Watch, report: Report, late_s: float) -> None:
        """`late_s`: a bar that was late is asked for again after so long."""
        self._watch = watch
        self._report = report
        self._late_s = max(_LATE_S, int(late_s))

    @property
    def _ledger(self) -> Ledger:
        return self._watch.ledger

    def take(self, watched: Watched, request: BarsRequest, answer: Answer, asked_at: int) -> Taken:
        """Write the finished bars of an answer, and remember what it says IB has not.

        FileNotFoundError: the file is gone. StoreUnwritable, MalformedFile: nothing was written.
        """
        series, span = watched.series, (request.start, request.end)
        schedule = self._watch.known_schedule(watched.instrument)
        if schedule is None:
            raise RequestFailed(f"{series}: its sessions are unknown, so its bars cannot be judged")
        if series.timeframe is Timeframe.H4:
            seen = learnt_alignment(schedule, [bar.start for bar in answer.bars])
            self._watch.learn_alignment(watched.instrument, seen)
        expected = self._watch.expected(watched, schedule, asked_at)
        due = _within(expected, *span)
        done = finished(answer.bars, due.starts, series.timeframe, asked_at)
        drift = self._compare(watched, answer)
        added = watched.store.add(series, done)
        if added:
            self._watch.note_written(watched)
        self._ledger.answered(series, *span, asked_at, len(answer.bars))
        whole = _days_of_which_all_is_in(due, expected)
        return Taken(added, self._judge_lacking(watched, answer, due, whole, asked_at), drift)

    def believe_absent(self, watched: Watched, gaps: tuple[Gap, ...], asked_at: int) -> None:
        """IB has answered for what it has, so that what it lacks is absent."""
        self._ledger.record_absent(watched.absence, gaps, asked_at)

    def doubt(self, watched: Watched, gaps: tuple[Gap, ...], asked_at: int) -> None:
        """Nothing is known of this contract that IB has: look again tomorrow."""
        self._ledger.record_late(watched.absence, gaps, asked_at, asked_at + DAY_S)

    def correct(self, watched: Watched, drift: Drift) -> None:
        """Write bars of ours as they are told now."""
        watched.store.add(watched.series, drift.changed, correct=True)
        self._watch.note_written(watched)
        log.info("%s: %s; corrected", watched.series, drift.words)

    def _compare(self, watched: Watched, answer: Answer) -> Drift | None:
        """How what is stored differs from what was told of the same bars."""
        told = {bar.start: bar for bar in (*answer.bars, *answer.beside)}
        if not told or watched.first is None:
            return None
        return compare(stored(watched, told), told)

    def _judge_lacking(
        self,
        watched: Watched,
        answer: Answer,
        due: Expected,
        whole_days: NDArray[np.int64],
        asked_at: int,
    ) -> tuple[Gap, ...]:
        """Remember which of the due bars an answer has not; what of it is left unproven.

        What lies between bars that were told is absent, and so is a part of a day. Whole days
        beyond the first or the last of them may be those that IB did not send for another reason.
        """
        name, starts = watched.absence, due.starts
        there = np.array([bar.start for bar in answer.bars], dtype=np.int64)
        unsound = np.isin(starts, answer.unsound)
        lacking = ~np.isin(starts, there) & ~unsound
        young = _is_young(starts, watched.series.timeframe, asked_at)
        beyond = _beyond(starts, [*there.tolist(), *(bar.start for bar in answer.beside)])
        empty_days = np.setdiff1d(whole_days, due.days[~lacking])
        unproven = lacking & ~young & beyond & np.isin(due.days, empty_days)
        absent = lacking & ~young & ~unproven
        self._ledger.record_absent(name, runs(starts, absent, Reason.NO_TRADES), asked_at)
        soon = asked_at + self._late_s
        self._ledger.record_late(name, runs(starts, lacking & young, Reason.LATE), asked_at, soon)
        if answer.unsound:
            count = len(answer.unsound)
            told = RequestFailed(f"IB sent {count} bars that cannot be")
            self._report(str(watched.series), told)
            later = asked_at + _UNSOUND_S
            self._ledger.record_late(name, runs(starts, unsound, Reason.LATE), asked_at, later)
        return tuple(runs(starts, unproven, Reason.OPEN))


def stored(watched: Watched, starts: Collection[int]) -> list[Bar]:
    """What a series has of the bars of these starts."""
    if not starts:
        return []
    return watched.store.rows(watched.series, min(starts), max(starts) + 1).bars(starts)


def _within(expected: Expected, start: int, end: int) -> Expected:
    chosen = (expected.starts >= start) & (expected.starts < end)
    return Expected(expected.starts[chosen], expected.days[chosen])


def _days_of_which_all_is_in(due: Expected, expected: Expected) -> NDArray[np.int64]:
    """The trading days whose expected bars are all among those that are due."""
    days, counts = np.unique(due.days, return_counts=True)
    all_days, all_counts = np.unique(expected.days, return_counts=True)
    whole: NDArray[np.int64] = days[counts == all_counts[np.searchsorted(all_days, days)]]
    return whole


def _beyond(starts: NDArray[np.int64], told: list[int]) -> BoolArray:
    """Which bars lie before the first that was told, or after the last one."""
    if not told:
        return np.ones(len(starts), dtype=np.bool_)
    return (starts < min(told)) | (starts > max(told))


def _is_young(due: NDArray[np.int64], timeframe: Timeframe, now: int) -> BoolArray:
    """Which bars ended so lately that IB may merely be late with them."""
    settle_s = _DAILY_ABSENCE_SETTLE_S if timeframe.is_daily else _ABSENCE_SETTLE_S
    return due + timeframe.length_s + settle_s > now
