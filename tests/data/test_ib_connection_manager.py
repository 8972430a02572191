"""The connection against a real simulated gateway, or plain sockets where that must misbehave."""

import asyncio
import concurrent.futures
import contextlib
import itertools
import re
import socket
import sqlite3
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from ktrdr.data.ib_connection_manager import PersistentIbConnectionManager, routes, serve
from ktrdr.errors import (
    AlreadyRunning,
    CompetingSession,
    InvalidRequest,
    NotConnected,
    NotEntitled,
    PeerDown,
    RequestFailed,
    TimedOut,
    UnknownContract,
)
from ktrdr.ib.history import ConnectionHistory
from ktrdr.ipc.client import LocalClient
from ktrdr.ipc.messages import ConnectionStatus
from ktrdr.ipc.server import LocalServer, serving
from ktrdr.market.bars_request import BarsRequest
from ktrdr.market.instruments import instrument_for, read_instruments
from ktrdr.market.timeframes import Timeframe
from ktrdr.sim.gateway.faults import DATA
from ktrdr.sim.gateway.in_thread import running_gateway
from ktrdr.sim.gateway.limits import Limits
from ktrdr.sim.market.market import truth
from tests.ports import free_port

AAPL = instrument_for("AAPL")


def utc(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


@pytest.fixture
def connect(make_settings):
    """Start a manager towards a port; stopped at the end."""
    with contextlib.ExitStack() as stack:

        def start(port: int, now=None, history=None, **given) -> PersistentIbConnectionManager:
            wanted = {"ktrdr_sim_port": port, "ktrdr_ib_heartbeat_s": 1} | given
            settings = make_settings(**wanted)
            clock = {} if now is None else {"now": now}
            manager = PersistentIbConnectionManager(settings, history=history, **clock)
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
    assert (status.host, status.port) == ("127.0.0.1", gateway.port)
    assert status.server_version == {"ib_insync": 176, "ib_async": 178}[status.library]
    assert (status.connection_attempts, status.failed_attempts) == (1, 0)
    assert status.last_connect_time.tzinfo is UTC
    assert status.last_error is None


def test_it_asks_for_the_time_and_one_bar_and_nothing_else(connect, gateway, wait_for):
    manager = connect(gateway.port)
    wait_for(lambda: manager.status().requests_answered == 2)
    assert gateway.summary()["requests"] == {"current_time": 1, "historical_data": 1}


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


def test_it_comes_back_after_a_drop(connect, gateway, wait_for, caplog):
    manager = connect(gateway.port)
    wait_for(lambda: manager.is_connected)
    gateway.drop_connections()
    wait_for(lambda: manager.status().connection_attempts >= 2 and manager.is_connected)
    status = manager.status()
    assert status.last_disconnect_time is not None
    assert "closed the connection" in caplog.text
    assert status.last_error is None  # it is over


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
        assert "during the handshake" in manager.status().last_error.message
        assert "forwarder" in manager.status().last_error.hint


_days = itertools.count()


def history_of(symbol: str = "AAPL") -> BarsRequest:
    """A day of minutes, another one each time: the same would be asked 15 s later."""
    start = utc("2026-11-02") + next(_days) % 5 * 86400
    return BarsRequest(instrument_for(symbol), Timeframe.M1, start, start + 86400)


@contextlib.contextmanager
def asking(manager, request=None, patience_s=None):
    """A request that somebody waits for; yields its future."""
    request = request or history_of()
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        yield thread.submit(lambda: answers(manager, request, patience_s))


def is_in_flight(gateway, count=1):
    """So many requests for bars have come in, and were not answered."""
    return lambda: gateway.summary()["in_flight"] >= count


def answers(manager, request=None, patience_s=None):
    """What comes of a request; bars are compared with those of the market."""
    request = request or history_of()
    found = manager.call(manager.bars(request, patience_s), 60)
    known = truth(request.instrument.symbol, request.timeframe, request.start, request.end)
    assert [tuple(bar) for bar in found.bars] == known
    return found


def test_a_half_open_connection_is_found_closed_and_replaced(connect, gateway, wait_for):
    manager = connect(gateway.port)
    wait_for(lambda: manager.is_connected)
    with gateway.half_open():
        wait_for(lambda: manager.status().last_disconnect_time)
        assert "has answered nothing for 2 s" in manager.status().last_error.message
        wait_for(lambda: manager.is_connected)
        assert gateway.summary()["connects"] == 2
        assert len(gateway.client_ids) == 1  # the old socket is closed, and its id free


def test_what_was_asked_over_a_half_open_connection_is_asked_again(connect, gateway, wait_for):
    manager = connect(gateway.port)
    wait_for(lambda: manager.is_connected)
    with gateway.half_open(), asking(manager) as requested:
        assert requested.result(30).bars
    assert manager.status().requests_open == 0


def test_a_wedged_gateway_is_called_dead_and_not_hammered(connect, wait_for):
    with listening() as (port, clients):
        manager = connect(port, ktrdr_ib_retry_delays_s=(3600,))
        wait_for(lambda: manager.status().state == "dead")
        status = manager.status()
        assert "accepts connections but does not respond" in status.last_error.message
        assert status.last_error.hint.startswith("restart the gateway")
        assert not status.connected
        wait_for(lambda: len(clients) == 2)  # the attempt, and the one that waits for its end
        silent_s = threading.Event()
        assert not silent_s.wait(1.5)
        assert len(clients) == 2


def test_a_stuck_gateway_that_is_restarted_is_connected_before_the_retry_is_due(connect, wait_for):
    with listening() as (port, _):
        manager = connect(port, ktrdr_ib_retry_delays_s=(3600,))
        wait_for(lambda: manager.status().state == "dead")
    wait_for(lambda: manager.status().state == "waiting")
    with running_gateway(port=port):
        wait_for(lambda: manager.is_connected)


def test_a_gateway_that_comes_up_is_connected_before_the_retry_is_due(connect, wait_for):
    port = free_port()
    manager = connect(port, ktrdr_ib_retry_delays_s=(3600,))
    wait_for(lambda: manager.status().next_retry_time)
    with running_gateway(port=port):
        wait_for(lambda: manager.is_connected)
        assert manager.status().connection_attempts == 2


def test_so_is_one_behind_a_forwarder_whose_port_is_always_open(connect, wait_for):
    behind = free_port()
    with forwarding(behind) as port:
        manager = connect(port, ktrdr_ib_retry_delays_s=(3600,))
        wait_for(lambda: manager.status().next_retry_time)
        assert "during the handshake" in manager.status().last_error.message
        with running_gateway(port=behind):
            wait_for(lambda: manager.is_connected)
            assert manager.status().connection_attempts == 2


def test_so_is_one_that_comes_up_between_the_attempt_and_the_first_look_at_the_port(
    connect, gateway, wait_for
):
    with forwarding(gateway.port, hangs_up_at_first=True) as port:
        manager = connect(port, ktrdr_ib_retry_delays_s=(3600,))
        wait_for(lambda: manager.is_connected)
        assert manager.status().connection_attempts == 2


def test_a_gateway_that_does_not_trust_us_is_not_hammered(connect, gateway, wait_for):
    with gateway.untrusting():
        manager = connect(gateway.port, ktrdr_ib_retry_delays_s=(3600,))
        wait_for(lambda: manager.status().next_retry_time)
        assert "Trusted IPs" in manager.status().last_error.hint
        assert not threading.Event().wait(1.5)
        assert manager.status().connection_attempts == 1
    manager.reconnect()
    wait_for(lambda: manager.is_connected)


def test_the_status_is_had_while_the_connection_reads_bars(connect, gateway, wait_for, scratch):
    """It waited behind them for seconds, and the page called ib-connection unresponsive."""
    manager = connect(gateway.port)
    wait_for(lambda: manager.is_connected)
    is_busy, is_read = threading.Event(), threading.Event()

    async def read():
        is_busy.set()
        is_read.wait(20)

    path = scratch / "ib-connection.sock"
    with serving(LocalServer(path, routes(manager))):
        reading = threading.Thread(target=manager.call, args=(read(),))
        reading.start()
        try:
            assert is_busy.wait(10)
            answer = LocalClient(path, "ib-connection").get("/status", 5.0)
            assert answer["connected"]
        finally:
            is_read.set()
            reading.join()


@contextlib.contextmanager
def forwarding(port: int, *, hangs_up_at_first: bool = False):
    """A forwarder to `port` as socat is one: it takes everybody, and hangs up in vain."""

    def pump(source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        for side in (source, target):
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)

    hang_up = threading.Event()
    if hangs_up_at_first:
        hang_up.set()

    def serve(client):
        if hang_up.is_set():
            hang_up.clear()
            client.close()
            return
        try:
            upstream = socket.create_connection(("127.0.0.1", port))
        except OSError:
            client.close()
            return
        upstreams.append(upstream)
        for ends in ((client, upstream), (upstream, client)):
            threading.Thread(target=pump, args=ends, daemon=True).start()

    upstreams: list[socket.socket] = []
    with listening(serve) as (listening_port, _):
        yield listening_port
    for upstream in upstreams:
        upstream.close()


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_a_request_survives_the_loss_of_its_connection(connect, wait_for, how):
    with running_gateway(latency_s=0.5) as gateway:
        manager = connect(gateway.port)
        wait_for(lambda: manager.is_connected)
        with asking(manager) as requested:
            wait_for(is_in_flight(gateway))
            gateway.drop(how)
            assert requested.result(30).bars
        assert gateway.summary()["connects"] == 2


def test_a_request_survives_a_restart_of_the_gateway(connect, wait_for):
    with running_gateway(latency_s=0.5) as gateway:
        manager = connect(gateway.port, ktrdr_ib_retry_delays_s=(3600,))
        wait_for(lambda: manager.is_connected)
        answers(manager, history_of("MSFT"))
        with asking(manager) as requested:
            wait_for(is_in_flight(gateway))
            with gateway.restarting():
                wait_for(lambda: manager.status().failed_attempts >= 1)
                assert not requested.done()
            assert requested.result(30).bars


def test_a_request_whose_time_is_over_says_why_there_is_no_answer(connect, gateway, wait_for):
    manager = connect(gateway.port, ktrdr_ib_retry_delays_s=(3600,))
    wait_for(lambda: manager.is_connected)
    answers(manager, history_of("MSFT"))
    with gateway.unanswered("data"), gateway.refusing(), asking(manager, patience_s=1) as requested:
        wait_for(is_in_flight(gateway))
        gateway.drop()
        with pytest.raises(NotConnected, match="cannot connect") as raised:
            requested.result(30)
    assert raised.value.code == 502


def test_after_a_drop_the_id_that_lingers_is_left_for_the_next(connect, wait_for):
    with running_gateway(limits=Limits(id_lingers_s=60)) as gateway:
        manager = connect(gateway.port, ktrdr_ib_retry_delays_s=(3600,))
        wait_for(lambda: manager.is_connected)
        answers(manager)
        gateway.drop()
        wait_for(lambda: gateway.client_ids == [2])
        answers(manager)
        gateway.drop()
        wait_for(lambda: gateway.client_ids == [3])


def test_an_id_is_kept_as_long_as_it_is_accepted(connect, gateway, wait_for):
    manager = connect(gateway.port, ib_client_id=7, ktrdr_ib_retry_delays_s=(3600,))
    for connects in (1, 2, 3):
        wait_for(lambda n=connects: manager.is_connected and gateway.summary()["connects"] == n)
        answers(manager)
        gateway.drop()
    wait_for(lambda: gateway.client_ids == [7])


def test_the_first_attempt_after_a_good_connection_is_immediate(connect, gateway, wait_for):
    manager = connect(gateway.port, ktrdr_ib_retry_delays_s=(3600,))
    wait_for(lambda: manager.is_connected)
    answers(manager)
    gateway.drop()
    wait_for(lambda: gateway.summary()["connects"] == 2 and manager.is_connected)
    assert manager.status().failed_attempts == 0


def test_one_that_has_proven_nothing_is_retried_by_the_ladder(connect, gateway, wait_for):
    with gateway.unanswered("data"):
        manager = connect(gateway.port, ktrdr_ib_retry_delays_s=(3600,))
        wait_for(lambda: manager.status().server_version)
        gateway.drop()
        wait_for(lambda: manager.status().state == "waiting")
    retry_at = wait_for(lambda: manager.status().next_retry_time)
    assert retry_at > datetime.now(UTC) + timedelta(minutes=50)


def test_a_fresh_connection_without_data_is_found_though_nobody_asks(connect, gateway, wait_for):
    with gateway.unanswered("data"):
        manager = connect(gateway.port, ktrdr_ib_retry_delays_s=(3600,))
        wait_for(lambda: manager.status().state == "dead")
        assert "answers no request for data" in manager.status().last_error.message


def test_connections_that_last_without_data_follow_each_other_soon(connect, gateway, wait_for):
    with gateway.unanswered("data"):
        connect(gateway.port, ktrdr_ib_retry_delays_s=(0.1, 3600))
        wait_for(lambda: gateway.summary()["connects"] >= 3, 25)


@pytest.mark.parametrize("back", [1101, 1102])
def test_what_hangs_while_ibs_servers_are_lost_is_asked_again(connect, gateway, wait_for, back):
    manager = connect(gateway.port)
    wait_for(lambda: manager.is_connected)
    gateway.begin_fault("late", seconds=60)
    with asking(manager) as requested:
        wait_for(is_in_flight(gateway))
        gateway.end_fault("late")
        with gateway.connectivity_lost(back):
            wait_for(lambda: manager.status().state == "upstream_lost")
            assert not manager.is_connected
            assert (manager.status().last_error.code, requested.done()) == (1100, False)
        assert requested.result(30).bars
    assert manager.is_connected
    assert gateway.summary()["connects"] == 1


def test_a_probe_that_hung_while_ibs_servers_were_lost_accuses_nobody(connect, gateway, wait_for):
    manager = connect(gateway.port)
    wait_for(lambda: manager.is_connected)
    with gateway.connectivity_lost():
        wait_for(lambda: gateway.summary()["swallowed"])  # the probe of a lost connection
    wait_for(lambda: manager.is_connected)
    assert not threading.Event().wait(3)  # longer than a probe is waited for
    assert gateway.summary()["connects"] == 1


def test_a_new_request_fails_at_once_while_ibs_servers_are_lost(connect, gateway, wait_for):
    manager = connect(gateway.port)
    wait_for(lambda: manager.is_connected)
    with gateway.connectivity_lost():
        wait_for(lambda: manager.status().state == "upstream_lost")
        with pytest.raises(NotConnected, match="upstream_lost") as raised:
            answers(manager)
        assert raised.value.code == 1100


def test_servers_that_are_back_without_a_word_are_noticed(connect, gateway, wait_for):
    manager = connect(gateway.port)
    wait_for(lambda: manager.is_connected)
    gateway.notice(1100)
    wait_for(lambda: manager.status().state == "upstream_lost")
    wait_for(lambda: manager.is_connected)
    assert gateway.summary()["connects"] == 1


@pytest.mark.parametrize("farm", ["usfarm", "euhmds", "secdefil"])
def test_a_farm_that_breaks_costs_no_connection_and_is_shown(connect, gateway, wait_for, farm):
    manager = connect(gateway.port)
    wait_for(lambda: manager.is_connected)
    with gateway.farm_broken(farm):
        wait_for(lambda: manager.status().state == "farm_down")
        assert manager.is_connected
        broken = [f for f in manager.status().farms if not f.up]
        assert [(f.name, f.breaks) for f in broken] == [(farm, 1)]
        assert answers(manager).bars
    wait_for(lambda: manager.status().state == "connected")
    back = next(f for f in manager.status().farms if f.name == farm)
    assert back.up
    assert back.last_break_s > 0
    assert gateway.summary()["connects"] == 1


def test_what_a_broken_farm_leaves_unanswered_is_asked_again(connect, gateway, wait_for):
    manager = connect(gateway.port)
    wait_for(lambda: manager.is_connected)
    gateway.notice(2105)
    wait_for(lambda: manager.status().state == "farm_down")
    with gateway.unanswered("historical_data"), asking(manager) as requested:
        wait_for(is_in_flight(gateway))
        gateway.end_fault("unanswered")
        gateway.notice(2106)
        assert requested.result(20).bars
    assert gateway.summary()["connects"] == 1


def test_a_gateway_that_tells_the_time_and_no_more_is_not_connected(connect, gateway, wait_for):
    manager = connect(gateway.port)
    wait_for(lambda: manager.is_connected)
    with asking(manager) as requested:
        with gateway.unanswered("data"):
            wait_for(lambda: not manager.is_connected)
            wait_for(lambda: manager.status().last_error)
            said = manager.status().last_error.message
            assert said == "the gateway gives the time, but answers no request for data"
        assert requested.result(30).bars


def test_an_answer_that_takes_long_costs_no_connection(connect, wait_for):
    with running_gateway(latency_s=0.1, bars_per_s=200) as gateway:
        manager = connect(gateway.port)
        wait_for(lambda: manager.is_connected)
        requested = BarsRequest(AAPL, Timeframe.M1, utc("2026-11-17"), utc("2026-11-20"))
        assert len(answers(manager, requested).bars) == 3 * 390  # six seconds, and more
        assert gateway.summary()["connects"] == 1
        assert manager.status().last_error is None


def test_what_is_over_is_told_no_more_and_what_is_on_has_its_time(connect, gateway, wait_for):
    began = datetime.now(UTC)
    manager = connect(gateway.port)
    wait_for(lambda: manager.is_connected)
    with gateway.connectivity_lost():
        wait_for(lambda: manager.status().state == "upstream_lost")
        status = manager.status()
        assert began < status.last_error.time < datetime.now(UTC)
        assert began < status.no_data_since < datetime.now(UTC)
        assert status.last_disconnect_time is None
    wait_for(lambda: manager.is_connected)
    assert manager.status().last_error is None
    assert manager.status().no_data_since is None
    gateway.drop()
    wait_for(lambda: gateway.summary()["connects"] == 2 and manager.is_connected)
    assert manager.status().last_error is None


@pytest.mark.parametrize("code", [162, 10197])
def test_a_competing_session_is_a_state_and_ends_by_itself(connect, gateway, wait_for, code):
    manager = connect(gateway.port)
    wait_for(lambda: manager.is_connected)
    with gateway.competing_session(code):
        with pytest.raises(CompetingSession):
            answers(manager)
        wait_for(lambda: manager.status().state == "competing_session")
        assert not manager.is_connected
        assert "log out where the same user is logged in" in manager.status().last_error.hint
        with pytest.raises(CompetingSession):
            answers(manager)
    wait_for(lambda: manager.is_connected)
    assert gateway.summary()["connects"] == 1


def test_a_contract_without_permission_is_named_and_the_others_go_on(connect, gateway, wait_for):
    manager = connect(gateway.port)
    wait_for(lambda: manager.is_connected)
    with pytest.raises(NotEntitled):
        answers(manager, history_of("NOPERM"))
    refused = manager.status().refused
    assert [(r.symbol, r.outcome, r.code) for r in refused] == [("NOPERM", "not_entitled", 162)]
    assert "subscribe" in refused[0].hint
    assert manager.status().state == "connected"
    assert answers(manager).bars


def test_a_contract_that_is_unknown_while_all_are_is_not_believed(connect, gateway, wait_for):
    manager = connect(gateway.port)
    wait_for(lambda: manager.is_connected)
    answers(manager, history_of("MSFT"))
    with gateway.false_200():
        with pytest.raises(RequestFailed, match="not even MSFT"):
            answers(manager)
        assert manager.status().refused == ()
    assert answers(manager).bars


def test_a_contract_that_was_known_is_not_unknown_for_a_reset(connect, gateway, wait_for):
    manager = connect(gateway.port)
    wait_for(lambda: manager.is_connected)
    answers(manager)
    with gateway.false_200(), pytest.raises(RequestFailed, match="not even EURUSD"):
        answers(manager)


def test_a_control_from_before_a_reset_says_nothing_about_it(connect, gateway, wait_for):
    manager = connect(gateway.port)
    wait_for(lambda: manager.is_connected)
    answers(manager, history_of("MSFT"))
    before = len(gateway.record)
    with pytest.raises(UnknownContract):
        answers(manager, history_of("NOSUCH"))
    controls = [one for one in gateway.record[before:] if one["kind"] == "contract_details"]
    assert {one["symbol"] for one in controls} == {"MSFT", "NOSUCH"}  # MSFT's is also AAPL's
    with gateway.false_200(), pytest.raises(RequestFailed, match="not even MSFT"):
        answers(manager)


def test_a_contract_that_is_unknown_in_one_answer_is_requested_again(connect, gateway, wait_for):
    manager = connect(gateway.port, ktrdr_ib_heartbeat_s=20)
    wait_for(lambda: manager.status().requests_answered == 2)  # no probe is among the next
    refused = gateway.fault("refused", kind="historical_data", code=200, text="No security")
    with gateway.fault("late", seconds=2), refused, asking(manager) as requested:
        wait_for(lambda: gateway.summary()["errors"].get("200"))
        gateway.end_fault("refused")
        assert requested.result(30).bars  # the controls before it took four seconds
    assert gateway.summary()["errors"]["200"] == 1
    assert manager.status().refused == ()


def test_a_request_that_fails_once_is_requested_again(connect, gateway, wait_for):
    manager = connect(gateway.port, ktrdr_ib_heartbeat_s=20)
    wait_for(lambda: manager.status().requests_answered == 2)  # no probe is among the next
    failed = "Historical Market Data Service error message:Query failed"
    with gateway.fault("refused", kind="bars", text=failed), asking(manager) as requested:
        wait_for(lambda: gateway.summary()["errors"].get("162"))
        gateway.end_fault("refused")
        assert requested.result(30).bars  # it was sent again two seconds later
    assert gateway.summary()["errors"]["162"] == 1


def test_a_contract_that_stays_unknown_is_believed_after_two_answers(connect, gateway, wait_for):
    manager = connect(gateway.port)
    wait_for(lambda: manager.is_connected)
    for name in ("MSFT", "AAPL"):
        answers(manager, history_of(name))
    before = len(gateway.record)
    refused = gateway.fault("refused", kind="historical_data", code=200, text="No security")
    with refused, pytest.raises(UnknownContract, match="No security"):
        answers(manager)
    sent = [one["kind"] for one in gateway.record[before:] if one["event"] == "received"]
    assert sent.count("historical_data") == 2
    assert sent.count("contract_details") == 3  # a control for each, and its own
    assert [r.symbol for r in manager.status().refused] == ["AAPL"]


def test_many_who_are_told_of_no_contract_ask_for_one_control(connect, wait_for):
    with running_gateway(latency_s=0.2) as gateway:
        manager = connect(gateway.port, ktrdr_ib_heartbeat_s=60)  # so that no probe is among them
        wait_for(lambda: manager.is_connected)
        answers(manager)
        day = utc("2026-11-10")
        requests = [
            BarsRequest(AAPL, Timeframe.M1, day + n * 3600, day + n * 3600 + 3600)
            for n in range(30)
        ]
        before, began = len(gateway.record), time.monotonic()
        with gateway.false_200(), concurrent.futures.ThreadPoolExecutor(30) as pool:
            for requested in [pool.submit(answers, manager, request) for request in requests]:
                with pytest.raises(RequestFailed, match="not even EURUSD"):
                    requested.result(30)
        received = [one["kind"] for one in gateway.record[before:] if one["event"] == "received"]
        assert received.count("historical_data") == len(requests)
        seconds = time.monotonic() - began
        assert 1 <= received.count("contract_details") <= 2 + seconds / 5


def test_while_no_contract_is_known_two_requests_a_minute_test_that(connect, gateway, wait_for):
    manager = connect(gateway.port, ktrdr_ib_heartbeat_s=4)
    wait_for(lambda: manager.is_connected)
    names = ("AAPL", "MSFT", "NVDA", "KO", "SPY", "GOOG")
    for name in names:
        answers(manager, history_of(name))
    with concurrent.futures.ThreadPoolExecutor(len(names)) as pool:
        with gateway.false_200():
            for name in names[:3]:
                with pytest.raises(RequestFailed, match="IB knows no contract at present"):
                    answers(manager, history_of(name), patience_s=1)
            before = len(gateway.record)
            asked = [pool.submit(answers, manager, history_of(name), 1) for name in names]
            for one in asked:
                with pytest.raises(RequestFailed, match="IB knows no contract at present"):
                    one.result(30)
            received = [one for one in gateway.record[before:] if one["event"] == "received"]
            assert sum(one["kind"] in DATA for one in received) <= 2  # a probe, and one of them
        assert all(one.bars for one in pool.map(lambda n: answers(manager, history_of(n)), names))


def test_an_unknown_contract_is_named_though_all_bars_are_refused(connect, gateway, wait_for):
    manager = connect(gateway.port)
    wait_for(lambda: manager.is_connected)
    answers(manager)
    failed = "Historical Market Data Service error message:Query failed"
    with gateway.fault("refused", kind="bars", text=failed):
        for name in ("AAPL", "MSFT", "KO"):
            with pytest.raises(RequestFailed):
                answers(manager, history_of(name), patience_s=1)
        with pytest.raises(UnknownContract):
            manager.call(manager.contract(instrument_for("NOSUCH")), 60)


def test_a_refused_contract_is_forgotten_when_it_is_answered(connect, gateway, wait_for):
    manager = connect(gateway.port)
    wait_for(lambda: manager.is_connected)
    with pytest.raises(UnknownContract):  # there are two of that name
        answers(manager, history_of("TWIN"))
    assert [r.symbol for r in manager.status().refused] == ["TWIN"]
    twin = instrument_for("TWIN", {"primary_exchange": "NYSE"})
    manager.call(manager.contract(twin), 20)
    assert manager.status().refused == ()


def test_a_refused_contract_that_nobody_wants_any_more_is_forgotten(connect, gateway, wait_for):
    later = timedelta()
    manager = connect(gateway.port, now=lambda: datetime.now(UTC) + later)
    wait_for(lambda: manager.is_connected)
    with pytest.raises(UnknownContract):
        answers(manager, history_of("TWIN"))
    later = timedelta(hours=6.5)
    assert [r.symbol for r in manager.status().refused] == ["TWIN"]
    later = timedelta(hours=7.5)
    assert manager.status().refused == ()


def test_bars_of_an_ambiguous_symbol_are_refused_with_the_lines_that_say_which(
    connect, gateway, wait_for
):
    """To a question for bars IB says no more than that there are several."""
    manager = connect(gateway.port)
    wait_for(lambda: manager.is_connected)
    with pytest.raises(UnknownContract, match="is ambiguous") as raised:
        answers(manager, history_of("TWIN"))
    assert raised.value.code == 200
    (refused,) = manager.status().refused
    for hint in (raised.value.hint, refused.hint):
        assert "\n[TWIN]\n" in hint
        assert '\nprimary_exchange = "NASDAQ"   # TWIN: NASDAQ,' in hint
        assert '\nprimary_exchange = "NYSE"     # TWIN: NYSE,' in hint


def test_many_who_ask_for_an_ambiguous_symbol_ask_once_which_contracts_there_are(connect, wait_for):
    with running_gateway(latency_s=0.2) as gateway:
        manager = connect(gateway.port)
        wait_for(lambda: manager.is_connected)
        day, twin = utc("2026-11-10"), instrument_for("TWIN")
        requests = [
            BarsRequest(twin, Timeframe.M1, day + n * 3600, day + n * 3600 + 3600)
            for n in range(30)
        ]
        before, began = len(gateway.record), time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(30) as pool:
            for requested in [pool.submit(answers, manager, request) for request in requests]:
                with pytest.raises(UnknownContract) as raised:
                    requested.result(30)
                assert 'primary_exchange = "NYSE"' in raised.value.hint
        about = [
            one["symbol"]
            for one in gateway.record[before:]
            if (one["event"], one["kind"]) == ("received", "contract_details")
        ]
        assert 1 <= about.count("TWIN") <= 2 + (time.monotonic() - began) / 5


@pytest.mark.parametrize(("symbol", "entry"), [("BRK.B", {}), ("TWOFZ6", {"sec_type": "FUT"})])
def test_a_symbol_that_ib_spells_otherwise_is_refused_with_a_spelling_that_it_knows(
    connect, wait_for, symbol, entry
):
    def monday():
        return datetime(2026, 11, 23, 15, 30, tzinfo=UTC)

    with running_gateway(now=monday) as gateway:
        manager = connect(gateway.port, now=monday)
        wait_for(lambda: manager.is_connected)
        with pytest.raises(UnknownContract) as raised:
            manager.call(manager.contract(instrument_for(symbol, entry)), 20)
        assert raised.value.code == 200
        pasted = read_instruments(raised.value.hint.partition("\n")[2])[symbol]
        found = manager.call(manager.contract(instrument_for(symbol, entry | pasted)), 20)
    assert found.local_symbol == pasted["local_symbol"]


def saying(words: bytes):
    """Say this to everybody who comes, and hold the connection."""

    def serve(client):
        with contextlib.suppress(OSError):
            client.recv(100)
            client.sendall(words)

    return serve


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", r"is no IB Gateway: .*HTTP/1\.1"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", r"is no IB Gateway: .*SSH-2\.0"),
        ((2 << 30).to_bytes(4) + b"x" * 1000, "is no IB Gateway: what it sends is no message"),
        (b"\0\0\0\x05hello", "unexpected handshake"),
        (b"\0\0\0\xff176\0half a message", "does not respond beyond 22 bytes of a message"),
    ],
    ids=["http", "ssh", "2 GB", "other words", "half a message"],
)
def test_what_is_no_gateway_is_named_and_the_ladder_goes_on(connect, wait_for, words, said):
    with listening(saying(words)) as (port, _):
        manager = connect(port)
        wait_for(lambda: manager.status().failed_attempts >= 2)
        status = manager.status()
    assert not status.connected
    assert re.search(said, status.last_error.message), status.last_error
    assert status.last_error.hint


