from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from ktrdr.health.peers import Answer
from ktrdr.health.programs import NAMES, Program, Programs
from ktrdr.health.services import services
from ktrdr.health.verdict import is_stale, judge, with_findings
from ktrdr.ib.diagnosis import Finding
from ktrdr.ipc.messages import FarmStatus, LastError, SeriesTrouble, StoreTrouble, UnreadKind

NOW = datetime(2026, 11, 20, 15, tzinfo=UTC)
DOWN = Answer(None, "it does not answer", ".venv/bin/supervisorctl restart it")
GREEN, AMBER, RED = "healthy", "degraded", "critical"
UNKNOWN = SeriesTrouble("unknown_contract", "IB knows no XYZQ", "is it spelt so?", ("XYZQ_1d",), 1)
BROKEN = FarmStatus("usfarm", "market data", up=False, since=NOW, breaks=1, last_break_s=None)
IGNORED = UnreadKind(
    "name", 1, "'AAPL_2x.csv' is no series", "rename it", {"AAPL_2x.csv": ""}, is_limited=False
)

AMBIGUOUS = SeriesTrouble(
    "unknown_contract", "TWIN is two", "set con_id", ("TWIN_1h", "TWIN_1m"), 2
)


@pytest.fixture
def well(connected):
    return replace(connected, last_answer_time=NOW - timedelta(seconds=4))


@pytest.fixture
def complete(idle):
    return replace(idle, series=14, series_current=14, as_of=NOW, last_scan_time=NOW, unfillable={})


@pytest.fixture
def verdict(settings, well, complete):
    """The judgement on a group in which all is well, but for what is given."""

    def make(*, connection=well, filler=complete, live=False, full=(), **statuses):
        programs = {
            name: Program(name, statuses.get(name.replace("-", "_"), "RUNNING"), ever_started=True)
            for name in NAMES
        }
        answers = [one if isinstance(one, Answer) else Answer(one) for one in (connection, filler)]
        found = services(programs, *answers, is_simulated=settings.is_simulated)
        given = settings.model_copy(update={"ib_host": "127.0.0.1"}) if live else settings
        return judge(found, *answers, given, NOW, full=full)

    return make


def test_a_full_disk_of_the_programs_is_a_problem_while_bars_can_be_stored(verdict):
    found = verdict(full=["/var/run/ktrdr"])
    assert found.health == "degraded"
    assert found.summary.startswith("The disk with /var/run/ktrdr is full; ")
    assert found.obstacles == ()
    (one,) = found.needs_person
    assert (one.consequence, one.next_step) == (
        "logs are lost, and a program may not start again",
        "free some space, see: df -h /var/run/ktrdr",
    )


@pytest.mark.parametrize("state", ["STOPPED", "BACKOFF", "STARTING"])
def test_without_the_simulated_gateway_both_problems_have_one_next_step(verdict, well, state):
    found = verdict(
        connection=lost(well, "waiting", hint="is IB Gateway running?"), gateway_sim=state
    )
    steps = {one.next_step for one in found.concerns}
    assert len(steps) == 1
    assert "IB Gateway" not in steps.pop()


@pytest.mark.parametrize(
    ("failed_after_s", "needs_somebody"), [(None, False), (0, False), (20, True)]
)
def test_a_next_attempt_after_one_that_failed_still_needs_somebody(
    verdict, well, failed_after_s, needs_somebody
):
    """The step is not gone for the seconds of each attempt; after a loss none has failed yet."""
    lost_at = NOW - timedelta(minutes=1)
    at = None if failed_after_s is None else lost_at + timedelta(seconds=failed_after_s)
    error = LastError(504, "it does not respond", "restart the gateway", at)
    trying = replace(well, connected=False, state="connecting", no_data_since=lost_at)
    found = verdict(connection=replace(trying, last_error=error))
    steps = [one.next_step for one in found.needs_person]
    assert steps == (["restart the gateway"] if needs_somebody else [])


def test_a_cause_that_is_a_sentence_of_ibs_ends_none_of_ours(verdict, well):
    error = LastError(1100, "Connectivity between IBKR and TWS has been lost.", "")
    found = verdict(
        connection=replace(well, connected=False, state="upstream_lost", last_error=error)
    )
    assert found.summary.endswith("has been lost; all 14 series are complete.")
    assert "lost; nothing new can be requested" in found.concerns[0].sentence


