"""A signal between tasks of one event loop: wakes all who wait for it now, and nobody later."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


class Signal:
    """Unlike an asyncio.Event it need not be cleared."""

    def __init__(self) -> None:
        self._next = asyncio.Event()

    def wait(self) -> Coroutine[Any, Any, object]:
        """What ends with the next `send`, also where it is only begun to be awaited after that."""
        return self._next.wait()

    def send(self) -> None:
        """Wake all who wait."""
        self._next.set()
        self._next = asyncio.Event()
