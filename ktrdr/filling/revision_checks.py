"""Whether stored bars are still what IB has: chosen, compared, and corrected. Fills no gaps."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from ktrdr.assessment.assessment import Assessor
from ktrdr.assessment.series_state import SeriesState
from ktrdr.assessment.stored_bars import stored
from ktrdr.completeness.gaps import Gap
from ktrdr.completeness.revisions import Revision, compare
from ktrdr.errors import OtherUnit, RequestFailed
from ktrdr.filling.comparison import is_other, is_whole
from ktrdr.filling.contract_checks import ContractChecks
from ktrdr.filling.fetcher import Fetcher
from ktrdr.filling.ingest import Ingest
from ktrdr.filling.isolation import Isolation
from ktrdr.filling.rebuilds import Owner, Rebuilds
from ktrdr.filling.tasks import Kind, Task
from ktrdr.market.bars import Answer
from ktrdr.market.bars_request import BarsRequest, Priority
from ktrdr.market.timeframes import DAY_S, HOUR_S

_CHECK_EVERY_S = DAY_S
_CHECK_OLDER_S = 7 * DAY_S
_CHECK_BARS = 60
_CHECKS_AT_ONCE = 5
_SETTLED_S = 18 * HOUR_S
"""After the end of its UTC day a daily bar is what it stays: settlements come hours later."""


@dataclass(frozen=True)
class RevisionChecks:
    """Those of one store. For one thread."""

    assessor: Assessor
    ingest: Ingest
    fetcher: Fetcher
    rebuilds: Rebuilds
    contract_checks: ContractChecks
    isolation: Isolation
    owner: Owner
    clock: Callable[[], float]
    assess: Callable[[SeriesState], None]
    """Judge a series anew."""
    planned: deque[tuple[SeriesState, str]] = field(default_factory=deque)
    """What is to be compared, and which bars of it: `settle` or `sample`."""

    # Which.

    def plan(self, series: Iterable[SeriesState]) -> None:
        """Find what is complete, and should be compared with what IB has now."""
        self.planned.clear()
        for state in list(series):  # one whose file is gone is forgotten
            with self.isolation.of(state):
                if (what := self._due(state, int(self.clock()))) is not None:
                    self.planned.append((state, what))

    def begin(self) -> None:
        """Compare a few of them."""
        now = int(self.clock())
        for _ in range(min(_CHECKS_AT_ONCE, len(self.planned))):
            state, what = self.planned.popleft()
            if not self.owner.is_tracked(state) or not state.may_be_requested(now):
                continue
            with self.isolation.of(state):
                self.assessor.ledger.series.note_check(state.series, what, now)
                request = self._request(state, what, now)
                if request is not None:
                    self.fetcher.request_bars(Kind.CHECK, state, request, Priority.BACKFILL)

    def _due(self, state: SeriesState, now: int) -> str | None:
        """What of a complete series should be compared, `settle` or `sample`; None: nothing."""
        is_complete = state.coverage is not None and not state.coverage.fillable
        if self.assessor.contracts.question_of(state) is not None:
            return None
        if not is_complete or state.last is None or not state.may_be_requested(now):
            return None
        if self._is_unsettled(state, now):
            return "settle"
        finding = self.assessor.ledger.series.checked_at(state.series, "sample")
        if finding is None:  # seen for the first time: tomorrow
            self.assessor.ledger.series.note_check(state.series, "sample", now)
        return "sample" if finding is not None and now - finding >= _CHECK_EVERY_S else None

    def _is_unsettled(self, state: SeriesState, now: int) -> bool:
        """The newest daily bar was written before it was settled, and not looked at since."""
        if not state.series.timeframe.is_daily or not state.is_owned or state.last is None:
            return False
        settled_at = state.last + DAY_S + _SETTLED_S
        finding = self.assessor.ledger.series.checked_at(state.series, "settle")
        if finding is None:  # written just now, or long ago
            self.assessor.ledger.series.note_check(state.series, "settle", now)
            return False
        return finding < settled_at <= now

    def _request(self, state: SeriesState, what: str, now: int) -> BarsRequest | None:
        """Some bars that are stored: the newest, or old ones by chance; None: there are none."""
        length = state.series.timeframe.length_s
        if what == "settle":
            if state.last is None:
                return None
            return BarsRequest(
                state.instrument, state.series.timeframe, state.last, state.last + length
            )
        until = now - _CHECK_OLDER_S
        if state.first is None or state.first >= until:
            return None
        chance = random.Random(f"{state.series} {now // DAY_S}")  # noqa: S311  no secret
        some = chance.randrange(state.first, until)
        start = state.store.nearest(state.series, some, some)
        if start is None:  # somebody has emptied the file since it was looked at
            self.assess(state)
            return None
        end = start + _CHECK_BARS * length
        return BarsRequest(state.instrument, state.series.timeframe, start, end)

    # What comes of it.

    def take(self, task: Task, answer: Answer) -> None:
        """Compare, and see to what IB has otherwise by now."""
        state = task.state
        if state.is_rebuilding:
            return
        received = {bar.start: bar for bar in self.ingest.grids.comparable(state, answer)}
        revision = compare(stored(state, received), received)
        if revision is not None and (is_whole(state, revision) or is_other(state, revision)):
            self.see_to(task, replace(revision, doubted_at=None))
            return
        state.succeeded()
        if revision is not None:
            self.see_to(task, replace(revision, doubted_at=None))
        if task.kind is Kind.AROUND:
            self._see_to_withheld(state, task.gaps)

    def see_to(self, task: Task, revision: Revision) -> None:
        """Correct what is ours, a whole series by rebuilding it; leave what is others'."""
        state, is_staging = task.state, self.rebuilds.is_staging(task.state)
        self.ingest.notice_foreign(state, int(self.clock()))
        if revision.doubted_at is not None:
            self._fetch_samples(state, revision.doubted_at, task.gaps)
        elif is_other(state, revision):
            self.contract_checks.stop(task, revision)
        elif not is_whole(state, revision):
            self._see_to_revision(task, revision)
        elif not state.is_owned:
            self._ask_a_person(task, revision)
        elif revision.price is None or is_staging or not state.instrument.can_be_paged:
            self.rebuild(state, revision.words)
        else:
            self.contract_checks.request(state, revision.changed[-1].start)

    def rebuild(self, state: SeriesState, why: str) -> None:
        """The whole series, beside its own file."""
        if self.rebuilds.is_staging(state):
            self.rebuilds.give_up(state, "IB tells it otherwise from one answer to the next")
        elif not state.is_rebuilding:
            self.rebuilds.begin(state, why)

    def _see_to_revision(self, task: Task, revision: Revision) -> None:
        """Some bars alone were revised."""
        state = task.state
        if state.is_owned:
            self.ingest.comparison.correct(state, revision)
            self.assess(state)
            return
        if task.kind is Kind.AROUND:
            self.ingest.comparison.note_revised(state, revision)
        self.owner.report(
            str(state.series),
            RequestFailed(
                f"{revision.words}; the file has rows that were not written here, and is left",
                hint="delete the rows that should be asked for again",
            ),
        )

    def _ask_a_person(self, task: Task, revision: Revision) -> None:
        """Nobody else can say what is to become of rows of others that are in another unit.

        What was chosen by chance says nothing of the newest rows: bars behind them are added, as
        long as those are told alike.
        """
        state = task.state
        error = OtherUnit(
            f"{revision.words}; the file has rows that were not written here: it is left, and "
            "nothing is added in another unit",
            hint="bring its rows to what IB tells now, or delete all of them but the header line "
            "to have them asked for again",
        )
        if task.kind is Kind.CHECK:
            state.succeeded()
        else:
            state.failed(error, self.clock())
        self.owner.report(str(state.series), error)

    def _fetch_samples(self, state: SeriesState, start: int, withheld: tuple[Gap, ...]) -> None:
        """Compare more bars, to tell a split from a bar that was revised."""
        timeframe = state.series.timeframe
        reach = _CHECK_BARS * timeframe.length_s
        request = BarsRequest(state.instrument, timeframe, start - reach, start + reach)
        self.fetcher.request_bars(Kind.AROUND, state, request, Priority.RECENT, withheld)

    def _see_to_withheld(self, state: SeriesState, gaps: tuple[Gap, ...]) -> None:
        """Nothing of it is in another unit: it is asked for at once, but not again and again."""
        if not self.ingest.later.put_off(state, gaps, int(self.clock())):
            return
        if self.rebuilds.is_staging(state):  # which would seem whole without it
            self.rebuilds.give_up(state, "IB tells it otherwise from one answer to the next")
            return
        self.assess(state)
        doubted = "IB tells bars otherwise than they are stored, and the next time alike"
        self.owner.report(
            str(state.series),
            RequestFailed(f"{doubted}: what came with it is left out, and asked for again later"),
        )
