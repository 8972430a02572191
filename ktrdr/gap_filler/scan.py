"""The scan of a store: lists its series, assesses changed ones. Requests nothing."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping

from ktrdr.assessment.assessment import Assessor
from ktrdr.assessment.error_state import ErrorState, State
from ktrdr.assessment.series_state import SeriesState
from ktrdr.completeness.clocks import APART_S
from ktrdr.errors import InvalidRequest, KtrdrError, MalformedFile, Misconfigured, StoreUnwritable
from ktrdr.filling.scheduler import Scheduler
from ktrdr.gap_filler.due_times import DueTimes
from ktrdr.gap_filler.other_files import OtherFiles
from ktrdr.gap_filler.queue import SHOWN, queue_of, turn_of
from ktrdr.ipc.messages import QueuedSeries
from ktrdr.market.instruments import Series, instrument_for, instrument_of_entry, parse_series
from ktrdr.sqlite_file import DatabaseError
from ktrdr.store.instruments_file import INSTRUMENTS, tables_of
from ktrdr.store.interface import BarStore
from ktrdr.times import iso

log = logging.getLogger("gap-filler")

_AHEAD_HINT = "set this machine's clock by NTP; where it is right, the file's times are wrong"
_HISTORIES_S = 0.1
"""For so long files are read for their past before answers are handled again."""


class _ChangedNames:
    """Names of files that may have changed since they were assessed. For any thread."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._lock = threading.Lock()

    def note(self, names: Iterable[str]) -> None:
        with self._lock:
            self._names.update(names)

    def discard(self, name: str) -> None:
        with self._lock:
            self._names.discard(name)

    def take(self) -> set[str]:
        """All of them; they are noted no more."""
        with self._lock:
            names, self._names = self._names, set()
        return names


