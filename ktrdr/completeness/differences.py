"""Differences between bars of a file and the same bars at IB, as few as tell them all. Pure.

Consecutive bars that differ in the same manner are one difference: before a split that only one of
the two has adjusted for, or where another source counts volumes otherwise.
"""

from __future__ import annotations

import statistics
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from ktrdr.completeness.revisions import (
    ALIKE,
    ENOUGH_BARS,
    Pair,
    margin,
    median_ratio,
    number_words,
    rounding_unit,
    split_words,
    unit_guess,
)
from ktrdr.market.bars import Bar

_TELLING = 0.0002
"""A factor of prices nearer to 1 than this is not told from rounding."""
_SAME_FACTOR = 0.0003
_FAR = 0.1
"""A factor of prices nearer to 1, as from dividends, is told with all of its digits."""
_ROUGHLY = 10
"""So many times farther off, no common factor that is measured better can fit a price."""
_MOST_ODD = 0.1
"""The share of bars whose volumes may have another factor than the others."""


class Difference(NamedTuple):
    """A bar that IB has otherwise, or consecutive ones that all differ in the same manner."""

    old: Bar
    """As in the file; of several bars, the first one."""
    new: Bar
    """The same bar as IB has it."""
    last: int
    """The start of the last of them (UTC seconds)."""
    bars: int = 1
    price: float | None = None
    """By which factor IB's prices differ from those of the file, of several bars; 1: they do not.

    None: it is one bar.
    """
    volume: float | None = None
    """The same of volumes; None: by no common one, or it is one bar."""

    @property
    def first(self) -> int:
        """The start of the first of them (UTC seconds)."""
        return self.old.start

    @property
    def words(self) -> str:
        """In what manner several bars differ, for a person; empty: it is one bar."""
        if self.price is None:
            return ""
        if self.price == 1:
            if self.volume is None:
                return "the volumes differ, and no prices"
            times = number_words(self.volume)
            return f"IB has all volumes times {times}{unit_guess(self.volume)}"
        split = split_words(self.price)
        because = f" (a split, {split}?)" if split else unit_guess(self.price)
        is_far = abs(self.price - 1) > _FAR
        times = number_words(self.price) if is_far else f"{self.price:.4f}"
        prices = f"IB has all prices times {times}{because}"
        if self.volume is None:
            return f"{prices}; volumes differ too, by no common factor"
        if self.volume == 1:
            return prices
        return f"{prices}, and all volumes times {number_words(self.volume)}"


class ComparedBars(NamedTuple):
    """What is known of how the bars of a file with rows of others compare with IB's."""

    differ: int = 0
    """So many bars differ, of those that were compared."""
    total: int = 0
    """Imported bars in the file; 0: there are none, or it is not known."""
    compared: int = 0
    """How many of these were compared with IB's."""
    absent: int = 0
    """How many of these IB does not have."""
    is_over: bool = False
    """All of them were requested that IB has."""


def differences(pairs: Sequence[Pair]) -> list[Difference]:
    """The differences of these bars, as stored and as received now, oldest first."""
    found, at = [], 0
    while at < len(pairs):
        old, new = pairs[at]
        if old == new:
            at += 1
            continue
        price, count = _alike_from(pairs, at)
        if count < ENOUGH_BARS:
            found.append(Difference(old, new, old.start))
            at += 1
        else:
            run = pairs[at : at + count]
            volume = _volume_factor(run)
            found.append(Difference(old, new, run[-1][0].start, count, price, volume))
            at += count
    return found


def joined(found: Sequence[Difference], pairs: Sequence[Pair]) -> list[Difference]:
    """These differences, oldest first, with those made one that have only each other beside them.

    `pairs`: the bars that were compared; between two that become one there is none of them.
    """
    starts = [old.start for old, _ in pairs]
    made: list[Difference] = []
    for one in found:
        before = made[-1] if made else None
        if before is not None and _are_one(before, one) and not _any(starts, before, one):
            count = before.bars + one.bars
            made[-1] = before._replace(last=one.last, bars=count)
        else:
            made.append(one)
    return made


