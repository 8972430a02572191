import asyncio
import contextlib
import json
import socket
import subprocess
import threading
from datetime import UTC, datetime

import pytest

from ktrdr import errors
from ktrdr.errors import (
    AlreadyRunning,
    InvalidRequest,
    Misconfigured,
    NotEntitled,
    PeerDown,
    PeerTimedOut,
    TimedOut,
)
from ktrdr.ipc.bars_message import BarColumns, BarsMessage
from ktrdr.ipc.client import LocalClient
from ktrdr.ipc.codec import from_text, to_json, to_text
from ktrdr.ipc.messages import ACCEPTED, FarmStatus, FillStatus, LastError, OutageCost
from ktrdr.ipc.query import (
    instrument_from_query,
    request_to_query,
    span_from_query,
    timeframe_from_query,
)
from ktrdr.ipc.server import LocalServer, serving
from ktrdr.ipc.sessions_codec import schedule_from_json, schedule_to_json
from ktrdr.market.bars import Bar
from ktrdr.market.instruments import instrument_for
from ktrdr.market.sessions import Schedule, Session
from ktrdr.market.timeframes import Timeframe


@contextlib.contextmanager
def served(path, **routes):
    """A server in a thread; each route is a coroutine function under its name."""
    table = {("POST" if name == "post" else "GET", f"/{name}"): f for name, f in routes.items()}
    with serving(LocalServer(path, table)):
        yield LocalClient(path, "peer")


async def echo(query):
    return dict(query)


@pytest.fixture
def path(scratch):
    return scratch / "run" / "peer.sock"


def test_a_question_comes_through_with_its_parameters(path):
    with served(path, echo=echo) as client:
        assert client.get("/echo", symbol="BRK B", when="2026-11-20T14:30:00+00:00") == {
            "symbol": "BRK B",
            "when": "2026-11-20T14:30:00+00:00",
        }


def test_only_its_owner_may_speak_to_it(path):
    with served(path, echo=echo):
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700


def test_curl_is_a_client(path):
    with served(path, echo=echo):
        command = ["curl", "-s", "--unix-socket", str(path), "http://local/echo?a=1"]
        try:
            said = subprocess.run(command, capture_output=True, check=True, timeout=10).stdout
        except FileNotFoundError:
            pytest.skip("there is no curl")
        assert json.loads(said) == {"a": "1"}


def test_work_that_has_only_begun_is_accepted(path):
    async def begin(_query):
        return {ACCEPTED: True, "scan_id": "x"}

    with served(path, post=begin) as client:
        assert client.post("/post")["scan_id"] == "x"


def test_an_error_arrives_as_it_was_raised(path):
    async def refuse(_query):
        raise NotEntitled("no data for you", code=354, hint="subscribe")

    with served(path, refuse=refuse) as client, pytest.raises(NotEntitled) as raised:
        client.get("/refuse")
    error = raised.value
    assert (error.message, error.code, error.hint) == ("no data for you", 354, "subscribe")


ERRORS = [kind for kind in vars(errors).values() if isinstance(kind, type)]


@pytest.mark.parametrize("kind", [kind for kind in ERRORS if issubclass(kind, errors.KtrdrError)])
def test_every_kind_of_error_arrives_as_itself(path, kind):
    async def refuse(_query):
        raise kind("what went wrong", code=162, hint="what to do")

    with served(path, refuse=refuse) as client, pytest.raises(errors.KtrdrError) as raised:
        client.get("/refuse")
    error = raised.value
    assert type(error) is kind
    assert (error.message, error.code, error.hint) == ("what went wrong", 162, "what to do")