class Scan:
    """The series of one store. For the stepping thread, except `note_changed`."""

    def __init__(
        self,
        assessor: Assessor,
        scheduler: Scheduler,
        due_times: DueTimes,
        clock: Callable[[], float],
        report: Callable[[str, KtrdrError], None],
        batch_symbols: int,
    ) -> None:
        self._due_times = due_times
        self._assessor = assessor
        self._batch_symbols = batch_symbols
        self._scheduler = scheduler
        self._clock = clock
        self._report = report
        self.series: dict[Series, SeriesState] = {}
        """In order of their names."""
        self.unwatched: frozenset[Series] = frozenset()
        """Those that are left alone, since instruments.toml says so."""
        self.other_files = OtherFiles(assessor.main_store.folder, report)
        """Files that are not read, as of the last listing."""
        self._checks_are_planned = False
        """The series to compare with IB were chosen since the last assessment."""
        self._behind: deque[SeriesState] = deque()
        """Series whose past is to be assessed while there is nothing else to do."""
        self._changed = _ChangedNames()

    @property
    def store(self) -> BarStore:
        """The store that they are in."""
        return self._assessor.main_store

    def leave_damaged_ledger(self, why: DatabaseError) -> None:
        """Begin a new ledger: this one is damaged. DatabaseError, OSError: as when opening."""
        self._assessor.ledger.file.leave_damaged(why)

    def close_ledger(self) -> None:
        """Close the ledger; it is opened again when it is needed."""
        self._assessor.ledger.close()

    # Files.

    def note_changed(self, names: Iterable[str]) -> None:
        """Note that these files were created, changed or removed. From any thread."""
        self._changed.note(names)

    def take_changed(self) -> set[str]:
        """The files noted since the last call."""
        return self._changed.take()

    def list_all(self) -> Mapping[Series, MalformedFile]:
        """List the series anew; returns those that have no file of their own, and why.

        Misconfigured: instruments.toml cannot be read.
        """
        listed = self.store.scan()
        found, blocked = listed.found, listed.blocked
        self._assessor.ledger.file.notice_deletion()
        ordered = sorted((*found, *blocked), key=_order)
        self.other_files.take(listed)
        entries = self._entries_of_now()
        self.unwatched = frozenset(s for s in ordered if not is_watched(s, entries.get(s.symbol)))
        watched = [series for series in ordered if series not in self.unwatched]
        self.series = {s: self._known(s, entries.get(s.symbol)) for s in watched}
        return {series: why for series, why in blocked.items() if series in self.series}

    def _entries_of_now(self) -> dict[str, object]:
        """The entries of instruments.toml; its changes until now need not be assessed any more."""
        self._changed.discard(INSTRUMENTS)
        try:
            return tables_of(self.store.folder)
        except Exception:
            self.note_changed({INSTRUMENTS})
            raise

    def assess_all(
        self,
        blocked: Mapping[Series, MalformedFile],
        is_stopping: Callable[[], bool],
        *,
        is_anew: bool,
    ) -> bool:
        """Assess each series. False: the program is stopping.

        `blocked`: as returned by `list_all`. `is_anew`: also the series that were given up.
        """
        for state in list(self.series.values()):
            if is_stopping():
                return False
            self._assess(state, blocked.get(state.series), is_anew=is_anew)
        self._behind = deque(self.series.values())
        self._checks_are_planned = False
        self._scheduler.resume_rebuilds(self.series)
        return True

    def assess_changed(self, names: Iterable[str]) -> None:
        """Assess only series whose files were changed, or that are newly wanted."""
        changed = {series for series in map(_series_of, names) if series is not None}
        changed = {series for series in changed if not self._is_as_known(series)}
        if not changed:
            return
        listed = self.store.scan()  # a file may have another name by now
        found, blocked = listed.found, listed.blocked
        self.other_files.take(listed)
        entries = tables_of(self.store.folder)
        without_file = [
            series for series, one in self.series.items() if one.error_state.state is State.NO_FILE
        ]
        left_alone = {s for s in changed if not is_watched(s, entries.get(s.symbol))}
        self.unwatched |= left_alone
        for series in sorted({*changed, *blocked, *without_file} - self.unwatched, key=_order):
            if series in found or series in blocked:
                self._assess_one(series, entries.get(series.symbol), blocked.get(series))
            elif (state := self.series.get(series)) is not None:
                self.forget(state)

    def assess_due(self) -> bool:
        """Assess some of the series of which a bar has become due. False: there are none."""
        due = self._due_times.take(self.series.values(), self._clock())
        for state in due:
            self._scheduler.assess(state, only_if_changed=True)
        return bool(due)

    def retry_unwritable(self) -> None:
        """The store can be written to again: so can the series that it refused."""
        for state in self.series.values():
            if isinstance(state.error, StoreUnwritable):
                state.succeeded()

    def _assess_one(self, series: Series, entry: object, why_not: MalformedFile | None) -> None:
        state = self.series.get(series)
        if state is None:
            state = self._known(series, entry)
            known = self.series | {series: state}
            self.series = {one: known[one] for one in sorted(known, key=_order)}
            log.info("%s: its file is new", series)
        self._assess(state, why_not, is_anew=False)
        self._behind.append(state)
        self._checks_are_planned = False

    def _is_as_known(self, series: Series) -> bool:
        """Its file is unchanged since it was assessed, as after a write by ktrdr."""
        state = self.series.get(series)
        if state is None or state.key is None:
            return False
        since = self._assessor.fill_from(state, int(self._clock()))
        is_wanted_anew = state.coverage is not None and state.coverage.since != since
        try:
            return not is_wanted_anew and self.store.key(series) == state.key
        except OSError:
            return False

    def _assess(self, state: SeriesState, why_not: MalformedFile | None, *, is_anew: bool) -> None:
        """Assess a series, unless its entry is wrong or it has no file of its own (`why_not`)."""
        if isinstance(state.error, Misconfigured):
            return
        state.note_own_file(why_not)
        if why_not is not None:
            self._report(str(state.series), why_not)
            return
        if is_anew and not isinstance(state.error, MalformedFile):
            state.succeeded()
        self._scheduler.assess(state, only_if_changed=not is_anew)
        self._report_trouble(state)

    def _report_trouble(self, state: SeriesState) -> None:
        if (trouble := self.trouble_of(state)) is not None:
            self._report(str(state.series), trouble)

    def _known(self, series: Series, entry: object) -> SeriesState:
        """The known state of a series; a new one if its instrument has changed."""
        try:
            instrument = instrument_of_entry(series.symbol, entry)
        except Misconfigured as wrong:
            self._report(str(series), wrong)
            blocked = ErrorState().broken(wrong)
            return SeriesState(
                series, instrument_for(series.symbol), self.store, error_state=blocked
            )
        known = self.series.get(series)
        is_misconfigured = known is not None and isinstance(known.error, Misconfigured)
        if known is None or known.instrument != instrument or is_misconfigured:
            return SeriesState(series, instrument, self.store)
        known.instrument = instrument  # `since` may differ
        return known

    # One by one.

    def wants_check(self, *, goes_on: bool = False) -> bool:
        """There is nothing else to do, and there are series to compare with IB.

        They are chosen once after each scan, when its gaps are filled. `goes_on`: as in
        `RevisionChecks.are_planned`.
        """
        if not self._checks_are_planned and not self._scheduler.is_busy:
            self._scheduler.plan_checks(self.series.values())
            self._checks_are_planned = True
        return self._scheduler.wants_check(goes_on=goes_on)

    def assess_histories(self) -> bool:
        """Read whole files for a moment, at least one, and assess their past; False: none is left.

        Many in one step of small ones: each step looks at all series.
        """
        until = time.monotonic() + _HISTORIES_S
        while self._assess_one_history():
            if time.monotonic() >= until:
                return True
        return False

    def _assess_one_history(self) -> bool:
        now = self._clock()
        while self._behind:
            state = self._behind.popleft()
            is_unreadable = (
                isinstance(state.error, StoreUnwritable) and state.error_state.retry_at > now
            )
            if state.is_blocked or is_unreadable or not self.is_tracked(state):
                continue
            if self._scheduler.assess_history(state):
                self._report_trouble(state)
                return True
        return False

    def is_tracked(self, state: SeriesState) -> bool:
        """The series is still there: its file was not removed."""
        return self.series.get(state.series) is state

    def forget(self, state: SeriesState) -> None:
        """Its file is gone."""
        if self.is_tracked(state):
            del self.series[state.series]
            log.info("%s: its file was removed", state.series)

    def named(self, name: str) -> SeriesState | None:
        """The series of this name, such as `AAPL_1m`; None: there is none."""
        series = _series_of(f"{name}.csv")
        return self.series.get(series) if series is not None else None

    def next_batch(self) -> list[SeriesState]:
        """The series of those few symbols that come first, and may be requested now.

        First come those of which a stream has not brought a bar, then those that have waited
        longest.
        """
        idle = self._idle()
        chosen = self._in_order(idle)[: self._batch_symbols]
        return [state for state in idle if state.series.symbol in chosen]

    def _idle(self) -> list[SeriesState]:
        """Those that may be requested now."""
        now = self._clock()
        series = (*self.series.values(), *self._scheduler.rebuilds)
        return self._scheduler.free(state for state in series if state.has_work(now))

    def _in_order(self, states: Iterable[SeriesState]) -> list[str]:
        """The symbols of these series, as they are to be requested."""
        rank: dict[str, tuple[bool, float, str]] = {}
        for state in states:
            symbol, has_time = state.series.symbol, not self._due_times.is_overdue(state)
            last_turn = (has_time, state.tried_at, symbol)
            rank[symbol] = min(last_turn, rank.get(symbol, last_turn))
        return sorted(rank, key=rank.__getitem__)

    def queue(self) -> list[QueuedSeries]:
        """The series that are filled now, next and later, with the reasons."""
        now, current = self._clock(), self._scheduler.fetcher.current
        by_name = {str(series): state for series, state in self.series.items()}
        idle = self._idle()
        place = {symbol: number for number, symbol in enumerate(self._in_order(idle))}
        following = sorted(idle, key=lambda state: place[state.series.symbol])
        later = [one for one in self.series.values() if one.error_state.retry_at > now]
        deferred = sorted(later, key=lambda one: (one.error_state.retry_at, str(one.series)))
        return queue_of(
            [turn_of(by_name[name], now) for name in current if name in by_name],
            [turn_of(state, now) for state in following[:SHOWN]],
            [turn_of(state, now) for state in deferred[:SHOWN]],
        )

    def retry_times(self) -> list[float]:
        """When deferred series may be requested again (UTC seconds)."""
        now = self._clock()
        return [
            state.error_state.retry_at
            for state in self.series.values()
            if state.error_state.retry_at > now
        ]

    def trouble_of(self, state: SeriesState) -> KtrdrError | None:
        """What is wrong with some rows of a series that is kept complete all the same.

        Bars in the future: the clock or the file is wrong. Rows that lack a value.
        """
        if state.last is None or state.last <= self._clock() + APART_S:
            return state.file.incomplete
        last = f"its last bar is at {iso(state.last)}, in the future"
        return InvalidRequest(last, hint=_AHEAD_HINT)


def _series_of(name: str) -> Series | None:
    """None: not the name of a series, which the next scan reports."""
    try:
        return parse_series(name)
    except ValueError:
        return None


def is_watched(series: Series, entry: object) -> bool:
    """Whether a series is kept, by its entry in instruments.toml; a wrong entry is reported."""
    try:
        return instrument_of_entry(series.symbol, entry).is_watched(series.timeframe)
    except Misconfigured:
        return True


def _order(series: Series) -> tuple[str, int]:
    return series.symbol, series.timeframe.length_s
