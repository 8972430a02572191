from __future__ import annotations

import time
from dataclasses import fields, replace
from datetime import datetime, timedelta

import pytest

from ktrdr.errors import InvalidRequest, RequestFailed
from ktrdr.ipc.messages import ConnectionStatus, GapFillerStatus, LastError, StoreTrouble
from tests.played_peers import SERIES

IB = "/api/v1/system/ib-status"
FILLER = "/api/v1/system/gap-filler-status"
SYSTEM = "/api/v1/system/system-status"
SCAN = "/api/v1/system/gap-filler/force-scan"
COVERAGE = "/api/v1/data/coverage"

CONTRACT_IB = """connected state gateway host port client_id server_version last_connect_time
    last_disconnect_time connection_attempts failed_attempts next_retry_time last_error""".split()
CONTRACT_FILLER = """running state check_interval_s max_gap_age_days batch_symbols
    supported_timeframes last_scan_time gaps_detected gaps_filled gaps_failed gaps_remaining
    unfillable bars_added symbols_processed current eta_s recent_errors""".split()
CONTRACT_SERVICE = ["status", "healthy", "pid", "uptime_s", "cpu_percent", "rss_bytes"]
PROGRAMS = ["port-forward", "ib-connection", "gap-filler", "status-app", "alerts", "gateway-sim"]

PATIENCE_S = 6


@pytest.mark.usefixtures("peers")
def test_it_tells_the_connections_state(client):
    body = client.get(IB).json

    assert set(CONTRACT_IB) <= set(body)
    assert (body["connected"], body["gateway"], body["port"]) == (True, "simulated", 4102)
    assert body["connection_attempts"] == 7
    assert body["reason"] is None


@pytest.mark.usefixtures("peers")
def test_times_are_utc_with_their_offset(client):
    time = client.get(IB).json["last_connect_time"]

    assert time.endswith("+00:00")
    assert datetime.fromisoformat(time).utcoffset() == timedelta(0)


def test_an_error_comes_with_code_message_and_hint(client, peers, connected):
    peers.connection = replace(
        connected, connected=False, last_error=LastError(326, "client id in use", "wait")
    )

    body = client.get(IB).json

    assert body["connected"] is False
    assert body["last_error"] == {
        "code": 326,
        "message": "client id in use",
        "hint": "wait",
        "time": None,
    }


@pytest.mark.usefixtures("peers")
def test_it_tells_the_gap_fillers_state(client):
    body = client.get(FILLER).json

    assert set(CONTRACT_FILLER) <= set(body)
    assert (body["running"], body["state"], body["gaps_remaining"]) == (True, "filling", 108)
    assert body["unfillable"] == {"no_trades": 14}
    assert body["current"] == ["AAPL 1m"]


@pytest.mark.parametrize(
    ("path", "shape", "flag"),
    [(IB, ConnectionStatus, "connected"), (FILLER, GapFillerStatus, "running")],
)
def test_a_peer_that_is_down_is_null_and_why(client, path, shape, flag):
    answer = client.get(path)

    assert answer.status_code == 200
    assert {field.name for field in fields(shape)} <= set(answer.json)
    assert answer.json[flag] is False
    assert "is not running" in answer.json["reason"]
    assert "supervisorctl" in answer.json["reason"]
    assert {v for k, v in answer.json.items() if k not in (flag, "reason")} == {None}


@pytest.mark.parametrize(
    ("path", "socket", "flag"),
    [
        (IB, "ib-connection.sock", "connected"),
        (FILLER, "gap-filler.sock", "running"),
    ],
)
def test_a_peer_that_hangs_costs_a_moment_and_no_error(client, run_dir, hang, path, socket, flag):
    with hang(run_dir / socket):
        began = time.monotonic()
        answer = client.get(path)

    assert time.monotonic() - began < PATIENCE_S
    assert answer.status_code == 200
    assert answer.json[flag] is False
    assert "did not answer within 2 s" in answer.json["reason"]


def test_two_peers_that_hang_cost_the_time_of_one(client, run_dir, hang):
    with hang(run_dir / "ib-connection.sock"), hang(run_dir / "gap-filler.sock"):
        began = time.monotonic()
        answer = client.get(SYSTEM)

    assert time.monotonic() - began < 3.9
    assert answer.json["health"] == "critical"


