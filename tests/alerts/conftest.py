"""Peers to play, and a local web hook that takes notifications."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.played_peers import *  # noqa: F403  fixtures


class Hook:
    """A web hook: what it was sent, in order, and the code that it answers with."""

    def __init__(self):
        self.received, self.code, self.arrived = [], 200, threading.Condition()
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(hook.code)
                self.end_headers()
                with hook.arrived:
                    if hook.code == 200:
                        hook.received.append(body)
                    hook.arrived.notify_all()

            def log_message(self, *_words):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"json://127.0.0.1:{self.server.server_port}/hook-secret"

    @property
    def titles(self):
        return [one["title"].partition(": ")[2] for one in self.received]

    def until(self, count, timeout_s=40):
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.received) >= count, timeout_s), (
                self.titles
            )


@pytest.fixture
def hook():
    made = Hook()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.02,))
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()
