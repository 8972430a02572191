"""Sends all streams their events: one thread for all of them, while there are any.

A stream costs no thread and little memory: what its client does not take now stays in the files,
and is read when there is room. So a slow client delays nobody.
"""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

from ktrdr.data.following import POLL_S
from ktrdr.store.folder_watch import FolderWatch
from ktrdr.web.event_stream import HEARTBEAT, EventStream
from ktrdr.web.open_answers import OpenAnswer

MOST_STREAMS = 64
"""More are refused: each has a connection, and of those a client has a hundred."""
_HEARTBEAT_S = 15.0
_SOON_S = 10.0
"""From being admitted to being added, if nothing goes wrong between."""

log = logging.getLogger(__name__)


class StreamPump:
    """The open streams. For any thread."""

    def __init__(self, folder: Path, heartbeat_s: float = _HEARTBEAT_S) -> None:
        """`folder`: of the files; what changes there is sent at once."""
        self._folder = folder
        self._heartbeat_s = heartbeat_s
        self._open: list[_Stream] = []
        self._admitted: list[float] = []
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._changed = threading.Event()

    def admit(self, now: float) -> bool:
        """Keep a place for one that is added soon (`now`: monotonic). False: all are taken."""
        with self._lock:
            self._admitted = [time_s for time_s in self._admitted if now - time_s < _SOON_S]
            taken = sum(one.answer.is_open for one in self._open) + len(self._admitted)
            if taken < MOST_STREAMS:
                self._admitted.append(now)
            return taken < MOST_STREAMS

    def add(self, events: EventStream, answer: OpenAnswer) -> None:
        """Send these events as they come, until the client goes."""
        answer.changed = self._changed.set
        with self._lock:
            self._open.append(_Stream(events, answer, self._heartbeat_s))
            del self._admitted[:1]
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="streams", daemon=True)
                self._thread.start()
        self._changed.set()

    def _run(self) -> None:
        watch = FolderWatch(self._folder, lambda _names: self._changed.set())
        watch.start()
        while streams := self._remaining():
            self._changed.clear()
            now = time.monotonic()
            if not sum(one.step(now) for one in streams):
                self._changed.wait(POLL_S)
        watch.stop_soon()

    def _remaining(self) -> list[_Stream]:
        """Those whose clients are there; without any the thread ends."""
        with self._lock:
            self._open = [one for one in self._open if one.answer.is_open]
            if not self._open:
                self._thread = None
            return [*self._open]


class _Stream:
    """One stream and where it goes."""

    def __init__(self, events: EventStream, answer: OpenAnswer, heartbeat_s: float) -> None:
        self._events = events
        self.answer = answer
        self._heartbeat_s = heartbeat_s
        self._sent_at = time.monotonic()

    def step(self, now: float) -> bool:
        """Send some of what there is. True: more can be sent at once."""
        try:
            return self._step(now)
        except Exception:
            log.exception("a stream was ended; its client comes again")
            self.answer.end()
            return False

    def _step(self, now: float) -> bool:
        if not self.answer.has_room:
            return False
        text, more = self._events.next_part()
        if not text and now - self._sent_at >= self._heartbeat_s:
            text = HEARTBEAT
        if text:
            self.answer.send(text)
            self._sent_at = now
        return more
