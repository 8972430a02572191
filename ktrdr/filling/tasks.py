"""Questions under way: many threads ask, one hears what came of it. It knows nothing of them."""

from __future__ import annotations

import queue
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Generic, TypeVar

E = TypeVar("E")


class Errands(Generic[E]):
    """Each errand is a value of its sender's, and comes back with what was found.

    `at_once`: how many may be under way. For one sending thread.
    """

    def __init__(self, executor: Executor, at_once: int) -> None:
        self._executor = executor
        self._at_once = at_once
        self._under_way: dict[Future[object], E] = {}
        self._back: queue.SimpleQueue[Future[object]] = queue.SimpleQueue()

    def __len__(self) -> int:
        """Those under way."""
        return len(self._under_way)

    @property
    def room(self) -> int:
        """How many more may be sent."""
        return max(0, self._at_once - len(self._under_way))

    @property
    def under_way(self) -> list[E]:
        """Sent, and not back yet."""
        return list(self._under_way.values())

    def send(self, errand: E, ask: Callable[[], object]) -> None:
        """Ask in another thread."""
        asked = self._executor.submit(ask)
        self._under_way[asked] = errand
        asked.add_done_callback(self._back.put)

    def back(self, wait_s: float, most: int | None = None) -> list[tuple[E, Future[object]]]:
        """Those that are back; the first is waited for so long. None of them was given up.

        `most`: how many at most; None: all of them.
        """
        found: list[tuple[E, Future[object]]] = []
        timeout: float | None = wait_s
        while self._under_way and (most is None or len(found) < most):
            try:
                done = self._back.get(timeout=timeout) if timeout else self._back.get_nowait()
            except queue.Empty:
                break
            timeout = None
            if (errand := self._under_way.pop(done, None)) is not None and not done.cancelled():
                found.append((errand, done))
        return found

    def give_up_waiting(self) -> list[E]:
        """Do not ask what has not been asked yet; which that was."""
        given_up = [errand for asked, errand in self._under_way.items() if asked.cancel()]
        self._under_way = {f: e for f, e in self._under_way.items() if not f.cancelled()}
        return given_up

    def close(self) -> None:
        """Wait for what is under way, and ask no more."""
        self._executor.shutdown(wait=True, cancel_futures=True)
