"""A cached value, fetched again when it is too old: one request for many readers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Latest(Generic[T]):
    """The last value of `fetch`, at most `max_age_s` old. Thread-safe.

    One thread fetches while the others wait for its result. So twenty open pages cost no more
    requests and time than one, also when the peer hangs.
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
        """The value; its age counts from when `fetch` returned. Raises what `fetch` raises."""
        with self._lock:
            if self._held is None or self._clock() - self._held[1] >= self._max_age_s:
                self._held = self._fetch(), self._clock()
            return self._held[0]

    def forget(self) -> None:
        """Have it fetched anew: something was changed."""
        with self._lock:
            self._held = None
