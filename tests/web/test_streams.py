"""GET /api/v1/stream at its real listener, while the real store is written to."""

from __future__ import annotations

import contextlib
import csv
import http.client
import random
import socket
import threading
from datetime import UTC, datetime

import pytest

from ktrdr.market.instruments import Series
from ktrdr.market.timeframes import Timeframe
from ktrdr.store.csv_store import CsvStore
from ktrdr.web.connection_limits import Limits
from ktrdr.web.stream_pump import MOST_STREAMS
from tests.fake_connection import price, utc
from tests.ports import free_port
from tests.web.listening import listening
from tests.web.stream_client import StreamClient

FIRST = utc("2026-11-18 10:00")
AAPL, MSFT = Series("AAPL", Timeframe.M1), Series("MSFT", Timeframe.H1)
BOTH = "AAPL_1m,MSFT_1h"
START = "2026-11-18"


@pytest.fixture
def site(settings):
    return settings.model_copy(update={"ktrdr_status_port": free_port()})


@pytest.fixture
def port(site):
    with listening(site):
        yield site.ktrdr_status_port


@pytest.fixture
def store(settings):
    store = CsvStore(settings.data_dir)
    store.create(AAPL)
    store.create(MSFT)
    return store


def add(store, series, *numbers):
    store.add(series, [price(FIRST + series.timeframe.length_s * number) for number in numbers])


def name(series, number):
    time_s = FIRST + series.timeframe.length_s * number
    return series.symbol, datetime.fromtimestamp(time_s, UTC).isoformat()


def rows(store, series):
    """Symbol and time of each row of a file, as a plain reader of CSV sees them."""
    with store.path(series).open() as file:
        return [(series.symbol, row[0].replace(" ", "T")) for row in csv.reader(file)][1:]


def test_bars_come_as_they_are_stored(port, store):
    add(store, AAPL, 0, 1)
    with StreamClient(port, BOTH, start=START) as stream:
        assert stream.answer.headers["Content-Type"].startswith("text/event-stream")
        kind, bar = stream.event()
        volume = FIRST % 1009
        low = 100 + FIRST % 977 / 100
        assert kind == "message"
        assert bar == {
            "symbol": "AAPL",
            "timeframe": "1m",
            "timestamp": "2026-11-18T10:00:00+00:00",
            "open": low,
            "high": low + 0.5,
            "low": low,
            "close": low + 0.25,
            "volume": volume,
        }
        assert stream.bars(1) == [name(AAPL, 1)]
        add(store, MSFT, 0)
        assert stream.bars(1) == [name(MSFT, 0)]
        add(store, AAPL, 2)
        assert stream.bars(1) == [name(AAPL, 2)]


def test_who_is_away_before_the_first_bar_misses_none(port, store):
    add(store, AAPL, 0)
    now = int(datetime.now(UTC).timestamp()) // 60 * 60
    with StreamClient(port, "AAPL_1m") as stream:
        assert stream.answer.readline().startswith(b"retry: ")
        last_id = stream.answer.readline().decode().removeprefix("id: ").strip()
    store.add(AAPL, [price(now - 600), price(now), price(now + 60)])
    with StreamClient(port, "AAPL_1m", last_id) as stream:
        seen = [datetime.fromisoformat(time).timestamp() for _, time in stream.bars(2)]
    assert seen == [now, now + 60]


@pytest.mark.parametrize("seed", range(4))
def test_killed_anywhere_it_goes_on_without_loss_or_double(port, store, seed):
    """Half of the clients die within an event; the names come in another order each time."""
    chance = random.Random(seed)
    writing = threading.Thread(target=write, args=(store, random.Random(seed + 100)))
    writing.start()
    given, last_id = [], ""
    while len(given) < 400:
        names = BOTH.split(",")
        chance.shuffle(names)
        with StreamClient(port, ",".join(names), last_id, start=START) as stream:
            given += stream.bars(min(chance.randrange(90), 400 - len(given)))
            last_id = stream.last_id
            if chance.random() < 0.5 and len(given) < 400:
                stream.answer.read(chance.randrange(1, 60))
    writing.join()
    for series in (AAPL, MSFT):
        assert [one for one in given if one[0] == series.symbol] == rows(store, series)


