"""The status app at its real listener, in this process, for clients on real sockets."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from waitress.wasyncore import close_all, loop

from ktrdr.config.settings import Settings
from ktrdr.web import create_app
from ktrdr.web.connection_limits import LIMITS, Limits
from ktrdr.web.listener import listen


@contextlib.contextmanager
def listening(settings: Settings, limits: Limits = LIMITS) -> Iterator[None]:
    """The app of these settings at its port."""
    sockets: dict[int, Any] = {}
    dispatcher = listen(create_app(settings), settings, sockets, limits)
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            loop(timeout=0.05, use_poll=True, map=sockets, count=1)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        dispatcher.shutdown(timeout=5)
        close_all(sockets)
