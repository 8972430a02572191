"""One stream of a forming bar: updates in, finished and sound bars out. Pure.

IB repeats the forming bar as a whole, about every five seconds (TWS API, "keepUpToDate"). It is
finished once the next one begins, or when an update has come after its end and none follows. A bar
whose last update came long before the next bar is left to a request: its end may have been missed.
"""

from __future__ import annotations

from ktrdr.market.bars import Bar
from ktrdr.market.timeframes import Timeframe

SETTLE_S = 0.5
"""How long after an update behind the end of a bar another one may still change it."""
_APART_S = 6.0
"""At most so long before the first update of the next bar is the last one of a bar; else it is not
known to its end: they come every five seconds."""
_AHEAD_S, _BEHIND_S = 60.0, 120.0
"""How far a bar may begin ahead of the time, or have ended behind it."""


class LiveBars:
    """The bars of one stream since it was opened. Times are UTC seconds; keeps one bar."""

    def __init__(self, timeframe: Timeframe, opened_at: float, forming: Bar | None = None) -> None:
        """`forming`: the newest bar of IB's first answer, which has it from its beginning.

        It needs an update, as any other.
        """
        self._timeframe = timeframe
        self._opened_at = opened_at
        self._is_whole = True
        """The forming bar is known from its beginning."""
        self._updated_at = self._gateway_at = float("-inf")
        self._done_until: int | None = None
        """The start of the last bar that is finished."""
        self.problems: dict[str, int] = {}
        """What was wrong with updates → how often."""
        self._forming: Bar | None = None
        if forming is not None and not self._wrong(forming, opened_at):
            self._forming = forming

    def update(self, bar: Bar | None, now: float, behind_s: float = 0.0) -> list[Bar]:
        """The bars that are finished with this update; None: one that cannot be read.

        `behind_s`: how far the gateway's clock is behind.
        """
        why = "unreadable" if bar is None else self._wrong(bar, now)
        if bar is None or why:
            self._note(why)
            return []
        finished: list[Bar] = []
        if self._forming is not None and bar.start == self._forming.start:
            if bar.volume < self._forming.volume:
                self._note("its volume went down")
                self._is_whole = False
        else:
            is_seen_to_end = now - self._updated_at <= _APART_S
            over = self._finish()
            finished = over if is_seen_to_end else []
            self._is_whole = bar.start >= self._opened_at
        self._forming, self._updated_at, self._gateway_at = bar, now, now - behind_s
        return finished

    def settled(self, now: float) -> list[Bar]:
        """The forming bar, if it has ended and an update since then has been the last."""
        due = self.settles_at
        return self._finish() if due is not None and now >= due else []

    @property
    def settles_at(self) -> float | None:
        """When `settled` returns the forming bar, unless an update follows; None: it goes on."""
        if self._forming is None or self._gateway_at < self._forming.start + self._length_s:
            return None
        return self._updated_at + SETTLE_S

    @property
    def _length_s(self) -> int:
        return self._timeframe.length_s

    def _finish(self) -> list[Bar]:
        """The forming bar is over; it, if it is known from its beginning."""
        bar, self._forming = self._forming, None
        if bar is None:
            return []
        self._done_until = bar.start
        return [bar] if self._is_whole else []

    def _wrong(self, bar: Bar, now: float) -> str:
        """What is wrong with a bar; empty: nothing."""
        if not bar.is_sound or not any(bar[1:5]):
            return "invalid prices or volume"
        if not self._timeframe.can_begin_at(bar.start):
            return "it begins at no whole minute"
        if bar.start > now + _AHEAD_S:
            return "it begins in the future"
        return self._out_of_order(bar.start, now)

    def _out_of_order(self, start: int, now: float) -> str:
        known = self._done_until if self._forming is None else self._forming.start
        if known is None:
            is_old = start + self._length_s + _BEHIND_S < now
            return "it has ended long ago" if is_old else ""
        if start < known:
            return "it is older than the one before it"
        is_over = self._forming is None and start == known
        return "it was finished already" if is_over else ""

    def _note(self, why: str) -> None:
        self.problems[why] = self.problems.get(why, 0) + 1
