"""The program itself, as a process."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.ports import free_port

MIB = 2**20


@contextlib.contextmanager
def status_app(run_dir: Path, port: int, **variables: str) -> Iterator[subprocess.Popen[str]]:
    environment = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG")}
    environment |= {"KTRDR_RUN_DIR": str(run_dir), "KTRDR_STATUS_PORT": str(port), **variables}
    with subprocess.Popen(
        [sys.executable, "-m", "ktrdr.web"], env=environment, stdout=subprocess.PIPE, text=True
    ) as program:
        try:
            yield program
        finally:
            program.kill()


@pytest.fixture
def port() -> int:
    return free_port()


def get(port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def wait_until_alive(program: subprocess.Popen[str]) -> str:
    """The line with the page's address."""
    for line in program.stdout:
        if "status page at" in line:
            return line
    raise AssertionError("it ended before it served")


def test_it_serves_and_stops_at_a_signal(run_dir, port):
    with status_app(run_dir, port) as program:
        wait_until_alive(program)
        assert get(port, "/healthz")[0] == 200
        assert get(port, "/readyz")[0] == 503
        assert (run_dir / "status-app.pid").read_text() == f"{program.pid}\n"
        began = time.monotonic()
        program.send_signal(signal.SIGTERM)
        assert program.wait(10) == 0
        assert time.monotonic() - began < 5
    assert not (run_dir / "status-app.pid").exists()


def test_the_log_names_its_own_address_beside_the_local_one(run_dir, port):
    urls = "https://ktrdr.example.org,http://ktrdr:8000"
    with status_app(run_dir, port, KTRDR_STATUS_URL=urls) as program:
        line = wait_until_alive(program)

    assert f"status page at http://127.0.0.1:{port}/ or https://ktrdr.example.org" in line


def test_for_others_it_does_not_start_until_a_setting_names_for_whom(run_dir, port):
    with status_app(run_dir, port, KTRDR_STATUS_HOST="0.0.0.0") as program:
        output, _ = program.communicate(timeout=20)

    assert program.returncode == 78
    assert "KTRDR_STATUS_CALLERS" in output.splitlines()[-1]
    assert "KTRDR_STATUS_TOKEN" in output.splitlines()[-1]
    assert "status page at" not in output


def own_address():
    """One of this machine, but not a loopback one: to 127.0.0.1 it comes from elsewhere."""
    for addresses in psutil.net_if_addrs().values():
        for one in addresses:
            if one.family == socket.AF_INET and not one.address.startswith("127."):
                return one.address
    pytest.skip("this machine has no address but loopback ones")


