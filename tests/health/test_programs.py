from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ktrdr.errors import PeerDown, ProgramRefused
from ktrdr.health.last_log_line import last_log_line
from ktrdr.health.programs import NAMES, Programs
from ktrdr.health.supervisor import Supervised, control, query_supervisor

SLEEPS = "import time; print('up', flush=True); time.sleep(60)"
BURNS = "print('up', flush=True)\nwhile True: pass"
HAS_A_CHILD = (
    "import subprocess, sys; "
    "subprocess.run([sys.executable, '-c', \"x = bytearray(50_000_000); print('up', flush=True);"
    ' import time; time.sleep(60)"])'
)
A_FIVE = (
    b"<methodResponse><params><param><value><int>5</int></value></param></params></methodResponse>"
)


@pytest.fixture
def programs(run_dir):
    return Programs(run_dir, run_dir / "supervisor.sock", own="status-app")


@contextlib.contextmanager
def process(code: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A Python process that has printed `up`."""
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as child:
        try:
            assert child.stdout.readline() == "up\n"
            yield child
        finally:
            os.killpg(child.pid, 9)


def until(true: Callable[[], object], patience_s: float = 20) -> None:
    deadline = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


SAID = (
    "2026-11-28T05:00:00.000Z INFO    gap-filler: fine\n"
    "2026-11-28T05:00:01.000Z ERROR   ktrdr.process: gap-filler cannot start: IB_PORT=x: expected\n"
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (SAID, "gap-filler cannot start: IB_PORT=x: expected"),
        (SAID + "\n\n", "gap-filler cannot start: IB_PORT=x: expected"),
        (
            SAID + "    Traceback:\n      File\n    OSError: x\n",
            "gap-filler cannot start: IB_PORT=x: expected: OSError: x",
        ),
        ("Traceback:\n  File\nOSError: x\n", "OSError: x"),
        ("x" * 70_000, "x" * 500 + "… (16,384 characters)"),
        ("", ""),
    ],
)
def test_the_last_log_line_of_a_program_is_read_from_the_end_of_its_log(tmp_path, text, words):
    (tmp_path / "gap-filler.log").write_text(text)
    assert last_log_line(tmp_path / "gap-filler.log") == words
    assert last_log_line(tmp_path / "none.log") == ""


@pytest.mark.parametrize("kind", ["pipe", "link", "folder", "text"])
def test_what_is_no_pid_file_holds_nobody_up(programs, run_dir, kind):
    path = run_dir / "gap-filler.pid"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_bytes(b"\xff" * 100)

    assert programs.read()["gap-filler"].status == "STOPPED"


def test_all_are_stopped_but_us(programs):
    found = programs.read()

    assert tuple(found) == NAMES
    assert [name for name, program in found.items() if program.runs] == ["status-app"]
    assert found["status-app"].pid == os.getpid()
    assert found["gap-filler"].rss_bytes is None


def test_a_pid_file_finds_a_program(programs, run_dir):
    with process(SLEEPS, "ktrdr.data.ib_gap_filler") as child:
        (run_dir / "gap-filler.pid").write_text(f"{child.pid}\n")

        found = programs.read()["gap-filler"]

    assert (found.status, found.pid) == ("RUNNING", child.pid)
    assert 0 <= found.uptime_s < 60
    assert found.rss_bytes > 2**20


def test_another_program_under_that_pid_is_not_ours(programs, run_dir):
    with process(SLEEPS, "something.else") as child:
        (run_dir / "gap-filler.pid").write_text(f"{child.pid}\n")

        assert not programs.read()["gap-filler"].runs


def test_a_pid_whose_process_has_ended_is_stopped(programs, run_dir):
    with process(SLEEPS, "ktrdr.sim") as child:
        (run_dir / "gateway-sim.pid").write_text(f"{child.pid}\n")
        assert programs.read()["gateway-sim"].runs

    assert programs.read()["gateway-sim"].status == "STOPPED"


@pytest.mark.parametrize("content", [b"", b"no number", b"-1", b"0", b"9" * 5000, b"\xff\xfe"])
def test_a_pid_file_with_nonsense_is_stopped(programs, run_dir, content):
    (run_dir / "gap-filler.pid").write_bytes(content)

    assert not programs.read()["gap-filler"].runs


def test_cpu_is_measured_between_two_looks(programs, run_dir):
    with process(BURNS, "ktrdr.sim") as busy, process(SLEEPS, "ktrdr.data.ib_gap_filler") as idle:
        (run_dir / "gateway-sim.pid").write_text(str(busy.pid))
        (run_dir / "gap-filler.pid").write_text(str(idle.pid))
        first = programs.read()
        until(lambda: programs.read()["gateway-sim"].cpu_percent > 20)
        found = programs.read()

    assert first["gateway-sim"].cpu_percent >= 0
    assert found["gap-filler"].cpu_percent < found["gateway-sim"].cpu_percent


def test_children_are_counted_in(programs, run_dir):
    with process(HAS_A_CHILD, "ktrdr.forwarder") as parent:
        (run_dir / "port-forward.pid").write_text(str(parent.pid))

        assert programs.read()["port-forward"].rss_bytes > 50_000_000


def test_supervisord_is_believed_first(run_dir, programs):
    with supervisord(run_dir) as socket_path:
        until(lambda: query_supervisor(socket_path).get("gap-filler"))
        until(lambda: query_supervisor(socket_path)["gap-filler"].status == "FATAL")
        until(lambda: query_supervisor(socket_path)["ib-connection"].status == "RUNNING")
        supervised, found = query_supervisor(socket_path), programs.read()

        assert found["ib-connection"].pid == supervised["ib-connection"].pid
        assert found["ib-connection"].runs
        assert found["ib-connection"].rss_bytes > 0
        assert (found["gap-filler"].status, found["gap-filler"].ever_started) == ("FATAL", True)
        assert supervised["port-forward"] == Supervised("STOPPED", None, ever_started=False)
        assert not found["port-forward"].ever_started
        assert found["gateway-sim"].status == "STOPPED"


def test_programs_are_restarted_stopped_and_started(run_dir):
    with supervisord(run_dir) as path:
        until(lambda: query_supervisor(path).get("ib-connection"))
        until(lambda: query_supervisor(path)["ib-connection"].status == "RUNNING")
        pid = query_supervisor(path)["ib-connection"].pid

        control(path, "ib-connection", "restart")
        until(lambda: query_supervisor(path)["ib-connection"].pid not in (None, pid))
        for _ in range(2):  # what is done already is no error
            control(path, "ib-connection", "stop")
            until(lambda: query_supervisor(path)["ib-connection"].status == "STOPPED")
        for _ in range(2):
            control(path, "ib-connection", "start")
            until(lambda: query_supervisor(path)["ib-connection"].status == "RUNNING")
        with pytest.raises(ProgramRefused, match="does not restart port-forward: NOT_RUNNING"):
            control(path, "port-forward", "restart")
        with pytest.raises(ProgramRefused, match="does not start nobody: BAD_NAME"):
            control(path, "nobody", "start")


def test_a_supervisord_that_is_not_there_is_told_to_who_wants_to_start_something(run_dir):
    with pytest.raises(PeerDown, match="supervisord does not answer"):
        control(run_dir / "supervisor.sock", "ib-connection", "start")


def test_a_supervisord_that_is_not_there_has_no_programs(run_dir):
    assert query_supervisor(run_dir / "supervisor.sock") == {}


def test_a_supervisord_that_hangs_costs_a_moment(run_dir, hang, programs):
    with hang(run_dir / "supervisor.sock"):
        began = time.monotonic()
        found = programs.read()

    assert time.monotonic() - began < 3
    assert found["status-app"].runs


@pytest.mark.parametrize(
    "words",
    [
        b"",
        b"\xff\x00",
        b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n<a>",
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(A_FIVE), A_FIVE),
    ],
)
def test_a_supervisord_that_answers_nonsense_has_no_programs(run_dir, babble, words):
    with babble(run_dir / "supervisor.sock", words):
        assert query_supervisor(run_dir / "supervisor.sock") == {}


@contextlib.contextmanager
def supervisord(folder: Path) -> Iterator[Path]:
    """A real one, with three small programs. One that runs has been executed, and gets signals."""
    socket_path, config = folder / "supervisor.sock", folder / "supervisord.conf"
    config.write_text(
        textwrap.dedent(f"""
        [unix_http_server]
        file={socket_path}
        [supervisord]
        nodaemon=true
        logfile=/dev/null
        logfile_maxbytes=0
        pidfile={folder}/supervisord.pid
        [rpcinterface:supervisor]
        supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
        [program:ib-connection]
        command=sleep 60
        startsecs=1
        [program:gap-filler]
        command=false
        startretries=0
        [program:port-forward]
        command=sleep 60
        autostart=false
        """)
    )
    with subprocess.Popen(
        [sys.executable, "-m", "supervisor.supervisord", "-c", str(config)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=folder,
    ) as daemon:
        try:
            yield socket_path
        finally:
            daemon.terminate()
