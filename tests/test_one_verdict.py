"""A real group in each of its troubles: every surface shows one verdict, and it is the right one.

The store has a disk of its own where we may mount one, so that it can be full, or gone.
"""

from __future__ import annotations

import contextlib
import html
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.test_group_fills_the_store import HEADER, Group

pytestmark = pytest.mark.timeout(420)

TOML = '[BTC]\nsec_type = "CRYPTO"\n[ETH]\nsec_type = "CRYPTO"\n'
GREEN, AMBER, RED = "healthy", "degraded", "critical"
IS_ROOT = os.geteuid() == 0
OBEYING = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
"""Has even root heed the permissions of files."""


class ShownGroup(Group):
    """The group and the surfaces that show its verdict."""

    def fetch(self, path: str) -> tuple[int, str]:
        """The status and the body of an answer of the status app."""
        try:
            with urllib.request.urlopen(f"{self.address}{path}", timeout=20) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:  # an answer to be closed, too
                return error.code, error.read().decode()

    @property
    def address(self) -> str:
        """Of the page."""
        return f"http://127.0.0.1:{self._environment['KTRDR_STATUS_PORT']}"

    def end_all(self) -> None:
        """End all programs."""
        for process in self.running.values():
            process.terminate()
        for process in self.running.values():
            process.wait(15)

    def verdict(self) -> dict:
        return json.loads(self.fetch("/api/v1/system/system-status")[1])

    def command(self, *words: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-c", "from ktrdr.cli import app; app()", *words],
            env=self._environment | {"COLUMNS": "500", "NO_COLOR": "1"},
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stdout

    def fault(self, name: str, **values: str) -> None:
        self.gateway.post(f"/fault/{name}", **values)

    def end_fault(self, name: str) -> None:
        self.gateway.delete(f"/fault/{name}")

    def shown(self) -> dict[str, tuple[str, str]]:
        """Surface → the health and the sentence that it shows; fails where an exit code differs."""
        verdict = self.verdict()
        code, body = self.fetch("/readyz")
        ready = json.loads(body)
        assert (code == 200) is ready["ready"]
        _, page = self.fetch("/")
        pill = re.search(
            r'<span class="pill \w+">(\w+)</span>\s*<span>([^<]*?)(?: Newest bar )?<', page
        )
        assert pill is not None
        _, metrics = self.fetch("/metrics")
        (health,) = re.findall(r'ktrdr_health\{ktrdr_health="(\w+)"\} 1\.0', metrics)
        assert f"ktrdr_ready {float(ready['ready'])}" in metrics
        found = {
            "api": (verdict["health"], verdict["summary"]),
            "readyz": (ready["health"], ready["summary"]),
            "page": (pill[1], html.unescape(pill[2])),
            "metrics": (health, verdict["summary"]),
        }
        for command in ("status", "doctor"):
            code, status = self.command(command)
            first = status.splitlines()[0]
            assert (code == 0) is first.startswith(GREEN), status
            found[command] = tuple(first.split(" ", 1))
        title = re.search("<title>(.*) – ktrdr .simulated.</title>", page)
        assert title is not None
        found["title"] = (verdict["health"], html.unescape(title[1]))
        return found


@pytest.fixture
def group(scratch: Path) -> Iterator[ShownGroup]:
    group = ShownGroup(scratch, "--latency-ms", "20", "--bars-per-second", "250")
    group._environment |= {
        "KTRDR_GAP_CHECK_INTERVAL_S": "2",
        "KTRDR_GAP_MAX_AGE_DAYS": "5",
    }
    group.data.mkdir()
    with contextlib.ExitStack() as stack:
        if IS_ROOT:
            group.prefix = OBEYING
            mount(group.data)
            stack.callback(unmount, group.data)
        (group.data / "instruments.toml").write_text(TOML)
        for name in ("BTC_1h", "ETH_1h"):
            (group.data / f"{name}.csv").write_text(HEADER)
        stack.callback(group.end_all)
        yield group


def mount(folder: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", folder], check=True)


def unmount(folder: Path) -> None:
    subprocess.run(["umount", "-l", folder], check=False)


class Trials:
    """One trouble after the other, each until it is over."""

    def __init__(self, group: ShownGroup) -> None:
        self._group = group

    def expect(self, health: str, *words: str, is_ready: bool | None = None) -> dict:
        """The verdict once it is so, everywhere; fails when it does not become so."""
        last: object = None
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                before = self._group.verdict()
            except urllib.error.URLError:  # it is being started
                time.sleep(0.1)
                continue
            last = before["health"], before["summary"]
            received = json.dumps([before["summary"], before["needs_person"], before["heals"]])
            if before["health"] != health or any(word not in received for word in words):
                time.sleep(0.2)
                continue
            last = self._group.shown()
            if (
                self._group.verdict()["summary"] == before["summary"]
                and len(set(last.values())) == 1
            ):
                ready = self._group.fetch("/readyz")[0] == 200
                assert is_ready in (None, ready), before["summary"]
                return before
        raise AssertionError(f"not {health} with {words} in a minute, but {last}")

    @contextlib.contextmanager
    def after(self, mend: Callable[[], object]) -> Iterator[None]:
        """All is well again after it was mended."""
        yield
        mend()
        status = self.expect(GREEN, "series are complete", is_ready=True)
        assert (status["needs_person"], status["heals"]) == ([], [])


def test_every_surface_shows_the_one_verdict_in_every_trouble(group: ShownGroup) -> None:
    trials = Trials(group)
    group.start()
    trials.expect(GREEN, "All 2 series are complete.", is_ready=True)
    troubles_of_series(group, trials)
    troubles_of_programs(group, trials)
    troubles_of_the_gateway(group, trials)
    troubles_of_the_store(group.data, trials)


def troubles_of_series(group: ShownGroup, trials: Trials) -> None:
    more = group.data / "BTC_1m.csv"  # so many bars that it takes half a minute
    with trials.after(more.unlink):
        more.write_text(HEADER)
        status = trials.expect(AMBER, "2 of 3 series are complete, 1 being filled", is_ready=True)
        assert status["needs_person"] == []
        trials.expect(GREEN, "All 3 series are complete.")

    for symbol in ("XYZQ", "NOPERM", "TWIN"):  # unknown, not entitled, ambiguous
        path = group.data / f"{symbol}_1d.csv"
        with trials.after(path.unlink):
            path.write_text(HEADER)
            status = trials.expect(AMBER, f"1 needs you: {symbol}", is_ready=True)
            (one,) = status["needs_person"]
            assert one["what"] == f"{symbol}_1d"
            assert one["next_step"]

    misspelt = group.data / "BTC_1min.csv"
    with trials.after(misspelt.unlink):
        misspelt.write_text(HEADER)
        trials.expect(AMBER, "A file is ignored: 'BTC_1min.csv'", "or move it away", is_ready=True)

    loop = group.data / "LOOP_1m.csv"
    with trials.after(loop.unlink):
        loop.symlink_to(loop.name)
        status = trials.expect(
            AMBER, "2 of 3 series are complete, 1 needs you: LOOP", is_ready=True
        )
        assert "remove" in status["needs_person"][0]["next_step"]

    broken = group.data / "ETH_1h.csv"
    whole = broken.read_text()
    with trials.after(lambda: broken.write_text(whole)):
        broken.write_text(whole.replace("\n", "\noops\n", 1))
        trials.expect(AMBER, "1 of 2 series are complete, 1 needs you: ETH", "oops")


def troubles_of_programs(group: ShownGroup, trials: Trials) -> None:
    for name in ("gap-filler", "ib-connection"):
        with trials.after(lambda name=name: group.start(name)):
            group.end(name)
            trials.expect(RED, f"{name} is not running", "./scripts/up", is_ready=False)


def troubles_of_the_gateway(group: ShownGroup, trials: Trials) -> None:
    with trials.after(lambda: group.start("gateway-sim")):
        group.end("gateway-sim", signal.SIGKILL)
        trials.expect(AMBER, "not connected to the simulated gateway", is_ready=False)

    with trials.after(lambda: group.end_fault("connectivity_lost")):
        group.fault("connectivity_lost")
        status = trials.expect(AMBER, "no data come from the simulated gateway", is_ready=False)
        assert status["needs_person"] == []

    for received, words in (("yes", "ushmds"), ("no", "HMDS")):
        more = group.data / "BTC_5m.csv"
        with trials.after(lambda more=more: (group.end_fault("farm_broken"), more.unlink())):
            group.fault("farm_broken", farm="ushmds", told=received)
            more.write_text(HEADER)  # what asks for data notices it
            status = trials.expect(AMBER, "gateway (history down)", words, is_ready=False)
            assert status["needs_person"] == []

    with trials.after(lambda: group.end_fault("farm_broken")):
        group.fault("farm_broken", farm="usfarm")
        status = trials.expect(AMBER, "Data farms of IB's are broken: usfarm", is_ready=True)
        assert status["needs_person"] == []

    with trials.after(lambda: group.end_fault("logged_out")):
        group.fault("logged_out")
        trials.expect(AMBER, "not connected to the simulated gateway", is_ready=False)

    with trials.after(lambda: group.end_fault("wrong_clock")):
        group.fault("wrong_clock", seconds="-40")
        status = trials.expect(AMBER, "clock and this machine's are", is_ready=True)
        assert "set both by the network's time" in status["needs_person"][0]["next_step"]


def troubles_of_the_store(data: Path, trials: Trials) -> None:
    with trials.after(lambda: data.chmod(0o755)):
        data.chmod(0o555)
        status = trials.expect(RED, f"This user may not write to {data}", is_ready=False)
        assert status["needs_person"][0]["next_step"] == f"chmod -R u+rwX {data}"

    if not IS_ROOT:  # no disk of its own
        away = data.with_name("away")
        with trials.after(lambda: away.rename(data)):
            data.rename(away)
            trials.expect(RED, "has gone", is_ready=False)
        return
    ballast = data / "ballast"
    with trials.after(ballast.unlink):
        with contextlib.suppress(OSError):
            ballast.write_bytes(bytes(2**23))
        trials.expect(RED, f"The disk with {data} is full", "free some space", is_ready=False)

    kept = data.with_name("kept")
    shutil.copytree(data, kept, ignore=shutil.ignore_patterns("locks", "*.sqlite*"))
    with trials.after(lambda: (mount(data), shutil.copytree(kept, data, dirs_exist_ok=True))):
        subprocess.run(["umount", "-l", data], check=True)
        status = trials.expect(RED, "has gone", "mount its disk again", is_ready=False)
        assert "all 2 series were complete" in status["summary"]
        assert list(data.iterdir()) == []


FAILING = """
    [unix_http_server]
    file={run}/supervisor.sock
    [supervisord]
    pidfile={run}/supervisord.pid
    logfile={run}/supervisord.log
    [rpcinterface:supervisor]
    supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
    [program:port-forward]
    command=false
    startretries=0
"""


def test_a_program_that_supervisord_has_given_up_is_shown_everywhere(group: ShownGroup) -> None:
    run = group.folder / "run"
    run.mkdir(mode=0o700)
    (run / "failing.conf").write_text(textwrap.dedent(FAILING.format(run=run)))
    supervisord = shutil.which("supervisord")
    assert supervisord
    command = [supervisord, "--nodaemon", "-c", str(run / "failing.conf")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            group.start("gateway-sim", "ib-connection", "gap-filler", "status-app")
            words = ("port-forward is not running (FATAL)", "supervisorctl tail port-forward")
            Trials(group).expect(AMBER, *words, "all 2 series are complete", is_ready=True)
        finally:
            process.terminate()
