"""The stream reader: waits for finished bars of ib-connection in a thread of its own."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

from ktrdr.errors import KtrdrError
from ktrdr.ipc.client import LocalClient
from ktrdr.ipc.stream_messages import StreamedBar, StreamsMessage

log = logging.getLogger("gap-filler")

_WAIT_S, _TIMEOUT_S, _AGAIN_S = 20.0, 30.0, 2.0
_KEPT = 2000
"""Bars that nobody has taken yet; those beyond are requested, like any that are missing."""


class StreamReader:
    """Reads the bars of all streams. Its thread ends with `stop`."""

    def __init__(self, connection: LocalClient, wake: Callable[[], None]) -> None:
        """`wake`: called, from the thread, when there is something to take."""
        self._connection = connection
        self._wake = wake
        self._bars: deque[StreamedBar] = deque(maxlen=_KEPT)
        self.last: StreamsMessage | None = None
        """The last answer; None: none, or ib-connection does not answer."""
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to read."""
        self._thread = threading.Thread(target=self._run, name="streams", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Read no more; a request that waits ends when its client is aborted."""
        self._stopping.set()

    def take(self) -> list[StreamedBar]:
        """The bars since the last call, oldest first."""
        taken = []
        while self._bars:
            taken.append(self._bars.popleft())
        return taken

    def _run(self) -> None:
        run, number = "", 0
        while not self._stopping.is_set():
            known = {"run": run, "wait_s": f"{_WAIT_S:g}"} if run else {}
            if run and number:
                known["after"] = str(number)
            try:
                found = self._connection.request(
                    StreamsMessage, "GET", "/streams", _TIMEOUT_S, **known
                )
            except KtrdrError as error:
                log.debug("no streams: %s", error)
                self.last = None
                self._stopping.wait(_AGAIN_S)
                continue
            run, number = found.run, found.number
            self._bars.extend(found.bars)
            self.last = found
            if found.bars:
                self._wake()