def write(store, chance):
    """360 and 40 bars, some at a time, with pauses between them."""
    places = {AAPL: 0, MSFT: 0}
    left = {AAPL: 360, MSFT: 40}
    while left:
        series = chance.choice([*left])
        count = min(chance.randrange(1, 30), left[series])
        begin = places[series] + chance.randrange(3)
        add(store, series, *range(begin, begin + count))
        places[series], left[series] = begin + count, left[series] - count
        if not left[series]:
            del left[series]


def test_fifty_followers_leave_the_page_free(port, store):
    with contextlib.ExitStack() as stack:
        streams = [
            stack.enter_context(StreamClient(port, "AAPL_1m", start=START)) for _ in range(50)
        ]
        page = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        for number in range(3):
            add(store, AAPL, number)
            page.request("GET", "/healthz")
            assert page.getresponse().read()
            assert [stream.bars(1) for stream in streams] == [[name(AAPL, number)]] * 50
        page.close()


def test_one_who_does_not_read_delays_nobody_and_misses_nothing(port, store):
    """Its answer of three megabytes is made while it is read."""
    add(store, AAPL, *range(20_000))
    with StreamClient(port, "AAPL_1m", start=START) as slow:
        with StreamClient(port, "MSFT_1h", start=START) as other:
            for number in range(3):
                add(store, MSFT, number)
                assert other.bars(1) == [name(MSFT, number)]
        add(store, AAPL, 20_000)
        assert slow.bars(20_001) == rows(store, AAPL)


def test_one_who_never_reads_is_closed(site, store, wait_for):
    add(store, AAPL, *range(30_000))
    with listening(site, Limits(stalled_s=1)):
        with StreamClient(site.ktrdr_status_port, "AAPL_1m", start=START) as stream:
            wait_for(lambda: is_reset(stream.socket))
        with StreamClient(site.ktrdr_status_port, "AAPL_1m", start=START) as stream:
            assert stream.bars(1) == [name(AAPL, 0)]


def is_reset(connection: socket.socket) -> bool:
    """Whether the other side has closed it: what is sent is refused."""
    try:
        connection.sendall(b"\0")
    except OSError:
        return True
    return False


def test_there_are_only_so_many_and_who_goes_makes_room(port, store, wait_for):
    assert store
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(StreamClient(port, "AAPL_1m")) for _ in range(MOST_STREAMS)]
        with StreamClient(port, "AAPL_1m") as refused:
            assert refused.answer.status == 503
            assert refused.answer.headers["Retry-After"] == "30"
        streams[0].socket.shutdown(socket.SHUT_RDWR)

        def is_open():
            with StreamClient(port, "AAPL_1m") as another:
                return another.answer.status == 200

        wait_for(is_open)


def test_a_request_behind_it_is_not_answered_into_it(port, store):
    head = b"GET /api/v1/stream?series=AAPL_1m&start=2026-11-18 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(head + b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert answer.readline().startswith(b"retry")
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        add(store, AAPL, 0)
        lines = [answer.readline() for _ in range(5)]
    assert lines[1] == b"\n"
    assert lines[3].startswith(b'data: {"symbol":"AAPL"')


def test_a_client_of_http_1_0_reads_until_the_end(port, store):
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(b"GET /api/v1/stream?series=AAPL_1m&start=2026 HTTP/1.0\r\n")
        connection.sendall(b"Host: localhost\r\n\r\n")
        assert b" 400 " in connection.makefile("rb").readline()
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(b"GET /api/v1/stream?series=AAPL_1m&start=2026-11-18 HTTP/1.0\r\n")
        connection.sendall(b"Host: localhost\r\n\r\n")
        lines = connection.makefile("rb")
        assert b" 200 " in lines.readline()
        head = b"".join(iter(lines.readline, b"\r\n"))
        assert b"chunked" not in head
        assert lines.readline().startswith(b"retry: ")
        add(store, AAPL, 0)
        assert [lines.readline() for _ in range(4)][3].startswith(b'data: {"symbol":"AAPL"')