def answer_to(caller, port, reached="127.0.0.1"):
    """What a client at that address receives; nothing: it is closed."""
    with socket.create_connection((reached, port), 10, (caller, 0)) as call:
        try:
            call.sendall(b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n")
            return call.makefile("rb").read()
        except ConnectionError:
            return b""


@pytest.mark.parametrize("token", ["", "k7Hq2pZx9Lm0vBn3"])
def test_connections_from_elsewhere_are_closed_without_a_byte(run_dir, port, token):
    other = own_address()
    named = {"KTRDR_STATUS_HOST": "0.0.0.0", "KTRDR_STATUS_CALLERS": "203.0.113.0/29"}
    with status_app(run_dir, port, KTRDR_STATUS_TOKEN=token, **named) as program:
        line = wait_until_alive(program)
        assert f"at http://127.0.0.1:{port}/, for this machine, 203.0.113.0/29" in line
        assert answer_to(other, port) == b""
        assert answer_to(other, port) == b""
        assert b"200 OK" in answer_to("127.0.0.1", port)
        assert b"200 OK" in answer_to("127.0.0.5", port)
        assert b"200 OK" in answer_to(other, port, reached=other)  # ourselves, whatever the way
        program.terminate()
        rest = program.stdout.read()
    assert (
        rest.count(f"a connection from {other} was closed: it is not in KTRDR_STATUS_CALLERS") == 1
    )


@pytest.mark.parametrize("word", ["own-networks", "{}", "203.0.113.0/29, {}/32"])
def test_connections_from_named_subnets_are_answered(run_dir, port, word):
    other = own_address()
    named = {"KTRDR_STATUS_HOST": "0.0.0.0", "KTRDR_STATUS_CALLERS": word.format(other)}
    with status_app(run_dir, port, **named) as program:
        wait_until_alive(program)
        assert b"200 OK" in answer_to(other, port)


def test_it_stops_in_time_while_peers_hang(run_dir, port, hang):
    with hang(run_dir / "ib-connection.sock"), status_app(run_dir, port) as program:
        wait_until_alive(program)
        asking = socket.create_connection(("127.0.0.1", port))
        with asking:
            asking.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            program.send_signal(signal.SIGTERM)
            assert program.wait(10) == 0


def test_a_port_in_use_ends_it_with_one_line(run_dir):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with status_app(run_dir, port) as program:
            output, _ = program.communicate(timeout=20)

    assert program.returncode == 78
    assert f"KTRDR_STATUS_PORT={port}" in output.splitlines()[-1]
    assert "Traceback" not in output


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
def test_a_host_that_is_not_ours_ends_it_with_one_line(run_dir, port, host):
    named = {"KTRDR_STATUS_HOST": host, "KTRDR_STATUS_CALLERS": "own-networks"}
    with status_app(run_dir, port, **named) as program:
        output, _ = program.communicate(timeout=20)

    assert program.returncode == 78
    assert f"KTRDR_STATUS_HOST={host}" in output.splitlines()[-1]
    assert "Traceback" not in output


NAMES = """
import socket

found, usual = {places!r}, socket.getaddrinfo

def look_up(host, port, *rest, **more):
    if host != "two.test":
        return usual(host, port, *rest, **more)
    return [one for place in found for one in usual(place, port, *rest, **more)]

socket.getaddrinfo = look_up
"""
"""A sitecustomize.py: Python with a name of its own."""


@pytest.mark.parametrize("places", [("192.0.2.1", "127.0.0.1"), ("127.0.0.1", "192.0.2.1")])
def test_of_a_names_addresses_those_that_are_here_do(run_dir, port, places, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(NAMES.format(places=places))
    named = {"KTRDR_STATUS_HOST": "two.test", "KTRDR_STATUS_CALLERS": "own-networks"}
    with status_app(run_dir, port, PYTHONPATH=str(tmp_path), **named) as program:
        wait_until_alive(program)
        assert get(port, "/healthz")[0] == 200
        program.send_signal(signal.SIGTERM)
        output, _ = program.communicate(timeout=10)
    assert (program.returncode, output.count("\n")) == (0, 1)


def test_a_name_with_a_place_that_is_taken_is_one_line(run_dir, port, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(NAMES.format(places=("192.0.2.1", "127.0.0.1")))
    named = {"KTRDR_STATUS_HOST": "two.test", "KTRDR_STATUS_CALLERS": "own-networks"}
    with (
        socket.create_server(("127.0.0.1", port)),
        status_app(run_dir, port, PYTHONPATH=str(tmp_path), **named) as program,
    ):
        output, _ = program.communicate(timeout=20)
    assert program.returncode == 78
    assert f"KTRDR_STATUS_PORT={port}: expected a free port" in output.splitlines()[-1]


@pytest.mark.usefixtures("peers")
def test_twenty_pages_at_once_are_answered_in_little_memory(run_dir, port):
    with status_app(run_dir, port) as program:
        wait_until_alive(program)
        get(port, "/")
        at_first = psutil.Process(program.pid).memory_info().rss
        browsers = [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]
        for browser in browsers:
            browser.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        for browser in browsers:
            with browser, browser.makefile("rb") as answer:
                assert answer.readline() == b"HTTP/1.1 200 OK\r\n"
        output = json.loads(get(port, "/api/v1/system/system-status")[1])

        assert psutil.Process(program.pid).memory_info().rss - at_first < 20 * MIB
        assert output["services"]["status-app"]["pid"] == program.pid


def test_the_page_does_without_pandas(run_dir):
    code = """
import sys
from ktrdr.config.settings import load_settings
from ktrdr.web import create_app
client = create_app(load_settings()).test_client()
for path in ("/", "/live/overview", "/metrics", "/readyz", "/api/v1/system/system-status",
             "/api/v1/data/coverage", "/api/v1/data/AAPL/1m?format=nonsense"):
    client.get(path)
print([name for name in ("pandas", "ib_insync", "exchange_calendars") if name in sys.modules])
"""
    environment = {"PATH": os.environ["PATH"], "KTRDR_RUN_DIR": str(run_dir)}

    output = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )

    assert output.stdout == "[]\n"
