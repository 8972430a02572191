"""The lifetime of a contract: from IB's first bar to its last trading day. Pure."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ktrdr.market.sessions import Expected
from ktrdr.market.timeframes import DAY_S, Timeframe


class ContractLifetime(NamedTuple):
    """When a contract can have bars at all (UTC seconds); None: not known."""

    head: int | None = None
    """The first bar that IB has."""
    head_at: int | None = None
    """When that was requested from IB (UTC seconds)."""
    expires: int | None = None
    """Its last trading day, as UTC midnight."""


def in_lifetime(found: Expected, lifetime: ContractLifetime, timeframe: Timeframe) -> Expected:
    """The expected bars within a contract's lifetime: from its first bar to its last day."""
    starts, days = found
    if lifetime.head is not None:
        head = lifetime.head - lifetime.head % DAY_S if timeframe.is_daily else lifetime.head
        begin = np.searchsorted(starts, head)
        starts, days = starts[begin:], days[begin:]
    if lifetime.expires is not None:
        chosen = days <= lifetime.expires
        starts, days = starts[chosen], days[chosen]
    return Expected(starts, days)