@pytest.mark.parametrize("words", [b"", b"\x00\xff\n", b"HTTP/1.1 200 OK\r\n\r\n{nonsense"])
@pytest.mark.parametrize("path", [IB, FILLER, SYSTEM, COVERAGE, "/metrics", "/"])
def test_a_peer_that_talks_nonsense_is_no_500(client, run_dir, babble, path, words):
    with (
        babble(run_dir / "ib-connection.sock", words),
        babble(run_dir / "gap-filler.sock", words),
    ):
        assert client.get(path).status_code == 200


@pytest.mark.parametrize(
    "answer",
    [{}, {"connected": True}, {"connected": "yes", "running": "yes"}, {"state": 5}],
)
def test_an_answer_that_lacks_something_is_no_answer(client, peers, answer):
    peers.connection = peers.gap_filler = answer

    assert client.get(IB).json["connected"] is False
    assert client.get(FILLER).json["running"] is False
    assert "cannot be read" in client.get(IB).json["reason"]
    assert client.get("/readyz").status_code == 503
    assert client.get("/").status_code == 200


def test_a_peer_that_answers_with_an_error_is_quoted(client, peers):
    peers.connection = RequestFailed("the loop is wedged", hint="restart it")

    assert client.get(IB).json["reason"] == "the loop is wedged – next step: restart it"


@pytest.mark.usefixtures("peers")
def test_the_system_has_all_programs(client):
    body = client.get(SYSTEM).json

    assert set(body) == {"health", "services", "summary", "needs_person", "heals"}
    assert list(body["services"]) == PROGRAMS
    assert all(list(service) == CONTRACT_SERVICE for service in body["services"].values())
    assert body["services"]["status-app"]["rss_bytes"] > 2**20
    assert body["services"]["status-app"]["uptime_s"] > 0


def test_a_scan_is_requested(client, peers):
    answer = client.post(SCAN)

    assert (answer.status_code, answer.json) == (202, {"scan_id": "5f1c"})
    assert peers.requested == [{"what": "scan"}]


def test_no_scan_without_a_gap_filler(client):
    answer = client.post(SCAN)

    assert answer.status_code == 503
    assert "gap-filler is not running" in answer.json["reason"]


@pytest.mark.parametrize("scan", [{}, RequestFailed("not now"), {"accepted": True}])
def test_no_scan_when_the_gap_filler_gives_no_id(client, peers, scan):
    peers.scan = scan

    answer = client.post(SCAN)

    assert answer.status_code == 503
    assert answer.json["reason"]


def test_a_scan_is_not_requested_by_reading(client, peers):
    answer = client.get(SCAN)

    assert answer.status_code == 405
    assert "POST" in answer.headers["Allow"]
    assert peers.requested == []


def test_coverage_is_of_what_was_requested(client, peers):
    answer = client.get(COVERAGE, query_string={"symbol": "BRK B", "timeframe": "1m"})

    assert answer.json["scan_time"] == "2026-11-20T21:00:00+00:00"
    assert answer.json["reason"] is None
    (series,) = answer.json["series"]
    assert {name: series[name] for name in SERIES} == SERIES
    assert peers.requested == [{"what": "coverage", "symbol": "BRK B", "timeframe": "1m"}]


def test_coverage_has_times_and_nothing_of_the_programs_own(client, peers):
    gap = [1795186800, 1795188540, 30, "failed"]  # 2026-11-20 15:00 and 15:29
    entry = SERIES | {"gaps": [gap], "key": [4711, 1795188540000000000, 815]}
    peers.coverage = {"scan_time": None, "series": [entry]}

    (series,) = client.get(COVERAGE).json["series"]

    assert "key" not in series
    assert series["gaps"] == [
        {
            "first": "2026-11-20T15:00:00+00:00",
            "last": "2026-11-20T15:29:00+00:00",
            "bars": 30,
            "reason": "failed",
        }
    ]


def test_coverage_is_null_without_a_gap_filler(client):
    answer = client.get(COVERAGE)

    assert answer.status_code == 200
    assert answer.json["series"] is None
    assert "gap-filler is not running" in answer.json["reason"]


