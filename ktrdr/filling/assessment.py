"""What is known of each series: file, sessions and ledger, judged together. Asks nobody."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from weakref import WeakValueDictionary

import numpy as np

from ktrdr.errors import (
    MalformedFile,
    OtherUnit,
    StoreUnwritable,
)
from ktrdr.filling.coverage import Coverage, judge
from ktrdr.filling.evidence import settle
from ktrdr.filling.gap_counts import counted
from ktrdr.filling.gaps import Reason
from ktrdr.filling.grids import Grid
from ktrdr.filling.identity import Identity, Known, settled
from ktrdr.filling.ledger import Ledger, leave_damaged
from ktrdr.filling.lifetime import Life
from ktrdr.filling.series_state import Basis, Watched
from ktrdr.filling.unscheduled import Unscheduled, with_sessions
from ktrdr.market.instruments import Instrument, Series, contract_name
from ktrdr.market.sessions import (
    DAILY_SETTLE_S,
    SETTLE_S,
    Expected,
    Schedule,
    Session,
    due_at,
    expected,
    utc_midnight,
)
from ktrdr.market.timeframes import DAY_S, MINUTE_S, Timeframe
from ktrdr.market.usual_sessions import usual_week
from ktrdr.store.interface import BarStore, Seen
from ktrdr.store.source import OURS

_SCHEDULE_FRESH_S = DAY_S
_SCHEDULE_AGAIN_S = 40 * DAY_S
"""Of older days sessions are not asked for again."""
_DOUBTED_SCHEDULE_S = {1: 300, 2: 1800, 3: 7200}
"""When sessions are asked for again that were lacking so often, and should not be."""
_SIGHTED_S = 300
"""When sessions are asked for again after bars were told at times without trading."""
_QUARTER_S = 900


class Watch:
    """Judges series of one store. For one thread."""

    def __init__(self, store: BarStore, max_age_days: int) -> None:
        self._store = store
        self._max_age_days = max_age_days
        self._ledger_path = store.folder / OURS / "ledger.sqlite"
        self._ledger: Ledger | None = None
        self._schedules: dict[str, tuple[Schedule, float]] = {}
        self._alike: WeakValueDictionary[int, Schedule] = WeakValueDictionary()
        self.detected = self.filled = 0
        """Gaps that were found and closed since the start, as `gap_counts` counts them."""
        self._lives: dict[str, Life] = {}
        self._alignments: dict[str, frozenset[int]] = {}
        self._grids: dict[tuple[str, Timeframe], Grid] = {}
        self._unscheduled: dict[str, dict[int, Unscheduled]] = {}

    @property
    def ledger(self) -> Ledger:
        """The store's ledger, made when it is first needed: a store that is not ours has none."""
        if self._ledger is None:
            self._ledger = Ledger(self._ledger_path)
        return self._ledger

    @property
    def has_ledger(self) -> bool:
        """There is one, so that looking into it makes none."""
        return self._ledger is not None or self._ledger_path.exists()

    @property
    def is_there(self) -> bool:
        """The store's folder is; a disk may have been unmounted."""
        return self._store.folder.is_dir()

    @property
    def main_store(self) -> BarStore:
        """The store itself."""
        return self._store

    def close(self) -> None:
        """Close the ledger; it is opened again when it is needed."""
        if self._ledger is not None:
            self._ledger.close()
            self._ledger = None

    def notice_deletion(self) -> None:
        """Somebody may delete the ledger at any time: then begin a new one."""
        if self._ledger is not None and not self._ledger.is_in_place:
            self.close()
            self._forget_all()
            self._remove_remains()

    def leave_damaged_ledger(self, why: sqlite3.Error) -> None:
        """What stands in it cannot be read: begin a new one. sqlite3.Error, OSError: as to open."""
        self.close()
        self._forget_all()
        leave_damaged(self._ledger_path, why)

    def _remove_remains(self) -> None:
        """SQLite would take the log of a deleted ledger for that of a new one."""
        if not self._ledger_path.exists():
            for companion in ("-wal", "-shm"):
                path = self._ledger_path.with_name(self._ledger_path.name + companion)
                path.unlink(missing_ok=True)

    def forget_after(self, moment: int) -> int:
        """Forget what was found out later than that, by a clock that was ahead; how much."""
        forgotten = self.ledger.forget_after(moment) if self.has_ledger else 0
        if forgotten:
            self._forget_all()
        return forgotten

    def put_off(self, by_s: int, now: int) -> None:
        """No time has passed while a clock was set ahead by so much."""
        if self.has_ledger:
            self.ledger.put_off(by_s, now)
            self._forget_all()

    def _forget_all(self) -> None:
        """What was read of the ledger."""
        self._schedules.clear()
        self._lives.clear()
        self._alignments.clear()
        self._grids.clear()
        self._unscheduled.clear()

    def look_at(self, watched: Watched, now: int, *, only_if_changed: bool = False) -> None:
        """Judge a series anew. MalformedFile or FileNotFoundError: its file cannot be read.

        `only_if_changed`: not while its file is the same and no bar has become due since. What was
        broken is read as a whole, so that nothing is written before all of it is mended.
        """
        if watched.barred is not None:
            return
        key = watched.store.key(watched.series)
        was_broken = isinstance(watched.error, MalformedFile)
        if only_if_changed and key == watched.key and was_broken:
            return
        if only_if_changed and key == watched.key and self._is_judged(watched, now):
            assert watched.coverage is not None
            watched.coverage = replace(watched.coverage, until=now)
            return
        since = self.fill_from(watched, now)
        with self._blocking(watched):
            seen = (
                watched.store.verify(watched.series)
                if was_broken
                else watched.store.look(watched.series, since)
            )
        self._judge(watched, seen, since, now)

    def look_back(self, watched: Watched, now: int) -> bool:
        """Look at every row of a file that was changed, and judge what is before the days kept.

        False: that is done. Errors as `look_at`.
        """
        if watched.barred is not None:
            return False
        since = self.fill_from(watched, now)
        basis = self._past_basis(watched, since)
        if watched.is_verified and watched.past_basis == basis:
            return False
        watched.past_basis = None
        with self._blocking(watched):
            if not watched.is_verified:
                self._judge(watched, watched.store.verify(watched.series), since, now)
            seen = watched.store.look(watched.series, min(watched.first or 0, 0))
        schedule = self.known_schedule(watched.instrument)
        watched.past, watched.basis = None, self._basis(watched)
        if schedule is not None and seen.first is not None and seen.first < since:
            wanted = self.expected(watched, schedule, seen.first, since, now)
            first = max(seen.first, schedule.start)
            watched.past = self._coverage(watched, wanted, seen, since, (first, now))
        watched.past_basis = basis
        return True

    @contextlib.contextmanager
    def _blocking(self, watched: Watched) -> Iterator[None]:
        """A file that cannot be read is left alone until it changes."""
        key = watched.store.key(watched.series)
        try:
            yield
        except MalformedFile as error:
            watched.coverage, watched.error, watched.key = None, error, key
            raise

    def _judge(self, watched: Watched, seen: Seen, since: int, now: int) -> None:
        is_another = seen.key != watched.key
        if isinstance(watched.error, MalformedFile | StoreUnwritable) or (
            isinstance(watched.error, OtherUnit) and is_another  # somebody has seen to it
        ):
            watched.succeeded()
        self._note_file(watched, seen)
        watched.is_verified = seen.is_verified
        watched.first, watched.last = seen.first, seen.last
        before, after = watched.coverage, self._judged(watched, seen, since, now)
        watched.coverage = after
        watched.basis, watched.key = self._basis(watched), seen.key
        if after is not None:
            found, filled = counted(before.gaps if before else None, after.gaps, after.since)
            self.detected, self.filled = self.detected + found, self.filled + filled
        watched.due_at = self._oldest_due(watched, after)

    def _oldest_due(self, watched: Watched, coverage: Coverage | None) -> int | None:
        """When the first bar was due that is missing, and is neither proven absent nor too old."""
        schedule = self.known_schedule(watched.instrument)
        first = coverage.first_wanted if coverage else None
        if schedule is None or first is None:
            return None
        return due_at(schedule, watched.series.timeframe, first, self.alignment(watched))

    def _judged(self, watched: Watched, seen: Seen, since: int, now: int) -> Coverage | None:
        """None: the sessions of the days asked for are not known."""
        schedule = self.schedule(watched.instrument, since, now)
        if schedule is None:
            return None
        wanted = self.expected(watched, schedule, since, now, now)
        coverage = self._coverage(watched, wanted, seen, since, (since, now))
        given_up = watched.retry_at > now
        return coverage.refused(watched.reason) if given_up else coverage

    def _coverage(
        self, watched: Watched, wanted: Expected, seen: Seen, since: int, span: tuple[int, int]
    ) -> Coverage:
        _, now = span
        _, again_at = self.ledger.doubts(watched.absence, wanted.starts)
        return judge(
            wanted,
            seen.starts,
            self.ledger.absent(watched.absence, wanted.starts, now),
            self.ledger.late(watched.absence, wanted.starts, now),
            since,
            span,
            wanted.starts[again_at > now],
        )

    def _is_judged(self, watched: Watched, now: int) -> bool:
        """Nothing can have become due since it was looked at, or may be asked for once more.

        Bars end where sessions do, or at whole quarters and multiples of their length, or so many
        minutes past them.
        """
        coverage, since = watched.coverage, self.fill_from(watched, now)
        schedule = self.schedule(watched.instrument, since, now)
        if coverage is None or coverage.since != since or schedule is None:
            return False
        if watched.error is not None or coverage.holes.keys() & {Reason.LATE, Reason.UNPROVEN}:
            return False
        settle_s = DAILY_SETTLE_S if watched.series.timeframe.is_daily else SETTLE_S
        before, after = coverage.until - settle_s, now - settle_s
        step_s = min(watched.series.timeframe.length_s, _QUARTER_S)
        past_s = MINUTE_S * self.grid(watched).minute
        _, closes, *_ = schedule.columns
        closed_before, closed_after = np.searchsorted(closes, [before, after], side="right")
        is_same_step = (before - past_s) // step_s == (after - past_s) // step_s
        return is_same_step and bool(closed_before == closed_after)

    def _past_basis(self, watched: Watched, since: int) -> tuple[int, object, Life, frozenset[int]]:
        """What the judgement of the past depends on, beside the rows that are there."""
        schedule = self.known_schedule(watched.instrument)
        known = None if schedule is None else (schedule.start, schedule.source)
        return since, known, self.life(watched.instrument), self.alignment(watched)

    def _note_file(self, watched: Watched, seen: Seen) -> None:
        """Whether all rows are ours: the file was empty, and nobody but us has changed it since."""
        if watched.renews_from is not None:
            watched.is_ours = True
            return
        known = self.ledger.file(watched.series) if self.has_ledger else None
        if known is not None and known[0] == seen.key:
            watched.is_ours = known[1]
            return
        watched.is_ours = seen.first is None
        if self.has_ledger:
            self.ledger.keep_file(watched.series, seen.key, is_ours=watched.is_ours)
        if watched.is_ours and self.has_ledger and self.grid(watched).seen is not None:
            self.ledger.forget_late(watched.absence)  # it begins anew: no bar speaks against that

    def note_written(self, watched: Watched) -> None:
        """The file has just been changed by us, and by nobody else since it was looked at."""
        key = watched.store.key(watched.series)
        if watched.renews_from is None and key is not None:
            self.ledger.keep_file(watched.series, key, is_ours=watched.is_ours)

    def note_swapped(self, series: Series) -> None:
        """The file was replaced by one that is ours as a whole."""
        key = self._store.key(series)
        if key is not None:
            self.ledger.keep_file(series, key, is_ours=True)

    def _basis(self, watched: Watched, schedule: Schedule | None = None) -> Basis:
        """What is known now; with other sessions, where they are given."""
        return Basis(
            self.known_schedule(watched.instrument) if schedule is None else schedule,
            self.life(watched.instrument),
            self.alignment(watched),
            tuple(self.unscheduled(watched)),
        )

    def expected(
        self, watched: Watched, schedule: Schedule, start: int, end: int, now: int
    ) -> Expected:
        """Bars that start in `[start, end)` and are due, by these sessions; as `Basis` has it."""
        basis = self._basis(watched, schedule)
        stored = (watched.first, watched.last)
        return basis.expected(watched.series.timeframe, stored, (start, end), now)

    def fill_from(self, watched: Watched, now: int) -> int:
        """From when on the series is kept complete (UTC seconds, midnight)."""
        if watched.renews_from is not None:
            return watched.renews_from
        oldest = now - self._max_age_days * DAY_S
        since = watched.instrument.since_for(watched.series.timeframe)
        asked = self.ledger.wanted(watched.series)
        return min(
            oldest - oldest % DAY_S,
            utc_midnight(since) if since else oldest,
            asked if asked is not None else oldest,
        )

    def look_from(self, watched: Watched, now: int) -> int:
        """From when on sessions are wanted: older holes are shown, though not filled."""
        fill_from = self.fill_from(watched, now)
        return fill_from if watched.first is None else min(watched.first, fill_from)

    def life(self, instrument: Instrument) -> Life:
        """When the contract can have bars, as far as anybody knows."""
        name = contract_name(instrument)
        if name not in self._lives:
            self._lives[name] = self.ledger.life(name)
        return self._lives[name]

    def keep_life(self, instrument: Instrument, life: Life) -> None:
        """Remember it, also for the next start."""
        name = contract_name(instrument)
        if life != self._lives.get(name):
            self._lives[name] = life
            self.ledger.keep_life(name, life)

    def alignment(self, watched: Watched) -> frozenset[int]:
        """Where the bars of a series begin, as far as that was learnt, as `expected` wants it."""
        if watched.series.timeframe is Timeframe.H4:
            return self._four_hours(watched.instrument)
        return self.grid(watched).alignment

    def _four_hours(self, instrument: Instrument) -> frozenset[int]:
        name = contract_name(instrument)
        if name not in self._alignments:
            self._alignments[name] = self.ledger.alignment(name)
        return self._alignments[name]

    def learn_alignment(self, instrument: Instrument, minutes: frozenset[int]) -> None:
        """Remember more of where four-hour bars of a contract begin."""
        if not minutes <= self._four_hours(instrument):
            name = contract_name(instrument)
            self.ledger.learn_alignment(name, minutes)
            self._alignments[name] |= minutes

    def grid(self, watched: Watched) -> Grid:
        """Where the bars of a series begin that are not of four hours, and what is in doubt."""
        place = (contract_name(watched.instrument), watched.series.timeframe)
        if place not in self._grids:
            self._grids[place] = self.ledger.grid(*place)
        return self._grids[place]

    def keep_grid(self, watched: Watched, grid: Grid) -> None:
        """Remember it, also for the next start."""
        if grid != self.grid(watched):
            place = (contract_name(watched.instrument), watched.series.timeframe)
            self.ledger.keep_grid(*place, grid)
            self._grids[place] = grid

    def schedule(self, instrument: Instrument, start: int, now: int) -> Schedule | None:
        """A contract's sessions as far as they are known; None when that is not far enough."""
        schedule = self.known_schedule(instrument)
        return schedule if schedule is not None and schedule.covers(start, now) else None

    def known_schedule(self, instrument: Instrument) -> Schedule | None:
        """All that is known of a contract's sessions."""
        name = contract_name(instrument)
        if name not in self._schedules:
            kept = self.ledger.schedule(name)
            if kept is None:
                return None
            self._schedules[name] = (self._shared(kept[0]), kept[1])
        return self._schedules[name][0]

    def take_identity(self, watched: Watched, told: Identity) -> None:
        """Remember what IB says that the symbol is; another one than before is a question.

        A continuous future is another contract after each roll, and tells its old bars anew.
        """
        if watched.renews_from is not None:
            return  # the series that it stands for is asked about
        known = self.ledger.identity(watched.absence)
        is_rolled = watched.instrument.sec_type == "CONTFUT"
        now_known = settled(known, told, has_bars=watched.first is not None and not is_rolled)
        if now_known != known:
            self.ledger.keep_identity(watched.absence, now_known)

    def question_of(self, watched: Watched) -> Known | None:
        """What the symbol was and what it is by now, where it is to be found out if that is one."""
        known = self.ledger.identity(watched.absence) if self.has_ledger else None
        return known if known is not None and known.told is not None else None

    def settle_question(self, watched: Watched) -> None:
        """It is: the bars that are stored are those of the contract that IB tells of now."""
        known = self.question_of(watched)
        if known is not None and known.told is not None:
            self.ledger.keep_identity(watched.absence, Known(known.told))

    def latest(
        self, watched: Watched, bars: int, until: int | None = None
    ) -> tuple[int, int] | None:
        """The span of so many stored bars, up to that of `until`, or the newest; None: no bars."""
        if watched.last is None or watched.first is None:
            return None
        length_s = watched.series.timeframe.length_s
        last = watched.last if until is None else min(until, watched.last)
        reach_s = bars * length_s
        while True:
            starts = watched.store.look(watched.series, last - reach_s).starts
            starts = starts[starts <= last]
            if len(starts) >= bars or last - reach_s <= watched.first:
                break
            reach_s *= 4
        return (int(starts[-bars:][0]) if len(starts) else last), last + length_s

    def has_doubted_sessions(self, instrument: Instrument) -> bool:
        """SCHEDULE has lacked days of the contract that it should have."""
        return bool(self.ledger.lacked(contract_name(instrument)))

    def take_schedule(
        self,
        series: Sequence[Watched],
        told: Schedule,
        now: int,
        closed: Collection[int] | None = None,
    ) -> None:
        """Remember what IB says of the sessions of a contract, as far as it is believed.

        `series`: those of that contract. `closed`: days without trading that others know of, as
        UTC midnights; None: they were not asked, which is made up for soon where days are lacking.
        """
        instrument, name = series[0].instrument, contract_name(series[0].instrument)
        known = self.known_schedule(instrument)
        if known is not None and (known.start > told.end or told.start > known.end):
            known = None
        believed = settle(
            known,
            told,
            usual_week(known, told, instrument.sec_type, now),
            self.ledger.lacked(name),
            lambda session: any(_has_bars(watched, session) for watched in series),
            now,
            closed or (),
        )
        most = max((one.times for one in believed.lacked.values()), default=0)
        again_s = _DOUBTED_SCHEDULE_S.get(most, _SCHEDULE_FRESH_S // 2)
        is_open = believed.is_in_doubt or (closed is None and bool(believed.lacked))
        asked_at = now - _SCHEDULE_FRESH_S + again_s if is_open else now
        self._schedules[name] = (self._shared(believed.schedule), asked_at)
        self.ledger.keep_schedule(name, believed.schedule, asked_at)
        self.ledger.keep_lacked(name, believed.lacked)

    def unscheduled(self, watched: Watched) -> Mapping[int, Unscheduled]:
        """Start → bar that was told at a time without trading, and is not believed yet."""
        name = watched.absence
        if name not in self._unscheduled:
            self._unscheduled[name] = self.ledger.unscheduled(name) if self.has_ledger else {}
        return self._unscheduled[name]

    def keep_unscheduled(self, watched: Watched, bars: Mapping[int, Unscheduled]) -> None:
        """Remember them, in the place of what was known of the series."""
        if bars != self.unscheduled(watched):
            self.ledger.keep_unscheduled(watched.absence, bars)
            self._unscheduled[watched.absence] = dict(bars)

    def doubt_sessions(self, instrument: Instrument, now: int) -> None:
        """Bars were told that SCHEDULE speaks against: ask for it again soon."""
        known, name = self.known_schedule(instrument), contract_name(instrument)
        if known is not None:
            asked_at = min(self._schedules[name][1], now - _SCHEDULE_FRESH_S + _SIGHTED_S)
            self._schedules[name] = (known, asked_at)

    def add_sessions(self, instrument: Instrument, sessions: Iterable[Session]) -> None:
        """Bars have shown that there was trading then; SCHEDULE may say so too by now."""
        known, name = self.known_schedule(instrument), contract_name(instrument)
        if known is None:
            return
        schedule = with_sessions(known, sessions)
        self._schedules[name] = (self._shared(schedule), self._schedules[name][1])
        self.ledger.keep_schedule(name, schedule, int(self._schedules[name][1]))

    def head_is_borne_out(self, watched: Watched, head: int, now: int) -> bool:
        """The first bar that there is, is of the day on which IB says that its bars begin."""
        schedule = self.known_schedule(watched.instrument)
        if schedule is None or watched.first is None:
            return False
        begin = head - head % DAY_S if watched.series.timeframe.is_daily else head
        alignment = self.alignment(watched)
        between = expected(
            schedule, watched.series.timeframe, begin, watched.first + 1, now, alignment=alignment
        )
        return watched.first >= begin and len(np.unique(between.days)) <= 1

    def _shared(self, schedule: Schedule) -> Schedule:
        """The one that is there already, if it is the same: an exchange's contracts are many."""
        kept = self._alike.setdefault(hash(schedule), schedule)
        return kept if kept == schedule else schedule

    def schedule_from(self, series: Sequence[Watched], now: int) -> int:
        """From when on sessions are to be asked for: what is old and known does not change."""
        start = min(self.look_from(watched, now) for watched in series)
        known = self.known_schedule(series[0].instrument)
        if known is None or known.start > start or known.source != "ib":
            return start
        return max(start, min(known.end, now) - _SCHEDULE_AGAIN_S)

    def wants_schedule(self, watched: Watched, now: int) -> bool:
        """The sessions are unknown, or of yesterday: holidays are added and hours change."""
        if self.schedule(watched.instrument, self.look_from(watched, now), now) is None:
            return True
        _, known_at = self._schedules[contract_name(watched.instrument)]
        return now - known_at >= _SCHEDULE_FRESH_S


def _has_bars(watched: Watched, session: Session) -> bool:
    """Whether a series has bars of a session."""
    span = (session.open, session.close)
    if watched.series.timeframe.is_daily:
        span = (session.day, session.day + 1)
    try:
        return len(watched.store.rows(watched.series, *span).starts) > 0
    except Exception:  # noqa: BLE001  its own trouble, which is reported where it is looked at
        return False
