"""The rate at which bars of a fill have arrived lately, and how long the rest takes. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from ktrdr.completeness.fill import Counts
from ktrdr.completeness.gaps import FILLABLE
from ktrdr.completeness.throughput import span_words

_OVER_S = 60.0
"""The rate is that of the last minute."""
_APART_S = 0.5
_LEAST_S, _SPREAD = 3.0, 1.5
"""How long bars must have arrived before there is a rate, and its uncertainty factor."""


@dataclass(frozen=True)
class RecentCounts:
    """How many bars of a fill were there at some times of the last minute."""

    counts: tuple[tuple[float, int], ...] = ()
    """Times (s) and bars, oldest first."""

    def with_count(self, now: float, present: int) -> RecentCounts:
        """With one more count; older ones than a minute are dropped."""
        kept = [one for one in self.counts if now - _OVER_S <= one[0] < now]
        if len(kept) > 1 and now - kept[-2][0] < _APART_S:
            kept.pop()
        return RecentCounts((*kept, (now, present)))

    @property
    def bars_per_s(self) -> float | None:
        """The rate; None: not known yet. The time before the first new bar does not count."""
        if len(self.counts) < 2:
            return None
        (_, before), (now, present) = self.counts[0], self.counts[-1]
        began = max(at for at, bars in self.counts if bars == before)
        if present <= before or now - began < _LEAST_S:
            return None
        return (present - before) / (now - began)


def eta_words(counts: Counts, bars_per_s: float | None) -> str:
    """How long the bars that can still be filled take at this rate; empty: not known."""
    left = sum(counts.missing.get(reason.value, 0) for reason in FILLABLE)
    if not bars_per_s or not left:
        return ""
    likely_s = left / bars_per_s
    return span_words(likely_s / _SPREAD, likely_s * _SPREAD)
