"""Whether a symbol still means the contract that it meant: what IB says of it, and its bars.

Symbols are given to other companies; and a contract gets another id at a split, or when it moves
to another exchange. Only bars that were stored before tell the one from the other.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from enum import Enum, auto
from typing import NamedTuple

from ktrdr.planning.bars import Bar

COMPARED = 300
"""So many bars are compared: in fewer, two quiet stocks could be in one ratio by chance."""

_LEAST = 3
_NEAR = 0.005
"""Prices that differ by less are the same, though they may have been revised."""
_ROUNDING = 0.0002
"""So much a price may be off after a split, by its own size, and by the smallest of them."""
_SHARE = 0.9


class Identity(NamedTuple):
    """What IB says that a symbol is."""

    con_id: int
    exchange: str
    currency: str
    local_symbol: str
    name: str
    """Of the company, or whatever it is; may be empty."""

    @property
    def words(self) -> str:
        """It, for a person."""
        name = f" ({self.name})" if self.name else ""
        return f"con_id {self.con_id}, {self.exchange} in {self.currency}{name}"


class Likeness(Enum):
    """How the stored bars of a symbol are told now."""

    SAME = auto()
    RATIO = auto()
    """All prices in one ratio, as after a split."""
    OTHER = auto()
    """Otherwise, or not at all."""


def is_another(known: Identity, told: Identity) -> bool:
    """Another contract, or the same in another currency. A change of exchange alone is none."""
    return (known.con_id, known.currency) != (told.con_id, told.currency)


def likeness(stored: Iterable[Bar], told: Mapping[int, Bar]) -> Likeness:
    """How stored bars are told now, by their closes. OTHER where hardly any is told at all."""
    pairs = [(old.close, told[old.start].close) for old in stored if old.start in told]
    if len(pairs) < _LEAST:
        return Likeness.OTHER
    if _share(abs(new - old) <= _NEAR * abs(old) for old, new in pairs) >= _SHARE:
        return Likeness.SAME
    ratios = [new / old for old, new in pairs if old]
    ratio = statistics.median(ratios) if ratios else 0.0
    least = max(_ROUNDING, 0.011 * min(1.0, ratio))  # a cent of rounding on either side
    alike = (abs(new - old * ratio) <= _ROUNDING * abs(new) + least for old, new in pairs)
    return Likeness.RATIO if len(pairs) >= 10 and _share(alike) >= _SHARE else Likeness.OTHER


def _share(each: Iterable[bool]) -> float:
    """Of how many it is true."""
    return statistics.fmean(each)
