"""SIGTERM and SIGINT as an event."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType


def stop_on_signals(stop: threading.Event) -> None:
    """Set `stop` at SIGTERM and SIGINT. For the main thread.

    A thread sets it: the handler may run within `stop.wait`, which holds the lock that `set` takes.
    """
    heard, said = os.pipe()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        os.write(said, b"\0")

    def listen() -> None:
        os.read(heard, 1)
        stop.set()

    threading.Thread(target=listen, name="signals", daemon=True).start()
    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
