"""scripts/group.py, with the real supervisord and small programs in place of the five."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess

import psutil
import pytest

from tests.ports import free_port

PROGRAMS = {
    "ktrdr/data/ib_connection_manager.py": "ib-connection",
    "ktrdr/data/ib_gap_filler.py": "gap-filler",
    "ktrdr/web/__main__.py": "status-app",
    "ktrdr/sim/__main__.py": "gateway-sim",
}
PROGRAM = """
import contextlib, http.server, pathlib, socket, sys, threading
from ktrdr import process

class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if pathlib.Path("ready").exists() else 503)
        self.end_headers()
        self.wfile.write(b'{"ready": false, "reasons": ["gap-filler has not looked yet"]}')

    def log_message(self, *args):
        pass

def main(settings, stop):
    if NAME == "status-app":
        page = http.server.HTTPServer(("127.0.0.1", settings.ktrdr_status_port), Page)
        threading.Thread(target=page.serve_forever, daemon=True).start()
    if NAME == "gateway-sim":
        listener = socket.create_server(("127.0.0.1", settings.ktrdr_sim_port))
    stop.wait()

if "--starter-store" in sys.argv:
    pathlib.Path(sys.argv[-1], "AAPL_1m.csv").write_text("timestamp,open,high,low,close,volume\\n")
else:
    process.run(NAME, main)
"""


class Group:
    """The copy's group, through group.py alone: set-up is not its matter."""

    def __init__(self, copy):
        self.copy = copy
        self.env = {
            "KTRDR_STATUS_PORT": free_port(),
            "KTRDR_SIM_PORT": free_port(),
            "KTRDR_FORWARD_PORT": free_port(),
            "KTRDR_FORWARD_BIND": "127.0.0.1",
        }
        for path, name in PROGRAMS.items():
            (copy.folder / path).parent.mkdir(parents=True, exist_ok=True)
            (copy.folder / path).write_text(f"NAME = {name!r}\n{PROGRAM}")
        (copy.folder / "ktrdr/sim/__init__.py").write_text("")
        (copy.folder / "ktrdr/web/__init__.py").write_text("")
        (copy.folder / "ready").touch()
        self.be_impatient("startsecs=5", "startsecs=1", "etc/supervisord.conf")

    def be_impatient(self, usual, shorter, file="scripts/group.py"):
        script = self.copy.folder / file
        text = script.read_text()
        assert usual in text
        script.write_text(text.replace(usual, shorter))

    def tell(self, what, **env):
        return self.copy.run(
            self.copy.python, self.copy.folder / "scripts/group.py", what, **self.env | env
        )

    def control(self, *words):
        """The supervisorctl that people use, from the root and without -c."""
        command = [self.copy.python, self.copy.folder / ".venv/bin/supervisorctl", *words]
        return subprocess.run(
            command, cwd=self.copy.folder, capture_output=True, text=True, check=False
        )

    def pids(self):
        """By program; those that run."""
        lines = [line.split() for line in self.control("status").stdout.splitlines()]
        return {line[0]: line[3].rstrip(",") for line in lines if line[1] == "RUNNING"}

    def until_all_run(self, *, simulated=True):
        wanted = {"port-forward", "ib-connection", "gap-filler", "status-app"}
        wanted |= {"gateway-sim"} if simulated else set()
        self.copy.until(lambda: set(self.pids()) == wanted, f"{wanted} run")
        files = [self.copy.run_dir / f"{name}.pid" for name in wanted]
        self.copy.until(lambda: all(f.exists() for f in files), "each has said its pid")

    def supervisord(self):
        return psutil.Process(int((self.copy.run_dir / "supervisord.pid").read_text()))


@pytest.fixture
def group(copy):
    made = Group(copy)
    yield made
    with contextlib.suppress(OSError, ValueError, psutil.Error):
        made.supervisord().terminate()
    copy.end_all()


def test_it_starts_all_that_is_needed_and_leaves_nothing_when_it_is_stopped(group):
    code, output = group.tell("start")
    assert code == 0, output
    assert "starter store in data/simulated" in output
    code, output = group.tell("wait")
    assert code == 0, output
    assert f"http://127.0.0.1:{group.env['KTRDR_STATUS_PORT']}/" in output
    assert "SIMULATED" in output
    assert "IB_HOST=127.0.0.1 IB_PORT=4002 ./scripts/up" in output
    group.until_all_run()

    code, output = group.tell("stop")
    assert code == 0, output
    assert not group.copy.processes()
    assert group.tell("stop") == (0, "Nothing was running.\n")


