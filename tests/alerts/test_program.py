"""The program itself, as a process, with a real web hook."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ktrdr.alerts.record import read_record
from ktrdr.ipc.messages import LastError, StoreTrouble
from tests.played_peers import pretended
from tests.ports import free_port

FULL = StoreTrouble("the disk with the store is full", "free some space")


@pytest.fixture
def variables(settings, hook):
    return {
        "KTRDR_ALERTS": hook.url,
        "KTRDR_ALERTS_GRACE_S": "1",
        "KTRDR_DATA_DIR": str(settings.data_dir),
        "KTRDR_RUN_DIR": str(settings.run_dir),
        "KTRDR_IGNORE_ENV_FILE": "1",
    }


def environment(variables):
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("KTRDR_", "IB_"))}
    return kept | variables


@contextlib.contextmanager
def running(variables):
    """The program; it is stopped as supervisord stops it."""
    command = [sys.executable, "-m", "ktrdr.alerts"]
    with subprocess.Popen(
        command, env=environment(variables), stdout=subprocess.PIPE, text=True
    ) as program:
        program.output = ""
        try:
            yield program
        finally:
            program.terminate()
            program.output, _ = program.communicate(timeout=20)
    assert program.returncode == 0, program.output


@pytest.fixture
def well(peers, idle, run_dir):
    """A group in which all is well."""
    now = datetime.now(UTC) + timedelta(minutes=2)  # still recent while the test lasts
    peers.gap_filler = replace(idle, as_of=now, unfillable={})
    with pretended(run_dir, "port-forward", "status-app", "gateway-sim"):
        yield peers


def lost(connected):
    error = LastError(502, "nobody listens there", "start the gateway")
    return replace(connected, connected=False, state="waiting", last_error=error)


def test_a_problem_is_told_once_and_once_when_it_is_over(
    well, hook, variables, connected, settings
):
    well.connection = replace(lost(connected), expected="its daily restart")
    with running(variables) as program:
        well.gap_filler, before = replace(well.gap_filler, store_trouble=FULL), well.gap_filler
        hook.until(1)
        well.gap_filler = before
        hook.until(2)

    assert hook.titles[0] == "the disk with the store is full"
    assert hook.titles[1].startswith("over after ")
    assert len(hook.received) == 2
    assert all("SIMULATED" in one["title"] for one in hook.received)
    assert "next step: free some space" in hook.received[0]["message"]
    assert "hook-secret" not in program.output
    assert "hook-secret" not in settings.alerts_record.read_text()


def test_a_restart_sends_nothing_twice(well, hook, variables, connected, settings):
    well.connection = lost(connected)
    with running(variables):
        hook.until(1)
    with running(variables):
        well.gap_filler = replace(well.gap_filler, store_trouble=FULL)
        hook.until(2)

    assert hook.titles == [
        "not connected to the simulated gateway (waiting)",
        "the disk with the store is full",
    ]
    record = read_record(settings.alerts_record)
    assert [one.title.partition(": ")[2] for one in record.sent] == hook.titles
    assert record.outgoing == ()


def test_a_dead_target_holds_up_no_other_and_gets_it_later(well, hook, variables, connected):
    dead = f"json://127.0.0.1:{free_port()}/dead-secret"
    well.connection = lost(connected)
    with running(variables | {"KTRDR_ALERTS": f"{dead}, {hook.url}"}) as program:
        hook.until(1)
        well.gap_filler = replace(well.gap_filler, store_trouble=FULL)
        hook.until(2)

    assert program.output.count("target 1 (json) does not take messages") == 1
    assert "secret" not in program.output


def test_a_target_that_refuses_is_tried_again(well, hook, variables, connected):
    well.connection, hook.code = lost(connected), 500
    with running(variables) as program:
        with hook.arrived:
            assert hook.arrived.wait(40)
        hook.code = 200
        hook.until(1)

    assert len(hook.received) == 1
    assert program.output.count("does not take messages") == 1


def test_in_quiet_hours_what_is_not_critical_waits(well, hook, variables, connected):
    well.connection = lost(connected)
    now = datetime.now().astimezone()
    hours = f"{now - timedelta(hours=1):%H:%M}-{now + timedelta(hours=2):%H:%M}"
    with running(variables | {"KTRDR_ALERTS_QUIET": hours}):
        well.gap_filler = replace(well.gap_filler, store_trouble=FULL)
        hook.until(1)

    assert hook.titles == ["the disk with the store is full"]


@pytest.mark.usefixtures("well")
def test_a_program_that_is_gone_is_told(hook, variables, run_dir):
    with running(variables):
        (run_dir / "status-app.pid").rename(run_dir / "gone")
        hook.until(1)
        (run_dir / "gone").rename(run_dir / "status-app.pid")
        hook.until(2)

    assert hook.titles[0] == "status-app is not running (STOPPED)"


@pytest.mark.parametrize(
    ("targets", "line"),
    [
        ("", "KTRDR_ALERTS is not set"),
        ("foo://s3cret", "KTRDR_ALERTS, target 1 (foo): apprise does not understand it"),
    ],
)
def test_wrong_targets_end_it_with_one_line(variables, targets, line):
    command = [sys.executable, "-m", "ktrdr.alerts"]
    env = environment(variables | {"KTRDR_ALERTS": targets})
    ended = subprocess.run(command, env=env, capture_output=True, text=True, check=False)

    assert ended.returncode == 78
    assert line in ended.stdout
    assert "s3cret" not in ended.stdout


def ktrdr(*words, variables):
    command = [sys.executable, "-m", "ktrdr.cli", *words]
    return subprocess.run(
        command, env=environment(variables), capture_output=True, text=True, check=False
    )


def test_the_command_sends_a_test_and_says_who_took_it(hook, variables):
    good = ktrdr("alerts", "test", variables=variables)
    assert (good.returncode, good.stdout) == (0, "✓ target 1 (json) has taken it\n")
    assert hook.titles == ["a test"]

    hook.code = 500
    bad = ktrdr("alerts", "test", variables=variables)
    assert bad.returncode == 1
    assert bad.stdout.startswith("✗ target 1 (json): ")
    assert "hook-secret" not in bad.stdout


def test_without_targets_nothing_is_said_to_be_well(variables):
    off = {name: value for name, value in variables.items() if name != "KTRDR_ALERTS"}
    listed = ktrdr("alerts", "list", variables=off).stdout
    assert "alerts are off: KTRDR_ALERTS is not set" in listed
    assert "no problems" not in listed
    assert json.loads(ktrdr("alerts", "list", "--json", variables=off).stdout)["is_on"] is False


def test_the_command_lists_what_is_open_and_what_was_sent(well, hook, variables, connected):
    assert "no problems are open" in ktrdr("alerts", "list", variables=variables).stdout
    well.connection = lost(connected)
    with running(variables):
        hook.until(1)

    listed = ktrdr("alerts", "list", variables=variables).stdout
    assert "SIMULATED" in listed
    assert "sent 20" in listed
    assert "not connected to the simulated gateway (waiting): nobody listens there" in listed
    assert "to target 1 (json): ktrdr SIMULATED on " in listed
