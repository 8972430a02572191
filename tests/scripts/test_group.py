"""scripts/group.py, with the real supervisord and small programs in place of the five."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import urllib.error
import urllib.request
from xmlrpc.client import ServerProxy

import psutil
import pytest
from supervisor.xmlrpc import SupervisorTransport

from tests.ports import free_port

PROGRAMS = {
    "ktrdr/data/ib_connection_manager.py": "ib-connection",
    "ktrdr/data/ib_gap_filler.py": "gap-filler",
    "ktrdr/web/__main__.py": "status-app",
    "ktrdr/alerts/__main__.py": "alerts",
    "ktrdr/sim/__main__.py": "gateway-sim",
}
PROGRAM = """
import contextlib, http.server, logging, pathlib, socket, sys, threading
from ktrdr import process

class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if token and self.headers["Authorization"] != f"Bearer {token}":
            return self.send_error(401)
        self.send_response(200 if pathlib.Path("ready").exists() else 503)
        self.end_headers()
        reason = b'gap-filler has not looked yet \\\\u2013 next step: look at it'
        self.wfile.write(b'{"ready": false, "reasons": ["' + reason + b'"]}')

    def log_message(self, *args):
        pass

def main(settings, stop):
    logging.info("gateway %s, bars in %s", settings.gateway, settings.data_dir)
    if NAME == "status-app":
        global token
        token = settings.status_token
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

FOR_OTHERS = {"KTRDR_STATUS_CALLERS": "own-networks"}


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
        """By program; those that run. Empty as long as supervisord does not answer."""
        socket_file = f"unix://{self.copy.run_dir}/supervisor.sock"
        transport = SupervisorTransport(None, None, socket_file)
        programs = []
        with contextlib.suppress(OSError), ServerProxy("http://127.0.0.1", transport) as server:
            programs = server.supervisor.getAllProcessInfo()
        return {one["name"]: str(one["pid"]) for one in programs if one["statename"] == "RUNNING"}

    def until_all_run(self, *, simulated=True):
        wanted = {"port-forward", "ib-connection", "gap-filler", "status-app"}
        wanted |= {"gateway-sim"} if simulated else set()
        self.copy.until(lambda: set(self.pids()) == wanted, f"{wanted} run")
        files = [self.copy.run_dir / f"{name}.pid" for name in wanted]
        self.copy.until(lambda: all(f.exists() for f in files), "each has said its pid")

    def until_the_page_answers(self):
        url = f"http://127.0.0.1:{self.env['KTRDR_STATUS_PORT']}/"

        def answers():
            try:
                urllib.request.urlopen(url, timeout=20).close()
            except urllib.error.HTTPError as answer:
                answer.close()
            except OSError:
                return False
            return True

        self.copy.until(answers, "the page answers")

    def ktrdr(self, *words, **env):
        """The command line, in a shell that knows nothing of the group's settings."""
        return self.copy.run(self.copy.python, "-m", "ktrdr.cli", *words, COLUMNS=400, **env)

    def log(self, name):
        return (self.copy.folder / f"var/log/{name}.log").read_text()

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
    assert (group.copy.folder / "data/simulated/.ktrdr/source").read_text() == "simulated\n"
    code, output = group.tell("wait", KTRDR_STATUS_URL="https://ktrdr.example.org")
    assert code == 0, output
    port = group.env["KTRDR_STATUS_PORT"]
    assert f"status page: http://127.0.0.1:{port}/ or https://ktrdr.example.org\n" in output
    assert "SIMULATED" in output
    assert "IB_HOST=127.0.0.1 IB_PORT=4002 ./scripts/up" in output
    group.until_all_run()

    code, output = group.tell("stop")
    assert code == 0, output
    assert not group.copy.processes()
    assert group.tell("stop") == (0, "Nothing was running.\n")


def test_nothing_is_written_through_what_was_planted_in_var(group):
    victim = group.copy.folder / "victim"
    victim.write_text("precious")
    group.copy.run_dir.mkdir(0o700, parents=True)
    for name in ("supervisord.pid", "settings.json", "settings.json.new", "gap-filler.pid"):
        (group.copy.run_dir / name).symlink_to(victim)
    code, output = group.tell("start")
    assert code == 0, output
    group.until_all_run()
    assert victim.read_text() == "precious"
    assert group.tell("stop")[0] == 0


