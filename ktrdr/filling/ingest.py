"""What an answer means for file and ledger: bars written, absence believed, drift found."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ktrdr.errors import KtrdrError, MalformedFile, RequestFailed
from ktrdr.filling.assessment import Watch
from ktrdr.filling.evidence import Answered, Density, flanked_now, weigh
from ktrdr.filling.gaps import Gap, Reason, among, runs
from ktrdr.filling.grids import Grid, Looked, after, has_grid, is_believed, look, shown
from ktrdr.filling.identity import Likeness, likeness
from ktrdr.filling.ledger import Ledger
from ktrdr.filling.report import iso
from ktrdr.filling.revisions import Drift, compare
from ktrdr.filling.series_state import Watched
from ktrdr.filling.unscheduled import are_moved, sessions_of, sight
from ktrdr.market.bars import Answer, Bar
from ktrdr.market.bars_request import BarsRequest
from ktrdr.market.sessions import (
    BoolArray,
    Expected,
    Int64Array,
    Schedule,
    closed,
    finished,
    learnt_alignment,
)
from ktrdr.market.timeframes import DAY_S, HOUR_S, Timeframe

log = logging.getLogger("gap-filler")

_ABSENCE_SETTLE_S = 600
"""IB may be late with a bar: one missing sooner than this after its end is not taken for absent."""
_DAILY_ABSENCE_SETTLE_S = 6 * HOUR_S
"""The same for daily bars, after the end of the UTC day that they are dated by."""
_BEHIND_S = 3600
"""The same for bars after the last one that was told: IB may be behind with all of them."""
_LATE_S = 60
"""When a bar that was late is asked for again at the earliest."""
_WITHHELD_MAX_S, _DOUBLINGS_MAX = DAY_S, 12
"""So long, at most, is not asked for what came in answers that nothing was written of."""
_UNSOUND_S, _UNSOUND_MAX_S = 3600, 30 * DAY_S
"""When what a damaged answer lacks is asked for again: each time after twice as long."""

_OTHER_LEAST = 3
"""So many bars at other prices are no revision."""

_NEAR_S, _FAR_S = 40 * DAY_S, 400 * DAY_S
"""How far from a gap a bar is looked for that proves that IB answers; if need be, the latter."""

_OTHER_GRID = {
    (False, False, True): "asked for again, and stored when that is told again",
    (True, False, True): "told again, so that they are expected there from now on",
    (False, True, True): "not stored unless that is told for more than a day",
    (True, True, True): "told for more than a day, so that the series is pulled again",
    (False, True, False): "not stored, since bars are there that begin elsewhere and are not ours",
}
"""What comes of bars that begin at other minutes: learnt, stored ones against it, can be mended."""

Report = Callable[[str, KtrdrError], None]
"""Tells of a trouble with one thing, such as a series."""


@dataclass(frozen=True)
class Taken:
    """What came of one answer."""

    added: int
    """New bars in the file."""
    wants_control: tuple[Gap, ...] = ()
    """What would be believed to be absent if anything near by had been answered meanwhile."""
    drift: Drift | None = None
    """Bars that are told otherwise than they are stored."""
    is_withheld: bool = False
    """It is, or may be, in another unit than what is stored.

    Nothing of it was written, and nothing that it lacks was believed.
    """
    is_moved: bool = False
    """Bars begin elsewhere than those that are stored: nothing was written."""


@dataclass(frozen=True)
class _Gridded:
    """An answer without what begins off the grid."""

    answer: Answer
    odd: tuple[Bar, ...] = ()
    """What begins off it, and follows no other grid."""
    is_doubtful: bool = False
    """Something was left out: nothing that the answer lacks is believed."""
    again_s: int | None = None
    """When that is asked for again, where the answer follows another grid."""
    is_moved: bool = False
    """That is believed now, against bars that are stored."""


@dataclass(frozen=True)
class _Sifted:
    """An answer, as far as it is believed."""

    answer: Answer
    told: int
    """How many bars it had, believed or not."""
    outside: tuple[Bar, ...] = ()
    """At times or minutes at which none is expected, and not believed yet."""
    is_damaged: bool = False
    """It proves nothing of what it lacks."""
    again_s: int | None = None
    """As that of `_Gridded`."""
    is_moved: bool = False
    """As that of `_Gridded`: nothing is to be written."""


class Books:
    """Keeps file and ledger of each series. For one thread."""

    def __init__(self, watch: Watch, report: Report, late_s: float) -> None:
        """`late_s`: a bar that was late is asked for again after so long."""
        self._watch = watch
        self._report = report
        self._late_s = max(_LATE_S, int(late_s))
        self._doubted: dict[tuple[str, int], int] = {}
        """How often an answer with bars that cannot be has lacked the same."""
        self._put_off: dict[str, dict[int, int]] = {}
        """Absence → first bar that nothing was written of → how often it was put off, in a row."""
        self._revised: dict[str, frozenset[Bar]] = {}
        """Absence → bars of others, as told, that are revised alone: not all of the series."""

    @property
    def _ledger(self) -> Ledger:
        return self._watch.ledger

    def take(
        self,
        watched: Watched,
        request: BarsRequest,
        answer: Answer,
        asked_at: int,
        *,
        is_sure: bool = True,
    ) -> Taken:
        """Write the finished bars of an answer, and remember what it says IB has not.

        Neither where all is told, or may be, in another unit or of another contract. Unless it
        `is_sure` what time it is, nothing of what it lacks is believed nor counted.
        FileNotFoundError: the file is gone. StoreUnwritable, MalformedFile: nothing was written.
        """
        series, span = watched.series, (request.start, request.end)
        if self._watch.known_schedule(watched.instrument) is None:
            raise RequestFailed(f"{series}: its sessions are unknown, so its bars cannot be judged")
        self.notice_others(watched, asked_at)
        sifted = self._sift(watched, request, answer, asked_at, is_sure=is_sure)
        answer, schedule = sifted.answer, self._watch.known_schedule(watched.instrument)
        assert schedule is not None
        if sifted.is_moved:
            self._ledger.refused(series, *span, asked_at, "other_grid", None)
            return Taken(0, is_moved=True)
        since = self._watch.fill_from(watched, asked_at)
        expected = self._watch.expected(watched, schedule, since, asked_at, asked_at)
        asked = (expected.starts >= span[0]) & (expected.starts < span[1])
        due = Expected(expected.starts[asked], expected.days[asked])
        # Of an answer on another grid nothing is compared: its bars are not those of these names.
        drift = self._compare(watched, answer, span) if sifted.again_s is None else None
        if drift is not None and _wants_more(watched, drift):
            self._ledger.answered(series, *span, asked_at, sifted.told)
            return Taken(0, drift=drift, is_withheld=True)
        self._put_off.pop(watched.absence, None)
        there = among(expected.starts, watched.store.look(series, since).starts)
        done = finished(answer.bars, due.starts, series.timeframe, asked_at)
        added = watched.store.add(series, done)
        if added:
            self._watch.note_written(watched)
        if sifted.again_s is None:
            self._ledger.answered(series, *span, asked_at, sifted.told)
        else:
            self._ledger.refused(series, *span, asked_at, "other_grid", None)
        if sifted.is_damaged:
            self._doubt_all(watched, answer, due, asked_at, sifted.again_s)
            return Taken(added, drift=drift)
        if not is_sure:
            late = runs(due.starts, _lacking(due, answer), Reason.LATE)
            self._ledger.record_late(watched.absence, late, asked_at, asked_at + self._late_s)
            return Taken(added, drift=drift)
        new = among(expected.starts, np.array([bar.start for bar in done], np.int64)) & ~there
        asked &= ~self._ask_for_outside(watched, expected, sifted.outside, asked_at)
        soon = asked_at + self._late_for(watched, answer, due, schedule, asked_at)
        unproven = self._weigh(watched, schedule, expected, asked, answer, new, asked_at, soon)
        return Taken(added, unproven, drift)

    def _sift(
        self,
        watched: Watched,
        request: BarsRequest,
        answer: Answer,
        asked_at: int,
        *,
        is_sure: bool,
    ) -> _Sifted:
        """What of an answer may be written; the rest is named, and remembered.

        Sessions and minutes that bars have shown are learnt.
        """
        schedule, timeframe = self._watch.known_schedule(watched.instrument), request.timeframe
        assert schedule is not None
        answer, outside = _without_closed(answer, schedule, timeframe)
        gridded = self._by_grid(watched, schedule, answer, asked_at, is_sure=is_sure)
        answer, told = gridded.answer, len(gridded.answer.bars) + len(outside)
        if gridded.is_moved:
            return _Sifted(answer, told, is_moved=True)
        is_damaged = bool(answer.unsound) or gridded.is_doubtful
        outside += gridded.odd
        if outside:
            believed, outside, is_moved = self._sight(
                watched, request, answer, outside, asked_at, is_sure=is_sure
            )
            is_damaged |= is_moved
            answer = answer._replace(bars=sorted([*answer.bars, *believed]))
            schedule = self._watch.known_schedule(watched.instrument) or schedule
        self._report_unsound(
            watched,
            request,
            answer.unsound,
            [bar.start for bar in outside if bar not in gridded.odd],
            [bar.start for bar in outside if bar in gridded.odd],
        )
        if timeframe is Timeframe.H4:
            seen = learnt_alignment(schedule, [bar.start for bar in answer.bars])
            self._watch.learn_alignment(watched.instrument, seen)
        return _Sifted(answer, told, tuple(outside), is_damaged, gridded.again_s)

    def _ask_for_outside(
        self, watched: Watched, expected: Expected, outside: Sequence[Bar], asked_at: int
    ) -> BoolArray:
        """Which of the expected bars were told and are not believed; they are asked for again."""
        sighted = among(expected.starts, np.array([bar.start for bar in outside], np.int64))
        self._ask_later(watched, runs(expected.starts, sighted, Reason.LATE), asked_at)
        return sighted

    def _by_grid(
        self,
        watched: Watched,
        schedule: Schedule,
        answer: Answer,
        asked_at: int,
        *,
        is_sure: bool,
    ) -> _Gridded:
        """The answer by the grid on which bars are expected, which it may show to be another."""
        if not has_grid(watched.series.timeframe):
            return _Gridded(answer)
        told = np.array(sorted(bar.start for bar in (*answer.bars, *answer.beside)), np.int64)
        before = self._watch.grid(watched)
        looked = look(told, schedule, watched.series.timeframe, before.alignment)
        if is_sure and self._heed_grid(watched, schedule, before, looked, asked_at):
            return _Gridded(answer, is_doubtful=True, is_moved=True)
        return self._without_odd(watched, schedule, answer, told)

    def comparable(self, watched: Watched, answer: Answer) -> list[Bar]:
        """The bars of an answer that are what they are called, by where the series' bars begin."""
        schedule = self._watch.known_schedule(watched.instrument)
        told = sorted((*answer.bars, *answer.beside))
        if schedule is None or not told:
            return told
        starts = np.array([bar.start for bar in told], np.int64)
        kept = self._without_odd(watched, schedule, answer, starts).answer
        return sorted((*kept.bars, *kept.beside))

    def _without_odd(
        self, watched: Watched, schedule: Schedule, answer: Answer, told: Int64Array
    ) -> _Gridded:
        """The answer without what begins off the grid that is believed; `told`: all its starts."""
        grid = self._watch.grid(watched)
        looked = look(told, schedule, watched.series.timeframe, grid.alignment)
        if looked.minute is not None:
            nothing = answer._replace(bars=[], beside=())
            return _Gridded(nothing, is_doubtful=True, again_s=grid.again_s)
        if not looked.odd.any():
            return _Gridded(answer)
        there = watched.store.rows(watched.series, int(told[0]), int(told[-1]) + 1).starts
        unlikely = set(told[looked.unlikely(there)].tolist())
        odd = unlikely & set(told[looked.odd].tolist())
        kept = [bar for bar in answer.bars if bar.start not in unlikely]
        beside = tuple(bar for bar in answer.beside if bar.start not in unlikely)
        return _Gridded(
            answer._replace(bars=kept, beside=beside),
            tuple(bar for bar in answer.bars if bar.start in odd),
            is_doubtful=bool(unlikely),
        )

    def _heed_grid(
        self, watched: Watched, schedule: Schedule, before: Grid, looked: Looked, asked_at: int
    ) -> bool:
        """Remember what one more answer says of where bars begin.

        True: it is believed from now on, against bars that are stored.
        """
        grid, is_against = after(before, looked, asked_at), False
        if looked.minute is not None:
            grid, is_against = self._weigh_grid(watched, schedule, grid)
        elif grid != before:  # what it had in the place of others is denied
            self._ledger.forget_late(watched.absence)
        self._watch.keep_grid(watched, grid)
        return is_against and grid.minute != before.minute

    def _weigh_grid(self, watched: Watched, schedule: Schedule, grid: Grid) -> tuple[Grid, bool]:
        """The grid that is believed after another one was told, and told of as a finding.

        And whether bars are stored that the other one is not the grid of.
        """
        assert grid.seen is not None
        series, other = watched.series, Grid(grid.seen)
        rows = watched.store.look(series, min(watched.first or 0, 0)).starts
        is_against = bool(look(rows, schedule, series.timeframe, other.alignment).odd.any())
        is_mendable = watched.is_ours or not is_against
        is_learnt = is_mendable and is_believed(grid, is_against=is_against)
        expected, seen = (shown(schedule, series.timeframe, one.alignment) for one in (grid, other))
        found = f"IB's bars begin at other minutes than expected ({seen}, expected {expected})"
        hint = ""
        if is_learnt:
            self._ledger.forget_lacking(watched.absence)
        if not is_mendable:
            hint = f"to have them, move {series.file_name} away and create it with its header line"
        what = _OTHER_GRID[is_learnt, is_against, is_mendable]
        self._report(str(series), RequestFailed(f"{found}: {what}", hint=hint))
        return other if is_learnt else grid, is_against

    def _sight(
        self,
        watched: Watched,
        request: BarsRequest,
        answer: Answer,
        outside: Sequence[Bar],
        asked_at: int,
        *,
        is_sure: bool,
    ) -> tuple[list[Bar], list[Bar], bool]:
        """Those of the bars at times or minutes of none that are believed, and those not yet.

        And whether these may be expected ones that were moved.
        """
        schedule = self._watch.known_schedule(watched.instrument)
        assert schedule is not None
        known = self._watch.unscheduled(watched)
        told = {bar.start for bar in outside}
        due = self._watch.expected(watched, schedule, request.start, request.end, asked_at).starts
        there = [*(bar.start for bar in answer.bars), *told, *known]
        absent = self._ledger.absent(watched.absence, due, asked_at)
        lacking = np.setdiff1d(np.setdiff1d(due, absent), np.array(there, np.int64))
        sighted = sight(known, outside, asked_at, len(lacking), is_sure=is_sure)
        others = {start: one for start, one in known.items() if start not in told}
        self._watch.keep_unscheduled(watched, others | sighted.doubted)
        timeframe = watched.series.timeframe
        starts = np.array([bar.start for bar in sighted.believed], np.int64)
        starts = starts[closed(starts, schedule, timeframe)]
        sessions = sessions_of(starts.tolist(), schedule, timeframe)
        if sessions:
            self._watch.add_sessions(watched.instrument, sessions)
            log.info("%s: traded in %d sessions that SCHEDULE lacks", watched.series, len(sessions))
        if closed(np.array([*sighted.doubted], np.int64), schedule, timeframe).any():
            self._watch.doubt_sessions(watched.instrument, asked_at)
        is_moved = bool(sighted.doubted) and are_moved(len(outside), len(lacking))
        return sighted.believed, [one.bar for one in sighted.doubted.values()], is_moved

    def notice_others(self, watched: Watched, now: int) -> None:
        """Look at a file that somebody has changed since it was looked at: it is ours no more."""
        if watched.store.key(watched.series) != watched.key:
            self._watch.look_at(watched, now)

    def believe_absent(self, watched: Watched, gaps: tuple[Gap, ...], asked_at: int) -> None:
        """IB has answered for what it has, so that what it lacks is absent."""
        self._ledger.record_absent(watched.absence, gaps, asked_at)

    def nearest_known(self, watched: Watched, gap: Gap, asked_at: int) -> int | None:
        """The stored bar nearest to a gap that IB should have too; None: there is none near.

        Rows of others may be of times at which IB has no bars of this contract.
        """
        schedule = self._watch.known_schedule(watched.instrument)
        if schedule is None:
            return None
        for reach_s in (_NEAR_S, _FAR_S):
            around = (gap.first - reach_s, gap.last + reach_s)
            expected = self._watch.expected(watched, schedule, *around, asked_at).starts
            near = np.intersect1d(watched.store.rows(watched.series, *around).starts, expected)
            if len(near):
                return int(near[np.argmin(np.minimum(abs(near - gap.first), abs(near - gap.last)))])
        return None

    def correct(self, watched: Watched, drift: Drift) -> None:
        """Write bars of ours as they are told now."""
        watched.store.add(watched.series, drift.changed, correct=True)
        self._watch.note_written(watched)
        log.info("%s: %s; corrected", watched.series, drift.words)

    def _compare(self, watched: Watched, answer: Answer, asked: tuple[int, int]) -> Drift | None:
        """How what is stored differs from what was told of the same bars."""
        told = {bar.start: bar for bar in (*answer.bars, *answer.beside)}
        if not told or watched.first is None:
            return None
        drift = compare(stored(watched, told), told, asked)
        known = self._revised.get(watched.absence, frozenset())
        if drift is not None and known.issuperset(drift.changed):
            return replace(drift, doubted_at=None)
        return drift

    def note_revised(self, watched: Watched, drift: Drift) -> None:
        """These bars of others are told otherwise, and no more than these: it is known by now."""
        self._revised[watched.absence] = frozenset(drift.changed)

    def put_off(self, watched: Watched, gaps: Sequence[Gap], now: int) -> bool:
        """Ask for what nothing was written of: at once, and later after a second time in a row.

        Each time after twice as long. True: later. Not recorded while the series is pulled again,
        which would seem whole without it.
        """
        name, first = watched.absence, gaps[0].first if gaps else 0
        counts = self._put_off.setdefault(name, {})
        times = counts[first] = counts.get(first, 0) + 1
        if times > 1 and watched.renews_from is None:
            later_s = self._late_s * 2 ** min(times - 2, _DOUBLINGS_MAX)
            self._ledger.record_late(name, gaps, now, now + min(later_s, _WITHHELD_MAX_S))
        return times > 1

    def _report_unsound(
        self,
        watched: Watched,
        request: BarsRequest,
        unsound: Sequence[int],
        outside: Sequence[int],
        odd: Sequence[int],
    ) -> None:
        """Name what was not stored, and what was asked."""
        asked = f"asked for {iso(request.start)} to {iso(request.end)}, IB sent"
        for starts, why in (
            (unsound, "that cannot be"),
            (outside, "of times without trading"),
            (odd, "that begin at other minutes than its others"),
        ):
            if starts:
                first = f"{len(starts)} bars {why}, the first at {iso(min(starts))}"
                found = RequestFailed(f"{asked} {first}: left out, and asked for again later")
                self._report(str(watched.series), found)

    def _doubt_all(
        self,
        watched: Watched,
        answer: Answer,
        due: Expected,
        asked_at: int,
        again_s: int | None,
    ) -> None:
        """An answer with bars that cannot be proves nothing of those that it lacks."""
        lacking = runs(due.starts, _lacking(due, answer), Reason.LATE)
        if again_s is None:
            self._ask_later(watched, lacking, asked_at)
        else:
            self._ledger.record_late(watched.absence, lacking, asked_at, asked_at + again_s)

    def _ask_later(self, watched: Watched, gaps: list[Gap], asked_at: int) -> None:
        """Each time after twice as long."""
        name = watched.absence
        if not gaps:
            return
        times = self._doubted[name, gaps[0].first] = self._doubted.get((name, gaps[0].first), 0) + 1
        later = asked_at + min(_UNSOUND_S * 2 ** (times - 1), _UNSOUND_MAX_S)
        self._ledger.record_late(name, gaps, asked_at, later)

    def _weigh(
        self,
        watched: Watched,
        schedule: Schedule,
        expected: Expected,
        asked: BoolArray,
        answer: Answer,
        new: BoolArray,
        asked_at: int,
        soon: int,
    ) -> tuple[Gap, ...]:
        """Remember which of the expected bars an answer has not, and what of it is believed.

        `new`: those that it has brought. What it had not yet is asked for again at `soon`. Comes
        back: what is doubted for want of a control alone.
        """
        name, (starts, days) = watched.absence, expected
        if not asked.any():
            return ()
        present = among(starts, watched.store.look(watched.series, int(starts[0])).starts)
        verified = among(starts, self._ledger.absent(name, starts, asked_at))
        lacking = asked & ~present & ~verified
        _, after = _beyond(starts, answer)
        young = lacking & _is_young(starts, after, watched.series.timeframe, asked_at)
        again = lacking & ~young & among(starts, self._ledger.once_absent(name, starts))
        told = [bar.start for bar in (*answer.bars, *answer.beside)]
        hull = Gap(int(starts[asked][0]), int(starts[asked][-1]), 0)
        judgement = weigh(
            starts,
            days,
            ~present & ~verified & ~young & ~again,
            Answered(
                asked,
                (min(told), max(told)) if told else None,
                asked_at,
                bool(new.any()),
                self._ledger.last_bars_at(watched.series, hull, _NEAR_S),
            ),
            self._ledger.doubts(name, starts)[0],
            Density(int((present & ~asked).sum()), int((verified & ~asked).sum())),
            agreed=np.isin(days, schedule.denied) | self._told_once(watched, schedule, starts),
        )
        absent = judgement.absent | again
        settled = set(starts[absent | present].tolist())
        known = self._watch.unscheduled(watched).items()
        self._watch.keep_unscheduled(watched, {t: one for t, one in known if t not in settled})
        self._ledger.record_absent(name, runs(starts, absent, Reason.NO_TRADES), asked_at)
        self._ledger.record_late(name, runs(starts, young, Reason.LATE), asked_at, soon)
        _, before = self._ledger.doubts(name, starts)
        is_flanked = flanked_now(~present & ~verified & ~absent, asked, new)
        before = np.where(is_flanked, np.minimum(before, asked_at), before)
        again_at = np.where(judgement.doubted, judgement.again_at, before)
        self._ledger.keep_doubts(name, starts, judgement.doubts, again_at)
        return tuple(runs(starts, judgement.wants_control, Reason.UNPROVEN))

    def _told_once(self, watched: Watched, schedule: Schedule, starts: Int64Array) -> BoolArray:
        """Bars at times or minutes of none that no more than one answer had."""
        known = self._watch.unscheduled(watched).items()
        once = np.array(sorted(start for start, one in known if one.times <= 1), np.int64)
        timeframe = watched.series.timeframe
        odd = look(once, schedule, timeframe, self._watch.alignment(watched)).odd
        return among(starts, once[odd | closed(once, schedule, timeframe)])

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
) -> tuple[Answer, list[Bar]]:
    """The answer less the bars at times without trading, and these."""
    wrong = closed(np.array([bar.start for bar in answer.bars], np.int64), schedule, timeframe)
    if not wrong.any():
        return answer, []
    kept = [bar for bar, is_wrong in zip(answer.bars, wrong.tolist(), strict=True) if not is_wrong]
    outside = [bar for bar, is_wrong in zip(answer.bars, wrong.tolist(), strict=True) if is_wrong]
    return answer._replace(bars=kept), outside


