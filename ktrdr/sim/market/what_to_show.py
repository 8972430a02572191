"""IB's "what to show": trades, quotes, averages and adjusted prices of bars. Changes no times.

A market's prices are those of its trades; the bid is one tick below, the ask one tick above, so
that the midpoint is the price itself.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np

from ktrdr.sim.market.bars import Bars, FloatArray
from ktrdr.sim.market.contracts import Contract
from ktrdr.sim.market.prices import round_to
from ktrdr.sim.market.sessions import DAY_S, Int64Array

TRADED = ("TRADES", "AGGTRADES", "ADJUSTED_LAST")
"""The kinds that need a trade; quotes are always available."""

_STEPS = {"BID": -1, "ASK": 1}
_DIVIDEND = 0.002
"""A stock's dividend as a share of its price, on the 10th of February, May, August, November."""


def bars_to_show(bars: Bars, what_to_show: str, contract: Contract, as_of: date) -> Bars:
    """The smallest bars as served on the day `as_of` (TWS API, "whatToShow").

    All kinds are adjusted for splits that took effect, only ADJUSTED_LAST for dividends.
    """
    bars = _split(bars, contract, as_of)
    if what_to_show == "ADJUSTED_LAST":
        return _less_dividends(bars, contract, as_of)
    if what_to_show in TRADED:
        return bars
    silent = replace(bars, volume=np.full(len(bars), -1, np.int64))
    if what_to_show == "BID_ASK":
        return _bid_ask(silent, contract)
    step = _STEPS.get(what_to_show, 0)
    return _scaled(silent, contract, np.ones(len(bars)), step * contract.tick.size)


def _bid_ask(bars: Bars, contract: Contract) -> Bars:
    """Average bid, highest ask, lowest bid, average ask, in the places of a bar's four prices."""
    average = (bars.open + bars.high + bars.low + bars.close) / 4
    tick = contract.tick
    return replace(
        bars,
        open=np.round(average - tick.size, 8),
        high=round_to(tick, bars.high + tick.size),
        low=round_to(tick, bars.low - tick.size),
        close=np.round(average + tick.size, 8),
    )


def _scaled(bars: Bars, contract: Contract, factor: FloatArray, step: float) -> Bars:
    """Every price times the factor plus a step, in whole ticks."""
    prices = (bars.open, bars.high, bars.low, bars.close)
    opens, highs, lows, closes = (
        round_to(contract.tick, side * factor + step) if step or (factor != 1).any() else side
        for side in prices
    )
    return replace(bars, open=opens, high=highs, low=lows, close=closes)


def _split(bars: Bars, contract: Contract, as_of: date) -> Bars:
    """The market's own prices are those after the split; until its day they are multiplied.

    From its day on, earlier prices appear divided, as in IB's TRADES.
    """
    split = contract.split
    if split is None or as_of >= split.day:
        return bars
    before = _scaled(bars, contract, np.full(len(bars), float(split.ratio)), 0.0)
    return replace(
        before, volume=np.where(bars.volume < 0, -1, np.maximum(bars.volume // split.ratio, 0))
    )


def _less_dividends(bars: Bars, contract: Contract, as_of: date) -> Bars:
    """Each dividend paid after a bar, up to `as_of`, lowers its prices by its share."""
    until = (as_of - date(1970, 1, 1)).days
    paid = _dividends(np.array([until])) - _dividends(bars.start // DAY_S)
    return _scaled(bars, contract, (1 - _DIVIDEND) ** np.maximum(paid, 0), 0.0)


def _dividends(day: Int64Array) -> Int64Array:
    """How many dividends were paid from 1970 to each day, including that day's."""
    months = (day - 9).astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)
    return (months + 2) // 3
