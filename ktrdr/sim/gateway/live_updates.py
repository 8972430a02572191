"""The updates of a history request with keepUpToDate: the forming bar. Does not wait.

A gateway merges 5-second bars into the bar of their period, and sends that whole bar each time
(deepentropy/ibx, issue 429, `merge_five_seconds`, after recordings of IB Gateway). So a bar's last
form comes at its end, and the first one of the next bar 5 s later.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from ktrdr.sim.gateway import answers
from ktrdr.sim.gateway.wire import Request
from ktrdr.sim.market.bars import Bars, BarSize
from ktrdr.sim.market.contracts import Contract
from ktrdr.sim.market.market import Market
from ktrdr.sim.market.what_to_show import TRADED

EVERY_S = 5
"""Seconds between updates by the gateway's clock, at its multiples: every 4 to 6 s (TWS API, "Keep
Up To Date"), in batches of 5 s even for bars of a second."""


@dataclass(frozen=True)
class Subscription:
    """What is kept up to date for a client."""

    contract: Contract
    size: BarSize
    request: Request
    version: int
    """The protocol's."""

    def is_of(self, symbol: str) -> bool:
        """Whether it is for this symbol, local symbol or currency pair; empty: any."""
        local = self.contract.local_symbol
        return symbol in ("", self.contract.symbol, local, local.replace(".", ""))

    def message(self, forms: Iterable[Bars]) -> bytes:
        """The updates of a client with these single bars, in their order."""
        return b"".join(
            answers.historical_update(
                self.version,
                self.request.request_id,
                bar,
                self.request.format_date,
                daily=self.size.is_daily,
            )
            for bar in forms
        )


class LiveUpdates:
    """The updates of one request: each has only the bars that changed since the last one."""

    def __init__(self, market: Market, subscription: Subscription, since_s: int) -> None:
        """`since_s`: the time to which the response has the bars, in UTC seconds."""
        self._market = market
        self._subscription = subscription
        self._since_s = since_s
        self._last: Bars | None = None

    def update(self, mark_s: int, shift_s: int = 0) -> Bars:
        """The bars that have changed or begun since the last update, as they are at `mark_s`.

        A bar that has ended since then is among them in its final form. Without a trade there is
        none of trades, and none while the market is closed. `shift_s`: seconds by which longer
        intraday bars begin later than usual.
        """
        bars = self._since_last(mark_s, shift_s)
        if not len(bars):
            self._since_s = mark_s
        changed = [not self._was_sent(bars, place) for place in range(len(bars))]
        if len(bars):
            self._last = bars.only(np.arange(len(bars)) == len(bars) - 1)
        return bars.only(np.array(changed, bool))

    def skip(self, mark_s: int) -> None:
        """Never send what there was to send until `mark_s`."""
        self._since_s = mark_s
        self._last = None

    def _since_last(self, mark_s: int, shift_s: int) -> Bars:
        """The last bar that was sent, as it is now, and those after it."""
        contract, what = self._subscription.contract, self._subscription.request.what_to_show
        last_s = int(self._last.start[0]) if self._last else self._since_s
        bars = self._market.bars(
            contract,
            self._subscription.size,
            what,
            min(last_s, mark_s - 1),
            mark_s,
            regular=self._subscription.request.use_rth,
            as_of=datetime.fromtimestamp(mark_s, UTC).date(),
            shift_s=shift_s,
        )
        if what in TRADED and contract.is_illiquid:
            bars = bars.only(bars.volume > 0)
        return bars.only(bars.start >= last_s) if self._last else bars

    def _was_sent(self, bars: Bars, place: int) -> bool:
        if self._last is None:
            return False
        columns = ("start", "open", "high", "low", "close", "volume")
        return all(getattr(bars, c)[place] == getattr(self._last, c)[0] for c in columns)
