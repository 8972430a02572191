from __future__ import annotations

import shutil
import subprocess
import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from ktrdr import __version__
from ktrdr.health.programs import NAMES, Program
from ktrdr.health.restarts import Restarts
from ktrdr.ipc.messages import StoreTrouble
from tests.web.metrics_lint import problems

OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}


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
    assert values["ktrdr_program_cpu_seconds_total", "status-app"] > 0
    assert 0 < values["ktrdr_program_start_time_seconds", "status-app"] < time.time()


def test_restarts_begin_at_zero(metrics):
    values = metrics()

    assert {name: values["ktrdr_program_restarts_total", name] for name in NAMES} == dict.fromkeys(
        NAMES, 0
    )


def test_a_restart_is_another_process():
    def filler(pid, started):
        return {"gap-filler": Program("gap-filler", "RUNNING", pid, started=started)}

    restarts = Restarts()
    stopped = {"gap-filler": Program("gap-filler", "STOPPED")}
    for programs in (stopped, filler(7, 100.0), stopped, filler(7, 100.2)):
        assert restarts.counts(programs)["gap-filler"] == 0
    assert restarts.counts(filler(8, 160.0))["gap-filler"] == 1
    assert restarts.counts(filler(8, 160.0))["gap-filler"] == 1
    assert restarts.counts(filler(8, 900.0)) == dict.fromkeys(NAMES, 0) | {"gap-filler": 2}


@pytest.mark.usefixtures("peers")
def test_each_series_has_its_bars_by_reason_and_its_last_one(metrics):
    values = metrics()
    missing = {
        key[1]: value
        for key, value in values.items()
        if (key[0], *key[2:]) == ("ktrdr_series_bars_missing", "AAPL", "1m")
    }

    assert (missing.pop("open"), missing.pop("no_trades")) == (8, 2)
    assert "failed" in missing
    assert set(missing.values()) == {0}
    assert values["ktrdr_series_bars_expected", "AAPL", "1m"] == 390
    assert values["ktrdr_series_bars_present", "AAPL", "1m"] == 380
    last = datetime(2026, 11, 20, 20, 59, tzinfo=UTC)
    assert values["ktrdr_series_last_bar_timestamp_seconds", "AAPL", "1m"] == last.timestamp()


def states_that_are(values, name):
    return [key[1] for key, value in values.items() if key[0] == name and value == 1]


def test_a_state_set_has_all_states_and_one_is_true(metrics, peers, connected):
    peers.connection = replace(connected, connected=False, state="logged_out", expected="log-out")

    values = metrics()

    assert states_that_are(values, "ktrdr_connection_state") == ["logged_out"]
    assert values["ktrdr_connection_state", "connected"] == 0
    assert values["ktrdr_connection_away_expected",] == 1
    assert states_that_are(values, "ktrdr_health") == ["degraded"]


def test_without_ib_connection_the_state_is_not_running(metrics):
    assert states_that_are(metrics(), "ktrdr_connection_state") == ["not_running"]


def test_problems_are_counted_by_what_they_are_about(metrics, peers, filling):
    peers.gap_filler = replace(filling, store_trouble=StoreTrouble("the disk is full", "free some"))

    values = metrics()

    assert values["ktrdr_concerns", "store", "critical"] == 1
    assert values["ktrdr_concerns", "clock", "critical"] == 0


def test_the_disk_and_the_pace(metrics, peers, connected, filling):
    peers.connection = replace(connected, requests_open=3, requests_at_once=6)
    peers.gap_filler = replace(filling, disk_free_bytes=2**30, disk_total_bytes=2**40)

    values = metrics()

    assert (values["ktrdr_requests_open",], values["ktrdr_requests_open_limit",]) == (3, 6)
    assert (values["ktrdr_disk_free_bytes",], values["ktrdr_disk_size_bytes",]) == (2**30, 2**40)


@pytest.mark.usefixtures("peers")
def test_what_has_not_happened_yet_is_zero(metrics):
    values = metrics()

    assert values["ktrdr_gaps_unfillable", "not_entitled"] == 0
    assert values["ktrdr_series_incomplete", "filling"] == 1
    assert values["ktrdr_series_incomplete", "failed"] == 0
    assert values["ktrdr_fills_open", "waiting"] == 0


@pytest.mark.usefixtures("peers")
def test_openmetrics_for_who_accepts_it(client):
    answer = client.get("/metrics", headers=OPENMETRICS)

    assert answer.content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert answer.vary.as_set() >= {"accept"}
    families = {one.name: one for one in openmetrics.text_string_to_metric_families(answer.text)}
    assert families["ktrdr_connection_state"].type == "stateset"
    assert families["ktrdr_gaps_detected"].type == "counter"
    assert families["ktrdr_build"].samples[0].labels["version"] == __version__


@pytest.mark.usefixtures("peers")
def test_they_keep_prometheus_conventions(client):
    assert problems(client.get("/metrics").text) == []


BAD = {
    "# TYPE a_x counter\n# HELP a_x x.\na_x 1\n": "a_x: a counter's name ends in _total",
    "# TYPE a_total gauge\n# HELP a_total x.\na_total 1\n": "a_total: only a counter's name",
    "# TYPE a gauge\na 1\n": "a: no HELP",
    "# HELP a x.\na 1\n": "a: no TYPE",
    "# HELP a_ms x.\n# TYPE a_ms gauge\na_ms 1\n": "a_ms: ms is no base unit: seconds",
    "# HELP a_percent x.\n# TYPE a_percent gauge\na_percent 1\n": "a_percent: percent is no base",
    "# HELP aB x.\n# TYPE aB gauge\naB 1\n": "aB: expected small letters",
    '# HELP a x.\n# TYPE a gauge\na{bC="1"} 1\n': "a: the label bC",
    "# HELP a_gauge x.\n# TYPE a_gauge gauge\na_gauge 1\n": "a_gauge: its type is in its name",
    "# HELP a x.\n# TYPE a gauge\na 1\na 1\n": "a: the same sample twice",
    '# HELP a x.\n# TYPE a gauge\na{b="1"} 1\na{c="1"} 1\n': "a: samples differ in their labels",
    "# HELP seconds_a x.\n# TYPE seconds_a gauge\nseconds_a 1\n": "seconds_a: the unit seconds",
}


@pytest.mark.parametrize("text", BAD)
def test_the_lint_finds_what_is_against_them(text):
    assert any(one.startswith(BAD[text]) for one in problems(text)), problems(text)


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is part of Prometheus")
@pytest.mark.usefixtures("peers")
def test_promtool_finds_nothing(client):
    command = ["promtool", "check", "metrics"]
    checked = subprocess.run(
        command, input=client.get("/metrics").text, capture_output=True, text=True, check=False
    )

    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


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
