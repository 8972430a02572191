"""A clock whose speed is set while it runs, and event loops that wait by it. Measures nothing."""

from __future__ import annotations

import asyncio
import selectors
import threading
import time
from datetime import UTC, datetime, timedelta

_LOOK_S = 0.02
"""The longest real wait, after which a new speed is noticed."""


class PlayedTime:
    """One time for a gateway, a connection and a gap filler. For any thread."""

    def __init__(self, start: datetime) -> None:
        self._start = start.astimezone(UTC)
        self._played = (time.monotonic(), 0.0, 1.0)
        """Real seconds, seconds of this clock at that moment, and the speed since; replaced."""

    @property
    def speed(self) -> float:
        """How many times as fast as the machine's clock it runs."""
        return self._played[2]

    def play(self, speed: float) -> None:
        """Run so many times as fast from now on."""
        self._played = (time.monotonic(), self.monotonic(), speed)

    def monotonic(self) -> float:
        """Seconds since its start."""
        real, played, speed = self._played
        return played + (time.monotonic() - real) * speed

    def now(self) -> datetime:
        """The wall clock."""
        return self._start + timedelta(seconds=self.monotonic())

    def timestamp(self) -> float:
        """The same in UTC seconds."""
        return self.now().timestamp()

    def wait(self, seconds: float, woken: threading.Event | None = None) -> None:
        """Wait by this clock, or until `woken` is set; that is cleared."""
        until, woken = self.monotonic() + seconds, woken or threading.Event()
        while (left_s := until - self.monotonic()) > 0:
            if woken.wait(min(left_s / self.speed, _LOOK_S)):
                break
        woken.clear()

    def new_loop(self) -> asyncio.AbstractEventLoop:
        """An event loop that waits by this clock."""
        return _PlayedLoop(self)


class _PlayedSelector(selectors.DefaultSelector):
    """Waits for what is left in real time, and looks again soon: the speed may change."""

    def __init__(self, played: PlayedTime) -> None:
        super().__init__()
        self._time = played

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout > 0:
            timeout = min(timeout / self._time.speed, _LOOK_S)
        return super().select(timeout)


class _PlayedLoop(asyncio.SelectorEventLoop):
    def __init__(self, played: PlayedTime) -> None:
        super().__init__(_PlayedSelector(played))
        self._time = played

    def time(self) -> float:
        return self._time.monotonic()