@pytest.mark.parametrize("name", ["gap-filler", "supervisord"])
@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_is_in_the_place_of_a_log_is_refused(group, name, kind):
    logs, victim = group.copy.folder / "var/log", group.copy.folder / "victim"
    logs.mkdir(parents=True)
    victim.write_text("precious")
    if kind == "link":
        (logs / f"{name}.log").symlink_to(victim)
    elif kind == "pipe":
        os.mkfifo(logs / f"{name}.log")
    else:
        (logs / f"{name}.log").mkdir()
    code, output = group.tell("start")
    assert code == 78
    assert output.count("\n") == 1
    assert f"var/log/{name}.log is in the way: expected a file or nothing" in output
    assert victim.read_text() == "precious"
    assert not group.copy.processes()


def test_a_link_above_its_run_folder_leads_to_no_change(group):
    elsewhere = group.copy.folder / "elsewhere"
    (elsewhere / "run").mkdir(parents=True)
    (elsewhere / "run").chmod(0o755)
    (group.copy.folder / "var").symlink_to(elsewhere)
    code, output = group.tell("start", KTRDR_RUN_DIR=group.copy.folder / "other")
    assert code == 78
    assert "var/run=" in output
    assert "others may enter this one" in output
    assert (elsewhere / "run").stat().st_mode & 0o777 == 0o755
    assert not list((elsewhere / "run").iterdir())


def test_its_own_run_folder_is_closed_where_a_copy_has_opened_it(group):
    group.copy.run_dir.mkdir(0o755, parents=True)
    (group.copy.run_dir / "gap-filler.lock").touch()
    assert group.tell("start")[0] == 0
    assert group.copy.run_dir.stat().st_mode & 0o777 == 0o700


def test_a_program_that_cannot_start_says_why_in_the_verdict(group):
    wrong = "raise Misconfigured('IB_PORT=abc: expected a port')"
    path = group.copy.folder / "ktrdr/data/ib_gap_filler.py"
    text = path.read_text().replace("    stop.wait()\n", f"    {wrong}\n")
    path.write_text(
        text.replace(
            "import contextlib", "from ktrdr.errors import Misconfigured\nimport contextlib"
        )
    )
    # On a busy machine it takes more than a second until it ends, and counts as started then.
    group.be_impatient("startsecs=1\n", "startsecs=60\n", "etc/supervisord.conf")
    group.tell("start")
    why = "(BACKOFF): gap-filler cannot start: IB_PORT=abc: expected a port"
    step = "next: correct that; then ./scripts/up"
    group.copy.until(lambda: why in (said := group.ktrdr("status")[1]) and step in said, why)


def test_a_log_that_may_not_be_written_to_is_refused(group):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    (group.copy.folder / "var/log").mkdir(0o500, parents=True)
    code, output = group.tell("start")
    assert code == 78
    assert "this user may not write to it (sudo chown -R" in output


def test_a_page_for_others_must_say_for_whom(group):
    code, output = group.tell("start", KTRDR_STATUS_HOST="0.0.0.0")
    assert code == 78
    assert output.count("\n") == 1
    assert "KTRDR_STATUS_CALLERS" in output
    assert "KTRDR_STATUS_TOKEN" in output
    assert not group.copy.processes()

    group.env |= {"KTRDR_STATUS_HOST": "0.0.0.0", "KTRDR_STATUS_CALLERS": "192.168.9.0/24"}
    group.tell("start")
    output = group.tell("wait")[1]
    assert f"http://127.0.0.1:{group.env['KTRDR_STATUS_PORT']}/\n" in output
    assert "It is for this machine, 192.168.9.0/24.\n" in output


