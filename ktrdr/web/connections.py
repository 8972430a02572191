"""One connection to the page, with limits: on its requests, its pauses, and its neighbours' number.

waitress closes a connection that is silent. It waits for ever for one that sends a byte now and
then, or reads none of its answer, and has no limit for each client: that is added here.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Callable
from typing import Any

from waitress.channel import ClientDisconnected, HTTPChannel  # type: ignore[import-untyped]
from waitress.parser import HTTPRequestParser, ParsingError  # type: ignore[import-untyped]
from waitress.task import ErrorTask, WSGITask  # type: ignore[import-untyped]
from waitress.utilities import Error, RequestHeaderFieldsTooLarge  # type: ignore[import-untyped]

from ktrdr.web.connection_limits import Limits, client_of
from ktrdr.web.open_answers import HAND_OVER, Receiver
from ktrdr.web.problems import MEDIA_TYPE, http_problem

MOST_HEADER_BYTES = 64 * 1024
"""All headers of a request together, with its first line."""
MOST_LINE_BYTES = 8192
"""The URL of a request."""
_ROOM_BYTES = 64 * 1024
"""Of an answer that goes on, unsent: with less its sender may send more."""
_VANISHED_MS = 60_000
_LINGER_S = 2.0
_LINGER_BYTES = 4 * 2**20
"""What is still read after a refusal: a close with unread bytes would take the answer with it."""


class UrlTooLong(Error):  # type: ignore[misc]
    """A refusal of a URL."""

    code = 414
    reason = "URI Too Long"


_DETAILS = {
    413: "the request's body is too large",
    414: f"the URL is longer than {MOST_LINE_BYTES} bytes",
    431: f"the request's headers are longer than {MOST_HEADER_BYTES} bytes",
    500: "the status app failed to answer this",
}
_HINTS = {
    413: "send less at once",
    414: "send fewer or shorter parameters",
    431: "delete this site's cookies, or send fewer headers",
    500: ".venv/bin/supervisorctl tail status-app says more",
}


class _Request(HTTPRequestParser):  # type: ignore[misc]
    """A request while it is read: refused if its URL is too long, or its end ambiguous."""

    error: Error | None

    def received(self, data: bytes) -> int:
        """As waitress does."""
        begin = self.header_plus[: MOST_LINE_BYTES + 100] if self.body_rcv is None else b""
        consumed: int = super().received(data)
        if isinstance(self.error, RequestHeaderFieldsTooLarge):
            is_long = b"\n" not in begin.lstrip()
        else:
            is_long = self.headers_finished and not self.error and self._has_long_url()
        if is_long:
            self.error = UrlTooLong("")
            self.completed = True
        return consumed

    def _has_long_url(self) -> bool:
        return not self.empty and len(self.request_uri) > MOST_LINE_BYTES

    def parse_header(self, header_plus: bytes) -> None:
        """As waitress does; what two servers could read as two requests is refused."""
        super().parse_header(header_plus)
        if "TRANSFER_ENCODING" in self.headers:  # of HTTP/1.0, which has none
            raise ParsingError("Transfer-Encoding needs HTTP/1.1")
        if self.chunked and "CONTENT_LENGTH" in self.headers:
            raise ParsingError("Content-Length and Transfer-Encoding exclude each other")


class _Answer(WSGITask):  # type: ignore[misc]
    """The application's answer. waitress would close the connection after each 304.

    What the application has handed over stays open when its begin was sent.
    """

    receiver: Receiver | None = None

    def get_environment(self) -> dict[str, Any]:
        """As waitress does, with our way to hand an answer over."""
        environ: dict[str, Any] = super().get_environment()
        environ[HAND_OVER] = self._hand_over
        return environ

    def _hand_over(self, receiver: Receiver) -> None:
        self.receiver = receiver

    def finish(self) -> None:
        """As waitress does, unless the answer goes on."""
        if self.receiver is None or not self.wrote_header or not self.status.startswith("200"):
            super().finish()
            return
        self.close_on_finish = False
        self.channel.keep_open(self.receiver, is_chunked=self.chunked_response)

    def set_close_on_finish(self) -> None:
        """Close the connection after it, unless it has no body, and the client keeps it open."""
        wants_it_closed = self.request.headers.get("CONNECTION", "").lower() == "close"
        if self.has_body or wants_it_closed or self.version != "1.1":
            super().set_close_on_finish()


class _Refusal(ErrorTask):  # type: ignore[misc]
    """The answer to a request that never reaches the application: problem details."""

    def execute(self) -> None:
        """Write it."""
        error = self.request.error
        detail = _DETAILS.get(error.code, error.body)
        problem = http_problem(error.code, error.reason, detail, _HINTS.get(error.code))
        body = json.dumps(problem).encode() + b"\n"
        self.status = f"{error.code} {error.reason}"
        self.response_headers += [
            ("Content-Type", MEDIA_TYPE),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
        ]
        self.set_close_on_finish()
        self.content_length = len(body)
        is_head = getattr(self.request, "command", "") == "HEAD"  # it may have none
        self.write(b"" if is_head else body)


class _Rest:
    """The rest of an answer, in the buffers of its connection."""

    def __init__(self, connection: Connection, *, is_chunked: bool) -> None:
        self._connection = connection
        self._is_chunked = is_chunked
        self.changed: Callable[[], object] = lambda: None

    @property
    def is_open(self) -> bool:
        """As of `OpenAnswer`."""
        one = self._connection
        return one.connected and not (one.will_close or one.close_when_flushed)

    @property
    def has_room(self) -> bool:
        """As of `OpenAnswer`."""
        return bool(self._connection.total_outbufs_len < _ROOM_BYTES)

    def send(self, content: bytes) -> None:
        """As of `OpenAnswer`."""
        self._write(b"%X\r\n%b\r\n" % (len(content), content) if self._is_chunked else content)

    def end(self) -> None:
        """As of `OpenAnswer`."""
        self._write(b"0\r\n\r\n" if self._is_chunked else b"")
        self._connection.close_when_flushed = True
        self._connection.server.pull_trigger()

    def _write(self, content: bytes) -> None:
        one = self._connection
        with one.outbuf_lock, contextlib.suppress(ClientDisconnected):
            if not one.total_outbufs_len:  # begin a new buffer: one keeps all that it ever had
                one.current_outbuf_count = one.adj.outbuf_high_watermark
            one.write_soon(content)


class Connection(HTTPChannel):  # type: ignore[misc]
    """waitress's connection, with deadlines, polite refusals, and answers that go on."""

    parser_class = _Request
    task_class = _Answer
    error_task_class = _Refusal
    waits_since = 0.0
    """When it last had nothing to do: it was opened, or a request was answered."""
    request_since: float | None = None
    """When the request that is not complete began."""
    lingers_until: float | None = None
    """When it is closed at last; it has been refused, and what it still sends is thrown away."""

    def __init__(
        self, server: Any, sock: socket.socket, address: Any, *rest: Any, **more: Any
    ) -> None:
        super().__init__(server, sock, address, *rest, **more)
        self.waits_since = self.creation_time
        self.client = client_of(address[0])
        self._is_refused = False
        self._thrown_away = 0
        self._pending_since = self.creation_time
        self._rest: _Rest | None = None
        self._receiver: Receiver | None = None

    @property
    def may_be_closed(self) -> bool:
        """Nothing would be lost but what has not been requested."""
        is_done = self.will_close or self.close_when_flushed
        return not (self.requests or self.total_outbufs_len or is_done or self._rest)

    def keep_open(self, receiver: Receiver, *, is_chunked: bool) -> None:
        """Have the answer go on when the begin of it is made; further requests are ignored."""
        with contextlib.suppress(AttributeError, OSError):  # a client that vanished is noticed
            option = socket.TCP_USER_TIMEOUT
            self.socket.setsockopt(socket.IPPROTO_TCP, option, _VANISHED_MS)
        self._receiver = receiver
        self._rest = _Rest(self, is_chunked=is_chunked)

    def received(self, data: bytes) -> bool:
        """As waitress does, and notes when the request that is not complete began."""
        if self._rest is not None:
            return False
        before = self.request
        is_received: bool = super().received(data)
        self._is_refused = any(one.error for one in self.requests)
        if self.request is None:
            self.request_since = None
        elif self.request is not before:
            self.request_since = time.time()
        return is_received

    def service(self) -> None:
        """As waitress does, and gives the rest of an answer away."""
        if self._rest is not None:  # a request that came behind it
            with self.requests_lock:
                self.requests.clear()
            return
        super().service()
        self.waits_since = time.time()
        if self._rest is not None and self._receiver is not None:
            self._receiver(self._rest)

    def is_overdue(self, now: float, limits: Limits) -> bool:
        """Whether it has had its time: a request that does not end, an answer that nobody reads.

        Called every few seconds.
        """
        if self.lingers_until is not None:
            return now > self.lingers_until
        if self.total_outbufs_len:
            pending_s: float = now - max(self._pending_since, self.last_activity)
            return pending_s > limits.stalled_s
        self._pending_since = now
        if self.request_since is None or self.requests:
            return False
        return now - self.request_since > limits.request_s

    def abandon(self) -> None:
        """Close it at once, also if nothing can be sent; `will_close` waits for that."""
        self.will_close = True
        super().handle_close()

    def readable(self) -> bool:
        """As waitress has it, and while it lingers."""
        return self.lingers_until is not None or bool(super().readable())

    def handle_read(self) -> None:
        """As waitress does; while it lingers, all is thrown away."""
        if self.lingers_until is None:
            super().handle_read()
            return
        try:
            self._thrown_away += len(self.recv(65536))  # which closes it at the end
        except OSError:
            self.will_close = True
        if self._thrown_away > _LINGER_BYTES:
            self.will_close = True

    def handle_write(self) -> None:
        """As waitress does; an answer that goes on may be written to meanwhile."""
        if self._rest is None:
            super().handle_write()
            return
        with self.outbuf_lock:
            super().handle_write()
        if not self.total_outbufs_len:
            self._rest.changed()

    def del_channel(self, connections: Any = None) -> None:
        """As waitress does, when it is closed."""
        super().del_channel(connections)
        if self._rest is not None:
            self._rest.changed()

    def handle_close(self) -> None:
        """Close it; after a refusal only for what we send, until the client has read that."""
        is_read = self.will_close and not self.total_outbufs_len  # else the client is gone
        if self._is_refused and is_read and self.lingers_until is None:
            self.lingers_until = time.time() + _LINGER_S
            self.will_close = False
            try:
                self.socket.shutdown(socket.SHUT_WR)
            except OSError:
                super().handle_close()
        else:
            super().handle_close()