def _any(starts: Sequence[int], before: Difference, after: Difference) -> bool:
    """Whether one of these starts, in order, lies between the two."""
    return bisect_right(starts, before.last) < bisect_left(starts, after.first)


def _are_one(one: Difference, other: Difference) -> bool:
    if one.price is None or other.price is None or abs(one.price / other.price - 1) > _SAME_FACTOR:
        return False
    if one.volume is None or other.volume is None:
        return one.volume is other.volume
    return abs(one.volume / other.volume - 1) <= ALIKE


def _alike_from(pairs: Sequence[Pair], at: int) -> tuple[float | None, int]:
    """The factor of prices of the bar at this place, and how many from it on have the same."""
    rest = (pairs[place] for place in range(at, len(pairs)))
    if _prices(pairs[at][0]) == _prices(pairs[at][1]):
        return 1.0, _count(_prices(old) == _prices(new) and old != new for old, new in rest)
    price, unit = _price_factor(pairs[at : at + ENOUGH_BARS])
    if price is None:
        return None, 1
    return price, _count(
        all(
            abs(y - x * price) <= _misfit(y, unit)
            for x, y in zip(_prices(old), _prices(new), strict=True)
        )
        for old, new in rest
    )


def _price_factor(some: Sequence[Pair]) -> tuple[float | None, float]:
    """The common factor of all prices, which is not 1, and the unit to which they are rounded."""
    closes = [new.close / old.close for old, new in some if old.close * new.close > 0]
    guess = statistics.median(closes) if len(closes) >= ENOUGH_BARS else 1.0
    if abs(guess - 1) < _TELLING:
        return None, 0.0
    old_unit, new_unit = (min(_unit(pair[side]) for pair in some) for side in (0, 1))
    about = max(old_unit * guess, new_unit)
    nearly = [(new.close, new.close - old.close * guess) for old, new in some]
    if any(abs(off) > _ROUGHLY * _misfit(price, about) for price, off in nearly):
        return None, 0.0
    olds, news = ([p for pair in some for p in _prices(pair[side])] for side in (0, 1))
    factor = median_ratio(list(zip(olds, news, strict=True)))
    if factor is None:
        return None, 0.0
    unit = max(old_unit * factor, new_unit)
    is_told = all(abs(new.close - old.close) > 2 * unit for old, new in some)
    return (factor, unit) if is_told else (None, 0.0)


@lru_cache(4 * ENOUGH_BARS)
def _unit(bar: Bar) -> float:
    """The unit to which its prices are rounded; each is in the samples of several bars."""
    return rounding_unit(_prices(bar))


def _misfit(price: float, unit: float) -> float:
    """How far a price may be from that of the file times the factor."""
    return 1.5 * unit + ALIKE / 20 * abs(price)


def _volume_factor(run: Sequence[Pair]) -> float | None:
    """The common factor of nearly all volumes; None: there is none."""
    numbers = [(old.volume, new.volume) for old, new in run]
    factor = median_ratio(numbers)
    if factor is None:
        return 1.0 if all(old == new for old, new in numbers) else None
    unit = max(factor, 1.0)
    odd = sum(abs(new - old * factor) > margin(new, unit) for old, new in numbers)
    if odd > _MOST_ODD * len(run):
        return None
    is_same = abs(factor - 1) <= ALIKE and sum(a != b for a, b in numbers) <= _MOST_ODD * len(run)
    return 1.0 if is_same else factor


def _count(each: Iterable[bool]) -> int:
    """How many are true from the first on."""
    count = 0
    for is_so in each:
        if not is_so:
            break
        count += 1
    return count


def _prices(bar: Bar) -> tuple[float, float, float, float]:
    return bar.open, bar.high, bar.low, bar.close
