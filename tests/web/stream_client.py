"""A client of server-sent events on a plain socket, which can be killed anywhere in an event."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any, Self
from urllib.parse import urlencode


def connect(port: int) -> socket.socket:
    """A connection for which the system keeps little that was not read."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
    connection.settimeout(20)
    connection.connect(("127.0.0.1", port))
    return connection


class StreamClient:
    """One connection; `last_id` is that of the last whole event, as the HTML standard has it."""

    def __init__(
        self,
        port: int,
        series: str,
        last_id: str = "",
        headers: dict[str, str] | None = None,
        **more,
    ) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port)
        self._connection.sock = connect(port)
        sent = (headers or {}) | ({"Last-Event-ID": last_id} if last_id else {})
        query = urlencode({"series": series, **more})
        self._connection.request("GET", f"/api/v1/stream?{query}", headers=sent)
        self.socket: socket.socket = self._connection.sock
        self.answer = self._connection.getresponse()
        self.last_id = last_id
        self.heartbeats = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.answer.close()
        self._connection.close()

    def event(self) -> tuple[str, Any]:
        """Type and data of the next event that has data. EOFError: the stream has ended."""
        kind, data, last_id = "message", [], self.last_id
        while True:
            line = self.answer.readline()
            if not line:
                raise EOFError
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if line == b"\n":
                self.last_id = last_id
                if data:
                    return kind, json.loads("\n".join(data))
            elif name == "id":
                last_id = value
            elif name == "event":
                kind = value
            elif name == "data":
                data.append(value)
            elif name.startswith(":"):
                self.heartbeats += 1

    def bars(self, count: int) -> list[tuple[str, str]]:
        """Symbol and time of the next bars."""
        found = []
        for _ in range(count):
            kind, data = self.event()
            assert kind == "message", data
            found.append((data["symbol"], data["timestamp"]))
        return found
