"""A cached value, fetched again when it is too old: one request for many readers."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

BRIDGED_S = 3.0
"""How much older a value may be while a newer one is being fetched: longer than peers may take."""


class Latest(Generic[T]):
    """The last value of `fetch`, at most `max_age_s` old. Thread-safe.

    One thread fetches; the others have the value before meanwhile, or wait for the result if that
    is older than BRIDGED_S more. So twenty open pages cost no more requests and time than one, also
    when the peer hangs, and a peer that is slow for once holds up one request.

    `ahead_s`: who asks for a value that will be too old so soon has it fetched beside, in a thread
    of its own, and does not wait. So where many ask, none of them does.
    """

    def __init__(
        self,
        fetch: Callable[[], T],
        max_age_s: float,
        clock: Callable[[], float] = time.monotonic,
        ahead_s: float = 0.0,
    ) -> None:
        self._fetch = fetch
        self._max_age_s = max_age_s
        self._ahead_s = ahead_s
        self._clock = clock
        self._lock = threading.Lock()
        self._held: tuple[T, float] | None = None

    def get(self) -> T:
        """The value; its age counts from when `fetch` returned. Raises what `fetch` raises."""
        held = self._held
        if held is not None and (age_s := self._age_s(held)) < self._max_age_s:
            if age_s >= self._max_age_s - self._ahead_s:
                self._renew_beside()
            return held[0]
        if not self._lock.acquire(blocking=False):
            if held is not None and self._age_s(held) < self._max_age_s + BRIDGED_S:
                return held[0]
            self._lock.acquire()
        try:
            if self._held is None or self._age_s(self._held) >= self._max_age_s:
                self._held = self._fetch(), self._clock()
            return self._held[0]
        finally:
            self._lock.release()

    def _renew_beside(self) -> None:
        """Fetch in a thread, unless somebody fetches."""
        if self._lock.acquire(blocking=False):
            try:
                threading.Thread(target=self._renew, name="renew", daemon=True).start()
            except RuntimeError:  # no thread can be had; who comes when it is too old fetches
                self._lock.release()

    def _renew(self) -> None:
        """Fetch and release the lock. An error is for who fetches again when it is too old."""
        try:
            with contextlib.suppress(Exception):
                self._held = self._fetch(), self._clock()
        finally:
            self._lock.release()

    def _age_s(self, held: tuple[T, float]) -> float:
        return self._clock() - held[1]

    def forget(self) -> None:
        """Have it fetched anew: something was changed."""
        with self._lock:
            self._held = None