def lost(well, state, *, hint="", **more):
    error = LastError(502, "nobody listens", hint)
    return replace(well, connected=False, state=state, last_error=error, **more)


def of_connection(well):
    """The connection in each of its ways: how the group is then, and whether it needs somebody."""
    return [
        (well, GREEN, False),
        (lost(well, "waiting", hint="start the gateway"), AMBER, True),
        (lost(well, "dead", hint="restart the gateway"), AMBER, True),
        (lost(well, "upstream_lost"), AMBER, False),
        (lost(well, "competing_session", hint="log out there"), AMBER, True),
        (lost(well, "history_down"), AMBER, False),
        (replace(well, state="farm_down", farms=(BROKEN,)), AMBER, False),
        (lost(well, "waiting", expected="its nightly restart"), GREEN, False),
        (lost(well, "logged_out", hint="log in", expected="the log-out"), AMBER, True),
        (replace(well, last_answer_time=NOW - timedelta(minutes=5)), AMBER, False),
        (replace(well, clock_offset_s=9.0), AMBER, True),
        (replace(well, foreign_text="verbindung mit ä"), AMBER, True),
        (DOWN, RED, True),
    ]


def of_filler(complete):
    """The same of the gap filler."""
    part = replace(complete, series_current=12)
    return [
        (complete, GREEN, False),
        (replace(part, state="filling", series_states={"filling": 2}), AMBER, False),
        (replace(part, series_troubled=2, troubles=(AMBIGUOUS,)), AMBER, True),
        (replace(part, series_troubled=3, troubles=(AMBIGUOUS, UNKNOWN)), AMBER, True),
        (replace(part, series_states={"unproven": 2}), AMBER, False),
        (replace(complete, series=0, series_current=0), AMBER, True),
        (replace(complete, state="starting", last_scan_time=None, series=0), AMBER, False),
        (replace(complete, state="waiting", store_trouble=StoreTrouble("full", "free")), RED, True),
        (replace(complete, state="refused", reason="it is live"), RED, True),
        (replace(complete, state="waiting", reason="it waits"), AMBER, False),
        (replace(complete, disk_free_bytes=10**6, disk_total_bytes=10**12), AMBER, True),
        (replace(complete, unread=(IGNORED,)), AMBER, True),
        (replace(complete, as_of=NOW - timedelta(minutes=11)), AMBER, True),
        (replace(complete, clock_jump_s=3600.0), AMBER, True),
        (DOWN, RED, True),
    ]


def test_it_is_green_only_if_every_part_is(verdict, well, complete):
    order = [GREEN, AMBER, RED]
    for (connection, *c), (filler, *of_its_own), forward, sim, live in product(
        of_connection(well), of_filler(complete), ("", "FATAL"), ("", "STOPPED"), (False, True)
    ):
        is_connected = not isinstance(connection, Answer) and connection.connected
        waits = not isinstance(filler, Answer) and filler.reason == "it waits"
        f = [GREEN, False] if waits and not is_connected else of_its_own
        stopped = {"port_forward": forward, "gateway_sim": "" if live else sim}
        parts = [c, f, *([AMBER, True] for status in stopped.values() if status)]
        claims = {"live" if live else "simulated"}
        claims |= {found.source for found in (filler,) if not isinstance(found, Answer)}
        claims |= {found.gateway for found in (connection,) if not isinstance(found, Answer)}
        parts += [[RED, True]] if len(claims) > 1 else []

        found = verdict(
            connection=connection,
            filler=filler,
            live=live,
            **{name: status for name, status in stopped.items() if status},
        )

        assert found.health == max((health for health, _ in parts), key=order.index)
        assert bool(found.needs_person) is any(needs for _, needs in parts)
        is_green = all(health == GREEN for health, _ in parts)
        assert bool(found.needs_person or found.heals) is not is_green
        assert found.summary.endswith(".")
        assert ".." not in found.summary
        assert all(concern.what for concern in found.concerns)


def test_all_is_well(verdict):
    found = verdict()
    assert (found.health, found.concerns) == ("healthy", ())
    assert found.summary == "All 14 series are complete."


def test_the_sentence_counts_series_and_names_those_that_need_somebody(verdict, complete):
    filler = replace(
        complete,
        series=451,
        series_current=440,
        series_troubled=3,
        troubles=(UNKNOWN, AMBIGUOUS),
        series_states={"filling": 8},
    )
    found = verdict(filler=filler)
    assert found.summary == (
        "440 of 451 series are complete, 3 need you: XYZQ, TWIN, 8 being filled."
    )
    first, second = found.needs_person
    assert (first.what, first.cause, first.next_step) == (
        "XYZQ_1d",
        "IB knows no XYZQ",
        "is it spelt so?",
    )
    assert second.what == "TWIN_1h, TWIN_1m"
    (third,) = found.heals
    assert third.claim == "8 series are not complete yet: 8 being filled"


