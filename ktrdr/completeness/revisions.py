"""Revisions: bars that IB now sends otherwise than stored, and when to accept that. Pure.

All of them differ by one factor after a split, or after a change of unit (cents for dollars).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from ktrdr.market.bars import Bar

_LEAST_BARS = 3
"""Fewer bars than this can have a factor in common by chance."""
ENOUGH_BARS = 10
ALIKE, _SPLIT = 0.002, 0.02
"""Factors that differ by less are equal; one nearer to 1 counts only if all of many have it."""
_ODD_ONE_IN = 10
"""One bar in this many may also have been revised by itself: the newest ones sometimes are."""
_TERM_MAX, _SMALL_TERM_MAX = 50, 5
"""A split is a ratio of small numbers, such as 4:1, 3:2 or 1:10."""
_UNITS = frozenset(10.0**exponent for exponent in range(2, 10))
"""A power of ten this large is more likely a change of unit (cents, lots of 100) than a split."""

Pair = tuple[Bar, Bar]
"""A bar as stored, and as received now."""
Numbers = tuple[float, ...]
"""The numbers of a bar that have the same unit."""


@dataclass(frozen=True)
class Revision:
    """Bars that differ from the stored ones."""

    compared: int
    changed: tuple[Bar, ...]
    """As received now."""
    price: float | None = None
    """The common factor of all prices; None: unchanged, or no common one."""
    volume: float | None = None
    """The same of the volumes."""
    unclear_at: int | None = None
    """A bar near which more bars would show whether all were revised; None: it is clear.

    UTC seconds.
    """
    is_known: bool = False
    """It is of rows of others, and all of it is on record already."""

    def is_whole(self, *, is_adjusted: bool = False) -> bool:
        """All bars of the series were revised, including those not compared.

        `is_adjusted`: prices are adjusted up to now (CONTFUT, ADJUSTED_LAST), so all of them change
        when one does, though by no common factor.
        """
        if self.price is not None or self.volume is not None:
            return True
        return is_adjusted and len(self.changed) == self.compared >= ENOUGH_BARS

    @property
    def words(self) -> str:
        """A description for a person."""
        bars = f"{len(self.changed)} of {self.compared} bars"
        if not self.is_whole():
            return f"IB revised {bars}"
        split = split_words(self.price)
        if split and self.volume is None:
            return f"IB revised all prices by a split ratio ({split}, {bars})"
        if self.price and self.volume and abs(self.price * self.volume - 1) <= 2 * ALIKE:
            split = split or _terms(self.price)
            return f"IB revised all prices and volumes by a split ratio ({split}, {bars})"
        received = [
            f"all {name} times {number_words(factor)}{unit_guess(factor)}"
            for name, factor in (("prices", self.price), ("volumes", self.volume))
            if factor is not None
        ]
        return f"IB revised {' and '.join(received)}, {bars}"


def compare(
    stored: Iterable[Bar], received: Mapping[int, Bar], requested: tuple[int, int] | None = None
) -> Revision | None:
    """How stored bars differ from the same bars as received now; None: not at all.

    `requested`: the interval of the request (UTC seconds, `[start, end)`). Bars stored before it
    may have another unit than those after it.
    """
    there = [old for old in stored if old.start in received]
    now = [received[old.start] for old in there]
    if there == now:
        return None
    pairs = list(zip(there, now, strict=True))
    changed = [(old, new) for old, new in pairs if new != old]
    # Only of the changed bars: bars stored after a split are unchanged.
    price, volume = _common(pairs, changed, _prices), _common(pairs, changed, _volume)
    unclear = _unclear(pairs, requested or (0, 0))
    if not unclear and price is None and volume is not None:
        unclear = changed if len(changed) < ENOUGH_BARS else []
    unclear_at = unclear[0][1].start if unclear else None
    return Revision(len(pairs), tuple(new for _, new in changed), price, volume, unclear_at)


def _unclear(pairs: Sequence[Pair], requested: tuple[int, int]) -> Sequence[Pair]:
    """Changed bars, if they are few and no others were compared, at least on one side."""
    before = [pair for pair in pairs if pair[0].start < requested[0]]
    after = [pair for pair in pairs if pair[0].start >= requested[1]]
    for some in (pairs, before, after):
        changed = [(old, new) for old, new in some if new != old]
        if 0 < len(changed) < ENOUGH_BARS and _are_all(some, changed):
            return changed
    return []


def _prices(bar: Bar) -> Numbers:
    return bar.open, bar.high, bar.low, bar.close


def _volume(bar: Bar) -> Numbers:
    return (bar.volume,)


def _are_all(pairs: Sequence[Pair], changed: Sequence[Pair]) -> bool:
    """Every bar that a change of unit would change is changed (a volume of 0 stays 0)."""
    has_prices = any(_prices(old) != _prices(new) for old, new in changed)
    return not any(old == new and (has_prices or old.volume > 0) for old, new in pairs)


def _common(
    pairs: Sequence[Pair], changed: Sequence[Pair], numbers: Callable[[Bar], Numbers]
) -> float | None:
    """The common factor of these numbers in all changed bars.

    At least three bars show it beyond rounding; ten, if the change is tiny.
    """
    received = [(numbers(old), numbers(new)) for old, new in changed]
    factor = median_ratio([pair for old, new in received for pair in zip(old, new, strict=True)])
    if factor is None:
        return None
    olds, news = (
        rounding_unit(number for pair in received for number in pair[side]) for side in (0, 1)
    )
    unit = max(olds * factor, news)

    def misfits(some: Sequence[tuple[Numbers, Numbers]]) -> bool:
        odd = sum(not _fits(old, new, factor, unit) for old, new in some)
        return odd * _ODD_ONE_IN > len(some)

    telling = sum(abs(new[-1] - old[-1]) > 2 * margin(new[-1], unit) for old, new in received)
    if telling < _LEAST_BARS or misfits(received):
        return None
    if abs(factor - 1) >= _SPLIT:
        return factor
    are_all = not misfits([(numbers(old), numbers(new)) for old, new in pairs])
    return factor if telling >= ENOUGH_BARS and are_all else None


def median_ratio(numbers: Sequence[tuple[float, float]]) -> float | None:
    """The median ratio of new to old; large numbers, which rounding affects less, weigh more."""
    ratios = sorted((new / old, abs(old)) for old, new in numbers if old * new > 0)
    left = sum(weight for _, weight in ratios) / 2
    for ratio, weight in ratios:
        left -= weight
        if left <= 0:
            return ratio
    return None


def _fits(old: Numbers, new: Numbers, factor: float, unit: float) -> bool:
    """Each number was multiplied by this factor, within rounding."""
    return all(abs(y - x * factor) <= margin(y, unit) for x, y in zip(old, new, strict=True))


def margin(number: float, unit: float) -> float:
    """How far a number may be from what it should be, if it was rounded to multiples of `unit`."""
    return max(unit, ALIKE * abs(number))


def rounding_unit(numbers: Iterable[float]) -> float:
    """The rounding unit: the largest power of ten, up to 1, of which all are multiples."""
    digits = (len(f"{number:.8f}".rstrip("0").partition(".")[2]) for number in numbers)
    return 10.0 ** -max(digits, default=0)


def split_words(price: float | None) -> str:
    """New shares for old ones, such as 4:1 for a quarter of the price; empty: not a split."""
    if price is None or price <= 0:
        return ""
    terms = _fraction(1 / price)
    numbers = sorted((terms.numerator, terms.denominator))
    is_split = numbers[0] <= _SMALL_TERM_MAX and numbers[1] <= _TERM_MAX and terms != 1
    return _terms(price) if is_split else ""


def _terms(price: float) -> str:
    terms = _fraction(1 / price)
    return f"{terms.numerator}:{terms.denominator}"


def _fraction(ratio: float) -> Fraction:
    """The simplest fraction of the same ratio, within rounding."""
    if ratio < 1:
        return 1 / _fraction(1 / ratio)
    for most in range(1, 1000):
        found = Fraction(ratio).limit_denominator(most)
        if abs(found / ratio - 1) <= ALIKE:
            return found
    return Fraction(ratio)


def number_words(factor: float) -> str:
    """The factor with as few digits as are needed."""
    texts = [f"{factor:.{digits}g}" for digits in range(1, 5)]
    return f"{float(next((t for t in texts if abs(float(t) / factor - 1) <= ALIKE), texts[-1])):g}"


def unit_guess(factor: float) -> str:
    """What else than a split a factor may mean, to follow it; else empty."""
    is_unit = float(number_words(max(factor, 1 / factor))) in _UNITS
    return " (a change of unit?)" if is_unit else ""
