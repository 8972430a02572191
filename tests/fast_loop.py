"""An event loop whose clock runs fast, and a wall clock beside it: hours of retries in seconds."""

import asyncio
import selectors
import time
from datetime import UTC, datetime, timedelta


class _FastSelector(selectors.DefaultSelector):
    """Waits for a fraction of what it is told to."""

    speed = 1.0

    def select(self, timeout=None):
        if timeout is not None and timeout > 0:
            timeout /= self.speed
        return super().select(timeout)


class FastLoop(asyncio.SelectorEventLoop):
    """All waiting goes by a clock that runs `speed` times as fast as the machine's."""

    def __init__(self, speed: float) -> None:
        selector = _FastSelector()
        selector.speed = speed
        super().__init__(selector)
        self._speed = speed
        self._began = time.monotonic()

    def time(self) -> float:
        return self._began + (time.monotonic() - self._began) * self._speed


class FastClock:
    """A wall clock that shows `start` when it is made, and runs as fast."""

    def __init__(self, start: datetime, speed: float) -> None:
        self._start = start.astimezone(UTC)
        self._speed = speed
        self._began = time.monotonic()

    def __call__(self) -> datetime:
        return self._start + timedelta(seconds=(time.monotonic() - self._began) * self._speed)