def test_files_that_are_of_no_series_are_ignored_and_reported(verdict, complete):
    found = verdict(filler=replace(complete, unread=(IGNORED,)))
    assert found.summary == f"A file is ignored: {IGNORED.cause}; all 14 series are complete."
    assert found.needs_person[0].next_step == IGNORED.hint
    assert not found.obstacles
    more = UnreadKind(
        "subfolder", 5_000, "they are in subfolders", "move them", {}, is_limited=True
    )
    found = verdict(filler=replace(complete, unread=(replace(IGNORED, count=3), more)))
    assert [one.what for one in found.needs_person] == [
        "3 files are ignored",
        "at least 5,000 files are ignored",
    ]
    assert len({one.kind for one in found.needs_person}) == 2


def test_troubles_that_are_not_named_count_too(verdict, complete):
    filler = replace(complete, series_current=4, series_troubled=10, troubles=(UNKNOWN,))
    assert "9 more series need you" in [c.what for c in verdict(filler=filler).needs_person]


@pytest.mark.parametrize(("by_s", "way"), [(86400.0, "ahead"), (-86400.0, "back")])
def test_a_clock_that_has_jumped_is_reported_with_what_to_do(verdict, complete, by_s, way):
    found = verdict(filler=replace(complete, clock_jump_s=by_s))
    assert f"his machine's clock has jumped by 86400 s, {way}" in found.summary
    assert found.needs_person[0].next_step.startswith("set it")


def test_no_answer_at_all_is_stale(settings, connected):
    assert is_stale(replace(connected, last_answer_time=None), settings, NOW)


def test_no_wrong_number_is_shown_where_not_all_are_named(verdict, complete):
    names = tuple(f"Q{letter}_1d" for letter in "ABCDEFG")
    unknown = replace(UNKNOWN, series=names, count=7)
    filler = replace(complete, series=99, series_current=0, series_troubled=99, troubles=(unknown,))
    assert "99 need you: QA, QB, QC, QD, QE and others" in verdict(filler=filler).summary
    filler = replace(filler, series_troubled=7, series=7)
    assert "7 need you: QA, QB, QC, QD, QE and 2 more" in verdict(filler=filler).summary


def test_what_stands_in_the_way_of_all_comes_first(verdict, complete):
    full = StoreTrouble("the disk with data is full", "free some space")
    found = verdict(filler=replace(complete, store_trouble=full), gateway_sim="FATAL")
    assert found.summary == ("The disk with data is full (and 1 more); all 14 series are complete.")
    assert [concern.what for concern in found.obstacles] == ["the disk with data is full"]
    assert found.needs_person[0].consequence == "no bar can be stored"


def test_what_is_not_known_any_more_is_shown_as_of_before(verdict, complete):
    gone = StoreTrouble("the folder data has gone", "mount its disk", is_gone=True)
    old = replace(complete, as_of=NOW - timedelta(minutes=30))
    for filler in (replace(complete, store_trouble=gone), old):
        assert verdict(filler=filler).summary.endswith("; all 14 series were complete.")
        part = replace(filler, series_current=12)
        assert "; 12 of 14 series were complete" in verdict(filler=part).summary
        single = replace(filler, series=1, series_current=1)
        assert verdict(filler=single).summary.endswith("; the series was complete.")


@pytest.mark.parametrize(
    "changes",
    [
        {"store_trouble": StoreTrouble("the disk with data is full", "free some space")},
        {"state": "refused", "reason": "the disk with data is full"},
    ],
)
def test_a_program_that_cannot_work_is_not_as_it_should_be_and_reported_once(
    settings, verdict, complete, changes
):
    filler = Answer(replace(complete, **changes))
    programs = {"gap-filler": Program("gap-filler", "RUNNING", ever_started=True)}
    service = services(programs, DOWN, filler, is_simulated=settings.is_simulated)["gap-filler"]
    assert (service.status, service.healthy, service.answers) == ("RUNNING", False, True)
    assert "the disk with data is full" in service.why
    assert service.next_step
    assert len(verdict(filler=filler).needs_person) == 1


