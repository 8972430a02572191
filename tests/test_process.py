"""What every program does, seen from outside."""

import os
import signal
import subprocess
import sys

import pytest

PROGRAM = "from ktrdr.process import run\nrun('probe', lambda settings, stop: stop.wait(60))\n"


@pytest.fixture
def start(scratch):
    """Start a program that waits to be told to stop."""
    started = []

    def start(code=PROGRAM, **environment):
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            env=os.environ | {"KTRDR_RUN_DIR": str(scratch / "run")} | environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_well(start, number, scratch):
    process = start()
    assert "probe starts" in process.stdout.readline()
    assert (scratch / "run" / "probe.pid").read_text() == f"{process.pid}\n"
    process.send_signal(number)
    assert process.wait(10) == 0
    assert "probe ends" in process.stdout.read()
    assert not (scratch / "run" / "probe.pid").exists()


def test_a_wrong_setting_is_one_line_and_code_78(start):
    process = start(IB_PORT="http")
    lines = process.stdout.read().splitlines()
    assert process.wait(10) == 78
    assert len(lines) == 1
    assert "IB_PORT=http: expected a port from 1 to 65535" in lines[0]


def test_a_second_one_is_refused_with_the_firsts_pid(start):
    first = start()
    first.stdout.readline()
    second = start()
    assert second.wait(10) == 78
    assert f"pid {first.pid}" in second.stdout.read()


def test_after_a_kill_it_starts_again(start):
    first = start()
    first.stdout.readline()
    first.kill()
    first.wait()
    assert "probe starts" in start().stdout.readline()


def test_it_ends_when_supervisord_is_gone(start):
    parent = (
        "import subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-c', {PROGRAM!r}])\n"
        "time.sleep(60)\n"
    )
    process = start(parent, SUPERVISOR_ENABLED="1")
    assert "probe starts" in process.stdout.readline()
    process.kill()
    assert "supervisord" in process.stdout.readline()
    assert "probe ends" in process.stdout.read()


def test_it_ends_when_supervisord_was_gone_before_it_could_look(start, scratch):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (scratch / "supervisord.pid").write_text(f"{gone.pid}\n")
    url = f"unix://{scratch}/supervisor.sock"
    process = start(SUPERVISOR_ENABLED="1", SUPERVISOR_SERVER_URL=url)
    assert process.wait(10) == 0
    assert f"supervisord (pid {gone.pid}) is gone" in process.stdout.read()
