"""How long after its end a bar is requested, as IB's answers show that it needs. Pure.

IB documents no time. A bar that is requested too early is missing from the answer, or has other
values when the next answer repeats it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

FIRST_S, LEAST_S, MOST_S = 2.0, 1.0, 30.0
"""The time at first, and its bounds."""
SAMPLE_MOST_S = 120.0
"""Answers that were requested later than this after a bar's end show nothing about its time."""
_WEIGHT = 0.02
_EARLY_SHARE, _SURE_SHARE = 0.05, 0.005
"""Above the first share of early bars the time grows, below the second it shrinks."""
_LONGER, _SHORTER = 1.5, 0.9
_SHORTER_AFTER = 200
"""Confirmed bars since the last change before the time shrinks."""


@dataclass(frozen=True)
class Newest:
    """The newest bar that one answer should have."""

    start: int
    waited_s: float
    """Seconds from its end to the request."""
    was_there: bool


@dataclass(frozen=True)
class _Time:
    """The time for one kind of contract."""

    wait_s: float = FIRST_S
    share: float = 0.0
    """Of bars that were requested too early, the newest counting most."""
    bars: int = 0
    """Since the last change."""

    def after(self, *, is_early: bool) -> _Time:
        """The time after one more bar."""
        share = self.share + _WEIGHT * (is_early - self.share)
        bars = self.bars + 1
        if share > _EARLY_SHARE and is_early:
            return _Time(min(self.wait_s * _LONGER, MOST_S))
        if share < _SURE_SHARE and bars >= _SHORTER_AFTER:
            return _Time(max(self.wait_s * _SHORTER, LEAST_S))
        return replace(self, share=share, bars=bars)


class SettleTimes:
    """The times by kind of contract, such as `STK`; learnt anew after each start."""

    def __init__(self) -> None:
        self._times: dict[str, _Time] = {}
        self._newest: dict[str, Newest] = {}
        """Series → the newest bar of its last answer."""

    def wait_s(self, kind: str) -> float:
        """How long after its end a bar of this kind of contract is requested."""
        return self._times.get(kind, _Time()).wait_s

    def answered(
        self,
        kind: str,
        series: str,
        newest: Newest,
        received: Collection[int],
        revised: Collection[int],
    ) -> None:
        """Learn from an answer, by the newest bar of the answer before it.

        `received`: the starts of all its bars, those beside the requested ones too; `revised`: of
        those that differ from the stored ones. A bar that is missing from both answers shows
        nothing: nobody may have traded.
        """
        before = self._newest.get(series)
        self._newest[series] = newest
        if before is None or before.start not in received or before.waited_s > SAMPLE_MOST_S:
            return
        if before.start == newest.start and newest.waited_s > SAMPLE_MOST_S:
            return
        is_early = not before.was_there or before.start in revised
        self._times[kind] = self._times.get(kind, _Time()).after(is_early=is_early)