@pytest.mark.parametrize("words", [b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 400 Bad\r\n\r\n"])
def test_what_is_no_gateway_is_not_hammered(connect, wait_for, words):
    with listening(saying(words)) as (port, clients):
        manager = connect(port, ktrdr_ib_retry_delays_s=(3600,))
        wait_for(lambda: manager.status().state == "waiting")
        assert not threading.Event().wait(2)
        assert manager.status().connection_attempts == 1
        assert len(clients) <= 2


def test_an_old_gateway_is_not_hammered_either(connect, gateway, wait_for):
    with gateway.outdated(140):
        manager = connect(gateway.port, ktrdr_ib_retry_delays_s=(3600,))
        wait_for(lambda: manager.status().state == "waiting")
        assert not threading.Event().wait(2)
        assert manager.status().connection_attempts == 1


def test_a_host_that_can_be_no_name_is_an_error_and_the_ladder_goes_on(connect, wait_for):
    manager = connect(4102, ib_host="my..host", ib_port=4002, ib_client_id=1)
    wait_for(lambda: manager.status().failed_attempts >= 2)
    assert "cannot connect to my..host:4002" in manager.status().last_error.message


def test_a_host_that_does_not_answer_is_waited_for_and_not_called_dead(connect, wait_for):
    with socket.socket() as full:  # a backlog that is full drops what comes
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        callers = [socket.socket() for _ in range(4)]
        for caller in callers:
            caller.setblocking(False)
            caller.connect_ex(("127.0.0.1", port))
        manager = connect(port, ktrdr_ib_retry_delays_s=(3600,))
        wait_for(lambda: manager.status().last_error)
        assert "does not answer" in manager.status().last_error.message
        assert manager.status().state == "waiting"
        for caller in callers:
            caller.close()
    with running_gateway(port=port):
        wait_for(lambda: manager.is_connected)


def test_a_request_whose_turn_does_not_come_ends_in_time(connect, gateway, wait_for):
    manager = connect(gateway.port)
    wait_for(lambda: manager.is_connected)
    request = history_of()
    answers(manager, request)
    with pytest.raises(TimedOut, match="were before it"):  # the same within 15 s waits
        manager.call(manager.bars(request, patience_s=0.5), 10)


def test_patience_bounds_the_wait_for_an_attempt_too(connect, wait_for):
    with listening() as (port, _):
        manager = connect(port, ktrdr_ib_retry_delays_s=(3600,), ktrdr_ib_heartbeat_s=10)
        wait_for(lambda: manager.status().state == "connecting")
        began = time.monotonic()
        with pytest.raises(NotConnected):
            manager.call(manager.bars(history_of(), patience_s=0.5), 30)
        assert time.monotonic() - began < 10  # the attempt itself takes 15 s


def test_a_connection_that_never_brings_data_is_soon_called_one(connect, gateway, wait_for):
    """Nobody asks for anything: its own probe is who waits."""
    with gateway.unanswered("data"):
        manager = connect(gateway.port, ktrdr_ib_retry_delays_s=(3600,))
        wait_for(lambda: manager.status().server_version)
        wait_for(lambda: not manager.is_connected, 2 + 2)
        assert manager.status().state == "connected"  # the probe has more time than that
        wait_for(lambda: manager.status().state == "dead")
        retry_at = wait_for(lambda: manager.status().next_retry_time)
        left = retry_at - datetime.now(UTC)
        assert timedelta(seconds=15) < left <= timedelta(seconds=30)  # it greets: who knows


def test_an_error_to_the_probe_does_not_say_that_the_servers_are_back(connect, gateway, wait_for):
    manager = connect(gateway.port)
    wait_for(lambda: manager.is_connected)
    answered = gateway.summary()["answers"]
    with gateway.false_200():
        gateway.notice(1100)
        wait_for(lambda: gateway.summary()["errors"].get("200", 0) >= 1, 60)
        wait_for(lambda: gateway.summary()["answers"] > answered + 1)
        assert manager.status().state == "upstream_lost"
    wait_for(lambda: manager.is_connected)


def test_a_refusal_by_the_state_is_no_answer_of_ibs(connect, gateway, wait_for):
    manager = connect(gateway.port)
    wait_for(lambda: manager.is_connected)
    with gateway.competing_session():
        with pytest.raises(CompetingSession):
            answers(manager)
        wait_for(lambda: manager.status().state == "competing_session")
        before = manager.status().requests_answered
        for _ in range(20):
            with pytest.raises(CompetingSession):
                answers(manager, history_of("EURUSD"))
        assert manager.status().requests_answered <= before + 2  # a heartbeat may come between


def test_another_farms_flapping_does_not_starve_a_long_answer(connect, wait_for):
    with running_gateway(latency_s=0.1, bars_per_s=80) as gateway:
        manager = connect(gateway.port, ktrdr_ib_heartbeat_s=10)
        wait_for(lambda: manager.is_connected)
        with asking(manager) as requested:  # five seconds
            while not requested.done():
                with gateway.farm_broken("euhmds"):
                    assert not threading.Event().wait(0.3)
                assert not threading.Event().wait(0.3)
            assert requested.result(1).bars
        sent = [e for e in gateway.record if e.get("bar_size") == "1 min"]
        assert [e["event"] for e in sent] == ["received", "answered"]


def test_with_a_broken_farm_a_mute_gateway_is_found_all_the_same(connect, gateway, wait_for):
    manager = connect(gateway.port)
    wait_for(lambda: manager.is_connected)
    with gateway.farm_broken("euhmds"), gateway.unanswered("data"), asking(manager, patience_s=9):
        wait_for(lambda: not manager.is_connected)
        assert manager.status().last_error.message.endswith("is broken:euhmds")
        wait_for(lambda: manager.status().state == "dead" or gateway.summary()["connects"] > 1)


def test_garbage_before_the_first_answer_is_named(connect, wait_for):
    def greet_and_babble(client):
        client.recv(100)
        client.sendall(b"\0\0\0\x1a176\x0020261125 10:00:00 UTC\0")
        client.recv(100)
        client.sendall(b"\x7f\xff\xff\xff" * 10)

    with listening(greet_and_babble) as (port, _):
        manager = connect(port, ktrdr_ib_retry_delays_s=(3600,))
        wait_for(lambda: manager.status().last_error)
        assert "is no IB Gateway" in manager.status().last_error.message
        assert manager.status().last_error.hint


def test_nobody_waits_for_ever_when_it_is_stopped(make_settings, gateway, wait_for):
    for _ in range(3):
        manager = PersistentIbConnectionManager(make_settings(ktrdr_sim_port=gateway.port))
        manager.start()
        wait_for(lambda m=manager: m.is_connected)
        ended = []

        def call(manager=manager, ended=ended):
            try:
                while True:
                    manager.call(manager.contract(AAPL))
            except NotConnected as error:
                ended.append(error)

        callers = [threading.Thread(target=call) for _ in range(8)]
        for caller in callers:
            caller.start()
        manager.stop()
        for caller in callers:
            caller.join(5)
        assert len(ended) == 8


def test_a_history_that_is_locked_costs_no_stop(make_settings, gateway, scratch, wait_for):
    path = scratch / "history.sqlite"
    history = ConnectionHistory(path, 0)
    settings = make_settings(ktrdr_sim_port=gateway.port)
    manager = PersistentIbConnectionManager(settings, history=history)
    manager.start()
    wait_for(lambda: manager.is_connected)
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        manager.stop()
    again = PersistentIbConnectionManager(settings)
    again.start()  # the lock is free
    again.stop()


def test_garbage_on_a_good_connection_ends_it_and_the_next_is_good(
    connect, gateway, wait_for, caplog
):
    manager = connect(gateway.port)
    wait_for(lambda: manager.is_connected)
    answers(manager)
    gateway.garbage(1000)
    wait_for(lambda: "no message of IB's" in caplog.text)
    wait_for(lambda: manager.is_connected)
    assert answers(manager).bars


def test_a_truncated_message_ends_the_connection_and_not_the_request(connect, gateway, wait_for):
    manager = connect(gateway.port)
    wait_for(lambda: manager.is_connected)
    answers(manager, history_of("MSFT"))
    gateway.begin_fault("truncated")
    with asking(manager) as requested:
        wait_for(lambda: manager.status().last_error)
        gateway.end_fault("truncated")
        assert requested.result(30).bars


def test_an_old_gateway_is_told_what_it_lacks(connect, gateway, wait_for):
    with gateway.outdated(140):
        manager = connect(gateway.port)
        wait_for(lambda: manager.status().last_error)
        error = manager.status().last_error
    assert (error.code, error.hint) == (503, "install a current IB Gateway or TWS")
    assert "speaks protocol 140" in error.message
    wait_for(lambda: manager.is_connected)


def test_the_first_connection_of_a_fresh_gateway_may_be_in_vain(connect, gateway, wait_for):
    with gateway.too_early():
        manager = connect(gateway.port)
        wait_for(lambda: manager.is_connected)
        assert manager.status().failed_attempts == 1


def test_a_clock_that_is_wrong_is_measured(connect, gateway, wait_for):
    with gateway.wrong_clock(-90):
        manager = connect(gateway.port)
        wait_for(lambda: manager.is_connected)
        assert -92 < manager.status().clock_offset_s < -88
    wait_for(lambda: abs(manager.status().clock_offset_s) < 2)


def shifted(text: str):
    """A wall clock that shows this time now, in New York, and runs as fast as others."""
    begin = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("America/New_York"))
    offset = begin.astimezone(UTC) - datetime.now(UTC)
    return lambda: datetime.now(UTC) + offset


def test_a_restart_at_its_hour_is_expected_and_one_at_noon_is_not(connect, gateway, wait_for):
    nightly = "23:45 America/New_York"
    night = connect(gateway.port, now=shifted("2026-11-24 23:45"), ktrdr_ib_restart_at=nightly)
    wait_for(lambda: night.is_connected)
    with gateway.restarting():
        wait_for(lambda: night.status().failed_attempts)
        assert night.status().expected == "expected restart, back at about 04:47 UTC"
    wait_for(lambda: night.is_connected)
    assert night.status().expected == ""


def test_a_loss_at_noon_is_not_expected(connect, gateway, wait_for):
    nightly = "23:45 America/New_York"
    noon = connect(gateway.port, now=shifted("2026-11-24 12:00"), ktrdr_ib_restart_at=nightly)
    wait_for(lambda: noon.is_connected)
    with gateway.restarting():
        wait_for(lambda: noon.status().failed_attempts)
        assert noon.status().expected == ""


def test_after_the_sunday_log_out_it_says_that_somebody_must_log_in(connect, gateway, wait_for):
    clock = shifted("2026-11-29 01:00:10")
    manager = connect(
        gateway.port, now=clock, ktrdr_ib_log_out="sunday", ktrdr_ib_retry_delays_s=(3600,)
    )
    wait_for(lambda: manager.is_connected)
    answers(manager)
    with gateway.logged_out():
        wait_for(lambda: manager.status().state == "logged_out")
        status = manager.status()
        assert "log in" in status.expected
        assert re.match(
            "the weekly log-out: somebody has to log in .*refused", status.last_error.message
        )
        assert status.last_error.hint == "log in to the gateway, with the second factor"
    wait_for(lambda: manager.is_connected)  # somebody has logged in


def test_before_the_log_out_it_reminds(connect, gateway, wait_for):
    late = connect(gateway.port, now=shifted("2026-11-28 23:00"), ktrdr_ib_log_out="sunday")
    wait_for(lambda: late.is_connected)
    assert "second factor" in late.status().reminder


def test_states_are_kept_and_the_next_run_knows_since_when_it_is_away(
    connect, gateway, scratch, wait_for
):
    path = scratch / "history.sqlite"
    now = datetime.now(UTC).timestamp()
    manager = connect(gateway.port, history=ConnectionHistory(path, now))
    wait_for(lambda: manager.is_connected)
    answers(manager)
    gateway.drop()
    wait_for(lambda: gateway.summary()["connects"] == 2 and manager.is_connected)
    wait_for(lambda: len(manager.call(manager.history(1), 5).spans) >= 5)
    said = manager.call(manager.history(1), 5)
    states = [span.state for span in said.spans]
    assert states == ["connecting", "connected", "waiting", "connecting", "connected"]
    assert "closed the connection" in said.spans[2].why
    assert 0 < said.uptime < 1
    assert 0 < said.shares[-1] < 1
    assert said.shares[0] is None
    starting, lost = said.outages
    assert starting.cause == "ib-connection was starting"
    assert lost.cause == "the gateway closed the connection"
    assert (lost.start, lost.end) == (said.spans[2].start, said.spans[3].end)
    manager.stop()
    with contextlib.closing(sqlite3.connect(path)) as database:
        kept = database.execute("SELECT state FROM states ORDER BY at").fetchall()
    assert kept[-1] == ("not_running",)


def test_a_trial_requests_a_little_of_everything(connect, gateway, wait_for):
    manager = connect(gateway.port)
    wait_for(lambda: manager.is_connected)
    answers(manager)
    found = manager.call(manager.trial(), 30)
    assert (found.contract, found.data, found.probed) == ("answered", "answered", "AAPL")
    assert (found.is_read_only, found.message) == (False, "")
    assert abs(found.clock_offset_s) < 2
    with gateway.read_only_api():
        assert manager.call(manager.trial(), 30).is_read_only is True
    with gateway.competing_session():
        assert manager.call(manager.trial(), 30).data == "competing_session"


def test_a_trial_requests_nothing_that_ib_refuses(connect, gateway, wait_for):
    manager = connect(gateway.port)
    wait_for(lambda: manager.is_connected)
    answers(manager)
    refused = history_of("NOPERM")
    manager.call(manager.sessions(refused.instrument, refused.start, refused.end), 30)
    with pytest.raises(NotEntitled):
        answers(manager, refused)
    found = manager.call(manager.trial(), 30)
    assert (found.data, found.message) == ("answered", "")
    assert found.probed != "NOPERM"


def test_whoever_waits_when_it_is_stopped_is_told(make_settings, gateway, wait_for):
    manager = PersistentIbConnectionManager(make_settings(ktrdr_sim_port=gateway.port))
    manager.start()
    wait_for(lambda: manager.is_connected)
    with gateway.unanswered("data"), asking(manager) as requested:
        wait_for(is_in_flight(gateway))
        manager.stop()
        with pytest.raises(NotConnected, match="was stopped"):
            requested.result(10)


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


def loop_with_named_helpers() -> asyncio.AbstractEventLoop:
    """Of a gateway in this process, which starts a helper whenever none is idle at that moment."""
    loop = asyncio.new_event_loop()
    loop.set_default_executor(
        concurrent.futures.ThreadPoolExecutor(thread_name_prefix="simulated-gateway")
    )
    return loop


def in_use() -> tuple[list[str], int]:
    """The threads but those of the gateway, and how many descriptors are open."""
    names = [thread.name for thread in threading.enumerate()]
    others = sorted(name for name in names if not name.startswith("simulated-gateway"))
    return others, len(list(Path("/dev/fd").iterdir()))


def test_stopping_leaves_no_socket_and_no_thread(make_settings, wait_for):
    with running_gateway(new_loop=loop_with_named_helpers) as gateway:
        before = in_use()
        for _ in range(3):
            manager = PersistentIbConnectionManager(make_settings(ktrdr_sim_port=gateway.port))
            manager.start()
            wait_for(lambda m=manager: m.is_connected)
            answers(manager)
            assert in_use() != before
            manager.stop()
            wait_for(lambda: in_use() == before)
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


def test_a_simulated_gateway_that_starts_at_the_same_time_is_no_failed_attempt(
    make_settings, wait_for
):
    settings = make_settings(ktrdr_sim_port=free_port(), ktrdr_ib_heartbeat_s=1)
    stop, client = threading.Event(), LocalClient(settings.connection_socket, "ib-connection")
    program = threading.Thread(target=serve, args=(settings, stop))
    program.start()
    stop.wait(1)  # so much later does it listen
    try:
        with running_gateway(port=settings.ktrdr_sim_port):

            def is_connected():
                with contextlib.suppress(PeerDown):
                    return client.request(ConnectionStatus, "GET", "/status").connected
                return False

            wait_for(is_connected)
            status = client.request(ConnectionStatus, "GET", "/status")
            assert (status.connection_attempts, status.failed_attempts) == (1, 0)
    finally:
        stop.set()
        program.join()


def test_a_simulated_gateway_that_does_not_start_is_a_failed_attempt(make_settings, wait_for):
    settings = make_settings(ktrdr_sim_port=free_port())
    stop, client = threading.Event(), LocalClient(settings.connection_socket, "ib-connection")
    program = threading.Thread(target=serve, args=(settings, stop))
    program.start()
    try:

        def has_failed():
            with contextlib.suppress(PeerDown):
                return client.request(ConnectionStatus, "GET", "/status").failed_attempts
            return 0

        wait_for(has_failed)
    finally:
        stop.set()
        program.join()
