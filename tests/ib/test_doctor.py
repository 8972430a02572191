"""`ktrdr doctor` against a gateway that has each of the troubles that it names."""

import contextlib
import os
import socket
import struct
import subprocess
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from ktrdr.cli import app
from ktrdr.config.settings import Settings
from ktrdr.data.ib_connection_manager import PersistentIbConnectionManager, routes
from ktrdr.errors import KtrdrError, NotConnected
from ktrdr.forwarder import report
from ktrdr.forwarder.report import Report
from ktrdr.ipc.codec import to_json
from ktrdr.ipc.messages import SeriesTrouble, StoreTrouble
from ktrdr.ipc.server import LocalServer, serving
from ktrdr.market.bars_request import BarsRequest
from ktrdr.market.instruments import instrument_for
from ktrdr.market.timeframes import Timeframe
from ktrdr.sim.gateway.in_thread import running_gateway
from ktrdr.sim.gateway.limits import Limits
from tests.fake_connection import connection_status
from tests.played_peers import filling_status, idle_status, pretended
from tests.ports import free_port

FORWARDER = Path(__file__).resolve().parents[2] / "scripts" / "ib_port_forward.sh"

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def filler_says():
    """What the gap filler says beside that all is complete."""
    return {}


@pytest.fixture
def group(make_settings, monkeypatch, filler_says):
    """`group(port, **settings)`: an ib-connection, and settings for the command line."""
    with contextlib.ExitStack() as stack:

        def start(port, *, runs=True, **given):
            settings = {
                "ktrdr_ib_heartbeat_s": 1,
                "ktrdr_ib_retry_delays_s": (3600,),
                "ktrdr_sim_port": port,
            } | given
            made = make_settings(**settings)
            for name in ("ktrdr_run_dir", "ktrdr_data_dir", "ktrdr_sim_port", *given):
                value = getattr(made, name)
                monkeypatch.setenv(name.upper(), str(value))
            monkeypatch.setenv("COLUMNS", "300")
            rest_of_group(stack, made, filler_says)
            if not runs:
                return None
            manager = PersistentIbConnectionManager(made)
            manager.start()
            stack.callback(manager.stop)
            server = LocalServer(made.connection_socket, routes(manager))
            stack.enter_context(serving(server))
            return manager

        yield start


@pytest.fixture
def gateway():
    with running_gateway() as gateway:
        yield gateway


def rest_of_group(stack: contextlib.ExitStack, settings: Settings, more: dict) -> None:
    """All other programs, as they should be."""
    complete = idle_status(filling_status(settings.data_dir))

    async def says_status(_query):
        return to_json(replace(complete, source=settings.source, **more))

    routes = {("GET", "/status"): says_status}
    stack.enter_context(serving(LocalServer(settings.gap_filler_socket, routes)))
    names = ("port-forward", "status-app", "gateway-sim")
    stack.enter_context(pretended(settings.run_dir, *names))


def doctor() -> tuple[int, str]:
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


def says(*words: str, code: int = 1) -> None:
    """The doctor names the cause and a next step."""
    exit_code, said = doctor()
    for word in words:
        assert word in said, said
    assert "next: " in said or code == 0
    assert exit_code == code, said
    assert said.startswith("healthy ") is (code == 0), said


def ask_for(manager, symbol):
    request = BarsRequest(instrument_for(symbol), Timeframe.H1, 1795000000, 1795100000)
    with contextlib.suppress(KtrdrError):
        manager.call(manager.bars(request), 30)


def test_all_is_well(group, gateway, wait_for):
    manager = group(gateway.port)
    wait_for(lambda: manager.is_connected)
    says(f"✓ 127.0.0.1:{gateway.port} answers, and bars are available", code=0)


def test_the_port_is_closed(group, wait_for):
    port = free_port()
    manager = group(4102, ib_host="127.0.0.1", ib_port=port, ktrdr_ib_log_out="never")
    wait_for(lambda: manager.status().failed_attempts)
    says(f"✗ cannot connect to 127.0.0.1:{port} (Connection refused)", "start IB Gateway")


def test_the_simulated_gateway_is_not_there(group, wait_for):
    manager = group(free_port())
    wait_for(lambda: manager.status().failed_attempts)
    says("✗ no simulated gateway", "supervisorctl restart gateway-sim")


