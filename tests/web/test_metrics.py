from __future__ import annotations

from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families


@pytest.fixture
def metrics(client):
    def read():
        answer = client.get("/metrics")
        assert answer.status_code == 200
        assert answer.content_type.startswith("text/plain")
        return {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
        }

    return read


@pytest.mark.usefixtures("peers")
def test_they_tell_what_the_peers_say(metrics):
    said = metrics()

    assert said["ktrdr_ready",] == 1
    assert said["ktrdr_connection_up",] == 1
    assert said["ktrdr_connection_attempts_total",] == 7
    assert said["ktrdr_connection_failed_attempts_total",] == 3
    assert said["ktrdr_requests_answered_total",] == 48213
    assert said["ktrdr_farms_broken",] == 0
    assert said["ktrdr_contracts_refused",] == 0
    assert said["ktrdr_gaps_remaining",] == 108
    assert said["ktrdr_gaps_filled_total",] == 1201
    assert said["ktrdr_gaps_detected_total",] == 1312
    assert (said["ktrdr_series",], said["ktrdr_series_complete",]) == (1, 0)
    assert said["ktrdr_gaps_unfillable", "no_trades"] == 14
    assert said["ktrdr_bars_added_total",] == 184233


@pytest.mark.usefixtures("peers")
def test_they_tell_each_programs_cost(metrics):
    said = metrics()

    assert said["ktrdr_program_up", "status-app"] == 1
    assert said["ktrdr_program_rss_bytes", "status-app"] > 2**20
    assert said["ktrdr_program_up", "gateway-sim"] == 0
    assert ("ktrdr_program_rss_bytes", "gateway-sim") not in said


def test_a_peer_that_is_down_has_no_made_up_numbers(metrics):
    said = metrics()

    assert said["ktrdr_ready",] == 0
    assert said["ktrdr_connection_up",] == 0
    assert said["ktrdr_program_up", "ib-connection"] == 0
    assert ("ktrdr_gaps_remaining",) not in said
    assert (said["ktrdr_health", "critical"], said["ktrdr_health", "healthy"]) == (1, 0)
    assert ("ktrdr_connection_attempts_total",) not in said


def test_a_lost_connection_is_down_and_still_counted(metrics, peers, connected):
    peers.connection = replace(connected, connected=False)

    said = metrics()

    assert said["ktrdr_connection_up",] == 0
    assert said["ktrdr_connection_attempts_total",] == 7


@pytest.mark.usefixtures("peers")
def test_two_apps_have_their_own(new_client):
    assert new_client().get("/metrics").text.count("# TYPE ktrdr_ready") == 1
    assert new_client().get("/metrics").text.count("# TYPE ktrdr_ready") == 1
