"""Contract checks: whether the stored bars are those of the contract that the symbol means now."""

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
    """The contract checks of one store. For one thread."""

    assessor: Assessor
    ingest: Ingest
    fetcher: Fetcher
    rebuilds: Rebuilds
    owner: Owner
    clock: Callable[[], float]
    resume: Callable[[SeriesState], None]
    """Assesses a series again, and requests its missing bars."""

    def request(self, state: SeriesState, until: int | None = None) -> None:
        """Request many stored bars, since the symbol may mean another contract than before.

        The newest ones, or those up to the bar `until` (UTC seconds).
        """
        span = latest(state, COMPARED, until)
        is_requested = self.fetcher.is_requesting(state, Kind.LIKENESS)
        if span is None:
            self.assessor.contracts.confirm_contract(state)
        elif state.may_be_requested(self.clock()) and not is_requested:
            request = BarsRequest(state.instrument, state.series.timeframe, *span)
            self.fetcher.request_bars(Kind.LIKENESS, state, request, Priority.RECENT)

    def take(self, task: Task, answer: Answer) -> None:
        """Let the series continue if the bars match the stored ones; else OtherContract."""
        state, known = task.state, self.assessor.contracts.unconfirmed_contract(task.state)
        if state.is_rebuilding:
            return
        if not self.owner.clocks_agree:
            raise RequestFailed("bars cannot be compared while the clocks disagree")
        received = {bar.start: bar for bar in self.ingest.grids.comparable(state, answer)}
        if known is None or known.received is None:
            self._take_prices(task, received)
            return
        change = f"it was {known.contract.words}, and is {known.received.words}"
        like = likeness(stored(state, received), received)
        if like is Likeness.OTHER:
            raise OtherContract(
                f"{state.series.symbol} is another contract at IB than the one whose bars are "
                f"stored: {change}; nothing is requested or written",
                hint="if the old bars should go on with the new contract's, say in "
                f"instruments.toml: con_id = {known.received.con_id}; else move the file away, or "
                f"keep to the old contract: con_id = {known.contract.con_id}",
            )
        self.assessor.contracts.confirm_contract(state)
        state.succeeded()
        in_ratio = " except for a split ratio" if like is Likeness.RATIO else ""
        self.owner.report(
            str(state.series),
            RequestFailed(
                f"{state.series.symbol} is another contract at IB: {change}",
                hint=f"nothing to do: its bars match the stored ones{in_ratio}: it goes on",
            ),
        )
        self.resume(state)

    def _take_prices(self, task: Task, received: Mapping[int, Bar]) -> None:
        """Rebuild the series if all prices have one ratio, as the first answer suggested.

        Some may match: IB may have adjusted only the bars before a split.
        """
        state = task.state
        revision = compare(stored(state, received), received)
        if not received:
            raise RequestFailed("IB has none of the bars that are stored")
        if revision is None:
            raise RequestFailed("IB returned bars unlike the stored ones, then bars that match")
        changed = {bar.start: bar for bar in revision.changed}
        if likeness(stored(state, changed), changed) is Likeness.RATIO:
            self.rebuilds.begin(state, revision.words)
        elif is_other(state, replace(revision, price=None, volume=None)):
            self.stop(task, revision)
        else:
            raise RequestFailed(f"{revision.words}, but before that all prices in one ratio")

    def stop(self, task: Task, revision: Revision) -> None:
        """Stop writing to the series: all compared bars have other prices."""
        state, symbol = task.state, task.state.series.symbol
        if self.rebuilds.is_staging(state):
            self.rebuilds.give_up(state, "IB's bars change from one answer to the next")
            return
        error = OtherContract(
            f"{symbol} may be another contract at IB than the one whose bars are stored: all of "
            f"{revision.compared} bars have other prices at IB; nothing is written",
            hint="if it is another company now, move the file away; else see whose the stored "
            f"bars are, and say which contract is meant: con_id = … below [{symbol}] in "
            "instruments.toml",
        )
        if task.kind is Kind.CHECK and not state.is_owned:  # old foreign rows, by chance
            state.succeeded()
        else:
            state.failed(error, self.clock())
        self.owner.report(str(state.series), error)