def test_the_port_is_open_and_mute(group, gateway, wait_for):
    with gateway.wedged():
        manager = group(gateway.port)
        wait_for(lambda: manager.status().state == "dead")
        says("accepts connections but does not respond", "restart the gateway")


def test_the_handshake_is_refused(group, gateway, wait_for):
    with gateway.untrusting():
        manager = group(4102, ib_host="127.0.0.1", ib_port=gateway.port)
        wait_for(lambda: manager.status().failed_attempts)
        says("closes the connection during the handshake", "ActiveX and Socket Clients")


def other_address() -> str | None:
    """One of this machine's that is no loopback address."""
    found = [
        one.address
        for addresses in psutil.net_if_addrs().values()
        for one in addresses
        if one.family == socket.AF_INET and not one.address.startswith("127.")
    ]
    return found[0] if found else None


@pytest.mark.skipif(other_address() is None, reason="this machine has no address but loopback")
def test_this_machine_is_no_trusted_ip(group, wait_for):
    with running_gateway(host=other_address()) as gateway, gateway.untrusting():
        manager = group(4102, ib_host=gateway.host, ib_port=gateway.port)
        wait_for(lambda: manager.status().failed_attempts)
        says("does not trust this machine's address", "Trusted IPs")


def test_the_forwarder_is_down(group, wait_for):
    port = free_port()
    manager = group(4102, ib_host="127.0.0.1", ib_port=port, ktrdr_forward_port=port)
    wait_for(lambda: manager.status().failed_attempts)
    says("no port forwarder at", "./scripts/ib_port_forward.sh")


def test_the_forwarder_has_no_gateway_behind_it(group, scratch, wait_for):
    port = free_port()
    environment = os.environ | {
        "KTRDR_RUN_DIR": str(scratch / "forwarder"),
        "KTRDR_FORWARD_PORT": str(port),
        "KTRDR_FORWARD_BIND": "127.0.0.1",
        "KTRDR_FORWARD_TARGET": f"127.0.0.1:{free_port()}",
    }
    forwarder = subprocess.Popen([FORWARDER], env=environment, stdout=subprocess.DEVNULL)
    try:
        wait_for(lambda: is_open(port))
        manager = group(4102, ib_host="127.0.0.1", ib_port=port, ktrdr_forward_port=port)
        wait_for(lambda: manager.status().failed_attempts)
        says("there is no gateway behind it", "KTRDR_FORWARD_TARGET")
    finally:
        forwarder.terminate()
        forwarder.wait(10)


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_all_ids_are_in_use(group, wait_for):
    with running_gateway(limits=Limits(id_lingers_s=3600)) as gateway:
        manager = group(gateway.port, ib_client_id=50)
        wait_for(lambda: manager.is_connected)
        gateway.drop()
        wait_for(lambda: not manager.is_connected)
        manager.reconnect()
        wait_for(lambda: manager.status().last_error.code == 326)
        says("all client ids from 50 to 50 are in use", "close other API programs")


def test_an_id_is_in_use_and_the_next_one_does(group, gateway, make_settings, scratch, wait_for):
    other = PersistentIbConnectionManager(
        make_settings(ktrdr_sim_port=gateway.port, ktrdr_run_dir=scratch / "other")
    )
    other.start()
    try:
        wait_for(lambda: gateway.client_ids == [1])
        manager = group(gateway.port)
        wait_for(lambda: manager.is_connected)
        says("client id 1 is in use, so 2 is used", code=0)
    finally:
        other.stop()


def test_the_api_is_read_only(group, gateway, wait_for):
    manager = group(gateway.port)
    wait_for(lambda: manager.is_connected)
    with gateway.read_only_api():
        says("✓", '"Read-Only API" is on, which is right for this program', code=0)


def troubled(manager, symbol: str) -> dict:
    """What the gap filler says when it was refused a contract."""
    ask_for(manager, symbol)
    (one,) = manager.status().refused
    trouble = SeriesTrouble(one.outcome, one.message, one.hint, (f"{symbol}_1h",), 1)
    return {"series": 2, "series_troubled": 1, "troubles": (trouble,)}


