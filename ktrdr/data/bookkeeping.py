"""What an answer means for file and ledger: bars written, absence believed, drift found."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ktrdr.data.gap_report import iso
from ktrdr.data.ledger import Ledger
from ktrdr.data.watch import Watch, Watched
from ktrdr.errors import KtrdrError, RequestFailed
from ktrdr.planning.bars import Answer, Bar
from ktrdr.planning.drift import Drift, compare
from ktrdr.planning.gaps import Gap, Reason, runs
from ktrdr.planning.requests import BarsRequest
from ktrdr.planning.sessions import (
    BoolArray,
    Expected,
    Schedule,
    closed,
    finished,
    learnt_alignment,
)
from ktrdr.planning.timeframes import DAY_S, HOUR_S, Timeframe

log = logging.getLogger("gap-filler")

_ABSENCE_SETTLE_S = 600
"""IB may be late with a bar: one missing sooner than this after its end is not taken for absent."""
_DAILY_ABSENCE_SETTLE_S = 6 * HOUR_S
"""The same for daily bars, after the end of the UTC day that they are dated by."""
_BEHIND_S = 3600
"""The same for bars after the last one that was told: IB may be behind with all of them."""
_LATE_S = 60
"""When a bar that was late is asked for again at the earliest."""
_UNSOUND_S, _UNSOUND_MAX_S = 3600, 30 * DAY_S
"""When what a damaged answer lacks is asked for again: each time after twice as long."""

_NEAR_S = 40 * DAY_S
"""How far from a gap a bar is looked for that proves that IB answers."""

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
        self._doubted: dict[tuple[str, int], int] = {}
        """How often an answer with bars that cannot be has lacked the same."""

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
        self.notice_others(watched, asked_at)
        told = len(answer.bars)
        answer, outside = _without_closed(answer, schedule, series.timeframe)
        self._report_unsound(watched, request, answer.unsound, outside)
        if series.timeframe is Timeframe.H4:
            seen = learnt_alignment(schedule, [bar.start for bar in answer.bars])
            self._watch.learn_alignment(watched.instrument, seen)
        since = self._watch.fill_from(watched, asked_at)
        expected = self._watch.expected(watched, schedule, since, asked_at, asked_at)
        due = _within(expected, *span)
        done = finished(answer.bars, due.starts, series.timeframe, asked_at)
        drift = self._compare(watched, answer)
        added = watched.store.add(series, done)
        if added:
            self._watch.note_written(watched)
        self._ledger.answered(series, *span, asked_at, told)
        if outside or answer.unsound:
            self._doubt_all(watched, answer, due, asked_at)
            return Taken(added, drift=drift)
        whole = _days_of_which_all_is_in(due, expected)
        soon = asked_at + self._late_for(watched, answer, due, schedule, asked_at)
        unproven = self._judge_lacking(watched, answer, due, whole, asked_at, soon)
        return Taken(added, unproven, drift)

    def notice_others(self, watched: Watched, now: int) -> None:
        """Look at a file that somebody has changed since it was looked at: it is ours no more."""
        if watched.store.key(watched.series) != watched.key:
            self._watch.look_at(watched, now)

    def believe_absent(self, watched: Watched, gaps: tuple[Gap, ...], asked_at: int) -> None:
        """IB has answered for what it has, so that what it lacks is absent."""
        self._ledger.record_absent(watched.absence, gaps, asked_at)

    def doubt(self, watched: Watched, gaps: tuple[Gap, ...], asked_at: int) -> None:
        """Nothing is known of this contract that IB has: look again tomorrow."""
        self._ledger.record_late(watched.absence, gaps, asked_at, asked_at + DAY_S)

    def nearest_known(self, watched: Watched, gap: Gap, asked_at: int) -> int | None:
        """The stored bar nearest to a gap that IB should have too; None: there is none near.

        Rows of others may be of times at which IB has no bars of this contract.
        """
        schedule = self._watch.known_schedule(watched.instrument)
        if schedule is None:
            return None
        around = (gap.first - _NEAR_S, gap.last + _NEAR_S)
        expected = self._watch.expected(watched, schedule, *around, asked_at).starts
        near = np.intersect1d(watched.store.rows(watched.series, *around).starts, expected)
        if not len(near):
            return None
        return int(near[np.argmin(np.minimum(abs(near - gap.first), abs(near - gap.last)))])

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

    def _report_unsound(
        self,
        watched: Watched,
        request: BarsRequest,
        unsound: Sequence[int],
        outside: Sequence[int],
    ) -> None:
        """Name what was not stored, and what was asked."""
        asked = f"asked for {iso(request.start)} to {iso(request.end)}, IB sent"
        for starts, why in ((unsound, "that cannot be"), (outside, "of times without trading")):
            if starts:
                first = f"{len(starts)} bars {why}, the first at {iso(min(starts))}"
                found = RequestFailed(f"{asked} {first}: left out, and asked for again later")
                self._report(str(watched.series), found)

    def _doubt_all(self, watched: Watched, answer: Answer, due: Expected, asked_at: int) -> None:
        """An answer with bars that cannot be proves nothing of those that it lacks."""
        name = watched.absence
        gaps = runs(due.starts, _lacking(due, answer), Reason.LATE)
        if not gaps:
            return
        times = self._doubted[name, gaps[0].first] = self._doubted.get((name, gaps[0].first), 0) + 1
        later = asked_at + min(_UNSOUND_S * 2 ** (times - 1), _UNSOUND_MAX_S)
        self._ledger.record_late(name, gaps, asked_at, later)

    def _judge_lacking(
        self,
        watched: Watched,
        answer: Answer,
        due: Expected,
        whole_days: NDArray[np.int64],
        asked_at: int,
        soon: int,
    ) -> tuple[Gap, ...]:
        """Remember which of the due bars an answer has not; what of it is left unproven.

        What lies between bars that were told is absent, and so is the rest of a day after them.
        What lies before them may be cut off, and whole days after them may be those that IB did
        not send for another reason. What it had not yet is asked for again at `soon`.
        """
        name, starts = watched.absence, due.starts
        lacking = _lacking(due, answer)
        before, after = _beyond(starts, answer)
        young = _is_young(starts, after, watched.series.timeframe, asked_at)
        empty_days = np.setdiff1d(whole_days, due.days[~lacking])
        unproven = lacking & ~young & (before | (after & np.isin(due.days, empty_days)))
        absent = lacking & ~young & ~unproven
        self._ledger.record_absent(name, runs(starts, absent, Reason.NO_TRADES), asked_at)
        self._ledger.record_late(name, runs(starts, lacking & young, Reason.LATE), asked_at, soon)
        return tuple(runs(starts, unproven, Reason.OPEN))

    def _late_for(
        self, watched: Watched, answer: Answer, due: Expected, schedule: Schedule, asked_at: int
    ) -> int:
        """How long to wait for what is late: half as long as the newest of it has been so."""
        late = due.starts[_lacking(due, answer)]
        if not len(late):
            return self._late_s
        end = int(late[-1]) + watched.series.timeframe.length_s
        if watched.series.timeframe.is_daily:
            end = max(s.close for s in schedule.sessions if s.day == late[-1])
        return max(self._late_s, (asked_at - end) // 2)


def _without_closed(
    answer: Answer, schedule: Schedule, timeframe: Timeframe
) -> tuple[Answer, list[int]]:
    """The answer less the bars at times without trading, and their starts."""
    wrong = closed(np.array([bar.start for bar in answer.bars], np.int64), schedule, timeframe)
    if not wrong.any():
        return answer, []
    kept = [bar for bar, is_wrong in zip(answer.bars, wrong.tolist(), strict=True) if not is_wrong]
    outside = [bar.start for bar, is_wrong in zip(answer.bars, wrong, strict=True) if is_wrong]
    return answer._replace(bars=kept), outside


def _lacking(due: Expected, answer: Answer) -> BoolArray:
    """Which of the due bars an answer has not."""
    return ~np.isin(due.starts, np.array([bar.start for bar in answer.bars], dtype=np.int64))


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


def _beyond(starts: NDArray[np.int64], answer: Answer) -> tuple[BoolArray, BoolArray]:
    """Which bars lie before the first that was told, and which after the last one.

    All of them both, where nothing was told.
    """
    told = [bar.start for bar in (*answer.bars, *answer.beside)]
    if not told:
        everything = np.ones(len(starts), dtype=np.bool_)
        return everything, everything
    return starts < min(told), starts > max(told)


def _is_young(
    due: NDArray[np.int64], after: BoolArray, timeframe: Timeframe, now: int
) -> BoolArray:
    """Which bars ended so lately that IB may merely be late with them."""
    if timeframe.is_daily:
        return due + timeframe.length_s + _DAILY_ABSENCE_SETTLE_S > now
    settle_s = np.where(after, _BEHIND_S, _ABSENCE_SETTLE_S)
    young: BoolArray = due + timeframe.length_s + settle_s > now
    return young