def test_started_again_it_leaves_alone_what_runs_and_starts_what_does_not(group):
    group.tell("start")
    group.until_all_run()
    before = group.pids()
    assert group.control("stop", "gap-filler").returncode == 0
    code, output = group.tell("start")
    assert code == 0, output
    group.until_all_run()
    after = group.pids()
    assert before.pop("gap-filler") != after.pop("gap-filler")
    assert before == after


def test_changed_settings_restart_it_without_the_simulator(group):
    group.tell("start")
    before = group.supervisord()
    live = {"IB_HOST": "127.0.0.1", "IB_PORT": free_port()}
    code, output = group.tell("start", **live)
    assert code == 0, output
    assert "Changed since the group was started: IB_HOST, IB_PORT." in output
    assert before not in group.copy.processes()
    group.until_all_run(simulated=False)
    assert "LIVE" in group.tell("wait", **live)[1]


def test_a_killed_supervisord_leaves_nothing_and_the_next_start_works(group):
    group.tell("start")
    group.until_all_run()
    group.supervisord().kill()
    group.copy.until_nothing_is_left(10)
    code, output = group.tell("start")
    assert code == 0, output
    group.until_all_run()


def test_stop_ends_what_a_killed_supervisord_left_behind(group):
    (group.copy.folder / "ktrdr/web/__main__.py").write_text(
        "import pathlib, signal, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: None)\n"
        "pathlib.Path('var/run/status-app.pid').touch()\n"
        "time.sleep(3600)\n"
    )
    group.be_impatient("STOP_S = 30", "STOP_S = 3")
    group.tell("start")
    group.until_all_run()
    group.supervisord().kill()
    code, output = group.tell("stop")
    assert code == 0, output
    assert "killing it" in output
    assert not group.copy.processes()


def test_not_ready_says_why_and_where_to_look(group):
    (group.copy.folder / "ready").unlink()
    group.be_impatient("READY_S = 60", "READY_S = 3")
    group.tell("start")
    code, output = group.tell("wait")
    assert code == 1
    assert "gap-filler has not looked yet" in output
    assert "var/log/*.log" in output
    group.until_all_run()


def test_a_taken_port_is_named_with_its_holder_and_nothing_is_started(group):
    port = group.env["KTRDR_STATUS_PORT"]
    with socket.create_server(("127.0.0.1", port)):
        code, output = group.tell("start")
    assert code == 1
    assert f"KTRDR_STATUS_PORT={port}: the port is taken by" in output
    assert f"(pid {os.getpid()})" in output
    assert not group.copy.processes()


def test_a_taken_port_among_changed_settings_leaves_what_runs_alone(group):
    group.tell("start")
    group.until_all_run()
    before = group.pids()
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        code, output = group.tell("start", KTRDR_STATUS_PORT=port)
    assert code == 1
    assert "the port is taken by" in output
    assert group.pids() == before


@pytest.mark.parametrize("name", ["KTRDR_DATA_DIR", "KTRDR_RUN_DIR"])
def test_a_folder_that_cannot_be_made_is_one_line(group, name):
    code, output = group.tell("start", **{name: "/dev/null/x"})
    assert code == 78
    assert output.startswith(f"{name}=/dev/null/x: ")
    assert output.count("\n") == 1
    assert not group.copy.processes()


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"IB_PORT": "none"}, "IB_PORT=none: expected a port from 1 to 65535\n"),
        ({"KTRDR_FORWARD_BIND": "all"}, "KTRDR_FORWARD_BIND=all: expected an IPv4 address"),
        ({"KTRDR_SIM_PORT": "8123", "KTRDR_STATUS_PORT": "8123"}, "expected ports that differ"),
        ({"KTRDR_STATUS_HOST": "192.0.2.1"}, "KTRDR_STATUS_HOST=192.0.2.1: expected an address of"),
        ({"KTRDR_STATUS_HOST": "x.invalid"}, "KTRDR_STATUS_HOST=x.invalid: expected an address of"),
        ({"KTRDR_GAP_MAX_AGE_DAY": "5"}, "did you mean KTRDR_GAP_MAX_AGE_DAYS?"),
    ],
)
def test_a_wrong_setting_is_one_line_and_nothing_is_started(group, env, said):
    code, output = group.tell("start", **env)
    assert code == 78
    assert said in output
    assert output.count("\n") == 1
    assert not group.copy.processes()


def test_a_path_too_long_for_sockets_is_refused(group):
    deep = group.copy.folder / ("x" * 70)
    deep.mkdir()
    for name in ("scripts", "etc", "ktrdr", "pyproject.toml", "requirements.txt"):
        (group.copy.folder / name).rename(deep / name)
    code, output = group.copy.run(
        group.copy.python, deep / "scripts/group.py", "start", PYTHONPATH=deep, KTRDR_RUN_DIR="/tmp"
    )
    assert code == 78
    assert "too long for the sockets" in output
    assert "shorter path" in output
