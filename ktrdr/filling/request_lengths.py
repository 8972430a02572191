"""How long requests may be, as learnt from IB's answers; kept in the ledger. Requests nothing."""

from __future__ import annotations

from ktrdr.completeness.request_plan import RequestLengths
from ktrdr.ledger.ledger import Ledger
from ktrdr.market.bars_request import BarsRequest


class LearntLengths:
    """The request lengths of one store, read from its ledger when first needed."""

    def __init__(self) -> None:
        self._known: RequestLengths | None = None

    def known(self, ledger: Ledger) -> RequestLengths:
        """The lengths learnt so far."""
        if self._known is None:
            self._known = RequestLengths(ledger.requests.spans())
        return self._known

    def answered(self, ledger: Ledger, request: BarsRequest, took_s: float, bars: int) -> None:
        """Learn from a request that was answered in this time, with this many bars."""
        if self.known(ledger).answered(request, took_s, bars):
            ledger.requests.keep_request_lengths(self.known(ledger).days)

    def timed_out(self, ledger: Ledger, request: BarsRequest) -> None:
        """Learn from a request that was not answered in time."""
        if self.known(ledger).failed(request):
            ledger.requests.keep_request_lengths(self.known(ledger).days)
