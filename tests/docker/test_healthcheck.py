"""The probe by itself; what it says of a container is in test_image.py."""

from __future__ import annotations

import contextlib
import http.server
import socket
import subprocess
import sys
import threading

import pytest

from tests.docker.dockerfile import PROJECT


@contextlib.contextmanager
def page(host, status):
    """A port where `/livez` has this status, at one address."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status if self.path == "/livez" else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

    class Server(http.server.ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

    with Server((host, 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def probe(**env):
    """Exit code, and what it says."""
    done = subprocess.run(
        [sys.executable, PROJECT / "docker/healthcheck.py"],
        env={name: str(value) for name, value in env.items()},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("bound", "host"),
    [
        ("127.0.0.1", None),
        ("127.0.0.1", ""),
        ("127.0.0.1", "0.0.0.0"),
        ("127.0.0.2", "127.0.0.2"),
        ("127.0.0.1", "localhost"),
        ("::1", "::"),
        ("::1", "[::]"),
        ("::1", "::1"),
    ],
)
def test_it_asks_where_the_page_is(bound, host):
    named = {} if host is None else {"KTRDR_STATUS_HOST": host}
    with page(bound, 200) as port:
        assert probe(KTRDR_STATUS_PORT=port, **named) == (0, "")
    with page(bound, 503) as port:
        code, said = probe(KTRDR_STATUS_PORT=port, **named)
    assert code == 1
    assert said == "not well; in here, `ktrdr status` says why\n"


@pytest.mark.parametrize(
    "wrong",
    [
        {"KTRDR_STATUS_PORT": "abc"},
        {"KTRDR_STATUS_PORT": "1"},
        {"KTRDR_STATUS_PORT": "9" * 30},
        {"KTRDR_STATUS_HOST": "no.such.host.invalid"},
        {"KTRDR_STATUS_HOST": "\udcff"},
        {"KTRDR_STATUS_HOST": "a b"},
    ],
)
def test_where_none_can_be_it_says_so_in_a_line(wrong):
    code, said = probe(**wrong)
    assert code == 1
    assert said.count("\n") == 1
    assert "Traceback" not in said
    assert "KTRDR_STATUS_PORT=abc" in said or "does not answer at" in said
