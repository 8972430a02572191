"""The connection against a real simulated gateway, or plain sockets where that must misbehave."""

import asyncio
import contextlib
import socket
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ktrdr.data.ib_client import IbClient, translate
from ktrdr.data.ib_connection_manager import PersistentIbConnectionManager
from ktrdr.errors import (
    AlreadyRunning,
    InvalidRequest,
    NotConnected,
    NotEntitled,
    RequestFailed,
    UnknownContract,
)
from ktrdr.planning.instruments import instrument_for
from ktrdr.planning.requests import BarsRequest
from ktrdr.planning.timeframes import Timeframe
from ktrdr.sim.hosting import running_gateway
from ktrdr.sim.market import truth

AAPL = instrument_for("AAPL")


def utc(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def connect(make_settings):
    """Start a manager towards a port; stopped at the end."""
    with contextlib.ExitStack() as stack:

        def start(port: int, **given) -> PersistentIbConnectionManager:
            settings = make_settings(ktrdr_sim_port=port, ktrdr_ib_heartbeat_s=1, **given)
            manager = PersistentIbConnectionManager(settings)
            manager.start()
            stack.callback(manager.stop)
            return manager

        yield start


@pytest.fixture
def gateway():
    with running_gateway() as gateway:
        yield gateway


@contextlib.contextmanager
def listening(serve=lambda _client: None, port: int = 0):
    """A TCP server that accepts, and does with each client what it is told."""
    clients = []
    with socket.create_server(("127.0.0.1", port)) as server:

        def accept():
            with contextlib.suppress(OSError):
                while True:
                    client, _ = server.accept()
                    clients.append(client)
                    serve(client)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield server.getsockname()[1], clients
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        for client in clients:
            client.close()


def test_it_connects_by_itself_and_says_so(connect, gateway, wait_for):
    manager = connect(gateway.port)
    wait_for(lambda: manager.is_connected)
    status = manager.status()
    assert (status.state, status.client_id, status.gateway) == ("connected", 1, "simulated")
    assert (status.host, status.port, status.server_version) == ("127.0.0.1", gateway.port, 176)
    assert (status.connection_attempts, status.failed_attempts) == (1, 0)
    assert status.last_connect_time.tzinfo is UTC
    assert status.last_error is None


def test_it_asks_for_nothing_that_it_does_not_need(connect, gateway, wait_for):
    manager = connect(gateway.port)
    wait_for(lambda: manager.is_connected)
    assert {entry["kind"] for entry in gateway.record} == {"current_time"}


def test_bars_are_those_of_the_market(connect, gateway, wait_for):
    manager = connect(gateway.port)
    wait_for(lambda: manager.is_connected)
    start, end = utc("2026-11-18"), utc("2026-11-20")
    for timeframe in Timeframe:
        found = manager.call(manager.bars(BarsRequest(AAPL, timeframe, start, end)), 30)
        assert [tuple(bar) for bar in found.bars] == truth("AAPL", timeframe, start, end)


def test_sessions_are_the_exchanges_with_the_coming_days(connect, gateway, wait_for):
    manager = connect(gateway.port)
    wait_for(lambda: manager.is_connected)
    start, end = utc("2025-11-24"), utc("2025-12-01")
    found = manager.call(manager.sessions(AAPL, start, end), 30)
    week = [s for s in found.sessions if start <= s.open < end]
    # Thanksgiving 2025 was on 27 November; the day after closed at 13:00 New York.
    assert [datetime.fromtimestamp(s.day, UTC).day for s in week] == [24, 25, 26, 28]
    assert [s.close - s.open for s in week] == [23400, 23400, 23400, 12600]
    now = int(datetime.now(UTC).timestamp())
    recent = manager.call(manager.sessions(AAPL, now - 86400, now), 30)
    assert recent.covers(now - 86400, now + 86400)


def test_history_of_several_years_is_put_together(connect, gateway, wait_for):
    manager = connect(gateway.port)
    wait_for(lambda: manager.is_connected)
    found = manager.call(manager.sessions(AAPL, utc("2023-01-01"), utc("2026-01-01")), 30)
    days = [s.day for s in found.sessions if utc("2023-01-01") <= s.day < utc("2026-01-01")]
    # NYSE's own count of trading days: 250, 252 and 250.
    assert len(days) == len(set(days)) == 752


def test_before_the_listing_nothing_was_open(connect, gateway, wait_for):
    manager = connect(gateway.port)
    wait_for(lambda: manager.is_connected)
    found = manager.call(manager.sessions(AAPL, utc("1970-01-02"), utc("1972-01-01")), 60)
    assert found.covers(utc("1970-01-02"), utc("1972-01-01"))
    assert [s for s in found.sessions if s.close < utc("1972-01-01")] == []


def test_no_data_is_an_answer_and_an_unknown_contract_is_none(connect, gateway, wait_for):
    manager = connect(gateway.port)
    wait_for(lambda: manager.is_connected)
    sunday = BarsRequest(AAPL, Timeframe.M1, utc("2026-11-15 10:00"), utc("2026-11-15 11:00"))
    assert manager.call(manager.bars(sunday), 30).bars == []
    nobody = BarsRequest(instrument_for("XYZZY"), Timeframe.M1, sunday.start, sunday.end)
    with pytest.raises(UnknownContract) as raised:
        manager.call(manager.bars(nobody), 30)
    assert raised.value.code == 200
    assert "instruments.toml" in raised.value.hint


def test_a_wrong_kind_of_bars_is_told_from_no_data(connect, gateway, wait_for):
    manager = connect(gateway.port)
    wait_for(lambda: manager.is_connected)
    coin = instrument_for("BTC", {"sec_type": "CRYPTO", "what_to_show": "TRADES"})
    request = BarsRequest(coin, Timeframe.H1, utc("2026-11-18"), utc("2026-11-19"))
    with pytest.raises(InvalidRequest) as raised:
        manager.call(manager.bars(request), 30)
    assert raised.value.code == 10299


def test_it_takes_the_next_id_at_once_when_one_is_in_use(connect, gateway, make_settings, wait_for):
    with running_client(make_settings(ktrdr_sim_port=gateway.port), gateway, wait_for):
        manager = connect(gateway.port, ktrdr_ib_retry_delays_s=(60,))
        wait_for(lambda: manager.is_connected)
        assert manager.status().client_id == 2
        assert manager.status().failed_attempts == 0
        assert gateway.client_ids == [1, 2]


@contextlib.contextmanager
def running_client(settings, gateway, wait_for):
    """Another program with client id 1."""
    run_dir = settings.run_dir.with_name("other")
    other = PersistentIbConnectionManager(settings.model_copy(update={"ktrdr_run_dir": run_dir}))
    other.start()
    try:
        wait_for(lambda: gateway.client_ids == [1])
        yield
    finally:
        other.stop()


def test_it_retries_until_the_gateway_is_there(connect, wait_for):
    port = free_port()
    manager = connect(port)
    wait_for(lambda: manager.status().failed_attempts >= 3)
    status = manager.status()
    assert not status.connected
    assert status.last_error.code == 502
    assert f"cannot connect to 127.0.0.1:{port}: Connection refused" in status.last_error.message
    assert "IB Gateway running" in status.last_error.hint
    with running_gateway(port=port):
        wait_for(lambda: manager.is_connected)


def test_it_comes_back_after_a_drop(connect, gateway, wait_for):
    manager = connect(gateway.port)
    wait_for(lambda: manager.is_connected)
    gateway.drop_connections()
    wait_for(lambda: manager.status().connection_attempts >= 2 and manager.is_connected)
    status = manager.status()
    assert status.last_disconnect_time is not None
    assert "closed the connection" in status.last_error.message


def test_a_wish_to_reconnect_cuts_the_wait_short(connect, wait_for):
    port = free_port()
    manager = connect(port, ktrdr_ib_retry_delays_s=(3600,))
    wait_for(lambda: manager.status().next_retry_time)
    with running_gateway(port=port):
        manager.reconnect()
        wait_for(lambda: manager.is_connected)


def test_without_a_connection_a_request_fails_at_once_with_the_reason(connect, wait_for):
    manager = connect(free_port(), ktrdr_ib_retry_delays_s=(3600,))
    wait_for(lambda: manager.status().next_retry_time)
    with pytest.raises(NotConnected, match="cannot connect") as raised:
        manager.call(manager.contract(AAPL), 10)
    assert raised.value.code == 502


def test_a_gateway_that_closes_before_its_greeting_is_told_apart(connect, wait_for):
    with listening(lambda client: client.close()) as (port, _):
        manager = connect(port)
        wait_for(lambda: manager.status().last_error)
        assert "before its greeting" in manager.status().last_error.message
        assert "forwarder" in manager.status().last_error.hint


def test_a_gateway_that_falls_silent_is_dropped(connect, gateway, wait_for):
    silent = threading.Event()
    with forwarding(gateway.port, silent) as port:
        manager = connect(port)
        wait_for(lambda: manager.is_connected)
        silent.set()
        wait_for(lambda: manager.status().last_error)
        assert "has answered nothing for" in manager.status().last_error.message
        wait_for(lambda: not manager.is_connected)
        silent.clear()
        wait_for(lambda: manager.is_connected)


def test_what_was_asked_of_a_silent_gateway_ends_with_the_connection(connect, gateway, wait_for):
    silent = threading.Event()
    with forwarding(gateway.port, silent) as port:
        manager = connect(port)
        wait_for(lambda: manager.is_connected)
        silent.set()
        request = BarsRequest(AAPL, Timeframe.M1, utc("2026-11-18"), utc("2026-11-20"))
        with pytest.raises(NotConnected, match="the connection broke"):
            manager.call(manager.bars(request), 20)
        assert manager.status().requests_open == 0


def test_a_gateway_that_never_speaks_is_told_from_one_that_hangs_up():
    async def greet(port):
        await IbClient(lambda _code, _text: None).connect("127.0.0.1", port, 1, timeout_s=0.3)

    with (
        listening() as (port, _),
        pytest.raises(NotConnected, match="accepts connections and says nothing"),
    ):
        asyncio.run(greet(port))


@contextlib.contextmanager
def forwarding(port: int, silent: threading.Event):
    """A forwarder to `port` that swallows everything while `silent` is set."""

    def pump(source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if not silent.is_set():
                    target.sendall(data)
        for side in (source, target):
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)

    def serve(client):
        if silent.is_set():
            client.close()
            return
        upstream = socket.create_connection(("127.0.0.1", port))
        pairs.append(upstream)
        for ends in ((client, upstream), (upstream, client)):
            threading.Thread(target=pump, args=ends, daemon=True).start()

    pairs: list[socket.socket] = []
    with listening(serve) as (listening_port, _):
        yield listening_port
    for upstream in pairs:
        upstream.close()


def test_all_ids_in_use_is_said(connect, wait_for):
    with listening(refuse_the_id) as (port, clients):
        manager = connect(port, ib_client_id=48)
        wait_for(lambda: manager.status().last_error)
        assert "all client ids from 48 to 50 are in use" in manager.status().last_error.message
        assert len(clients) >= 3


def refuse_the_id(client):
    """The greeting of protocol 176, and then what IB says of an id in use."""

    def message(*fields):
        body = b"".join(str(f).encode() + b"\0" for f in fields)
        return len(body).to_bytes(4) + body

    client.recv(100)
    client.sendall(message(176, "20261120 10:00:00 UTC"))
    client.recv(100)
    text = "Unable to connect as the client id is already in use."
    client.sendall(message(4, 2, -1, 326, text, ""))
    client.close()


def test_one_process_holds_the_connection_of_a_run_folder(connect, gateway, make_settings):
    connect(gateway.port)
    second = PersistentIbConnectionManager(make_settings(ktrdr_sim_port=gateway.port))
    with pytest.raises(AlreadyRunning, match=r"ib\.lock"):
        second.start()


def descriptors() -> int:
    return len(list(Path("/dev/fd").iterdir()))


def test_stopping_leaves_no_socket_and_no_thread(make_settings, gateway, wait_for):
    threads, open_before = threading.active_count(), descriptors()
    manager = PersistentIbConnectionManager(make_settings(ktrdr_sim_port=gateway.port))
    manager.start()
    wait_for(lambda: manager.is_connected)
    manager.stop()
    wait_for(lambda: gateway.client_ids == [])
    assert threading.active_count() == threads
    assert descriptors() == open_before
    assert manager.status().state == "disconnected"


def test_a_gateway_that_says_it_is_simulated_is_not_live(connect, wait_for):
    with running_gateway(account="SIMULATED") as gateway:
        manager = connect(1, ib_host="127.0.0.1", ib_port=gateway.port)
        wait_for(lambda: manager.is_connected)
        assert manager.status().gateway == "simulated"


def test_another_account_is_live(connect, wait_for):
    with running_gateway(account="DU1234567") as gateway:
        manager = connect(1, ib_host="127.0.0.1", ib_port=gateway.port)
        wait_for(lambda: manager.is_connected)
        assert manager.status().gateway == "live"


@pytest.mark.parametrize(
    ("code", "text", "kind"),
    [
        (162, "Historical data request pacing violation", "paced"),
        (162, "No market data permissions for NYSE STK", "not_entitled"),
        (
            162,
            "Trading TWS session is connected from a different IP address",
            "competing_session",
        ),
        (162, "etwas ganz anderes", "failed"),
        (354, "Requested market data is not subscribed", "not_entitled"),
        (10197, "No market data during competing live session", "competing_session"),
        (321, "Error validating request", "invalid_request"),
        (9999, "something new", "failed"),
    ],
)
def test_ibs_codes_become_outcomes(code, text, kind):
    error = translate(code, text, "bars of X_1m")
    assert (error.outcome, error.code) == (kind, code)
    assert text in error.message
    assert isinstance(error, NotEntitled) == (kind == "not_entitled")
    assert (type(error) is RequestFailed) == (kind == "failed")
