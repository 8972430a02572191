"""The controls over their socket, with the requests that curl sends and with `ktrdr sim`."""

import asyncio
import http.client
import json
import socket
import threading
from datetime import UTC, datetime, timedelta

import pytest
from ib_insync import IB, Stock
from typer.testing import CliRunner

from ktrdr.cli import app
from ktrdr.errors import AlreadyRunning, Misconfigured
from ktrdr.sim.gateway.control import control_of
from ktrdr.sim.gateway.faults import FAULTS
from ktrdr.sim.gateway.server import SimulatedGateway


class Unix(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("sim", timeout=5)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self.path))


@pytest.fixture
def path(scratch):
    return scratch / "run" / "gateway-sim.sock"


@pytest.fixture
def request_control(controlled, path):  # noqa: ARG001
    """`request_control(method, target)`: the status code and the JSON."""

    def send(method, target):
        connection = Unix(path)
        try:
            connection.request(method, target)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    return send


@pytest.fixture
def controlled(path):
    """A gateway in a thread, with its controls."""
    begun, stop = threading.Event(), threading.Event()
    gateway = SimulatedGateway()

    async def serve():
        async with gateway, control_of(gateway, path):
            begun.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert begun.wait(10)
    yield gateway
    stop.set()
    thread.join(10)
    assert not path.exists()


def can_connect(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


def test_the_status_has_port_clock_clients_and_faults(controlled, request_control):
    code, body = request_control("GET", "/status")
    assert code == 200
    assert (body["port"], body["listening"], body["client_ids"], body["faults"]) == (
        controlled.port, True, [], {},
    )  # fmt: skip
    assert body["now"].endswith("+00:00")


def test_a_fault_is_begun_and_ended_over_the_socket(controlled, request_control):
    assert request_control("POST", "/fault/restart")[0] == 200
    assert not can_connect(controlled.port)
    code, body = request_control("DELETE", "/fault/restart")
    assert (code, body["was_in_force"], body["listening"]) == (200, True, True)
    assert can_connect(controlled.port)
    assert request_control("DELETE", "/fault/restart")[1]["was_in_force"] is False


def test_a_faults_parameters_are_those_of_the_query(request_control):
    _, body = request_control("POST", "/fault/late?seconds=2.5&for_s=60")
    assert body["faults"] == {"late": {"seconds": 2.5, "rate": 1.0}}


@pytest.mark.parametrize(
    "target",
    ["/fault/none", "/fault/late?seconds=x", "/fault/late?name=1", "/fault/notice?code=7"],
)
def test_what_is_no_fault_gets_400_and_the_names_that_there_are(request_control, target):
    code, body = request_control("POST", target)
    assert (code, body["outcome"]) == (400, "invalid_request")
    assert body["message"]
    assert request_control("GET", "/status")[1]["faults"] == {}


def test_the_summary_counts_what_a_client_did(controlled, request_control):
    async def talk():
        client = IB()
        await client.connectAsync("127.0.0.1", controlled.port, 7)
        for _ in range(2):
            await client.reqHistoricalDataAsync(
                Stock("AAPL", "SMART", "USD"), "20261120-22:00:00", "1 D", "5 mins", "TRADES", True
            )
        client.disconnect()

    asyncio.run(talk())
    _, body = request_control("GET", "/record/summary")
    assert body["requests"]["historical_data"] == body["history_requests"] == 2
    assert (body["bars"], body["repeats"], body["most_in_flight"]) == (156, 1, 1)
    assert (body["connects_by_id"], body["violations"]) == ({"7": 1}, {})


def test_all_faults_are_listed_with_what_they_take(request_control):
    listed = request_control("GET", "/faults")[1]
    assert set(listed) == set(FAULTS)
    assert listed["drop"] == {
        "says": "all connections are closed; `how`: fin or rst",
        "values": {"how": "rst"},
        "choices": {"how": ["fin", "rst"]},
        "momentary": True,
    }
    assert listed["late"]["choices"] == {"seconds": [], "rate": []}
    assert listed["farm_broken"]["choices"] == {
        "farm": [],
        "told": ["yes", "no", "begin"],
        "streams": ["lost", "kept", "refused"],
    }
    assert not listed["late"]["momentary"]


def test_a_fault_in_force_has_its_begin_and_its_end(request_control):
    before = datetime.now(UTC).replace(microsecond=0)
    request_control("POST", "/fault/late")
    _, body = request_control("POST", "/fault/wedged?for_s=90")
    since, until = (
        datetime.fromisoformat(body["periods"]["wedged"][key]) for key in ("since", "until")
    )
    assert before <= since <= datetime.now(UTC)
    assert timedelta(seconds=89) <= until - since <= timedelta(seconds=91)
    assert body["periods"]["late"]["until"] is None
    assert set(request_control("DELETE", "/fault/wedged")[1]["periods"]) == {"late"}


def test_a_fault_that_happens_once_has_no_period(request_control):
    assert request_control("POST", "/fault/drop")[1]["periods"] == {}


def test_the_socket_is_its_owners_alone_and_taken_by_one(request_control, path):
    assert path.stat().st_mode & 0o777 == 0o600

    async def second():
        async with control_of(SimulatedGateway(), path):
            pass

    with pytest.raises(AlreadyRunning):
        asyncio.run(second())
    assert request_control("GET", "/status")[0] == 200


def test_a_file_in_the_way_is_left_alone(path):
    path.parent.mkdir()
    path.write_text("mine")

    async def serve():
        async with control_of(SimulatedGateway(), path):
            pass

    with pytest.raises(Misconfigured):
        asyncio.run(serve())
    assert path.read_text() == "mine"


@pytest.fixture
def ktrdr(bare_environment, monkeypatch, path):  # noqa: ARG001
    """`ktrdr(*arguments)`: the command line in this gateway's run folder."""
    monkeypatch.setenv("KTRDR_RUN_DIR", str(path.parent))
    return lambda *arguments: CliRunner().invoke(app, arguments)


def test_the_command_line_begins_ends_and_lists_faults(controlled, ktrdr):
    assert json.loads(ktrdr("sim", "fault", "late", "seconds=2", "for_s=60").stdout) == {
        "late": {"seconds": 2, "rate": 1}
    }
    assert json.loads(ktrdr("sim", "fault", "late", "--end").stdout) == {}
    assert json.loads(ktrdr("sim", "status").stdout)["port"] == controlled.port
    assert json.loads(ktrdr("sim", "summary").stdout)["faults"] == {"late": 1}
    assert "half_open" in ktrdr("sim", "faults").stdout


@pytest.mark.usefixtures("controlled")
def test_the_command_line_fails_for_an_unknown_fault(ktrdr):
    assert ktrdr("sim", "fault", "nonsense").exit_code == 2


def test_the_command_line_without_a_simulator_ends_with_3(ktrdr):
    assert ktrdr("sim", "status").exit_code == 3