def test_it_is_not_packed(port, store):
    add(store, AAPL, 0)
    headers = {"Accept-Encoding": "gzip"}
    with StreamClient(port, "AAPL_1m", headers=headers, start=START) as stream:
        assert stream.answer.headers["Content-Encoding"] is None
        assert stream.answer.headers["Cache-Control"] == "no-store"
        assert stream.bars(1) == [name(AAPL, 0)]


def test_a_file_that_breaks_is_named_and_the_others_go_on(port, store):
    add(store, AAPL, 0)
    with StreamClient(port, BOTH, start=START) as stream:
        assert stream.bars(1) == [name(AAPL, 0)]
        with store.path(AAPL).open("a") as file:
            file.write("oops\n")
        kind, problem = stream.event()
        assert (kind, problem["outcome"]) == ("problem", "malformed_file")
        assert "AAPL_1m.csv line 3" in problem["detail"]
        with StreamClient(port, BOTH, stream.last_id) as again:  # a browser would not come back
            assert again.event() == (kind, problem)  # after an answer that is an error
        add(store, MSFT, 0)
        assert stream.bars(1) == [name(MSFT, 0)]
        text = store.path(AAPL).read_text().replace("oops\n", "")
        store.path(AAPL).write_text(text)
        add(store, AAPL, 1)
        assert stream.bars(1) == [name(AAPL, 1)]


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ("", 400, "series is missing: expected AAPL_1m, ESZ6_1m or the like"),
        ("?series=", 400, "series='': expected SYMBOL_TIMEFRAME"),
        ("?series=AAPL", 400, "series='AAPL': expected SYMBOL_TIMEFRAME"),
        ("?series=AAPL_2m", 400, "expected one of 1m 5m"),
        ("?series=AAPL_1m,AAPL_1m", 400, "series='AAPL_1m' is there more than once"),
        ("?series=AAPL_1m,APPL_1m", 404, "has no APPL_1m.csv"),
        ("?series=" + ",".join(f"A{i}_1m" for i in range(51)), 400, "expected at most 50"),
        ("?series=AAPL_1m&begin=2026", 400, "unknown parameter 'begin': expected series, start"),
        ("?series=AAPL_1m&start=soon", 400, "start='soon': expected a date or time"),
    ],
)
def test_a_wrong_wish_is_refused(client, store, query, status, words):
    assert store
    answer = client.get(f"/api/v1/stream{query}")
    assert (answer.status_code, words in answer.json["detail"]) == (status, True), answer.json


def test_the_nearest_series_is_named(client, store):
    assert store
    assert client.get("/api/v1/stream?series=APPL_1m").json["hint"] == "did you mean AAPL?"


@pytest.mark.parametrize("series", ["AAPL_1m", "MSFT_1h"])
def test_an_id_of_another_stream_is_refused(client, store, series):
    assert store
    answer = client.get(f"/api/v1/stream?series={BOTH}")
    last_id = answer.text.partition("id: ")[2].partition("\n")[0]
    headers = {"Last-Event-ID": last_id}
    assert client.get(f"/api/v1/stream?series={BOTH}", headers=headers).status_code == 200
    refused = client.get(f"/api/v1/stream?series={series}", headers=headers)
    assert refused.status_code == 400
    assert f"an id of a stream of {series}, and of no other" in refused.json["detail"]


def test_head_and_options_hold_nothing(client, store):
    assert store
    head = client.head("/api/v1/stream?series=AAPL_1m")
    assert (head.status_code, head.mimetype, head.data) == (200, "text/event-stream", b"")
    store.claim("simulated")
    head = client.head("/api/v1/stream?series=AAPL_1m")
    assert head.headers["X-Source"] == "simulated"
    assert client.options("/api/v1/stream").status_code == 204