def test_a_token_is_known_to_those_who_need_it_and_written_nowhere(group):
    token = "k7Hq2pZx9Lm0vBn3"
    group.env["KTRDR_STATUS_TOKEN"] = token
    said = [*group.tell("start"), *group.tell("wait")]
    assert said[::2] == [0, 0], said
    group.until_all_run()
    pids = group.pids()
    assert token not in "".join(map(str, said))
    for command in (process.cmdline() for process in group.copy.processes()):
        assert token not in " ".join(command)
    files = [path for path in (group.copy.folder / "var").rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert token not in path.read_text()
    assert "Changed" not in group.tell("start")[1]
    assert group.pids() == pids

    group.env["KTRDR_STATUS_TOKEN"] = token[::-1]
    assert "Changed since the group was started: KTRDR_STATUS_TOKEN." in group.tell("start")[1]
    assert group.tell("wait")[0] == 0


def test_a_token_that_was_written_since_is_pending_and_not_shown(group):
    group.tell("start")
    group.until_all_run()
    (group.copy.folder / ".env").write_text("KTRDR_STATUS_TOKEN=k7Hq2pZx9Lm0vBn3\n")
    group.control("restart", "gap-filler")
    group.copy.until(
        lambda: "has changed since the start" in group.log("gap-filler"), "it is reported"
    )
    assert "./scripts/up applies it: KTRDR_STATUS_TOKEN\n" in group.log("gap-filler")


def test_ktrdr_ctl_is_supervisorctl_from_any_folder(group):
    code, output = group.ktrdr("ctl", "status")
    assert code == 3
    assert "no group runs in" in output
    assert f"next: start it: {group.copy.folder / 'scripts/up'}" in output
    assert group.ktrdr("ctl", "help")[0] == 0

    group.tell("start")
    group.until_all_run()
    code, output = group.ktrdr("ctl", "status", "gap-filler")
    assert code == 0
    assert "RUNNING" in output
    assert group.ktrdr("ctl", "stop", "gap-filler") == (0, "gap-filler: stopped\n")
    code, output = group.ktrdr("ctl", "status")
    assert code == 3  # supervisorctl's own, for what does not run
    assert group.ktrdr("ctl", "start", "nothing")[0] == group.control("start", "nothing").returncode
    code, output = group.ktrdr("ctl", "tail", "-30", "gap-filler")
    assert code == 0
    assert output.rstrip().endswith("gap-filler ends")
    assert (
        "RUNNING"
        in group.ktrdr("ctl", "-s", f"unix://{group.copy.run_dir}/supervisor.sock", "status")[1]
    )


def test_ktrdr_ctl_alone_is_a_prompt(group):
    group.tell("start")
    group.until_all_run()
    command = [group.copy.python, "-m", "ktrdr.cli", "ctl"]
    done = subprocess.run(
        command,
        cwd="/",
        env=group.copy.env,
        input="pid\n",
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"supervisor> {group.supervisord().pid}\n" in done.stdout


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


ROW = "2026-11-25T19:00:00+00:00,{0},{0},{0},{0},5"


@pytest.fixture
def live(group):
    """A live group, by README's line, beside a demo store of the same symbol."""
    for folder, price in (("data", 1.25), ("data/simulated", 9.75), ("other", 5.5)):
        (group.copy.folder / folder).mkdir(parents=True, exist_ok=True)
        file = group.copy.folder / folder / "AAPL_1h.csv"
        file.write_text(f"timestamp,open,high,low,close,volume\n{ROW.format(price)}\n")
    group.address = {"IB_HOST": "127.0.0.1", "IB_PORT": free_port()}
    code, output = group.tell("start", **group.address)
    assert code == 0, output
    return group


def test_readers_in_another_shell_read_what_the_group_keeps(live):
    code, output = live.ktrdr("show", "AAPL", "1h")
    assert code == 0, output
    assert "1.25" in output
    assert "9.75" not in output
    load = (
        "from ktrdr.data.data_manager import DataManager as D; print(D().load('AAPL','1h').close)"
    )
    assert "1.25" in live.copy.run(live.copy.python, "-c", load)[1]
    assert f"127.0.0.1:{live.address['IB_PORT']}" in live.ktrdr("doctor")[1]
    assert (live.copy.run_dir / "settings.json").stat().st_mode & 0o777 == 0o600


def test_a_reader_who_is_told_otherwise_is_refused_in_one_line(live):
    code, output = live.ktrdr("show", "AAPL", "1h", IB_HOST="10.0.0.9")
    assert code == 2
    assert output.count("\n") == 1
    for words in ("the group runs live on ", "started with IB_HOST=127.0.0.1", "IB_HOST=10.0.0.9"):
        assert words in output


def test_another_store_can_be_read_and_that_is_reported(live):
    code, output = live.ktrdr("show", "AAPL", "1h", KTRDR_DATA_DIR=live.copy.folder / "other")
    assert code == 0
    assert "5.5" in output
    assert f"ktrdr: reads {live.copy.folder / 'other'} (KTRDR_DATA_DIR), while the group" in output


def test_a_program_by_hand_is_what_its_group_is(live):
    live.until_all_run(simulated=False)
    live.control("stop", "gap-filler")
    program = (live.copy.python, "-m", "ktrdr.data.ib_gap_filler")
    code, output = live.copy.run(*program, KTRDR_DATA_DIR=live.copy.folder / "other")
    assert code == 78
    assert "the group runs live on " in output
    with live.copy.start(*program) as running:
        said = [running.stdout.readline() for _ in range(2)]
        running.terminate()
    assert "gap-filler starts" in said[0]
    assert f"gateway 127.0.0.1:{live.address['IB_PORT']}" in said[1]


def test_nobody_goes_by_a_group_that_has_ended(live):
    live.supervisord().kill()
    live.copy.until_nothing_is_left(10)
    output = live.ktrdr("show", "AAPL", "1h")[1]
    assert "9.75" in output
    assert output.startswith("SIMULATED: ")  # by its place, though nobody has claimed it
    live.tell("start", **live.address)
    assert "1.25" in live.ktrdr("show", "AAPL", "1h")[1]
    live.tell("stop")
    assert not (live.copy.run_dir / "settings.json").exists()


def test_a_named_gateway_is_told_to_last_as_long_as_the_group(live):
    output = live.tell("start", **live.address)[1]
    assert f"write into .env: IB_HOST=127.0.0.1 IB_PORT={live.address['IB_PORT']}\n" in output
    named = "".join(f"{name}={value}\n" for name, value in live.address.items())
    (live.copy.folder / ".env").write_text(named)
    assert "into .env" not in live.tell("start")[1]


def test_a_program_that_is_restarted_stays_what_the_group_is(group):
    group.tell("start")
    group.until_all_run()
    (group.copy.folder / ".env").write_text("IB_HOST=127.0.0.1\nIB_PORT=4999\n")
    assert group.control("restart", "ib-connection").returncode == 0
    group.until_all_run()
    said = ".env has changed since the start, and ./scripts/up applies it: IB_HOST=127.0.0.1"
    group.copy.until(lambda: said in group.log("ib-connection"), said)
    start = f"gateway 127.0.0.1:{group.env['KTRDR_SIM_PORT']}, bars in"
    group.copy.until(lambda: group.log("ib-connection").count(start) == 2, "as before")
    code, output = group.ktrdr("status")
    assert code == 2
    assert "runs simulated on" in output
    assert ".env sets IB_HOST=127.0.0.1" in output
    assert "Changed since the group was started: IB_HOST, IB_PORT." in group.tell("start")[1]
    group.until_all_run(simulated=False)
    group.copy.until(
        lambda: "gateway 127.0.0.1:4999, bars in" in group.log("ib-connection"), "it says so"
    )


@pytest.mark.parametrize("owner", ["", "live"])
def test_no_starter_store_is_made_where_live_bars_belong(group, owner):
    folder = group.copy.folder / ("other" if owner else "data")
    if owner:
        (folder / ".ktrdr").mkdir(parents=True)
        (folder / ".ktrdr/source").write_text(owner)
    code, output = group.tell("start", KTRDR_DATA_DIR=folder)
    assert code == 78
    assert "simulated" in output
    assert not list(folder.glob("*.csv"))
    assert not group.copy.processes()


HALF_A_STORE = """
import os, pathlib, signal, sys
pathlib.Path(sys.argv[-1], "AAPL_1m.csv").write_text("timestamp,open,hi")
if "{how}" == "killed":
    os.kill(os.getppid(), signal.SIGKILL)
if "{how}" == "logged":
    sys.exit(print("a traceback:\\n    OSError: [Errno 28] No space left on device") or 1)
raise OSError(28, "No space left on device")
"""


@pytest.mark.parametrize("how", ["killed", "on a full disk", "logged"])
def test_half_a_starter_store_is_never_kept(group, how):
    maker = group.copy.folder / "ktrdr/sim/__main__.py"
    usual = maker.read_text()
    maker.write_text(HALF_A_STORE.format(how=how))
    code, output = group.tell("start")
    assert code != 0
    if how != "killed":
        assert output.splitlines()[-1] == (
            "no starter store can be made in data/simulated: OSError: [Errno 28] No space left on "
            "device (make room, or repair what it names; then run ./scripts/up again)"
        )
    store = group.copy.folder / "data/simulated"
    assert not list(store.glob("*.csv"))

    maker.write_text(usual)
    code, output = group.tell("start")
    assert code == 0, output
    assert [file.name for file in store.iterdir() if file.name != ".ktrdr"] == ["AAPL_1m.csv"]
    assert (store / "AAPL_1m.csv").read_text() == "timestamp,open,high,low,close,volume\n"


def test_up_that_is_interrupted_says_what_to_do_and_the_next_one_goes_on(group):
    group.copy.take_for_installed()
    up = group.copy.folder / "scripts/up"
    maker = group.copy.folder / "ktrdr/sim/__main__.py"
    usual = maker.read_text()
    maker.write_text("import pathlib, time\npathlib.Path('begun').touch()\ntime.sleep(100)\n")
    with group.copy.start(up, **group.env) as process:
        group.copy.until((group.copy.folder / "begun").exists, "it makes the starter store")
        process.terminate()
        output = process.communicate(timeout=20)[0]
    assert process.returncode == 143
    assert output.splitlines()[-1] == (
        "Interrupted. Run ./scripts/up again, or ./scripts/down to stop what was started."
    )
    group.copy.until_nothing_is_left(5)

    maker.write_text(usual)
    (group.copy.folder / "ready").unlink()
    with group.copy.start(up, **group.env) as process:
        group.until_all_run()
        lines = iter(process.stdout.readline, "")
        assert any("gap-filler has not looked yet" in line for line in lines)
        process.terminate()
        output = process.communicate(timeout=20)[0]
    assert process.returncode == 143
    assert output.splitlines()[-1] == (
        "Interrupted. The group runs on: ./scripts/up waits for it, ./scripts/down stops it."
    )

    (group.copy.folder / "ready").touch()
    code, output = group.copy.run(up, **group.env)
    assert code == 0, output
    assert "Ready." in output
    group.until_all_run()


@pytest.mark.parametrize("made", ["shared", "link"])
def test_a_run_folder_of_others_is_refused_and_left_alone(group, made):
    folder = group.copy.folder / "shared"
    folder.mkdir(0o755)
    (group.copy.folder / "link").symlink_to(folder)
    code, output = group.tell("start", KTRDR_RUN_DIR=group.copy.folder / made)
    assert code == 78
    assert "expected a folder of its own" in output
    assert folder.stat().st_mode & 0o777 == 0o755
    assert not group.copy.processes()


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
    group.until_the_page_answers()
    code, output = group.tell("wait")
    assert code == 1
    assert "not yet: gap-filler has not looked yet\n" in output  # the simulated gateway starts
    assert "- gap-filler has not looked yet – next step: look at it\n" in output
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
        (
            {"KTRDR_STATUS_HOST": "192.0.2.1", **FOR_OTHERS},
            "KTRDR_STATUS_HOST=192.0.2.1: expected an address of",
        ),
        (
            {"KTRDR_STATUS_HOST": "x.invalid", **FOR_OTHERS},
            "KTRDR_STATUS_HOST=x.invalid: expected an address of",
        ),
        ({"KTRDR_GAP_MAX_AGE_DAY": "5"}, "did you mean KTRDR_GAP_MAX_AGE_DAYS?"),
    ],
)
def test_a_wrong_setting_is_one_line_and_nothing_is_started(group, env, said):
    code, output = group.tell("start", **env)
    assert code == 78
    assert said in output
    assert output.count("\n") == 1
    assert not group.copy.processes()


