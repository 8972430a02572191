"""ktrdr/web/connections.py: many, slow, greedy and wrong clients, and one that is none of these."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import resource
import select
import socket
import time
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from ktrdr.web.connection_limits import Limits, Neighbour, client_of, to_close
from ktrdr.web.connections import MOST_HEADER_BYTES
from tests.ports import free_port
from tests.web.listening import listening

ONE, OTHER = client_of("192.0.2.1"), client_of("192.0.2.2")
FEW = Limits(per_client=2, most=3)


@pytest.fixture
def site(settings):
    return settings.model_copy(update={"ktrdr_status_port": free_port()})


def connect(site) -> socket.socket:
    return socket.create_connection(("127.0.0.1", site.ktrdr_status_port), 10)


def sent(site, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the answer to these bytes."""
    with connect(site) as client:
        client.sendall(request)
        answer = http.client.HTTPResponse(client)
        answer.begin()
        return answer.status, dict(answer.headers), answer.read()


def read_head(answers) -> tuple[bytes, int]:
    """An answer's first line and headers, and the length of its body."""
    head = b"".join(iter(answers.readline, b"\r\n"))
    length = re.search(rb"Content-Length: (\d+)", head)
    return head, int(length[1]) if length else 0


def keep_sending(client: socket.socket, data: bytes) -> None:
    """For 20 s, or until it fails."""
    client.setblocking(False)
    began = time.monotonic()
    while time.monotonic() - began < 20:
        with contextlib.suppress(BlockingIOError):
            client.send(data)
        time.sleep(0.02)


def request(first: bytes = b"GET /healthz HTTP/1.1", *headers: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join([first, b"Host: localhost", *headers, b"", body])


@pytest.mark.parametrize(
    ("others", "client", "goes"),
    [
        ([], ONE, None),
        ([(ONE, 1), (OTHER, 2)], ONE, None),
        ([(ONE, 5), (ONE, 4)], ONE, 1),
        ([(OTHER, 1), (ONE, 5), (ONE, 6)], ONE, 1),  # not another client's
        ([(ONE, 5), (ONE, None)], ONE, 0),
        ([(ONE, None), (ONE, None)], ONE, -1),
        ([(ONE, None), (ONE, 3), (OTHER, 2)], OTHER, 2),  # too many in all
        ([(ONE, None), (ONE, None), (OTHER, None)], OTHER, -1),
    ],
)
def test_the_one_that_has_waited_longest_makes_room(others, client, goes):
    """None for a time: it is at work."""
    neighbours = [Neighbour(who, since or 0.0, since is not None) for who, since in others]

    assert to_close(neighbours, client, FEW) == goes


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.7", ip_address("192.0.2.7")),
        ("::ffff:192.0.2.7", ip_address("192.0.2.7")),
        ("2001:db8:1:2:3:4:5:6", ip_network("2001:db8:1:2::/64")),
        ("fe80::1%eth0", ip_network("fe80::/64")),
    ],
)
def test_whose_connection_it_is(address, client):
    assert client_of(address) == client


@pytest.mark.parametrize("how_many", [150, 500])
def test_idle_connections_stop_nobody(site, how_many):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 3 * how_many:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    with listening(site), contextlib.ExitStack() as open_ones:
        for _ in range(how_many):
            open_ones.enter_context(connect(site))
        began = time.monotonic()
        assert sent(site, request())[0] == 200
        assert time.monotonic() - began < 2


def test_half_requests_stop_nobody(site):
    with listening(site, FEW), contextlib.ExitStack() as open_ones:
        for _ in range(5):
            open_ones.enter_context(connect(site)).sendall(b"GET / HTTP/1.1\r\nHost: loc")
        assert sent(site, request())[0] == 200


def test_an_idle_connection_is_closed(site):
    with listening(site, Limits(idle_s=1)), connect(site) as client:
        assert client.recv(1) == b""


def test_a_request_that_does_not_end_is_closed_however_often_a_byte_comes(site):
    with listening(site, Limits(request_s=1)), connect(site) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\n")
        began = time.monotonic()
        with pytest.raises(ConnectionError):
            keep_sending(client, b"X")
        assert time.monotonic() - began < 5


def test_who_does_not_read_the_answer_is_closed(site):
    """More than its own buffers and ours hold, requested in one go and never read."""
    many = request(b"GET /static/page.css HTTP/1.1") * 5000
    with listening(site, Limits(stalled_s=1)), connect(site) as client:
        began = time.monotonic()
        with pytest.raises(ConnectionError):
            keep_sending(client, many)
        assert time.monotonic() - began < 10


def test_a_connection_serves_many_requests(site):
    with listening(site, replace(FEW, idle_s=5)):
        client = http.client.HTTPConnection("127.0.0.1", site.ktrdr_status_port, timeout=10)
        for _ in range(3):
            client.request("GET", "/healthz")
            assert json.loads(client.getresponse().read()) == {"alive": True}
        client.close()


