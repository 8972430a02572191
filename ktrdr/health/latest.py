"""One answer for many callers: a value that is requested again once it is too old."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Latest(Generic[T]):
    """The last value of `fetch`, at most `max_age_s` old. Thread-safe.

    One thread asks while the others wait for its answer, so twenty open pages cost a peer that
    hangs, and the threads that wait for it, no more than one does.
    """

    def __init__(
        self,
        fetch: Callable[[], T],
        max_age_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch = fetch
        self._max_age_s = max_age_s
        self._clock = clock
        self._lock = threading.Lock()
        self._held: tuple[T, float] | None = None

    def get(self) -> T:
        """The value; its age counts from the moment the answer came. Raises what `fetch` raises."""
        with self._lock:
            if self._held is None or self._clock() - self._held[1] >= self._max_age_s:
                self._held = self._fetch(), self._clock()
            return self._held[0]