NAMES = """
import socket

usual = socket.getaddrinfo

def look_up(host, *rest, **more):
    found = ("192.0.2.1", "127.0.0.1") if host == "two.test" else (host,)
    return [one for place in found for one in usual(place, *rest, **more)]

socket.getaddrinfo = look_up
"""
"""A sitecustomize.py: Python with a name of its own."""


def test_of_a_names_addresses_one_that_is_here_will_do(group):
    (group.copy.folder / "names").mkdir()
    (group.copy.folder / "names/sitecustomize.py").write_text(NAMES)
    path = f"{group.copy.folder}/names:{group.copy.folder}"
    port = group.env["KTRDR_STATUS_PORT"]
    named = {"KTRDR_STATUS_HOST": "two.test", "PYTHONPATH": path, **FOR_OTHERS}
    with socket.create_server(("127.0.0.1", port)):
        code, output = group.tell("start", **named)
    assert code == 1
    assert f"KTRDR_STATUS_PORT={port}: the port is taken by" in output
    code, output = group.tell("start", **named)
    assert code == 0, output
    assert group.tell("stop")[0] == 0


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


def test_alerts_start_when_they_have_targets_that_are_understood(group):
    code, output = group.tell("start", KTRDR_ALERTS="foo://s3cret")
    assert code == 78
    assert "KTRDR_ALERTS, target 1 (foo): apprise does not understand it" in output
    assert "s3cret" not in output
    code, output = group.tell("start", KTRDR_ALERTS="json://127.0.0.1:9/s3cret")
    assert code == 0, output
    group.copy.until(lambda: "alerts" in group.pids(), "alerts run")
    noted = [f.read_bytes() for f in (group.copy.folder / "var/run").iterdir() if f.is_file()]
    assert not any(b"s3cret" in one for one in noted)
