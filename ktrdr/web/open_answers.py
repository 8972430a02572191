"""Answers without an end: how a server hands one over, so that no thread waits for its events.

What `wsgi.file_wrapper` does for files, and `rack.hijack` in Ruby for anything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

HAND_OVER = "ktrdr.hand_over"
"""The key in WSGI's environment: a function that takes a `Receiver`. What the application answers
is then only the begin; the receiver gets the rest of it."""


class OpenAnswer(Protocol):
    """An answer that has begun. For one thread at a time."""

    changed: Callable[[], object]
    """Called from any thread when all was sent, or the connection has gone."""

    @property
    def is_open(self) -> bool:
        """The client is there, as far as is known."""

    @property
    def has_room(self) -> bool:
        """Most of what was sent has been taken by the client, or at least by the system."""

    def send(self, content: bytes) -> None:
        """Send more, without waiting; nothing if the client has gone."""

    def end(self) -> None:
        """End the answer, and close the connection when all is sent."""


Receiver = Callable[[OpenAnswer], None]
"""Takes the rest of an answer when its begin was made."""