def test_a_connection_is_kept_after_an_answer_without_a_body(site):
    with listening(site), connect(site) as client:
        answers = client.makefile("rb")
        client.sendall(request(b"GET /static/page.css HTTP/1.1"))
        head, length = read_head(answers)
        assert len(answers.read(length)) == length > 1000
        have = b"If-None-Match: " + re.search(rb"(?i)etag: (\S+)", head)[1]
        for _ in range(3):
            client.sendall(request(b"GET /static/page.css HTTP/1.1", have))
            assert read_head(answers)[0].startswith(b"HTTP/1.1 304 ")
            client.sendall(request(b"OPTIONS / HTTP/1.1"))
            assert read_head(answers)[0].startswith(b"HTTP/1.1 204 ")


@pytest.mark.parametrize(
    ("first", "headers"),
    [
        (b"OPTIONS / HTTP/1.1", [b"Connection: close"]),
        (b"OPTIONS / HTTP/1.0", []),
    ],
)
def test_who_wants_it_closed_has_it_closed(site, first, headers):
    with listening(site), connect(site) as client:
        client.sendall(request(first, *headers))
        assert b"Connection: close\r\n" in client.makefile("rb").read()


LONG = b"X-Long: " + b"y" * 300_000
TWICE = (b"Content-Length: 5", b"Transfer-Encoding: chunked")


@pytest.mark.parametrize(
    ("wrong", "status", "detail"),
    [
        (request(b"GET / HTTP/1.1", LONG), 431, "headers are longer than 65536 bytes"),
        (
            request(b"GET / HTTP/1.1", *[b"X: %d" % n for n in range(20_000)]),
            431,
            "headers are longer than 65536 bytes",
        ),
        (request(b"GET /?%s HTTP/1.1" % (b"a" * 9000)), 414, "the URL is longer than 8192 bytes"),
        (request(b"GET /%s HTTP/1.1" % (b"a" * 300_000)), 414, "the URL is longer than 8192"),
        (request(b"GET /" + b"a" * 300_000), 414, "the URL is longer than 8192 bytes"),
        (
            request(b"POST /scan HTTP/1.1", b"Content-Length: 9999999", body=b"x" * 3_000_000),
            413,
            "the request's body is too large",
        ),
        (
            request(b"POST /scan HTTP/1.1", *TWICE, body=b"0\r\n\r\n"),
            400,
            "Content-Length and Transfer-Encoding exclude each other",
        ),
        (
            request(b"POST /scan HTTP/1.1", *reversed(TWICE), body=b"0\r\n\r\n"),
            400,
            "Content-Length and Transfer-Encoding exclude each other",
        ),
        (
            request(b"POST /scan HTTP/1.0", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
            400,
            "Transfer-Encoding needs HTTP/1.1",
        ),
        (
            request(b"POST /scan HTTP/1.1", b"Content-Length: 5", b"Content-Length: 6"),
            400,
            "Content-Length is invalid",
        ),
        (request(b"GET / HTTP/1.1", b"no colon"), 400, "Invalid header"),
        (b"\x16\x03\x01\x02\r\n\r\n", 400, "Start line is invalid"),
    ],
)
def test_what_never_reaches_the_app_is_answered_with_a_problem(site, wrong, status, detail):
    with listening(site):
        code, headers, body = sent(site, wrong)
        assert sent(site, request())[0] == 200

    problem = json.loads(body)
    assert (code, problem["status"]) == (status, status)
    assert headers["Content-Type"] == "application/problem+json"
    assert headers["Connection"] == "close"
    assert detail in problem["detail"]
    assert len(body) < 500


def test_a_header_just_below_the_limit_is_read(site):
    with listening(site):
        headers = [b"X-Long: " + b"y" * (MOST_HEADER_BYTES - 1000)]
        assert sent(site, request(b"GET /healthz HTTP/1.1", *headers))[0] == 200
        assert sent(site, request(b"GET /healthz?%s HTTP/1.1" % (b"a" * 8000)))[0] == 200


def test_the_answer_to_a_wrong_head_has_no_body(site):
    with listening(site), connect(site) as client:
        client.sendall(request(b"HEAD /%s HTTP/1.1" % (b"a" * 9000)))
        answer = client.makefile("rb").read()

    assert answer.startswith(b"HTTP/1.1 414 ")
    assert answer.endswith(b"\r\n\r\n")


def test_who_still_sends_when_it_is_refused_is_not_reset(site):
    head = request(b"GET / HTTP/1.1", LONG)
    with listening(site), connect(site) as client:
        client.sendall(head[:100_000])
        select.select([client], [], [], 10)  # the answer is there
        for begin in range(100_000, len(head), 10_000):
            client.sendall(head[begin : begin + 10_000])
            time.sleep(0.001)  # for a reset to arrive
        assert client.makefile("rb").readline().split()[1] == b"431"
