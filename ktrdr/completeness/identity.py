"""Identity of contracts: whether a symbol still means the same one, by details and bars. Pure.

A symbol may be given to another company, and a contract may get another id at a split or when it
moves to another exchange. Only the bars stored before can tell which has happened.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from enum import Enum, auto
from typing import NamedTuple

from ktrdr.market.bars import Bar

COMPARED = 300
"""How many bars are compared: with fewer, two quiet stocks could have one ratio by chance."""

_LEAST, _RATIO_LEAST = 3, 10
_NEAR = 0.005
"""Prices that differ by less are the same, though they may have been revised."""
_TICKS_LEAST = 100
"""Prices of fewer ticks than this match too many ratios."""
_SHARE = 0.9
_SIMPLE = 0.002


class Identity(NamedTuple):
    """The contract that a symbol means, as IB describes it."""

    con_id: int
    exchange: str
    currency: str
    local_symbol: str
    name: str
    """Of the company or the product; may be empty."""

    @property
    def words(self) -> str:
        """For a person."""
        name = f" ({self.name})" if self.name else ""
        return f"con_id {self.con_id}, {self.exchange} in {self.currency}{name}"


class KnownContract(NamedTuple):
    """The contract of a series' stored bars."""

    contract: Identity
    received: Identity | None = None
    """The contract that IB reported last, if it is not known whether it is the same one."""


class Likeness(Enum):
    """How received bars compare with the stored ones."""

    SAME = auto()
    RATIO = auto()
    """All prices in one ratio, as after a split."""
    OTHER = auto()
    """Different prices, or hardly any bars."""


def is_another(known: Identity, received: Identity) -> bool:
    """Another contract, or the same one in another currency; another exchange alone is not."""
    return (known.con_id, known.currency) != (received.con_id, received.currency)


def settled(known: KnownContract | None, received: Identity, *, has_bars: bool) -> KnownContract:
    """The identity after IB has described the symbol once more.

    Without stored bars there is nothing to compare.
    """
    if known is None or not has_bars or not is_another(known.contract, received):
        return KnownContract(received)
    return KnownContract(known.contract, received)


def likeness(stored: Iterable[Bar], received: Mapping[int, Bar]) -> Likeness:
    """Compares received bars with stored ones by closes. OTHER if hardly any were received."""
    pairs = [(old.close, received[old.start].close) for old in stored if old.start in received]
    are_near = [abs(new - old) <= _NEAR * abs(old) for old, new in pairs]
    if pairs and (all(are_near) or _share(are_near) >= _SHARE):
        return Likeness.SAME
    if len(pairs) < _LEAST:
        return Likeness.OTHER
    return Likeness.RATIO if _is_one_ratio(pairs) else Likeness.OTHER


def _is_one_ratio(pairs: Sequence[tuple[float, float]]) -> bool:
    """All new prices are the old ones times one number, except for the rounding of both."""
    if any(old <= 0 or new <= 0 for old, new in pairs):
        return False
    ratio = statistics.median(new / old for old, new in pairs)
    if len(pairs) < _RATIO_LEAST and not _is_simple(ratio):
        return False
    old_tick, new_tick = (_tick(prices) for prices in zip(*pairs, strict=True))
    if min(new for _, new in pairs) < _TICKS_LEAST * new_tick:
        return False
    off = 1.1 * new_tick + 0.55 * old_tick * ratio
    return _share(abs(new - old * ratio) <= off for old, new in pairs) >= _SHARE


def _is_simple(ratio: float) -> bool:
    """A ratio like that of most splits: one for many, or many for one."""
    many = max(ratio, 1 / ratio)
    return round(many) >= 2 and abs(many / round(many) - 1) <= _SIMPLE


def _tick(prices: Iterable[float]) -> float:
    """The tick size: the last decimal place that these prices have."""
    places = (-int(Decimal(repr(price)).normalize().as_tuple().exponent) for price in prices)
    return float(10.0 ** -max(0, *places))


def _share(each: Iterable[bool]) -> float:
    """The share of those that match."""
    return statistics.fmean(each)
