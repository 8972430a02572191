"""A bar as a value, and whether its numbers are valid. Neither file nor wire format."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_UNSET = 1e300
"""IB's value for "not set" is the largest double (TWS API, `Double.MAX_VALUE`)."""


class Bar(NamedTuple):
    """One finished bar, named by its start."""

    start: int
    """UTC seconds; for a daily bar the trading day at 00:00 UTC."""
    open: float
    high: float
    low: float
    close: float
    volume: float
    """Shares or contracts; -1 if IB has none (MIDPOINT, BID, ASK)."""

    @property
    def is_sound(self) -> bool:
        """Its prices are finite and between low and high. Negative prices exist (oil, 2020)."""
        prices = (self.open, self.high, self.low, self.close)
        return (
            all(math.isfinite(x) and abs(x) < _UNSET for x in (*prices, self.volume))
            and self.low == min(prices)
            and self.high == max(prices)
            and (self.volume >= 0 or self.volume == -1)
        )


def are_sound(numbers: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which bars are sound, as `Bar.is_sound`; a row each: open, high, low, close and volume."""
    first, high, low, close, volume = np.ascontiguousarray(numbers.T)  # columns, for speed
    sound: NDArray[np.bool_] = (volume >= 0) | (volume == -1)
    for column in (first, high, low, close, volume):
        sound &= np.abs(column) < _UNSET  # NaN is not
    sound &= low <= np.minimum(first, close)
    sound &= high >= np.maximum(first, close)
    sound &= low <= high
    return sound


class Answer(NamedTuple):
    """IB's response to one request for bars."""

    bars: list[Bar]
    """Ascending, each start once; empty if IB responded that it has none."""
    invalid: tuple[int, ...] = ()
    """The starts of invalid bars in the response."""
    neighbours: tuple[Bar, ...] = ()
    """Bars next to the requested interval: to compare with stored ones there."""
