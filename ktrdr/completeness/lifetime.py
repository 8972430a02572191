"""When a contract can have bars at all: from the first that IB has, to its last day. Pure."""

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
    """When IB was asked for it (UTC seconds)."""
    expires: int | None = None
    """Its last trading day, as UTC midnight."""


def in_life(found: Expected, life: ContractLifetime, timeframe: Timeframe) -> Expected:
    """Which of the bars a contract can have: from its first bar on, to its last day."""
    chosen = np.ones(len(found.starts), dtype=np.bool_)
    if life.head is not None:
        is_daily = timeframe.is_daily
        chosen &= found.starts >= (life.head - life.head % DAY_S if is_daily else life.head)
    if life.expires is not None:
        chosen &= found.days <= life.expires
    return Expected(found.starts[chosen], found.days[chosen])
