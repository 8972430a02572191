"""A signal between tasks of one event loop: wakes all current waiters, and no later ones."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


class Signal:
    """A signal that, unlike an asyncio.Event, need not be cleared."""

    def __init__(self) -> None:
        self._next = asyncio.Event()

    def wait(self) -> Coroutine[Any, Any, object]:
        """An awaitable that ends with the next `send`, even if it is first awaited after that."""
        return self._next.wait()

    def send(self) -> None:
        """Wake all current waiters."""
        self._next.set()
        self._next = asyncio.Event()
