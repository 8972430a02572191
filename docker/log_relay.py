"""A plugin of supervisord that copies all log lines to the container's output.

supervisord reads each program's output anyway, for its log file, and raises an event for each piece
(`stdout_events_enabled`). The plugin writes these to supervisord's own output as whole lines, each
with the program's name in front: no line is lost or doubled, and it needs no further process.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator

from supervisor import events
from supervisor.loggers import Handler, LogRecord

_WIDTH = 13
"""Of the longest name."""
_LONGEST_LINE = 64 * 1024
"""Bytes; what is longer is broken there."""
_OPEN_SERVER = "running without any HTTP authentication checking"
"""Told of every server without a password as if it were grave. Ours is a socket that this user
alone may open, in a folder of mode 0700."""


class Lines:
    """Whole lines out of the pieces of one program's output."""

    def __init__(self, name: str) -> None:
        self._name = f"{name:<{_WIDTH}} ".encode()
        self._rest = b""

    def whole(self, piece: bytes) -> Iterator[bytes]:
        """Each line that ends in this piece, with the program's name and its line end."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        while len(self._rest) > _LONGEST_LINE:
            lines.append(self._rest[:_LONGEST_LINE])
            self._rest = self._rest[_LONGEST_LINE:]
        for line in lines:
            yield self._name + line + b"\n"


class Relay:
    """Writes pieces of the programs' output to `write`, as whole lines."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._programs: dict[str, Lines] = {}

    def take(self, event: events.ProcessLogEvent) -> None:
        """A piece of what a program says."""
        name = event.process.config.name
        lines = self._programs.setdefault(name, Lines(name))
        data = event.data if isinstance(event.data, bytes) else event.data.encode()
        self._write(b"".join(lines.whole(data)))


class OwnLines(Handler):  # type: ignore[misc]  # supervisor has no types
    """supervisord's own log lines, in the form of the programs'."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        super().__init__()
        self._write = write
        self.level = 0

    def emit(self, record: LogRecord) -> None:
        """One line, unless it is the one about the server."""
        said = record.asdict()
        if _OPEN_SERVER in said["message"]:
            return
        now = time.time()
        clock = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
        text = said["message"].rstrip("\n").replace("\n", "\n    ")
        line = f"{clock}.{now % 1 * 1000:03.0f}Z {said['levelname']:<7} supervisord: {text}"
        self._write(f"{'supervisord':<{_WIDTH}} {line}\n".encode())

    def close(self) -> None:
        """Nothing is open here."""

    def reopen(self) -> None:
        """Nor to be opened anew when logs are."""


def start(supervisord: object, **_given: str) -> object:
    """What supervisord calls at its start (`rpcinterface_factory`): no methods for clients."""
    relay = Relay(write_all)
    events.subscribe(events.ProcessLogEvent, relay.take)
    supervisord.options.logger.handlers.append(OwnLines(write_all))  # type: ignore[attr-defined]
    return object()


def write_all(data: bytes, descriptor: int = 1) -> None:
    """Write all of it, unless nobody reads it: the log files have it as well."""
    with contextlib.suppress(OSError):
        while data:
            data = data[os.write(descriptor, data) :]