def _lacking(due: Expected, answer: Answer) -> BoolArray:
    """Which of the due bars an answer has not."""
    return ~np.isin(due.starts, np.array([bar.start for bar in answer.bars], dtype=np.int64))


def _wants_more(watched: Watched, drift: Drift) -> bool:
    """Nothing is to be written of an answer before more is known, or the whole series is new."""
    is_plain = drift.doubted_at is None
    return not is_plain or is_whole(watched, drift) or is_other(watched, drift)


def is_whole(watched: Watched, drift: Drift) -> bool:
    """All of a series is told otherwise, those bars too that were not compared.

    Rows of others need not be those of IB: by what they are adjusted, nobody knows.
    """
    return drift.is_whole(is_adjusted=watched.is_ours and not watched.instrument.can_be_paged)


def is_other(watched: Watched, drift: Drift) -> bool:
    """All bars that were compared are told at other prices, as those of another contract are.

    A few may be alike by chance. What is adjusted up to now moves by no common factor either.
    """
    if is_whole(watched, drift) or not watched.instrument.can_be_paged:
        return False
    told = {bar.start: bar for bar in drift.changed}
    are_all = len(told) >= _OTHER_LEAST and 10 * len(told) >= 9 * drift.compared
    return are_all and likeness(stored(watched, told), told) is Likeness.OTHER


def stored(watched: Watched, starts: Collection[int]) -> list[Bar]:
    """What a series has of the bars of these starts. MalformedFile names the line."""
    if not starts:
        return []
    try:
        return watched.store.rows(watched.series, min(starts), max(starts) + 1).bars(starts)
    except MalformedFile:
        watched.store.verify(watched.series)  # names the line, which a part of a file does not know
        raise


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
