"""The report of port-forward on the page, in the API, in the metrics and in the verdict."""

from __future__ import annotations

import os
import time
from dataclasses import replace

import pytest

from ktrdr.forwarder import report
from ktrdr.forwarder.report import Listening, Report
from tests.played_peers import pretended

STATUS = "/api/v1/system/port-forward-status"
SYSTEM = "/api/v1/system/system-status"


@pytest.fixture
def forwarding():
    now = time.time()
    return Report(
        time=now,
        started=now - 3600,
        pid=os.getpid(),
        copying="socat",
        port=4003,
        target="127.0.0.1:4002",
        listening=(Listening("lo", "this machine"), Listening("docker0", "172.17.0.0/16")),
        notes=("not listening on br-lan: eth1 (r8169) is attached to it",),
        open_calls=2,
        calls=17,
        refused={"foreign": 3, "no_gateway": 1},
        bytes=5_242_880,
        gateway="reached",
    )


@pytest.fixture
def runs(run_dir, forwarding):
    """The program runs and has written this report."""
    with pretended(run_dir, "port-forward", "status-app", "gateway-sim"):
        report.write(run_dir, forwarding)
        yield


@pytest.mark.usefixtures("peers", "runs")
def test_the_api_tells_it(client):
    received = client.get(STATUS).json
    assert received["running"] is True
    assert received["listening"][1] == {
        "name": "docker0",
        "takes": "172.17.0.0/16",
        "trouble": None,
    }
    assert (received["calls"], received["open_calls"], received["bytes"]) == (17, 2, 5_242_880)
    assert received["refused"] == {"foreign": 3, "no_gateway": 1}
    assert received["since"].endswith("+00:00")


@pytest.mark.usefixtures("peers", "runs")
def test_who_has_all_the_connections_is_shown(client, run_dir, forwarding):
    assert client.get(STATUS).json["full"] == []
    line = "172.17.0.2 has 32 connections open, the limit for one client"
    report.write(run_dir, replace(forwarding, full=(line,)))
    assert client.get(STATUS).json["full"] == [line]
    assert f"It accepts no more connections: {line}." in client.get("/programs").text


@pytest.mark.usefixtures("peers")
def test_without_one_the_api_says_so(client):
    assert client.get(STATUS).json == {
        "running": False,
        "reason": "port-forward has not reported lately",
    }


@pytest.mark.usefixtures("peers", "runs")
def test_the_page_tells_it(client):
    page = " ".join(client.get("/programs").text.split())
    assert "docker0 (172.17.0.0/16)" in page
    assert "17 forwarded, 4 refused, 5 MiB" in page
    assert "not listening on br-lan" in page


@pytest.mark.usefixtures("peers", "runs")
def test_the_metrics_tell_it(client):
    received = client.get("/metrics").text.splitlines()
    assert "ktrdr_forward_listeners 2.0" in received
    assert "ktrdr_forward_calls_total 17.0" in received
    assert 'ktrdr_forward_refused_calls_total{reason="foreign"} 3.0' in received
    assert "ktrdr_forward_gateway_reached 1.0" in received


@pytest.mark.usefixtures("peers", "runs")
def test_a_place_that_cannot_be_had_is_a_concern_with_a_step(client, run_dir, forwarding):
    taken = Listening("docker0", "172.17.0.0/16", "port 4003 is taken by nginx (pid 12)")
    report.write(run_dir, replace(forwarding, listening=(taken,)))
    received = client.get(SYSTEM).json
    assert received["services"]["port-forward"]["healthy"] is False
    needs = next(one for one in received["needs_person"] if "port-forward" in one["what"])
    assert "docker0: port 4003 is taken by nginx (pid 12)" in needs["what"]
    assert "--check" in needs["next_step"]


@pytest.mark.usefixtures("peers", "runs")
def test_a_gateway_of_its_own_that_is_gone_is_a_concern_while_ours_is_there(
    client, run_dir, forwarding
):
    gone = replace(forwarding, target="10.1.1.1:4001", gateway="not_reached", gateway_why="refused")
    report.write(run_dir, gone)
    received = client.get(SYSTEM).json
    assert any("cannot reach 10.1.1.1:4001" in one["what"] for one in received["needs_person"])


@pytest.mark.parametrize(("age_s", "is_missing"), [(5, False), (20, True)])
@pytest.mark.usefixtures("peers", "runs")
def test_a_gateway_that_is_started_at_the_same_time_is_no_concern_yet(
    client, run_dir, forwarding, age_s, is_missing
):
    gone = replace(forwarding, gateway="not_reached", gateway_why="refused")
    report.write(run_dir, replace(gone, started=gone.time - age_s))
    needs = client.get(SYSTEM).json["needs_person"]
    assert any("cannot reach" in one["what"] for one in needs) == is_missing
    assert ("cannot be reached" in client.get("/programs").text) == is_missing


@pytest.mark.usefixtures("peers", "runs")
def test_text_of_its_report_is_no_markup(client, run_dir, forwarding):
    report.write(run_dir, replace(forwarding, last_error="<script>alert(1)</script>"))
    assert "<script>alert" not in client.get("/programs").text
