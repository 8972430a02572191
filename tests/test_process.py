"""What every program does, seen from outside."""

import os
import re
import signal
import socket
import subprocess
import sys

import pytest

PROGRAM = "from ktrdr.process import run\nrun('probe', lambda settings, stop: stop.wait(60))\n"


@pytest.fixture
def start(scratch):
    """Start a program that waits for a signal to stop."""
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
    assert process.wait(60) == 0
    assert "probe ends" in process.stdout.read()
    assert not (scratch / "run" / "probe.pid").exists()


def test_a_signal_within_a_wait_ends_it_too(start):
    code = """
from ktrdr.process import run

def main(settings, stop):
    count = 0
    while not stop.wait(0):
        count += 1
        if count == 1000:
            print("waits again and again", flush=True)

run("probe", main)
"""
    for _ in range(6):
        process = start(code)
        assert any("waits again and again" in line for line in process.stdout)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_a_wrong_setting_is_one_line_and_code_78(start):
    process = start(IB_PORT="http")
    lines = process.stdout.read().splitlines()
    assert process.wait(10) == 78
    assert len(lines) == 1
    assert "IB_PORT=http: expected a port from 1 to 65535" in lines[0]


def test_an_unknown_name_is_one_line_and_code_78(start):
    process = start(KTRDR_GAP_MAX_AGE_DAY="5")
    lines = process.stdout.read().splitlines()
    assert process.wait(10) == 78
    assert len(lines) == 1
    assert "KTRDR_GAP_MAX_AGE_DAY: no such setting; did you mean" in lines[0]


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