class BrokenCheck(errors.MalformedFile):
    """An error that only one program knows."""


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (errors.InvalidRequest, 400),
        (errors.UnknownSeries, 404),
        (errors.MalformedFile, 422),
        (BrokenCheck, 422),
        (errors.OtherUnit, 400),
        (errors.OtherContract, 400),
        (errors.WrongSource, 409),
        (errors.AlreadyRunning, 500),
        (errors.PacingViolation, 429),
        (errors.RequestFailed, 503),
        (errors.TimedOut, 503),
        (errors.CompetingSession, 503),
        (errors.GatewayUnresponsive, 503),
        (errors.PeerTimedOut, 503),
        (errors.StoreUnwritable, 503),
        (ZeroDivisionError, 500),
    ],
)
def test_its_http_status_says_whose_trouble_it_is(path, kind, status):
    async def refuse(_query):
        raise kind("what went wrong")

    with served(path, refuse=refuse):
        requested = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}"]
        command = [*requested, "--unix-socket", str(path), "http://local/refuse"]
        try:
            said = subprocess.run(command, capture_output=True, check=True, timeout=10).stdout
        except FileNotFoundError:
            pytest.skip("there is no curl")
    assert int(said) == status


def test_an_error_that_only_the_peer_knows_arrives_as_what_it_is_derived_from(path):
    async def refuse(_query):
        raise BrokenCheck("line 3")

    with served(path, refuse=refuse) as client, pytest.raises(errors.MalformedFile) as raised:
        client.get("/refuse")
    assert type(raised.value) is errors.MalformedFile


def test_a_peer_of_another_version_is_understood_by_the_outcome_that_it_names(path):
    body = b'{"outcome": "not_connected", "message": "no connection"}'
    head = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: %d\r\n\r\n" % len(body)

    def answer_once():
        with listening.accept()[0] as asking:
            asking.recv(4096)
            asking.sendall(head + body)

    path.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        threading.Thread(target=answer_once, daemon=True).start()
        with pytest.raises(errors.NotConnected, match="no connection") as raised:
            LocalClient(path, "peer").get("/status")
    assert type(raised.value) is errors.NotConnected


def test_a_mistake_in_the_peer_is_an_error_and_not_its_end(path):
    async def fail(_query):
        raise ZeroDivisionError

    with served(path, fail=fail, echo=echo) as client:
        with pytest.raises(Exception, match="internal error"):
            client.get("/fail")
        assert client.get("/echo", a="1") == {"a": "1"}


def test_nobody_there_is_a_peer_that_is_down(path):
    with pytest.raises(PeerDown, match="peer is not running") as raised:
        LocalClient(path, "peer").get("/status")
    assert (
        raised.value.hint == ".venv/bin/supervisorctl status peer; where nothing runs, ./scripts/up"
    )


def test_a_peer_that_hangs_is_given_up(path):
    async def hang(_query):
        await asyncio.sleep(30)

    with (
        served(path, hang=hang) as client,
        pytest.raises(PeerTimedOut, match=r"within 0\.2 s") as raised,
    ):
        client.get("/hang", 0.2)
    assert raised.value.hint == ".venv/bin/supervisorctl restart peer"


def test_questions_can_be_broken_off(path):
    requested = threading.Event()

    async def hang(_query):
        requested.set()
        await asyncio.sleep(30)

    with served(path, hang=hang) as client:
        failures = []

        def ask():
            with pytest.raises(PeerDown):
                client.get("/hang", 60)
            failures.append(True)

        thread = threading.Thread(target=ask)
        thread.start()
        assert requested.wait(10)
        client.abort()
        thread.join(10)
        assert failures == [True]
        with pytest.raises(PeerDown, match="no longer contacted"):
            client.get("/hang", 60)


def test_a_dead_programs_socket_is_replaced(path):
    path.parent.mkdir(0o700)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with served(path, echo=echo) as client:
        assert client.get("/echo") == {}


def test_a_living_programs_socket_is_respected(path):
    with served(path, echo=echo) as client:
        with pytest.raises(AlreadyRunning, match=r"peer\.sock"), served(path, echo=echo):
            pass
        assert client.get("/echo") == {}


