"""The updates of a history request with keepUpToDate: the forming bar. Does not wait."""

from __future__ import annotations

from datetime import UTC, date, datetime

import numpy as np

from ktrdr.sim.gateway import answers
from ktrdr.sim.gateway.wire import Request
from ktrdr.sim.market.bars import Bars, BarSize
from ktrdr.sim.market.contracts import Contract
from ktrdr.sim.market.market import Market

EVERY_S = 5
"""Seconds between updates (TWS API, "keepUpToDate"), by the gateway's clock."""


class LiveUpdates:
    """The updates of one request: each has only the bars that changed since the last one."""

    def __init__(
        self, market: Market, contract: Contract, size: BarSize, request: Request, version: int
    ) -> None:
        self._market = market
        self._contract = contract
        self._size = size
        self._request = request
        self._version = version
        self._last: Bars | None = None
        self._sent_at_s = 0

    def update(self, now: datetime) -> bytes:
        """The messages for bars that have changed or begun since the last update.

        None within `EVERY_S` of the last update. A bar that has ended is sent once more, in its
        final form, before the next one.
        """
        now_s = int(now.timestamp())
        if now_s - self._sent_at_s < EVERY_S:
            return b""
        self._sent_at_s = now_s
        bars = self._since_last(now_s, now.astimezone(UTC).date())
        fresh = bars.only(np.array([not self._was_sent(bars, n) for n in range(len(bars))], bool))
        if len(bars):
            self._last = bars.only(np.arange(len(bars)) == len(bars) - 1)
        return b"".join(
            answers.historical_update(
                self._version,
                self._request.request_id,
                fresh.only(np.arange(len(fresh)) == n),
                self._request.format_date,
                daily=self._size.is_daily,
            )
            for n in range(len(fresh))
        )

    def _since_last(self, now_s: int, as_of: date) -> Bars:
        """The last bar that was sent, as it is now, and those after it."""
        last_s = int(self._last.start[0]) if self._last else now_s
        bars = self._market.bars(
            self._contract,
            self._size,
            self._request.what_to_show,
            min(last_s, now_s - 1),
            now_s,
            regular=self._request.use_rth,
            as_of=as_of,
        )
        return bars.only(bars.start >= last_s) if self._last else bars

    def _was_sent(self, bars: Bars, place: int) -> bool:
        if self._last is None:
            return False
        columns = ("start", "open", "high", "low", "close", "volume")
        return all(getattr(bars, c)[place] == getattr(self._last, c)[0] for c in columns)
