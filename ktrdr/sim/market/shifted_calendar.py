"""A calendar shifted by whole weeks with its bars, and extended to bars outside it. No prices."""

from __future__ import annotations

import numpy as np

from ktrdr.sim.market.sessions import DAY_S, Calendar, Int64Array, Wall, to_utc

_NONE = Wall(*(np.empty(0, np.int64) for _ in range(3)))


def weeks_to_last_week(last_wall_s: int, now_wall_s: int) -> int:
    """By how many weeks to shift, so that the last bar is in the week before the current one.

    Weeks begin on Monday 00:00 of the exchange's clock.
    """
    today = now_wall_s // DAY_S
    monday_s = (today - (today + 3) % 7) * DAY_S
    return (monday_s - 1 - last_wall_s) // (7 * DAY_S)


class ShiftedCalendar(Calendar):
    """The sessions of the original dates, shifted to the new ones.

    A half day stays a half day; the calendar of the new date does not matter. A bar outside every
    session extends the session of its trading day, or adds one.
    """

    def __init__(self, original: Calendar, weeks: int, *, regular: bool) -> None:
        """`regular`: the bars are those of regular hours, so these are extended."""
        super().__init__(
            original.zone,
            original.rule,
            eve_s=original.eve_s,
            always_regular=original.always_regular,
        )
        self._days = 7 * weeks
        self._regular = regular
        self._added = _NONE

    def wall(self, first_day: int, last_day: int, *, regular: bool) -> Wall:
        """As in `Calendar`, shifted and extended."""
        by_rule = self._by_rule(first_day, last_day, regular=regular)
        if regular and not self._regular and not self.always_regular:
            return by_rule
        near = (self._added.day >= first_day) & (self._added.day <= last_day)
        return _merged(by_rule, self._added.only(near))

    def cover_bars(self, start: Int64Array, end: Int64Array) -> None:
        """Extend sessions to the starts of all bars (wall-clock seconds, already shifted)."""
        known = self._by_rule(
            int(start[0]) // DAY_S - 4, int(start[-1]) // DAY_S + 4, regular=self._regular
        )
        index = np.maximum(np.searchsorted(known.open, start, side="right") - 1, 0)
        outside = (start < known.open[index]) | (start >= known.close[index])
        start, end = start[outside], end[outside]
        days, first, counts = np.unique(
            self.trading_day(start), return_index=True, return_counts=True
        )
        self._added = Wall(days, start[first], end[first + counts - 1])

    def cover_days(self, days: Int64Array) -> tuple[Int64Array, Int64Array]:
        """Add sessions for days without one; returns all opens and closes, in UTC seconds."""
        first, last = int(days[0]), int(days[-1])
        known = self._by_rule(first - 14, last + 14, regular=self._regular)
        missing = days[~np.isin(days, known.day)]
        opens, closes = ((side - known.day * DAY_S)[0] for side in (known.open, known.close))
        self._added = Wall(missing, missing * DAY_S + opens, missing * DAY_S + closes)
        now = self.wall(first, last, regular=self._regular)
        chosen = now.only(np.isin(now.day, days))
        return to_utc(chosen.open, self.zone), to_utc(chosen.close, self.zone)

    def _by_rule(self, first_day: int, last_day: int, *, regular: bool) -> Wall:
        original = super().wall(first_day - self._days, last_day - self._days, regular=regular)
        by_s = self._days * DAY_S
        return Wall(original.day + self._days, original.open + by_s, original.close + by_s)


def _merged(by_rule: Wall, added: Wall) -> Wall:
    """Both tables in one; a day in both has the earlier open and the later close.

    Sessions never overlap: the earlier one is shortened.
    """
    if not len(added):
        return by_rule
    days, place = np.unique(np.concatenate([by_rule.day, added.day]), return_inverse=True)
    opens = np.full(len(days), np.iinfo(np.int64).max)
    closes = np.full(len(days), np.iinfo(np.int64).min)
    np.minimum.at(opens, place, np.concatenate([by_rule.open, added.open]))
    np.maximum.at(closes, place, np.concatenate([by_rule.close, added.close]))
    closes[:-1] = np.minimum(closes[:-1], opens[1:])
    return Wall(days, opens, closes)
