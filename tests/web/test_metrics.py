from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

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
    values = metrics()

    assert values["ktrdr_ready",] == 1
    assert values["ktrdr_connection_up",] == 1
    assert values["ktrdr_connection_attempts_total",] == 7
    assert values["ktrdr_connection_failed_attempts_total",] == 3
    assert values["ktrdr_requests_answered_total",] == 48213
    assert values["ktrdr_farms_broken",] == 0
    assert values["ktrdr_contracts_refused",] == 0
    assert values["ktrdr_gaps_remaining",] == 108
    assert values["ktrdr_gaps_filled_total",] == 1201
    assert values["ktrdr_gaps_detected_total",] == 1312
    assert (values["ktrdr_series",], values["ktrdr_series_complete",]) == (1, 0)
    assert values["ktrdr_gaps_unfillable", "no_trades"] == 14
    assert values["ktrdr_bars_added_total",] == 184233


NOW = "gaps_remaining gaps_failed gaps_unfillable series series_complete".split()
COUNTED = "gaps_detected gaps_filled requests_failed bars_added".split()


@pytest.mark.usefixtures("peers")
@pytest.mark.parametrize(("names", "kind"), [(NOW, "gauge"), (COUNTED, "counter")])
def test_what_is_now_is_a_gauge_and_what_was_counted_a_counter(client, names, kind):
    text = client.get("/metrics").text
    kinds = {family.name: family.type for family in text_string_to_metric_families(text)}

    assert {name: kinds.get(f"ktrdr_{name}") for name in names} == dict.fromkeys(names, kind)


def test_counters_have_the_time_since_when_they_count(metrics, peers, filling):
    since = datetime(2026, 11, 20, 14, 30, tzinfo=UTC)
    peers.gap_filler = replace(filling, gaps_failed=3, requests_failed=41, counted_since=since)

    values = metrics()

    assert (values["ktrdr_gaps_failed",], values["ktrdr_requests_failed_total",]) == (3, 41)
    assert values["ktrdr_gap_filler_counted_since_timestamp_seconds",] == since.timestamp()


@pytest.mark.usefixtures("peers")
def test_they_tell_each_programs_cost(metrics):
    values = metrics()

    assert values["ktrdr_program_up", "status-app"] == 1
    assert values["ktrdr_program_rss_bytes", "status-app"] > 2**20
    assert values["ktrdr_program_up", "gateway-sim"] == 0
    assert ("ktrdr_program_rss_bytes", "gateway-sim") not in values


def test_a_peer_that_is_down_has_no_made_up_numbers(metrics):
    values = metrics()

    assert values["ktrdr_ready",] == 0
    assert values["ktrdr_connection_up",] == 0
    assert values["ktrdr_program_up", "ib-connection"] == 0
    assert ("ktrdr_gaps_remaining",) not in values
    assert (values["ktrdr_health", "critical"], values["ktrdr_health", "healthy"]) == (1, 0)
    assert ("ktrdr_connection_attempts_total",) not in values


def test_a_lost_connection_is_down_and_still_counted(metrics, peers, connected):
    peers.connection = replace(connected, connected=False)

    values = metrics()

    assert values["ktrdr_connection_up",] == 0
    assert values["ktrdr_connection_attempts_total",] == 7


@pytest.mark.usefixtures("peers")
def test_two_apps_have_their_own(new_client):
    assert new_client().get("/metrics").text.count("# TYPE ktrdr_ready") == 1
    assert new_client().get("/metrics").text.count("# TYPE ktrdr_ready") == 1