@pytest.mark.parametrize("name", ["ktrdr.data.ib_gap_filler", "ktrdr.web"])
def test_a_folder_of_others_is_refused_and_nothing_is_left_in_it(scratch, name):
    folder = scratch / "shared"
    folder.mkdir(0o755)
    victim = scratch / "victim"
    victim.write_text("precious")
    for program in ("gap-filler", "status-app"):
        (folder / f"{program}.pid").symlink_to(victim)
    before = sorted(folder.iterdir())
    done = subprocess.run(
        [sys.executable, "-m", name],
        env=os.environ | {"KTRDR_RUN_DIR": str(folder), "KTRDR_DATA_DIR": str(scratch)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 78
    assert f"KTRDR_RUN_DIR={folder}: expected a folder of its own" in done.stdout
    assert done.stdout.count("\n") == 1
    assert folder.stat().st_mode & 0o777 == 0o755
    assert sorted(folder.iterdir()) == before
    assert victim.read_text() == "precious"


def test_a_folder_in_the_place_of_its_pid_file_is_one_line_and_code_78(start, scratch):
    (scratch / "run").mkdir(0o700)
    (scratch / "run" / "probe.pid").mkdir()
    process = start()
    lines = process.stdout.read().splitlines()
    assert process.wait(10) == 78
    assert len(lines) == 1
    assert "probe.pid is in the way: expected a file or nothing (move it away" in lines[0]


@pytest.mark.parametrize("kind", ["link", "pipe", "text"])
def test_a_second_one_shows_nothing_of_what_is_no_pid_file(start, scratch, kind):
    start().stdout.readline()
    pid_file = scratch / "run" / "probe.pid"
    pid_file.unlink()
    (scratch / "secret").write_text("s3cret")
    if kind == "link":
        pid_file.symlink_to(scratch / "secret")
    elif kind == "pipe":
        os.mkfifo(pid_file)
    else:
        pid_file.write_bytes(b"s3cret\xff")
    second = start()
    assert second.wait(10) == 78
    assert "(pid unknown)" in (output := second.stdout.read())
    assert "s3cret" not in output


def test_a_folder_in_the_place_of_its_socket_ends_ib_connection_without_a_traceback(scratch):
    (scratch / "run").mkdir(0o700)
    (scratch / "run" / "ib-connection.sock").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "ktrdr.data.ib_connection_manager"],
        env=os.environ | {"KTRDR_RUN_DIR": str(scratch / "run"), "KTRDR_DATA_DIR": str(scratch)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 78
    assert "ib-connection.sock is in the way: expected a socket or nothing" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


FORGER = """
import logging
from ktrdr.process import HINT, run

def main(settings, stop):
    text = "x\\n2026-11-27T00:00:00.000Z ERROR   probe: FORGED\\x1b[2J"
    logging.info("IB 2104: %s", text)
    logging.info("none such", extra={HINT: 'say so:\\n[CLF7]\\nlocal_symbol = "CLF27"'})
    logging.info("none such", extra={HINT: "look\\x1b[2J"})
    try:
        raise ValueError(text)
    except ValueError:
        logging.exception("failed")

run("probe", main)
"""


UNHANDLED = """
import gc, logging, threading, warnings
from ktrdr.process import run

FORGED = "x\\n2026-11-27T00:00:00.000Z ERROR   probe: FORGED\\x1b[2J"

class Gone:
    def __del__(self):
        raise ValueError(FORGED)

def fail():
    raise ValueError(FORGED)

def main(settings, stop):
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    Gone()
    warnings.warn(FORGED)
    logging.info("look", stack_info=True)
    logging.getLogger(FORGED).info("a name")
    fail()

run("probe", main)
"""


@pytest.mark.parametrize("where", [{}, {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}])
def test_nor_does_that_of_an_error_that_nobody_handles(start, where):
    process = start(UNHANDLED, **where)
    lines = process.stdout.read().splitlines()
    assert process.wait(10) == 1
    assert len([line for line in lines if "ended by an unhandled error" in line]) == 2
    assert not [line for line in lines if line.startswith("2026-11-27T00:00:00.000Z")]
    assert not [line for line in lines if "\x1b" in line]
    ours = re.compile(r"20\d\d-\d\d-\d\dT[0-9:.]{12}Z [A-Z]+ +|    ")
    assert [line for line in lines if not ours.match(line)] == []
    assert sum("FORGED" in line for line in lines) >= 4


LONG = """
import logging
from ktrdr.process import run

def main(settings, stop):
    logging.info("%s", "é" * 5_000_000)
    try:
        raise ValueError("line\\n" * 5_000 + "z" * 5_000_000)
    except ValueError:
        logging.exception("failed")

run("probe", main)
"""


def test_what_is_longer_than_anybody_reads_is_cut(start):
    output = start(LONG).stdout.read()
    assert len(output) < 20_000
    assert "é… (5,000,000 characters)" in output
    assert "z… (5,000,000 characters)" in output
    assert "lines more" in output
    assert "probe ends" in output


def test_no_text_of_others_passes_for_a_line_of_ours(start):
    lines = start(FORGER).stdout.read().splitlines()
    forged = r"x\n2026-11-27T00:00:00.000Z ERROR   probe: FORGED\x1b[2J"
    assert lines[1].endswith(f"INFO    root: IB 2104: {forged}")
    assert lines[2].endswith("root: none such")
    assert lines[3:6] == ["    say so:", "    [CLF7]", '    local_symbol = "CLF27"']
    assert lines[6].endswith(r"root: none such (look\x1b[2J)")
    assert lines[7].endswith("ERROR   root: failed")
    assert lines[8] == "    Traceback (most recent call last):"
    assert not [line for line in lines if line.startswith("2026-11-27T00:00:00.000Z")]
    assert not [line for line in lines if "\x1b" in line]


SERVER = """
import sys
from ktrdr.ipc.server import LocalServer, serving
from ktrdr.process import run

async def echo(query):
    return {name: value.encode().decode() for name, value in query.items()}

def main(settings, stop):
    with serving(LocalServer(settings.gap_filler_socket, {("GET", "/echo"): echo})):
        print("serves", flush=True)
        stop.wait(60)

run("probe", main)
"""


@pytest.mark.parametrize("parser", [{}, {"AIOHTTP_NO_EXTENSIONS": "1"}])
@pytest.mark.parametrize(
    "request_line",
    [
        b"GET /echo?symbol=\xed\xa0\x80 HTTP/1.1",
        b"GET /echo?\xff=1 HTTP/1.1",
        b"GET /echo?symbol=" + 9000 * b"a" + b" HTTP/1.1",
    ],
)
def test_a_request_that_is_no_http_is_refused_without_a_stack(start, scratch, request_line, parser):
    process = start(SERVER, **parser)
    while process.stdout.readline() != "serves\n":
        assert process.poll() is None
    with socket.socket(socket.AF_UNIX) as caller:
        caller.settimeout(10)
        caller.connect(str(scratch / "run/gap-filler.sock"))
        caller.sendall(request_line + b"\r\nHost: localhost\r\n\r\n")
        assert caller.recv(12).endswith(b" 400")
    process.terminate()
    lines = process.stdout.read().splitlines()
    assert len(lines) <= 2
    assert lines[-1].endswith("probe ends")
    assert [line for line in lines if "ERROR" in line or line.startswith(" ")] == []