@pytest.mark.parametrize("status", ["STOPPED", "FATAL", "BACKOFF", "EXITED"])
@pytest.mark.parametrize("name", ["port_forward", "gateway_sim", "status_app"])
def test_it_is_degraded_without_a_program_that_is_needed(verdict, name, status):
    found = verdict(**{name: status})
    assert found.health == "degraded"
    (concern,) = found.needs_person
    assert f"supervisorctl restart {name.replace('_', '-')}" in concern.next_step
    assert ("supervisorctl tail" in concern.next_step) is (status in ("FATAL", "BACKOFF"))
    assert not found.obstacles


@pytest.mark.parametrize("gone", ["connection", "filler"])
def test_it_is_critical_without_one_that_keeps_the_store(verdict, gone):
    found = verdict(**{gone: DOWN})
    assert found.health == "critical"
    assert found.obstacles


def test_one_that_hangs_is_as_bad_as_none(verdict):
    hung = Answer(None, "gap-filler did not answer within 2 s", "restart it")
    found = verdict(filler=hung, gap_filler="RUNNING")
    assert found.health == "critical"
    assert "did not answer within 2 s" in found.summary


def test_where_no_supervisord_answers_the_whole_group_is_to_be_started(settings):
    programs = Programs(settings.run_dir, settings.run_dir / "supervisor.sock").read()
    found = services(programs, DOWN, DOWN, is_simulated=True)
    overall = judge(found, DOWN, DOWN, settings, NOW)
    assert {concern.next_step for concern in overall.needs_person} == {"./scripts/up"}


@pytest.mark.parametrize("name", ["port_forward", "gateway_sim", "ib_connection", "gap_filler"])
def test_a_program_that_is_just_starting_is_nobodys_business(verdict, name):
    down = {"ib_connection": {"connection": DOWN}, "gap_filler": {"filler": DOWN}}.get(name, {})
    found = verdict(**down, **{name: "STARTING"})
    assert (found.health, found.needs_person) == ("degraded", ())
    assert [concern.what for concern in found.heals] == [f"{name.replace('_', '-')} is starting"]
    assert bool(found.obstacles) is bool(down)


def test_one_that_answers_runs_whatever_else_is_known(verdict):
    assert verdict(ib_connection="STOPPED", gap_filler="EXITED").health == "healthy"


def test_a_gateway_that_restarts_at_its_hour_is_no_alarm_and_no_readiness(verdict, well):
    found = verdict(
        connection=lost(well, "waiting", expected="expected restart, back at 23:47 UTC")
    )
    assert found.health == "healthy"
    assert "expected restart, back at 23:47 UTC" in found.summary
    assert found.obstacles


def test_live_and_simulated_at_once_are_critical(verdict):
    found = verdict(live=True)
    assert found.health == "critical"
    assert found.summary.startswith("Live and simulated programs at once")


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
    status = replace(connected, last_answer_time=NOW - timedelta(seconds=age_s))

    assert is_stale(status, settings, NOW) is stale


def test_a_broken_farm_is_named_though_bars_can_be_had(verdict, well):
    found = verdict(connection=replace(well, state="farm_down", farms=(BROKEN,)))
    assert found.summary == ("Data farms of IB's are broken: usfarm; all 14 series are complete.")
    assert (found.health, found.needs_person, found.obstacles) == ("degraded", (), ())


def test_a_clock_that_is_off_is_reported_and_not_green(verdict, well):
    found = verdict(connection=replace(well, clock_offset_s=-7.0))
    assert found.health == "degraded"
    assert "7 s apart" in found.summary
    assert verdict(connection=replace(well, clock_offset_s=1.0)).health == "healthy"


@pytest.mark.parametrize("state", ["waiting", "dead", "connecting", "logged_out", "history_down"])
@pytest.mark.parametrize("expected", ["", "expected restart, back at 23:47 UTC"])
def test_what_a_gateway_does_is_no_fault_of_ours(verdict, well, complete, state, expected):
    waits = replace(complete, state="waiting", reason="no data come from IB")
    found = verdict(connection=lost(well, state, expected=expected), filler=waits)
    assert found.obstacles
    assert found.faults == ()


def test_series_that_need_somebody_and_a_disk_that_is_nearly_full_are_no_fault(verdict, complete):
    part = replace(complete, series_current=12, series_troubled=2, troubles=(AMBIGUOUS,))
    tight = replace(part, disk_free_bytes=10**6, disk_total_bytes=10**12)
    assert verdict(filler=tight).faults == ()


