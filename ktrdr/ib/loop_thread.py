"""The thread of the connection: an event loop of its own, which runs one main coroutine."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from ktrdr.errors import NotConnected

log = logging.getLogger("ib-connection")

T = TypeVar("T")

_STOP_S = 8.0
_STOPPED = "the connection manager was stopped"


class LoopThread:
    """May be started again after a stop. `new_loop` makes the event loop of each start."""

    def __init__(self, new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        self._new_loop = new_loop
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._calls = threading.Lock()
        self._main: asyncio.Task[None] | None = None
        self.broken: BaseException | None = None
        """The error that ended the main coroutine unexpectedly; None: it did not."""
        self._notify_broken: Callable[[], object] | None = None

    def __repr__(self) -> str:
        return f"<LoopThread {'running' if self.is_started else 'stopped'}>"

    # Any thread.

    @property
    def is_started(self) -> bool:
        """Whether there is a thread; True until `stop` has finished."""
        return self._thread is not None

    @property
    def time(self) -> float:
        """The loop's clock in seconds; infinite without a loop."""
        loop = self._loop
        return loop.time() if loop else float("inf")

    def start(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run `main` in the thread until `stop`; it must not end before."""
        self.broken = None
        self._loop = self._new_loop()
        self._thread = threading.Thread(
            target=self._run, args=(self._loop, main), name="ib-connection", daemon=True
        )
        self._thread.start()

    def when_broken(self, notify: Callable[[], object]) -> None:
        """Call `notify` if the main coroutine ends unexpectedly, from the thread; see `broken`."""
        self._notify_broken = notify
        if self.broken is not None:
            notify()

    def stop(self, finish: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        """Cancel the main coroutine, run `finish`, and end the thread; False: there was none."""
        with self._calls:
            loop, self._loop = self._loop, None  # from here on no new work is accepted
        if self._thread is None or loop is None:
            return False
        try:
            asyncio.run_coroutine_threadsafe(self._end(finish), loop).result(_STOP_S)
        finally:
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join(_STOP_S)
            self._thread = None
        return True

    def call(self, work: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
        """Run a coroutine on the loop, and wait for it. NotConnected: stopped meanwhile."""
        requested = self._submit(work)
        try:
            return requested.result(timeout_s)
        except concurrent.futures.CancelledError:
            raise NotConnected(_STOPPED) from None

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The same for a coroutine on any loop, whose cancellation cancels `work` too."""
        requested = self._submit(work)
        try:
            return await asyncio.wrap_future(requested)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise NotConnected(_STOPPED) from None

    def _submit(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        try:
            with self._calls:
                return asyncio.run_coroutine_threadsafe(work, self._running_loop())
        except NotConnected:
            work.close()
            raise

    def call_soon(self, work: Callable[[], object]) -> None:
        """Call `work` on the loop, and do not wait. NotConnected: there is no loop."""
        self._running_loop().call_soon_threadsafe(work)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            raise NotConnected("the connection manager is not started", hint="call start()")
        return self._loop

    # The thread.

    def _run(
        self, loop: asyncio.AbstractEventLoop, main: Callable[[], Coroutine[Any, Any, None]]
    ) -> None:
        asyncio.set_event_loop(loop)
        self._main = loop.create_task(main())
        self._main.add_done_callback(self._main_ended)
        loop.run_forever()
        while left := asyncio.all_tasks(loop):
            for task in left:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()

    def _main_ended(self, main: asyncio.Task[None]) -> None:
        """Report a main coroutine that ended unexpectedly: nothing would be answered any more."""
        if main.cancelled():
            return
        self.broken = main.exception()
        log.critical(
            "the connection's main coroutine has ended: %r", self.broken, exc_info=self.broken
        )
        if self._notify_broken is not None:
            self._notify_broken()

    async def _end(self, finish: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if self._main is not None:
            self._main.cancel()
            await asyncio.wait({self._main})
        await finish()
