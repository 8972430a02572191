"""Damage to the updates of a stream: correct forms of bars in, damaged ones out. Sends nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np

from ktrdr.sim.gateway.live_updates import EVERY_S
from ktrdr.sim.market.bars import Bars
from ktrdr.sim.market.sessions import DAY_S

_OF = 3
"""One bar of so many is skipped."""


def in_other_unit(bars: Bars, of: str, factor: float) -> Bars:
    """Bars with all prices, or all volumes as `of` says, times `factor`; -1 (none) is unchanged."""
    if of == "volume":
        volume = np.where(bars.volume > 0, np.rint(bars.volume * factor), bars.volume)
        return replace(bars, volume=volume.astype(np.int64))
    opens, high, low, close = (
        np.round(side * factor, 8) for side in (bars.open, bars.high, bars.low, bars.close)
    )
    return replace(bars, open=opens, high=high, low=low, close=close)


class WrongUpdates:
    """The updates of one stream, made wrong in one way. A form is a single bar."""

    def __init__(self, how: str, length_s: int) -> None:
        """`how`: a key of `WRONG_UPDATES`. `length_s`: of the bars."""
        self.how = how
        self.length_s = length_s
        self.held: list[Bars] = []
        """Last forms that wait for the next one."""
        self._last: Bars | None = None
        self.earlier: Bars | None = None
        """The last form of the bar before the current one."""

    def apply(self, forms: Iterable[Bars], mark_s: int) -> list[Bars]:
        """What is sent instead of these forms at `mark_s`, in UTC seconds."""
        return [wrong for form in forms for wrong in self._of(form, mark_s)]

    def _of(self, form: Bars, mark_s: int) -> list[Bars]:
        if self._last and form.start[0] > self._last.start[0]:
            self.earlier = self._last
        self._last = form
        return WRONG_UPDATES[self.how](self, form, mark_s)

    def number(self, form: Bars) -> int:
        """The number of a bar, which the next one follows."""
        return int(form.start[0]) // self.length_s

    def is_last(self, form: Bars, mark_s: int) -> bool:
        """Whether a bar of up to an hour has ended."""
        return mark_s >= (self.number(form) + 1) * self.length_s


def _skipped(updates: WrongUpdates, form: Bars, _: int) -> list[Bars]:
    return [] if updates.number(form) % _OF == 1 else [form]


def _backwards(updates: WrongUpdates, form: Bars, _: int) -> list[Bars]:
    return [form, updates.earlier] if updates.earlier else [form]


def _yesterday(_: WrongUpdates, form: Bars, __: int) -> list[Bars]:
    return [form, replace(form, start=form.start - DAY_S, end=form.end - DAY_S)]


def _less_volume(_: WrongUpdates, form: Bars, mark_s: int) -> list[Bars]:
    is_less = mark_s // EVERY_S % 2 == 0
    return [replace(form, volume=form.volume // 2) if is_less and form.volume[0] > 0 else form]


def _together(updates: WrongUpdates, form: Bars, mark_s: int) -> list[Bars]:
    if not updates.is_last(form, mark_s):
        return []
    held = [*updates.held, form]
    updates.held = [] if updates.number(form) % 2 else held
    return held if updates.number(form) % 2 else []


def _revised(_: WrongUpdates, form: Bars, __: int) -> list[Bars]:
    volume = np.where(form.volume > 0, form.volume * 9 // 10, form.volume)
    return [replace(form, close=form.open, volume=volume)]


def _unfinished(updates: WrongUpdates, form: Bars, mark_s: int) -> list[Bars]:
    return [] if updates.is_last(form, mark_s) else [form]


WRONG_UPDATES: dict[str, Callable[[WrongUpdates, Bars, int], list[Bars]]] = {
    "repeated": lambda _, form, __: [form, form],
    "skipped": _skipped,
    "backwards": _backwards,
    "yesterday": _yesterday,
    "less_volume": _less_volume,
    "together": _together,
    "revised": _revised,
    "unfinished": _unfinished,
}
"""Every form twice; one bar of three never; after each form the bar before it, or the same bar with
yesterday's date; half the volume at every second form, the last one included; last forms alone, two
bars at once; a close and a volume that history does not confirm; no last form."""