def test_a_contract_is_without_permission(group, gateway, wait_for, filler_says):
    manager = group(gateway.port)
    wait_for(lambda: manager.is_connected)
    filler_says |= troubled(manager, "NOPERM")
    says(
        "1 needs you: NOPERM.",
        "✗ NOPERM_1h: ",
        "No market data permissions",
        "subscribe to this market's Level 1 data",
    )


def test_a_contract_that_nobody_watches_any_more_is_no_trouble(group, gateway, wait_for):
    manager = group(gateway.port)
    wait_for(lambda: manager.is_connected)
    noperm = instrument_for("NOPERM")
    manager.call(manager.sessions(noperm, 1795000000, 1795100000), 30)  # those it is told
    ask_for(manager, "NOPERM")
    says("healthy", "bars are available", code=0)


def test_the_disk_is_full(group, gateway, wait_for, filler_says):
    manager = group(gateway.port)
    wait_for(lambda: manager.is_connected)
    filler_says["store_trouble"] = StoreTrouble("the disk with data is full", "free some space")
    says("critical The disk with data is full", "no bar can be stored", "next: free some space")


def test_the_gateways_texts_are_not_in_english(group, gateway, wait_for):
    manager = group(gateway.port)
    wait_for(lambda: manager.is_connected)
    words = "历史市场数据服务错误信息"
    with gateway.fault("refused", kind="historical_data", text=words, encoding="gb18030"):
        says("degraded The gateway's texts are not", words, "Show API error messages in English")
    manager.reconnect()
    wait_for(lambda: manager.is_connected and not manager.status().foreign_text)
    says("healthy", code=0)


def test_a_symbol_is_ambiguous_and_the_lines_to_paste_stay_whole(
    group, gateway, wait_for, monkeypatch, filler_says
):
    manager = group(gateway.port)
    wait_for(lambda: manager.is_connected)
    filler_says |= troubled(manager, "TWIN")
    monkeypatch.setenv("COLUMNS", "40")
    _, said = doctor()
    lines = said.splitlines()
    begin = lines.index("        [TWIN]")
    assert lines[begin - 1].startswith("  next: say in instruments.toml which one is meant")
    assert lines[begin + 1].startswith('        primary_exchange = "NASDAQ"   # TWIN: NASDAQ, ')
    assert lines[begin + 2].startswith('        primary_exchange = "NYSE"     # TWIN: NYSE, ')


@pytest.mark.parametrize("code", [162, 10197])
def test_another_session_competes(group, gateway, wait_for, code):
    manager = group(gateway.port)
    wait_for(lambda: manager.is_connected)
    with gateway.competing_session(code):
        says("IB gives the data to another session of the same user", "log out there")


def test_ibs_servers_are_lost(group, gateway, wait_for):
    manager = group(gateway.port)
    wait_for(lambda: manager.is_connected)
    with gateway.connectivity_lost():
        wait_for(lambda: manager.status().state == "upstream_lost")
        says("the gateway has lost IB's servers", "wait: it goes on trying")


def test_a_farm_is_down(group, gateway, wait_for):
    manager = group(gateway.port)
    wait_for(lambda: manager.is_connected)
    with gateway.farm_broken("ushmds"):
        wait_for(lambda: manager.status().state == "history_down")
        says("data farms of IB's are broken: ushmds", "they come back by themselves")


@pytest.mark.parametrize("farm", ["usfarm", "secdefil"])
def test_a_farm_is_down_of_which_no_bars_come(group, gateway, wait_for, farm):
    manager = group(gateway.port)
    wait_for(lambda: manager.is_connected)
    with gateway.farm_broken(farm):
        wait_for(lambda: manager.status().state == "farm_down")
        says("degraded Data farms of IB's are broken", f"are broken: {farm}", "wait")


def test_a_farm_is_down_and_nobody_has_told(group, gateway, wait_for):
    manager = group(gateway.port)
    wait_for(lambda: manager.is_connected)
    with gateway.farm_broken(told="no"):
        request = BarsRequest(instrument_for("AAPL"), Timeframe.H1, 1793624400, 1793710800)
        with pytest.raises(NotConnected, match="HMDS server disconnect"):
            manager.call(manager.bars(request, patience_s=5), 30)
        wait_for(lambda: manager.status().state == "history_down")
        says("IB's history farm is broken: HMDS server disconnect", "farms come back by themselves")


