"""What the API has programs do: a new connection to IB; start, stop and restart."""

from __future__ import annotations

from xmlrpc.client import Fault

import pytest

from ktrdr.errors import PeerDown
from tests.played_peers import supervised

SYSTEM = "/api/v1/system"


def test_a_new_connection_is_requested(client, peers):
    answer = client.post(f"{SYSTEM}/ib-connection/reconnect")

    assert answer.status_code == 202
    assert answer.json == {"program": "ib-connection", "action": "reconnect"}
    assert {"what": "reconnected"} in peers.requested

    peers.reconnected = PeerDown("it is being stopped")
    assert client.post(f"{SYSTEM}/ib-connection/reconnect").status_code == 503


@pytest.mark.parametrize(
    ("action", "called"),
    [
        ("start", ("startProcess", "gap-filler", False)),
        ("stop", ("stopProcess", "gap-filler", False)),
        ("restart", ("signalProcess", "gap-filler", "TERM")),
    ],
)
def test_a_program_is_controlled_through_supervisord(client, run_dir, action, called):
    with supervised(run_dir / "supervisor.sock", {}) as supervisor:
        answer = client.post(f"{SYSTEM}/programs/gap-filler/{action}")

    assert answer.status_code == 202
    assert answer.json == {"program": "gap-filler", "action": action}
    assert supervisor.called == [called]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("nonsense/start", "no program has the name 'nonsense': expected one of"),
        ("gap-filler/kill", "expected one of start, stop, restart"),
    ],
)
def test_what_there_is_not_is_not_found_and_nothing_is_done(client, run_dir, path, words):
    with supervised(run_dir / "supervisor.sock", {}) as supervisor:
        answer = client.post(f"{SYSTEM}/programs/{path}")

    assert answer.status_code == 404
    assert words in answer.json["detail"]
    assert supervisor.called == []


def test_a_refusal_of_supervisord_is_passed_on(client, run_dir):
    with supervised(run_dir / "supervisor.sock", {}) as supervisor:
        supervisor.fault = Fault(10, "BAD_NAME")
        answer = client.post(f"{SYSTEM}/programs/gap-filler/start")

    assert (answer.status_code, answer.json["outcome"]) == (409, "program_refused")
    assert answer.json["detail"] == "supervisord does not start gap-filler: BAD_NAME"


def test_without_supervisord_the_answer_says_so(client):
    answer = client.post(f"{SYSTEM}/programs/gap-filler/stop")

    assert (answer.status_code, answer.json["outcome"]) == (503, "peer_down")


def test_another_site_cannot_control_a_program(client, run_dir):
    with supervised(run_dir / "supervisor.sock", {}) as supervisor:
        answer = client.post(
            f"{SYSTEM}/programs/gap-filler/stop", headers={"Sec-Fetch-Site": "cross-site"}
        )

    assert answer.status_code == 403
    assert supervisor.called == []