def test_a_wrong_query_about_coverage_is_the_clients_error(client, peers):
    peers.coverage = InvalidRequest("symbol=NOPE: expected one of the store")

    answer = client.get(COVERAGE, query_string={"symbol": "NOPE"})

    assert answer.status_code == 400
    assert answer.json["reason"] == "symbol=NOPE: expected one of the store"


def test_it_is_alive_whatever_else_is_not(client):
    assert client.get("/healthz").status_code == 200


def test_it_lives_while_the_gateway_is_away(new_client, peers, connected, idle):
    client = new_client(ib_host="127.0.0.1")
    away = {"connected": False, "state": "waiting", "expected": "its nightly restart"}
    peers.connection = replace(connected, gateway="live", **away)
    peers.gap_filler = replace(idle, source="live")
    assert client.get("/readyz").status_code == 503
    answer = client.get("/livez")
    assert (answer.status_code, answer.json) == (200, {"live": True})


def test_it_does_not_live_where_no_bar_can_be_stored(client, peers, idle):
    trouble = StoreTrouble("this user may not write to data", "chown it")
    peers.gap_filler = replace(idle, store_trouble=trouble)
    answer = client.get("/livez")
    assert (answer.status_code, answer.json) == (503, {"live": False})


def test_it_does_not_live_without_the_programs(client):
    assert client.get("/livez").status_code == 503


@pytest.mark.usefixtures("peers")
def test_it_is_ready_when_both_answer_and_ib_does(client):
    answer = client.get("/readyz")

    assert answer.status_code == 200
    assert (answer.json["ready"], answer.json["reasons"]) == (True, [])


def test_it_is_not_ready_alone(client):
    answer = client.get("/readyz")

    assert answer.status_code == 503
    assert answer.json["ready"] is False
    assert [reason.split()[0] for reason in answer.json["reasons"]] == [
        "ib-connection",
        "gap-filler",
    ]


def test_it_is_not_ready_without_a_connection(client, peers, connected):
    peers.connection = replace(
        connected,
        connected=False,
        state="retrying",
        last_error=LastError(502, "connection refused", ""),
    )

    answer = client.get("/readyz")

    assert answer.status_code == 503
    (reason,) = answer.json["reasons"]
    assert reason.startswith(
        "not connected to the simulated gateway (retrying): connection refused"
    )
    assert reason.endswith("next step: ./scripts/up")  # which starts gateway-sim


def test_logs_are_shown_by_name(client, log_dir):
    (log_dir / "gap-filler.log").write_text("one\ntwo\nthree\n")

    body = client.get("/api/v1/system/logs/gap-filler?lines=2").json

    assert body == {
        "file": str(log_dir / "gap-filler.log"),
        "lines": ["two", "three"],
        "reason": None,
    }


@pytest.mark.parametrize("name", ["supervisord", "..", "%2e%2e%2fx", "gap-filler.log", "x" * 300])
def test_no_other_file_is_shown(client, name):
    answer = client.get(f"/api/v1/system/logs/{name}")

    assert answer.status_code == 404
    assert answer.json["reason"]


@pytest.mark.parametrize("lines", ["0", "-1", "1001", "many", "²", "9" * 5000])
def test_a_number_of_lines_that_cannot_be_is_refused(client, lines):
    assert client.get(f"/api/v1/system/logs/gap-filler?lines={lines}").status_code == 400


@pytest.mark.usefixtures("peers")
def test_the_history_of_the_connection_is_shown(client):
    body = client.get("/api/v1/system/ib-history?days=30")
    assert body.status_code == 200
    assert body.json["uptime"] == 0.998
    assert body.json["spans"][0]["state"] == "waiting"


def test_without_the_program_the_history_says_why(client):
    body = client.get("/api/v1/system/ib-history")
    assert body.status_code == 503
    assert "ib-connection is not running" in body.json["reason"]


@pytest.mark.usefixtures("peers")
@pytest.mark.parametrize("days", ["7", "x", "-1"])
def test_other_days_are_refused(client, days):
    body = client.get(f"/api/v1/system/ib-history?days={days}")
    assert body.status_code == 400