def test_a_path_that_is_too_long_for_a_socket_is_named(scratch):
    path = scratch / ("x" * 120) / "peer.sock"
    with pytest.raises(Misconfigured, match="cannot serve"), served(path, echo=echo):
        pass


def test_what_is_no_socket_is_left_alone(path):
    path.parent.mkdir(0o700)
    path.write_text("mine")
    with pytest.raises(Misconfigured, match="in the way"), served(path, echo=echo):
        pass
    assert path.read_text() == "mine"


def test_it_leaves_no_socket_behind(path):
    with served(path, echo=echo):
        pass
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("symbol", "entry"),
    [
        ("AAPL", {}),
        ("BRK B", {"extended_hours": True}),
        ("USDJPY", {}),
        ("6EH4", {}),
        ("ES", {"sec_type": "FUT", "expiry": "202612"}),
        ("BTC", {"sec_type": "CRYPTO"}),
        ("ESZ6", {"extended_hours": False}),
        ("ES", {"sec_type": "FUT", "expiry": "202612", "multiplier": "50", "trading_class": "ES"}),
        ("M.M", {"local_symbol": "M&M +/"}),
        ("AAPL", {"con_id": 265598}),
    ],
)
def test_an_instrument_survives_the_way(symbol, entry):
    instrument = instrument_for(symbol, entry)
    query = request_to_query(instrument, Timeframe.H4, 0, 3600)
    assert instrument_from_query(query) == instrument
    assert timeframe_from_query(query) is Timeframe.H4
    assert span_from_query(query) == (0, 3600)


def test_a_person_may_ask_with_a_symbol_and_dates():
    query = {"symbol": "AAPL", "start": "2026-11-20", "end": "2026-11-21"}
    assert instrument_from_query(query) == instrument_for("AAPL")
    start, end = span_from_query(query)
    assert end - start == 86400


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ({"symbol": "../x"}, "symbol"),
        ({}, "symbol"),
        ({"symbol": "AAPL", "sec_type": "SHARE"}, "SHARE"),
        ({"symbol": "AAPL", "exchange": "a b"}, "exchange"),
        ({"symbol": "AAPL", "con_id": "0"}, "con_id = 0: expected"),
        ({"symbol": "AAPL", "con_id": "AAPL"}, "con_id = 'AAPL': expected"),
        ({"symbol": "ES", "multiplier": "-1"}, "multiplier = '-1': expected"),
    ],
)
def test_a_wrong_instrument_is_named(query, named):
    with pytest.raises(InvalidRequest, match=named):
        instrument_from_query(query)


@pytest.mark.parametrize(
    "query",
    [
        {"start": "soon", "end": "2026-11-20"},
        {"start": "2026-11-20"},
        {"start": "2026-11-20", "end": "2026-11-20"},
    ],
)
def test_a_wrong_span_is_named(query):
    with pytest.raises(InvalidRequest, match=r"start|end"):
        span_from_query(query)


def test_bars_survive_the_way_to_the_last_digit(path):
    bars = [Bar(60, 0.1 + 0.2, 1e300, -1e-5, 92.58, 12.5), Bar(120, 1, 1, 1, 1, -1)]

    async def tell(_query):
        return to_text(BarsMessage(BarColumns.of(bars), (180,), BarColumns.of([])))

    with served(path, bars=tell) as client:
        assert client.request(BarsMessage, "GET", "/bars").answer() == (bars, (180,), ())
        assert client.get("/bars")["bars"]["close"] == [92.58, 1]


def test_bars_of_a_version_that_tells_less_are_understood():
    columns = b'{"start":[60],"open":[1],"high":[2],"low":[1],"close":[2],"volume":[7]}'
    received = from_text(BarsMessage, b'{"bars":%b,"of_a_later_version":{}}' % columns)
    assert received.answer() == ([Bar(60, 1, 2, 1, 2, 7)], (), ())


