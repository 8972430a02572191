"""A small reverse proxy: passes requests on as nginx and Caddy do, by what it is told."""

from __future__ import annotations

import contextlib
import http.client
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class _Passing(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    upstream: int
    stripped: str
    added: Mapping[str, str]

    def pass_on(self) -> None:
        """Pass a request on, and its answer back."""
        headers = {k: v for k, v in self.headers.items() if k.lower() != "connection"} | self.added
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        upstream = http.client.HTTPConnection("127.0.0.1", self.upstream, timeout=60)
        path = self.path.removeprefix(self.stripped) or "/"
        upstream.request(self.command, path, body, headers)
        answer = upstream.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "transfer-encoding", "content-length", "date"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        upstream.close()

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@contextlib.contextmanager
def proxy(upstream: int, added: Mapping[str, str], stripped: str = "") -> Iterator[int]:
    """A proxy to a port of this machine; gives its own.

    It adds these headers, and removes `stripped` from the begin of each path.
    """
    given: dict[str, Any] = {"upstream": upstream, "added": added, "stripped": stripped}
    given |= {f"do_{method}": _Passing.pass_on for method in ("GET", "HEAD", "POST")}
    with ThreadingHTTPServer(("127.0.0.1", 0), type("_Given", (_Passing,), given)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
