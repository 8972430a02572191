"""Requests in flight: many threads wait, one gets the results. Does not know what they are for."""

from __future__ import annotations

import queue
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Generic, TypeVar

T = TypeVar("T")


class InFlight(Generic[T]):
    """Each task is a value of its sender's, and comes back with its result.

    `at_once`: how many may be in flight. For one sending thread.
    """

    def __init__(self, executor: Executor, at_once: int) -> None:
        self._executor = executor
        self._at_once = at_once
        self._tasks: dict[Future[object], T] = {}
        self._back: queue.SimpleQueue[Future[object]] = queue.SimpleQueue()

    def __len__(self) -> int:
        """Those in flight."""
        return len(self._tasks)

    @property
    def room(self) -> int:
        """How many more may be sent."""
        return max(0, self._at_once - len(self._tasks))

    @property
    def tasks(self) -> list[T]:
        """Sent, and not back yet."""
        return list(self._tasks.values())

    def send(self, task: T, request: Callable[[], object]) -> None:
        """Request it in another thread."""
        sent = self._executor.submit(request)
        self._tasks[sent] = task
        sent.add_done_callback(self._back.put)

    def back(self, wait_s: float, most: int | None = None) -> list[tuple[T, Future[object]]]:
        """Finished tasks; waits up to `wait_s` for the first. None of them was given up.

        `most`: how many at most; None: all of them.
        """
        found: list[tuple[T, Future[object]]] = []
        timeout: float | None = wait_s
        while self._tasks and (most is None or len(found) < most):
            try:
                done = self._back.get(timeout=timeout) if timeout else self._back.get_nowait()
            except queue.Empty:
                break
            timeout = None
            if (task := self._tasks.pop(done, None)) is not None and not done.cancelled():
                found.append((task, done))
        return found

    def give_up_waiting(self) -> list[T]:
        """Cancel what no thread has taken up yet; returns those tasks."""
        given_up = [task for sent, task in self._tasks.items() if sent.cancel()]
        self._tasks = {f: t for f, t in self._tasks.items() if not f.cancelled()}
        return given_up

    def close(self) -> None:
        """Wait for what is in flight, and send no more."""
        self._executor.shutdown(wait=True, cancel_futures=True)
