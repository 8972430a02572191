"""Updates of a history request that is kept up to date: the forming bar. Does not wait."""

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


class Following:
    """The last update to a client about one series, so that the next one has only changes."""

    def __init__(
        self, market: Market, contract: Contract, size: BarSize, request: Request, version: int
    ) -> None:
        self._market = market
        self._contract = contract
        self._size = size
        self._request = request
        self._version = version
        self._told: Bars | None = None
        self._told_at_s = 0

    def update(self, now: datetime) -> bytes:
        """Messages about bars that have changed or begun since the last time.

        Nothing within `EVERY_S` of the last time. A bar that has ended is sent once more, in its
        final form, before the next one.
        """
        now_s = int(now.timestamp())
        if now_s - self._told_at_s < EVERY_S:
            return b""
        self._told_at_s = now_s
        bars = self._since_last(now_s, now.astimezone(UTC).date())
        fresh = bars.only(np.array([not self._is_told(bars, n) for n in range(len(bars))], bool))
        if len(bars):
            self._told = bars.only(np.arange(len(bars)) == len(bars) - 1)
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
        last_s = int(self._told.start[0]) if self._told else now_s
        bars = self._market.bars(
            self._contract,
            self._size,
            self._request.what_to_show,
            min(last_s, now_s - 1),
            now_s,
            regular=self._request.use_rth,
            as_of=as_of,
        )
        return bars.only(bars.start >= last_s) if self._told else bars

    def _is_told(self, bars: Bars, place: int) -> bool:
        if self._told is None:
            return False
        columns = ("start", "open", "high", "low", "close", "volume")
        return all(getattr(bars, c)[place] == getattr(self._told, c)[0] for c in columns)
