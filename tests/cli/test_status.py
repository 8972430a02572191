"""`ktrdr` alone, and the states of the group as JSON, against played peers."""

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from ktrdr import __version__
from ktrdr.cli import app
from ktrdr.ipc.messages import SeriesTrouble
from tests.played_peers import *  # noqa: F403  fixtures
from tests.played_peers import pretended

PROGRAMS = ("port-forward", "status-app", "gateway-sim")


@pytest.fixture
def ktrdr(run_dir, settings, monkeypatch):
    monkeypatch.setenv("KTRDR_RUN_DIR", str(run_dir))
    monkeypatch.setenv("KTRDR_DATA_DIR", str(settings.data_dir))
    with pretended(run_dir, *PROGRAMS):
        yield lambda *words: CliRunner().invoke(app, words)


def test_the_version_is_shown(ktrdr):
    result = ktrdr("--version")
    assert (result.exit_code, result.output) == (0, f"ktrdr {__version__}\n")


def test_alone_it_says_in_a_line_that_all_is_well(ktrdr, peers, idle):
    peers.gap_filler = idle
    result = ktrdr()
    assert (result.exit_code, result.output) == (0, "healthy The series is complete.\n")


def test_alone_it_says_what_needs_you_and_nothing_that_heals(ktrdr, peers, idle):
    unknown = SeriesTrouble("unknown_contract", "none such", "is it spelt so?", ("XYZQ_1d",), 1)
    peers.gap_filler = replace(
        idle, series=3, series_troubled=1, troubles=(unknown,), series_states={"filling": 1}
    )
    result = ktrdr()
    assert result.exit_code == 1
    summary, *rest = result.output.splitlines()
    assert "1 needs you: XYZQ" in summary
    assert rest == ["✗ XYZQ_1d: none such", "  next: is it spelt so?"]


def test_alone_without_programs_it_says_once_what_starts_them(ktrdr):
    result = ktrdr()
    assert result.exit_code == 3
    assert result.output.startswith("critical ib-connection is not running (STOPPED)")
    assert result.output.count("next: ./scripts/up\n") == 1
    assert result.output.endswith("next: ./scripts/up\n")


def test_without_programs_status_names_one_next_step(ktrdr):
    output = ktrdr("status").output
    assert {line for line in output.splitlines() if "next" in line} == {"  next: ./scripts/up"}
    assert "down: gap-filler is not running" in output


@pytest.mark.parametrize("is_filling", [True, False])
def test_status_as_json_is_what_the_status_api_gives(ktrdr, peers, idle, client, is_filling):
    if not is_filling:
        peers.gap_filler = idle
    result = ktrdr("status", "--json")
    assert result.exit_code == int(is_filling)
    shown, served = (
        json.loads(result.stdout),
        client.get("/api/v1/system/system-status").get_json(),
    )
    for name in ("health", "summary", "needs_person", "heals"):
        assert shown[name] == served[name]
    assert shown["services"].keys() == served["services"].keys()
    alike = ("status", "healthy", "pid")
    for name in PROGRAMS:
        assert shown["services"][name].keys() == served["services"][name].keys()
        if name != "status-app":  # which the served one is itself
            for key in alike:
                assert shown["services"][name][key] == served["services"][name][key]


def test_the_doctor_as_json_has_its_findings(ktrdr, peers):
    result = ktrdr("doctor", "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 1
    assert found["health"] == "degraded"
    assert found["findings"][0].keys() == {"what", "next_step", "is_trouble"}
    assert any(one["is_trouble"] and one["next_step"] for one in found["findings"])
    assert peers.requested