@pytest.mark.parametrize("status", ["STOPPED", "FATAL", "BACKOFF", "EXITED"])
@pytest.mark.parametrize("name", ["port_forward", "gateway_sim", "ib_connection", "gap_filler"])
def test_a_program_that_is_needed_and_does_not_run_is_a_fault(verdict, name, status):
    down = {"ib_connection": {"connection": DOWN}, "gap_filler": {"filler": DOWN}}.get(name, {})
    (fault,) = verdict(**down, **{name: status}).faults
    assert f"{name.replace('_', '-')} is not running" in fault.what
    assert verdict(**down, **{name: "STARTING"}).faults == ()


def test_a_program_that_hangs_is_a_fault(verdict, complete):
    hung = Answer(None, "gap-filler did not answer within 2 s", "restart it")
    assert len(verdict(filler=hung).faults) == 1
    assert len(verdict(filler=replace(complete, as_of=NOW - timedelta(minutes=11))).faults) == 1


def test_a_store_that_cannot_be_written_to_is_a_fault_while_the_gateway_is_away(
    verdict, well, complete
):
    full = StoreTrouble("the disk with data is full", "free some space")
    away = lost(well, "waiting", expected="its nightly restart")
    found = verdict(connection=away, filler=replace(complete, store_trouble=full))
    assert [fault.what for fault in found.faults] == ["the disk with data is full"]
    refused = verdict(connection=away, filler=replace(complete, state="refused", reason="it is"))
    assert [fault.what for fault in refused.faults] == ["gap-filler refuses to work"]


def test_live_and_simulated_at_once_are_a_fault(verdict):
    assert [fault.about for fault in verdict(live=True).faults] == ["source"]


@pytest.mark.parametrize(("free", "total", "is_told"), [(50, 10**6, True), (150, 10**6, False)])
def test_a_disk_that_is_nearly_full_is_reported(verdict, complete, free, total, is_told):
    filler = replace(complete, disk_free_bytes=free * 2**20, disk_total_bytes=total * 2**20)
    assert bool(verdict(filler=filler).needs_person) is is_told


def test_a_small_disk_is_not_nearly_full_by_being_small(verdict, complete):
    filler = replace(complete, disk_free_bytes=4 * 2**20, disk_total_bytes=5 * 2**20)
    assert verdict(filler=filler).health == "healthy"


def test_a_small_disk_is_nearly_full_without_room_for_the_ledger(verdict, complete):
    filler = replace(complete, disk_free_bytes=700_000, disk_total_bytes=32 * 2**20)
    assert verdict(filler=filler).health == "degraded"


def test_what_only_the_doctor_has_found_is_reported_where_all_else_is_well(verdict, well):
    found = [
        Finding("another session has the data", "log out there"),
        Finding("the API is read-only", is_trouble=False),
    ]
    overall = with_findings(verdict(), found)
    assert overall.summary == "Another session has the data; all 14 series are complete."
    assert (overall.health, len(overall.needs_person)) == ("degraded", 1)
    assert with_findings(verdict(), found[1:]) == verdict()
    silent = verdict(connection=lost(well, "waiting"))
    assert with_findings(silent, found) == silent


def test_a_fill_that_has_failed_needs_a_person(verdict, complete):
    found = verdict(filler=replace(complete, fills={"failed": 2, "filling": 1}))

    assert (found.health, len(found.needs_person)) == (AMBER, 1)
    assert found.needs_person[0].what == "2 requested fills failed"
    assert verdict(filler=replace(complete, fills={"filling": 1})).health == GREEN


def test_each_problem_has_a_kind_of_its_own(verdict, well, complete):
    """Alerts recognize it by that, while its words change."""
    for connection, filler in product(of_connection(well), of_filler(complete)):
        concerns = verdict(connection=connection[0], filler=filler[0]).concerns
        kinds = [one.kind for one in concerns]
        assert all(kinds), concerns
        assert len(set(kinds)) == len(kinds), concerns


def test_alerts_that_were_never_started_are_off_and_no_problem():
    programs = {"alerts": Program("alerts", "STOPPED")}
    assert services(programs, DOWN, DOWN, is_simulated=True)["alerts"].healthy
    programs = {"alerts": Program("alerts", "FATAL", ever_started=True)}
    assert not services(programs, DOWN, DOWN, is_simulated=True)["alerts"].healthy
