"""Requests in flight: many threads wait for answers, one handles them. Blind to their purpose."""

from __future__ import annotations

import queue
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Generic, TypeVar

T = TypeVar("T")


class InFlight(Generic[T]):
    """Each task is any value of the sender, returned with the result of its request.

    `at_once`: how many may be in flight, which is the number of threads. The connection process
    decides how many of them are under way at IB. For one sending thread.
    """

    def __init__(self, executor: Executor, at_once: int) -> None:
        self._executor = executor
        self._at_once = at_once
        self._tasks: dict[Future[object], T] = {}
        self._finished: queue.SimpleQueue[Future[object]] = queue.SimpleQueue()

    def __len__(self) -> int:
        """How many are in flight."""
        return len(self._tasks)

    @property
    def room(self) -> int:
        """How many more may be sent."""
        return max(0, self._at_once - len(self._tasks))

    @property
    def tasks(self) -> list[T]:
        """Those in flight, oldest first."""
        return list(self._tasks.values())

    def send(self, task: T, request: Callable[[], object]) -> None:
        """Run `request` in another thread."""
        sent = self._executor.submit(request)
        self._tasks[sent] = task
        sent.add_done_callback(self._finished.put)

    def next_finished(self, wait_s: float) -> tuple[T, Future[object]] | None:
        """A finished task, with its result; waits up to `wait_s` for one. None: none has finished.

        Tasks that were cancelled are passed over.
        """
        while self._tasks:
            try:
                done = self._finished.get(timeout=wait_s) if wait_s else self._finished.get_nowait()
            except queue.Empty:
                return None
            task = self._tasks.pop(done, None)
            if task is not None and not done.cancelled():
                return task, done
        return None

    def give_up_waiting(self) -> list[T]:
        """Cancel what no thread has begun yet; returns those tasks."""
        given_up = [task for sent, task in self._tasks.items() if sent.cancel()]
        self._tasks = {f: t for f, t in self._tasks.items() if not f.cancelled()}
        return given_up

    def close(self) -> None:
        """Wait for what is in flight, and send no more."""
        self._executor.shutdown(wait=True, cancel_futures=True)