def test_the_clock_is_wrong(group, gateway, wait_for):
    with gateway.wrong_clock(-300):
        manager = group(gateway.port)
        wait_for(lambda: manager.is_connected)
        says("the gateway's clock and this machine's are 30", " s apart", "timedatectl")


def test_the_gateway_is_too_old(group, gateway, wait_for):
    with gateway.outdated(140):
        manager = group(gateway.port)
        wait_for(lambda: manager.status().failed_attempts)
        says("speaks protocol 140; at least 157 is needed", "install a current IB Gateway")


def test_a_gateway_that_does_not_answer_yet_is_not_called_well(group, gateway, wait_for):
    with gateway.unanswered("current_time"):
        manager = group(gateway.port, ktrdr_ib_heartbeat_s=10)
        wait_for(lambda: manager.status().state == "connecting")
        says("✗ no data yet (connecting)", "check again")


def test_a_restart_at_its_hour_is_named_and_not_called_well(group, gateway, wait_for):
    now = datetime.now(UTC)
    manager = group(gateway.port, ktrdr_ib_restart_at=f"{now:%H:%M} UTC")
    wait_for(lambda: manager.status().requests_answered >= 2)
    with gateway.restarting():
        wait_for(lambda: manager.status().expected)
        code, said = doctor()
    assert "✓ expected restart, back at about" in said
    assert "bars are available" not in said
    assert code == 0


def test_the_program_itself_is_down(group, gateway):
    group(gateway.port, runs=False)
    says("no status from ib-connection", "./scripts/up", code=3)


def test_the_program_is_of_another_version(group, gateway, make_settings):
    async def responds(_query):
        return {"state": "connected", "farms": []}

    group(gateway.port, runs=False)
    paths = {("GET", "/status"): responds, ("POST", "/trial"): responds}
    made = make_settings()
    server = serving(LocalServer(made.connection_socket, paths))
    with server, pretended(made.run_dir, "ib-connection"):
        says(
            "✗ no status from ib-connection: ",
            "cannot be read (connected: Field required)",
            "supervisorctl restart ib-connection",
            code=3,
        )


def test_the_program_knows_no_trial_requests(group, gateway, make_settings):
    async def responds(_query):
        return to_json(connection_status(port=gateway.port))

    group(gateway.port, runs=False)
    paths = {("GET", "/status"): responds}
    with serving(LocalServer(make_settings().connection_socket, paths)):
        says("✗ ib-connection tried no request: ", "supervisorctl restart ib-connection")


def test_another_protocol_is_spoken_at_the_port(group, wait_for):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    client, _ = server.accept()
                    client.recv(100)
                    client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                    client.close()

        thread = threading.Thread(target=serve)
        thread.start()
        port = server.getsockname()[1]
        manager = group(4102, ib_host="127.0.0.1", ib_port=port)
        wait_for(lambda: manager.status().failed_attempts)
        says("is no IB Gateway: it sent b'HTTP/1.1 400", "set IB_PORT")
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_the_forwarder_is_full(group, gateway, wait_for):
    manager = group(gateway.port)
    wait_for(lambda: manager.status().requests_answered >= 2)
    full = ("172.17.0.2 has 32 connections open, the limit for one client",)
    said = Report(time.time(), 0, os.getpid(), "socat", 4003, "127.0.0.1:4102", full=full)
    report.write(Path(os.environ["KTRDR_RUN_DIR"]), said)
    says(
        "port-forward: it accepts no more connections: 172.17.0.2 has 32 connections open",
        "then run ./scripts/ib_port_forward.sh --check",
    )


def test_the_forwarder_serves_nobody_here(group, wait_for):
    """It resets whom it does not serve, and closes the connections of the others."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stopped = threading.Event()

        def reset_all():
            listener.settimeout(0.1)
            while not stopped.is_set():
                with contextlib.suppress(TimeoutError):
                    call, _ = listener.accept()
                    linger = struct.pack("ii", 1, 0)
                    call.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    call.close()

        thread = threading.Thread(target=reset_all)
        thread.start()
        try:
            port = listener.getsockname()[1]
            manager = group(4102, ib_host="127.0.0.1", ib_port=port, ktrdr_forward_port=port)
            wait_for(lambda: manager.status().failed_attempts)
            says("refuses connections from here", "--check tells whom")
        finally:
            stopped.set()
            thread.join()
