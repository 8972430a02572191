"""Whether a symbol's bars are those of the contract that it means now. Corrects no bars."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from ktrdr.assessment.assessment import Assessor
from ktrdr.assessment.series_state import SeriesState
from ktrdr.assessment.stored_bars import latest, stored
from ktrdr.completeness.identity import COMPARED, Likeness, likeness
from ktrdr.completeness.revisions import Revision, compare
from ktrdr.errors import OtherContract, RequestFailed
from ktrdr.filling.comparison import is_other
from ktrdr.filling.fetcher import Fetcher
from ktrdr.filling.ingest import Ingest
from ktrdr.filling.rebuilds import Owner, Rebuilds
from ktrdr.filling.tasks import Kind, Task
from ktrdr.market.bars import Answer, Bar
from ktrdr.market.bars_request import BarsRequest, Priority


@dataclass(frozen=True)
class ContractChecks:
    """Those of one store. For one thread."""

    assessor: Assessor
    ingest: Ingest
    fetcher: Fetcher
    rebuilds: Rebuilds
    owner: Owner
    clock: Callable[[], float]
    go_on: Callable[[SeriesState], None]
    """Judge a series anew, and request what it lacks."""

    def request(self, state: SeriesState, until: int | None = None) -> None:
        """Compare many bars: the symbol is another contract than before, or may be.

        The newest ones, or those up to a bar (UTC seconds).
        """
        span = latest(state, COMPARED, until)
        is_requested = self.fetcher.is_requesting(state, Kind.LIKENESS)
        if span is None:
            self.assessor.contracts.settle_question(state)
        elif state.may_be_requested(self.clock()) and not is_requested:
            request = BarsRequest(state.instrument, state.series.timeframe, *span)
            self.fetcher.request_bars(Kind.LIKENESS, state, request, Priority.RECENT)

    def take(self, task: Task, answer: Answer) -> None:
        """Go on where the bars are those that are stored; else OtherContract, for a person."""
        state, known = task.state, self.assessor.contracts.question_of(task.state)
        if state.is_rebuilding:
            return
        if not self.owner.clocks_agree:
            raise RequestFailed("bars cannot be compared while the clocks are apart")
        received = {bar.start: bar for bar in self.ingest.grids.comparable(state, answer)}
        if known is None or known.received is None:
            self._take_prices(task, received)
            return
        change = f"it was {known.contract.words}, and is {known.received.words}"
        like = likeness(stored(state, received), received)
        if like is Likeness.OTHER:
            raise OtherContract(
                f"{state.series.symbol} is another contract at IB than the one whose bars are "
                f"stored: {change}; nothing is asked for, nor written",
                hint="if the old bars should go on with the new contract's, say in "
                f"instruments.toml: con_id = {known.received.con_id}; else move the file away, or "
                f"keep to the old contract: con_id = {known.contract.con_id}",
            )
        self.assessor.contracts.settle_question(state)
        state.succeeded()
        in_ratio = " but for the ratio of a split" if like is Likeness.RATIO else ""
        self.owner.report(
            str(state.series),
            RequestFailed(
                f"{state.series.symbol} is another contract at IB: {change}",
                hint=f"nothing to do: its bars are those that are stored{in_ratio}, so it goes on",
            ),
        )
        self.go_on(state)

    def _take_prices(self, task: Task, received: Mapping[int, Bar]) -> None:
        """All prices were told in one ratio, as it seemed: rebuild the series if they are.

        Some may be alike: after a split whose older bars alone are told anew.
        """
        state = task.state
        revision = compare(stored(state, received), received)
        if not received:
            raise RequestFailed("IB has none of the bars that are stored")
        if revision is None:
            raise RequestFailed("IB tells bars otherwise than they are stored, and then alike")
        changed = {bar.start: bar for bar in revision.changed}
        if likeness(stored(state, changed), changed) is Likeness.RATIO:
            self.rebuilds.begin(state, revision.words)
        elif is_other(state, replace(revision, price=None, volume=None)):
            self.stop(task, revision)
        else:
            raise RequestFailed(f"{revision.words}, and before that all in one ratio")

    def stop(self, task: Task, revision: Revision) -> None:
        """All that was compared is told at other prices: nothing is written any more."""
        state, symbol = task.state, task.state.series.symbol
        if self.rebuilds.is_staging(state):
            self.rebuilds.give_up(state, "IB tells it otherwise from one answer to the next")
            return
        error = OtherContract(
            f"{symbol} may be another contract at IB than the one whose bars are stored: all of "
            f"{revision.compared} bars are told at other prices; nothing is written",
            hint="if it is another company now, move the file away; else see whose the stored "
            f"bars are, and say which contract is meant: con_id = … below [{symbol}] in "
            "instruments.toml",
        )
        if task.kind is Kind.CHECK and not state.is_owned:  # old rows of others, by chance
            state.succeeded()
        else:
            state.failed(error, self.clock())
        self.owner.report(str(state.series), error)
