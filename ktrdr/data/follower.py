"""Waits for the finished bars of some series, for `for` and for `async for`. Reads no file itself.

What is read, and in which order, is decided in `following`.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from ktrdr.data.following import POLL_S, Following
from ktrdr.errors import KtrdrError
from ktrdr.market.bars import Bar
from ktrdr.market.instruments import Series
from ktrdr.store.folder_watch import FolderWatch


@dataclass(frozen=True)
class FinishedBar:
    """A bar that has ended, as it stands in the store."""

    symbol: str
    timeframe: str
    start: datetime
    """UTC; of a daily bar the midnight of its trading day."""
    open: float
    high: float
    low: float
    close: float
    volume: float
    """-1: IB has none."""


class Follower:
    """Each finished bar once, as the store gets it: an iterator and an async iterator.

    For one thread or task at a time. `close`, the end of a `with` or `async with` block, or its
    garbage collection stop it. MalformedFile and StoreUnwritable name a series that cannot be read,
    once; the next call goes on with the others, and with that one when it can be read again.
    """

    def __init__(self, following: Following, timeout_s: float | None = None) -> None:
        """`timeout_s`: end when no bar has come for so long; None: never."""
        self._following = following
        self._timeout_s = timeout_s
        self._ready: deque[FinishedBar | KtrdrError] = deque()
        self._reading = threading.Lock()
        self._changes = _Changes()
        weakref.finalize(self, self._changes.stop_soon).atexit = False
        self._is_closed = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> FinishedBar:
        deadline = self._deadline()
        while not self._ready and not self._is_closed:
            self._changes.clear()
            self._read()
            if not self._ready and not self._changes.wait(_left_s(deadline)):
                self.close()
        return self._next(StopIteration)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> FinishedBar:
        deadline = self._deadline()
        while not self._ready and not self._is_closed:
            self._changes.clear()
            await asyncio.to_thread(self._read)
            if not self._ready and not await self._changes.wait_async(_left_s(deadline)):
                await self.aclose()
        return self._next(StopAsyncIteration)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def close(self) -> None:
        """End it, from any thread; who waits for a bar sees the end of the iteration."""
        self._is_closed = True
        self._changes.stop()

    async def aclose(self) -> None:
        """The same, without holding up the event loop."""
        await asyncio.to_thread(self.close)

    def _deadline(self) -> float | None:
        return None if self._timeout_s is None else time.monotonic() + self._timeout_s

    def _next(self, end: Callable[[], Exception]) -> FinishedBar:
        if self._is_closed or not self._ready:
            raise end()
        found = self._ready.popleft()
        if isinstance(found, KtrdrError):
            raise found
        return found

    def _read(self) -> None:
        """Have the next bars ready. A task that was cancelled meanwhile loses none of them."""
        with self._reading:
            self._changes.start(self._following.folder)
            more = not self._ready
            while more and not self._ready and not self._is_closed:
                bars, errors, more = self._following.next_piece()
                self._ready.extend(_finished(bar, series) for series, bar in bars)
                self._ready.extend(errors)


class _Changes:
    """Wakes the one who waits when files of a folder change. Refers to no follower."""

    def __init__(self) -> None:
        self._changed = threading.Event()
        self._wake: Callable[[], object] = _nothing
        self._watch: FolderWatch | None = None
        self._is_stopped = False

    def start(self, folder: Path) -> None:
        """Watch the folder, if that has not begun."""
        if self._watch is None and not self._is_stopped:
            self._watch = FolderWatch(folder, self._notice)
            self._watch.start()

    def clear(self) -> None:
        """Forget earlier changes: what they concern is read now."""
        self._changed.clear()

    def wait(self, most_s: float) -> bool:
        """Until there is perhaps something to read. False: there was no time to wait."""
        self._changed.wait(max(0.0, most_s))
        return most_s > 0

    async def wait_async(self, most_s: float) -> bool:
        """The same, in a task."""
        loop, woken = asyncio.get_running_loop(), asyncio.Event()
        self._wake = lambda: loop.call_soon_threadsafe(woken.set)
        try:
            if not self._changed.is_set():  # else it was perhaps before there was somebody to wake
                async with asyncio.timeout(max(0.0, most_s)):
                    await woken.wait()
        except TimeoutError:
            pass
        finally:
            self._wake = _nothing
        return most_s > 0

    def stop(self) -> None:
        """End it, and wake who waits."""
        self.stop_soon()
        if self._watch is not None:
            self._watch.stop()

    def stop_soon(self) -> None:
        """The same, without waiting for the end of the thread: it may be the one that calls."""
        self._is_stopped = True
        if self._watch is not None:
            self._watch.stop_soon()
        self._notice(None)

    def _notice(self, _names: set[str] | None) -> None:
        self._changed.set()
        with contextlib.suppress(RuntimeError):  # that event loop has ended
            self._wake()


def _nothing() -> None:
    """Nobody waits in a task."""


def _left_s(deadline: float | None) -> float:
    """How long to wait before looking again."""
    return POLL_S if deadline is None else min(POLL_S, deadline - time.monotonic())


def _finished(bar: Bar, series: Series) -> FinishedBar:
    start, *values = bar
    moment = datetime.fromtimestamp(start, UTC)
    return FinishedBar(series.symbol, series.timeframe.value, moment, *values)
