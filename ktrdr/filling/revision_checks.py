"""Revision checks: compare stored bars with those IB has now, and correct them. Fill no gaps."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from ktrdr.assessment.assessment import Assessor
from ktrdr.assessment.series_state import SeriesState
from ktrdr.completeness.gaps import Gap
from ktrdr.completeness.revisions import Revision
from ktrdr.errors import OtherUnit, RequestFailed
from ktrdr.filling.comparison import is_other, is_whole
from ktrdr.filling.contract_checks import ContractChecks
from ktrdr.filling.fetcher import Fetcher
from ktrdr.filling.import_comparison import ImportComparison
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
"""A daily bar is final this long after its UTC day ends: settlements come hours later."""


@dataclass(frozen=True)
class RevisionChecks:
    """The revision checks of one store. For one thread."""

    assessor: Assessor
    ingest: Ingest
    fetcher: Fetcher
    rebuilds: Rebuilds
    contract_checks: ContractChecks
    imports: ImportComparison
    isolation: Isolation
    owner: Owner
    clock: Callable[[], float]
    assess: Callable[[SeriesState], None]
    """Assesses a series again."""
    planned: deque[tuple[SeriesState, str]] = field(default_factory=deque)
    """What to compare, and which bars of it: `settle`, `sample` or `whole`."""

    # Choosing.

    def plan(self, series: Iterable[SeriesState]) -> None:
        """Find the complete series to compare with what IB has now."""
        self.planned.clear()
        for state in list(series):  # a series whose file is gone is forgotten
            with self.isolation.of(state):
                self.planned.extend((state, what) for what in self._due(state, int(self.clock())))

    def are_planned(self, *, goes_on: bool) -> bool:
        """There are bars to compare; `goes_on`: imported ones, whose requests follow each other."""
        return any(what == "whole" or not goes_on for _, what in self.planned)

    def begin(self) -> None:
        """Send the requests to compare a few of these series."""
        now = int(self.clock())
        for _ in range(min(_CHECKS_AT_ONCE, len(self.planned))):
            state, what = self.planned.popleft()
            if not self.owner.is_tracked(state) or not state.may_be_requested(now):
                continue
            with self.isolation.of(state):
                if what == "whole":
                    self.imports.begin(state, now)
                    continue
                self.assessor.ledger.series.note_check(state.series, what, now)
                request = self._request(state, what, now)
                if request is not None:
                    self.fetcher.request_bars(Kind.CHECK, state, request, Priority.BACKFILL)

    def _due(self, state: SeriesState, now: int) -> Iterator[str]:
        """What to compare of a series."""
        if self.assessor.contracts.unconfirmed_contract(state) is not None:
            return
        if state.last is None or not state.may_be_requested(now):
            return
        if (what := self._due_of_complete(state, now)) is not None:
            yield what
        if self.imports.is_due(state, now):
            yield "whole"

    def _due_of_complete(self, state: SeriesState, now: int) -> str | None:
        if state.coverage is None or state.coverage.fillable:
            return None
        if self._is_unsettled(state, now):
            return "settle"
        finding = self.assessor.ledger.series.checked_at(state.series, "sample")
        if finding is None:  # first time: tomorrow
            self.assessor.ledger.series.note_check(state.series, "sample", now)
        return "sample" if finding is not None and now - finding >= _CHECK_EVERY_S else None

    def _is_unsettled(self, state: SeriesState, now: int) -> bool:
        """The newest daily bar was written before it was final, and has not been compared since."""
        if not state.series.timeframe.is_daily or not state.is_owned or state.last is None:
            return False
        settled_at = state.last + DAY_S + _SETTLED_S
        finding = self.assessor.ledger.series.checked_at(state.series, "settle")
        if finding is None:  # written just now, or long ago
            self.assessor.ledger.series.note_check(state.series, "settle", now)
            return False
        return finding < settled_at <= now

    def _request(self, state: SeriesState, what: str, now: int) -> BarsRequest | None:
        """A request for stored bars: the newest, or old ones at random; None: there are none."""
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
        if start is None:  # the file was emptied since it was last read
            self.assess(state)
            return None
        end = start + _CHECK_BARS * length
        return BarsRequest(state.instrument, state.series.timeframe, start, end)

    # Handling.

    def take(self, task: Task, answer: Answer) -> None:
        """Compare an answer with the stored bars, and handle revisions."""
        state = task.state
        if state.is_rebuilding:
            return
        received = {bar.start: bar for bar in self.ingest.grids.comparable(state, answer)}
        revision = self.ingest.comparison.compare_all(state, received, int(self.clock()))
        if revision is not None and revision.is_known and task.kind is Kind.CHECK:
            state.succeeded()  # rows of others: they were reported when this was found
            return
        if revision is not None and (is_whole(state, revision) or is_other(state, revision)):
            self.handle(task, replace(revision, unclear_at=None))
            return
        state.succeeded()
        if revision is not None:
            self.handle(task, replace(revision, unclear_at=None))
        if task.kind is Kind.AROUND:
            self._request_withheld(state, task.gaps)

    def take_whole(self, task: Task, receive: Callable[[], Answer]) -> None:
        """Compare an answer with imported bars; the next of them are requested in their turn."""
        if self.imports.take(task, receive):
            self.planned.append((task.state, "whole"))

    def handle(self, task: Task, revision: Revision) -> None:
        """Correct owned bars, or rebuild a wholly revised series; leave foreign rows."""
        state, is_staging = task.state, self.rebuilds.is_staging(task.state)
        self.ingest.notice_foreign(state, int(self.clock()))
        if revision.unclear_at is not None:
            self._fetch_samples(state, revision.unclear_at, task.gaps)
        elif is_other(state, revision):
            self.contract_checks.stop(task, revision)
        elif not is_whole(state, revision):
            self._handle_partial(task, revision)
        elif not state.is_owned:
            self._report_other_unit(task, revision)
        elif revision.price is None or is_staging or not state.instrument.can_be_paged:
            self.rebuild(state, revision.words)
        else:
            self.contract_checks.request(state, revision.changed[-1].start)

    def rebuild(self, state: SeriesState, why: str) -> None:
        """Rebuild the whole series in a staging copy."""
        if self.rebuilds.is_staging(state):
            self.rebuilds.give_up(state, "IB's bars change from one answer to the next")
        elif not state.is_rebuilding:
            self.rebuilds.begin(state, why)

    def _handle_partial(self, task: Task, revision: Revision) -> None:
        """Only some bars were revised."""
        state = task.state
        if state.is_owned:
            self.ingest.comparison.correct(state, revision, int(self.clock()))
            self.assess(state)
            return
        if task.kind is Kind.AROUND:
            self.ingest.comparison.note_revised(state, revision)
        if revision.is_known:
            return
        differ = f"IB has {len(revision.changed)} of {revision.compared} bars otherwise"
        self.owner.report(
            str(state.series),
            RequestFailed(
                f"{differ}; the file has foreign rows (not written by ktrdr): it is left as it is",
                hint="the page of the series lists what differs; delete the rows that should be "
                "requested again",
            ),
        )

    def _report_other_unit(self, task: Task, revision: Revision) -> None:
        """Report that foreign rows have another unit: a person must decide.

        A random sample says nothing about the newest rows: bars are added after them as long as
        these match.
        """
        state = task.state
        error = OtherUnit(
            f"{revision.words}; the file has foreign rows (not written by ktrdr): it is left as it "
            "is, and nothing is added in another unit",
            hint="bring its rows to what IB returns now, or delete all but the header line "
            "to have them requested again",
        )
        if task.kind is Kind.CHECK:
            state.succeeded()
        else:
            state.failed(error, self.clock())
        self.owner.report(str(state.series), error)

    def _fetch_samples(self, state: SeriesState, start: int, withheld: tuple[Gap, ...]) -> None:
        """Request more bars to compare, to tell a split from a single revised bar."""
        timeframe = state.series.timeframe
        reach = _CHECK_BARS * timeframe.length_s
        request = BarsRequest(state.instrument, timeframe, start - reach, start + reach)
        self.fetcher.request_bars(Kind.AROUND, state, request, Priority.RECENT, withheld)

    def _request_withheld(self, state: SeriesState, gaps: tuple[Gap, ...]) -> None:
        """Request withheld bars again, as nothing has another unit; after a pause if repeated."""
        if not self.ingest.later.put_off(state, gaps, int(self.clock())):
            return
        if self.rebuilds.is_staging(state):  # it would seem complete without these bars
            self.rebuilds.give_up(state, "IB's bars change from one answer to the next")
            return
        self.assess(state)
        why = "IB returned bars unlike the stored ones, then bars that match"
        self.owner.report(
            str(state.series),
            RequestFailed(f"{why}: its other bars are left out, and requested again later"),
        )
