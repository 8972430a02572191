"""Whether bars that were told again are those that were told before: revised, or after a split."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from ktrdr.planning.bars import Bar

_LEAST_BARS = 3
"""So few bars can have a ratio in common by chance."""
_ENOUGH_BARS = 10
_ALIKE, _SPLIT = 0.002, 0.02
"""Ratios that differ by less are the same; one nearer to 1 is no split."""
_TERMS_MAX = 50
"""A split is a ratio of small numbers, such as 4:1 or 3:2."""


@dataclass(frozen=True)
class Drift:
    """Bars that are told otherwise now."""

    compared: int
    changed: tuple[Bar, ...]
    """As they are told now."""
    ratio: float | None
    """New price by old, when it is the same for all changed bars; else None."""
    is_doubtful: bool = False
    """All of a few bars are changed: more of them would tell whether that is a split."""

    @property
    def words(self) -> str:
        """What it is, for a person."""
        bars = f"{len(self.changed)} of {self.compared} bars"
        if self.ratio is None:
            return f"IB tells {bars} otherwise than before"
        terms = Fraction(1 / self.ratio).limit_denominator(_TERMS_MAX)
        split = f"{terms.numerator}:{terms.denominator}"
        return f"IB tells all prices in the ratio of a split ({split}, {bars})"


def compare(stored: Iterable[Bar], told: Mapping[int, Bar]) -> Drift | None:
    """How bars that are stored differ from the same ones as told now; None: not at all."""
    pairs = [(old, told[old.start]) for old in stored if old.start in told]
    changed = [(old, new) for old, new in pairs if new != old]
    if not changed:
        return None
    return Drift(
        len(pairs),
        tuple(new for _, new in changed),
        _common_ratio(changed),  # bars that came after a split are told as they are stored
        is_doubtful=len(changed) == len(pairs) < _ENOUGH_BARS,
    )


def _common_ratio(pairs: list[tuple[Bar, Bar]]) -> float | None:
    """What all prices were multiplied by. One of each bar: its prices are rounded alike."""
    ratios = [new.close / old.close for old, new in pairs if old.close]
    if len(ratios) < _LEAST_BARS:
        return None
    ratio = statistics.median(ratios)
    if abs(ratio - 1) < _SPLIT or any(abs(one / ratio - 1) > _ALIKE for one in ratios):
        return None
    return ratio
