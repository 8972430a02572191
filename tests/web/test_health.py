from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ktrdr.data.local_api import LastError
from ktrdr.web.health import is_stale, judge, not_ready, services
from ktrdr.web.peers import Answer
from ktrdr.web.programs import NAMES, Program

DOWN = Answer(None, "it is not running")


@pytest.fixture
def verdict(settings, connected, idle):
    """The judgement on a group in which all is well, but for what is given."""

    def make(*, connection=connected, filler=idle, **statuses):
        programs = {
            name: Program(name, statuses.get(name.replace("-", "_"), "RUNNING"), ever_started=True)
            for name in NAMES
        }
        answers = [
            said if isinstance(said, Answer) else Answer(said) for said in (connection, filler)
        ]
        found = services(programs, *answers, is_simulated=settings.is_simulated)
        return judge(found, *answers, settings, datetime.now(UTC))

    return make


def test_all_is_well(verdict):
    said = verdict()

    assert said.health == "healthy"
    assert said.problems == ()


def test_series_that_cannot_be_kept_are_amiss(verdict, idle):
    said = verdict(filler=replace(idle, series_blocked=8))

    assert said.health == "degraded"
    assert "8 series cannot be kept" in said.summary


def test_it_is_not_ready_while_the_store_is_refused(connected, idle):
    assert not_ready(Answer(connected), Answer(idle)) == []
    refused = replace(idle, state="refused", reason="it holds live bars")
    (reason,) = not_ready(Answer(connected), Answer(refused))
    assert "it holds live bars" in reason


def test_work_left_is_no_illness(verdict, filling):
    said = verdict(filler=filling)

    assert said.health == "healthy"
    assert said.summary == "Everything runs; 108 holes are still to be closed."


@pytest.mark.parametrize("gone", ["connection", "filler"])
def test_it_is_critical_without_one_that_keeps_the_store(verdict, gone):
    assert verdict(**{gone: DOWN}).health == "critical"


def test_a_process_that_does_not_answer_is_as_bad_as_none(verdict):
    said = verdict(
        filler=Answer(None, "gap-filler did not answer within 2 s"), gap_filler="RUNNING"
    )

    assert said.health == "critical"
    assert "did not answer" in said.summary


def test_one_that_answers_runs_whatever_else_is_known(verdict):
    assert verdict(ib_connection="STOPPED", gap_filler="EXITED").health == "healthy"


def test_it_is_degraded_without_a_connection(verdict, connected):
    lost = replace(connected, connected=False, last_error=LastError(None, "refused", ""))

    said = verdict(connection=lost)

    assert said.health == "degraded"
    assert "refused" in said.summary


def test_it_is_degraded_when_the_gap_filler_refuses(verdict, idle):
    said = verdict(filler=replace(idle, state="refused", reason="the store is live"))

    assert said.health == "degraded"
    assert "the store is live" in said.summary


@pytest.mark.parametrize("status", ["STOPPED", "FATAL", "BACKOFF", "EXITED"])
@pytest.mark.parametrize("name", ["port_forward", "gateway_sim"])
def test_it_is_degraded_without_a_program_that_is_needed(verdict, name, status):
    said = verdict(**{name: status})

    assert said.health == "degraded"
    assert f"supervisorctl restart {name.replace('_', '-')}" in said.summary


def test_it_is_degraded_when_connected_but_silent(verdict, connected):
    old = datetime.now(UTC) - timedelta(minutes=5)

    assert verdict(connection=replace(connected, last_answer_time=old)).health == "degraded"


def test_it_is_degraded_when_live_and_simulated_meet(verdict, idle):
    said = verdict(filler=replace(idle, source="live"))

    assert said.health == "degraded"
    assert "live and simulated" in said.summary


def test_several_troubles_are_counted(verdict, connected):
    said = verdict(connection=replace(connected, connected=False), gateway_sim="FATAL")

    assert len(said.problems) == 2
    assert said.summary.endswith("(and 1 more)")


def test_the_simulator_is_not_needed_with_a_real_gateway(connected, idle):
    programs = {name: Program(name, "STOPPED", ever_started=True) for name in NAMES}

    found = services(programs, Answer(connected), Answer(idle), is_simulated=False)

    assert found["gateway-sim"].healthy
    assert found["gateway-sim"].status == "STOPPED"
    assert not found["port-forward"].healthy


def test_forwarding_is_not_needed_where_nobody_started_it(connected, idle):
    programs = {name: Program(name, "STOPPED") for name in NAMES}

    found = services(programs, Answer(connected), Answer(idle), is_simulated=True)

    assert found["port-forward"].healthy
    assert not found["gateway-sim"].healthy


@pytest.mark.parametrize(("age_s", "stale"), [(0, False), (44, False), (46, True)])
def test_an_answer_is_stale_after_three_heartbeats(settings, connected, age_s, stale):
    now = datetime(2026, 11, 20, 15, tzinfo=UTC)
    status = replace(connected, last_answer_time=now - timedelta(seconds=age_s))

    assert is_stale(status, settings, now) is stale


def test_no_answer_at_all_is_stale(settings, connected):
    assert is_stale(replace(connected, last_answer_time=None), settings, datetime.now(UTC))


AWAY = {"connected": False, "state": "waiting", "last_error": LastError(502, "refused", "")}


def test_a_restart_at_its_hour_is_no_illness(verdict, connected):
    away = replace(connected, **AWAY, expected="expected restart, back at about 23:47")
    said = verdict(connection=away)
    assert said.health == "healthy"
    assert said.summary == "The gateway is away: expected restart, back at about 23:47."


def test_it_is_not_ready_all_the_same(connected, idle):
    away = replace(connected, **AWAY, expected="expected restart, back at about 23:47")
    assert not_ready(Answer(away), Answer(idle)) != []


def test_a_log_in_that_is_due_is_one(verdict, connected):
    away = replace(connected, **AWAY | {"state": "logged_out"}, expected="the weekly log-out")
    assert verdict(connection=away).health == "degraded"


@pytest.mark.parametrize(("by_s", "way"), [(86400.0, "ahead"), (-86400.0, "back")])
def test_a_clock_that_has_jumped_is_amiss(verdict, idle, by_s, way):
    said = verdict(filler=replace(idle, clock_jump_s=by_s))
    assert said.health == "degraded"
    assert f"this machine's clock has jumped by 86400 s, {way}" in said.summary
    assert "next step: set it" in said.summary


@pytest.mark.parametrize(
    ("offset_s", "health"), [(0.9, "healthy"), (-4.9, "healthy"), (-5, "degraded")]
)
def test_a_clock_that_is_wrong_is_amiss(verdict, connected, offset_s, health):
    assert verdict(connection=replace(connected, clock_offset_s=offset_s)).health == health


@pytest.mark.parametrize("state", ["upstream_lost", "competing_session"])
def test_a_gateway_without_data_is_told_from_none(verdict, connected, state):
    said = verdict(connection=replace(connected, **AWAY | {"state": state}))
    assert said.health == "degraded"
    assert "connected, but no data come from the simulated gateway" in said.summary