def test_sessions_survive_the_way():
    schedule = Schedule("America/New_York", 0, 100, (Session(10, 20, 0), Session(30, 40, 0)))
    assert schedule_from_json(json.loads(json.dumps(schedule_to_json(schedule)))) == schedule


@pytest.mark.parametrize("said", [{}, {"sessions": 3}, {"sessions": [[1]], "zone": "UTC"}])
def test_what_is_no_schedule_is_refused(said):
    with pytest.raises(InvalidRequest, match="sessions"):
        schedule_from_json(said)


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        ('{"start":[1]}', r"bars\.open"),
        ('{"start":[60],"open":[1],"high":[2],"low":[1],"close":[],"volume":[7]}', "bars"),
        ('{"start":[60],"open":["1"],"high":[2],"low":[1],"close":[2],"volume":[7]}', "open"),
        ("7", "bars"),
    ],
)
def test_bars_that_are_none_are_named(columns, named):
    with pytest.raises(InvalidRequest, match=named):
        from_text(BarsMessage, b'{"bars":%b}' % columns.encode()).answer()


def test_times_are_told_in_seconds_of_utc():
    time = datetime(2026, 11, 20, 14, 30, 1, 999_999, tzinfo=UTC)
    assert to_json(LastError(502, "down", "start it", time)) == {
        "code": 502,
        "message": "down",
        "hint": "start it",
        "time": "2026-11-20T14:30:01+00:00",
    }


def test_text_that_is_not_utf8_is_told_all_the_same(path):
    async def tell(_query):
        return to_json(LastError(None, "n\udce9ant", ""))

    with served(path, status=tell) as client:
        assert client.get("/status")["message"] == "n\udce9ant"
        assert client.request(LastError, "GET", "/status").message == "n\udce9ant"


def test_an_error_whose_text_is_not_utf8_arrives_as_it_was_raised(path):
    async def refuse(_query):
        raise errors.MalformedFile("n\udce9ant.csv: no header")

    with (
        served(path, status=refuse) as client,
        pytest.raises(errors.MalformedFile, match="n\udce9ant"),
    ):
        client.get("/status")


def test_a_message_of_a_later_version_is_understood(path):
    async def tell(_query):
        return {"bars_late": 12, "bars_lost": 0, "why": "the farm was broken"}

    with served(path, cost=tell) as client:
        assert client.request(OutageCost, "GET", "/cost") == OutageCost(12, 0)


def test_what_an_earlier_version_does_not_tell_is_as_if_nothing_was_known(path):
    async def tell(_query):
        since = "2015-01-01T00:00:00+00:00"
        return {"id": 3, "symbol": "AAPL", "timeframe": "1m", "from": since, "state": "waiting"}

    with served(path, fill=tell) as client:
        received = client.request(FillStatus, "GET", "/fill")
    since = datetime(2015, 1, 1, tzinfo=UTC)
    assert received == FillStatus(3, "AAPL", "1m", since, "waiting", "", "", None, None)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"up": "yes"}, "up: "),
        ({"since": "soon"}, "since: "),
        ({"breaks": None}, "breaks: "),
        ({"last_break_s": float("nan")}, "last_break_s: "),
    ],
)
def test_an_answer_of_another_shape_is_a_peer_that_cannot_be_understood(path, change, why):
    farm = {"name": "ushmds", "serves": "history", "up": True, "breaks": 0, "last_break_s": 1.5}

    async def tell(_query):
        return farm | {"since": "2026-11-20T14:30:00+00:00"} | change

    named = rf"peer gave an answer that cannot be read \({why}"
    with served(path, farm=tell) as client, pytest.raises(PeerDown, match=named) as raised:
        client.request(FarmStatus, "GET", "/farm")
    assert raised.value.hint == ".venv/bin/supervisorctl restart peer"


def test_timed_out_is_told_from_a_peer_that_is_down(path):
    async def late(_query):
        raise TimedOut("IB did not answer")

    with served(path, late=late) as client, pytest.raises(TimedOut):
        client.get("/late")
