"""The image: its Dockerfile's steps in a clean root, and what they made, run as Docker runs it."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import wait_for
from tests.docker.composed import OF_THE_HOST
from tests.docker.container import (
    DOCKERS_CAPABILITIES,
    Container,
    Tree,
    needs_containers,
    scratch_folder,
)
from tests.docker.dockerfile import PROJECT

DEBIAN = os.environ.get("IMAGE_BASE")
"""A root tree that scripts/drill image has made; without it this machine's /usr is used."""
pytestmark = [
    pytest.mark.timeout(400),
    pytest.mark.skipif(
        sys.version_info[:2] != (3, 12) and not DEBIAN,
        reason="the image has a Python of its own: the suite with that one, 3.12, tries it",
    ),
]
MOST_BYTES = 350 * 2**20
SLIM_BYTES = 150 * 2**20
"""More than python:3.12-slim-bookworm has."""
HEALTHY_S = 10 if DEBIAN else 60
"""The drill has the machine for itself; the suite has not, and measures nothing."""
GATEWAY_AWAY_S = 20
PROGRAMS = ("ib-connection", "gap-filler", "status-app")
GATEWAY = {"IB_HOST": "host.docker.internal", "IB_PORT": "4003"}
SIMULATED = {"IB_HOST": "", "KTRDR_DATA_DIR": "/app/data/simulated"}
AN_ENV_FILE = {
    "PATH": "/nowhere",
    "http_proxy": "http://127.0.0.1:1",
    "ktrdr_run_dir": "/home/me/run",
    "KTRDR_RUN_DIR": "/app/var/run",
}
"""What somebody's .env may have, and compose does not take away."""


@pytest.fixture(scope="module")
def tree():
    python = needs_containers()
    with scratch_folder() as folder:
        (folder / "root").mkdir()
        (folder / "root").chmod(0o755)
        folder.chmod(0o755)
        yield Tree(folder / "root", python, Path(DEBIAN) if DEBIAN else None)


@pytest.fixture
def volume():
    """A fresh volume: as Docker makes one, with the rights of the image's folder."""
    with scratch_folder() as folder:
        folder.chmod(0o755)
        data = folder / "data"
        data.mkdir()
        data.chmod(0o1777)
        yield data


@pytest.fixture
def start(tree, volume):
    started = []

    def run(user, env, **more):
        output = volume.with_name(f"output-{len(started)}")
        started.append(Container(tree, volume, user, env, output=output, **more))
        return started[-1]

    yield run
    for container in started:
        container.kill()


@pytest.fixture
def gateway(volume):
    """`gateway(container)`: one that answers at port 4003 of the container's host, for a while."""
    running = []

    def run(container):
        folder = volume.with_name(f"gateway-{len(running)}")
        words = (sys.executable, "-m", "ktrdr.sim", "--port", "4003", "--latency-ms", "20")
        running.append(container.neighbours(*words, KTRDR_RUN_DIR=folder, PYTHONPATH=PROJECT))
        return running[-1]

    yield run
    for process in running:
        process.terminate()
        process.wait(20)


def is_connected(container):
    return container.json("/api/v1/system/ib-status")["connected"]


def test_it_is_small(tree):
    base_bytes = tree.base_bytes if DEBIAN else SLIM_BYTES
    assert base_bytes + tree.size() - tree.base_bytes <= MOST_BYTES
    assert not list(tree.folder.glob("app/.venv/lib/python3*/site-packages/*/tests"))
    assert (
        not list(tree.folder.rglob("pip/_internal/cache.py*"))
        or not (tree.folder / "root/.cache").exists()
    )


def test_what_runs_is_compiled_already(tree):
    own = list((tree.folder / "app/ktrdr").rglob("*.py"))
    assert len(list((tree.folder / "app/ktrdr").rglob("*.pyc"))) == len(own)
    library = tree.local / "lib/python3.12/asyncio"
    assert len(list(library.rglob("*.pyc"))) == len(list(library.rglob("*.py")))


def test_a_nightly_restart_of_the_gateway_makes_no_sick_container(start, gateway, volume):
    (volume / "AAPL_1d.csv").write_text("timestamp,open,high,low,close,volume\n")
    (volume / "AAPL_1d.csv").chmod(0o666)
    container = start("1000:1000", GATEWAY | AN_ENV_FILE | {"KTRDR_IB_RETRY_DELAYS_S": "1"})
    assert container.until_healthy() <= HEALTHY_S  # without any gateway yet
    first = gateway(container)
    wait_for(lambda: is_connected(container), 40)
    wait_for(lambda: len((volume / "AAPL_1d.csv").read_text().splitlines()) > 5, 40)

    first.terminate()
    first.wait(20)
    wait_for(lambda: container.get("/readyz")[0] == 503, 40)
    until = time.monotonic() + GATEWAY_AWAY_S
    while time.monotonic() < until:
        assert container.get("/livez")[0] == 200
        assert container.execute(*container.tree.image.healthcheck)[0] == 0
        time.sleep(0.5)
    gateway(container)
    wait_for(lambda: is_connected(container), 40)
    assert container.get("/livez")[0] == 200

    code, took_s = container.stop()
    assert (code, took_s < 30) == (0, True)
    assert "Traceback" not in container.logs


def test_any_user_may_run_it_with_the_simulated_gateway(start, volume):
    container = start("1001:1001", SIMULATED)
    assert container.until_healthy() <= HEALTHY_S
    wait_for(lambda: container.get("/readyz")[0] == 200, 40)
    assert container.json("/api/v1/system/ib-status")["gateway"] == "simulated"
    assert container.execute("touch", "/app/x")[0] != 0  # read-only
    assert {file.stat().st_uid for file in volume.rglob("*")} == {1001}

    for name in ("supervisord", "gateway-sim", *PROGRAMS):
        assert any(line.startswith(f"{name:<13} 20") for line in container.logs.splitlines())
    shown = container.json("/api/v1/system/logs/gap-filler?lines=3")["lines"]
    assert shown
    assert all(f"gap-filler    {line}" in container.logs for line in shown)
    assert "CRIT" not in container.logs

    _, said = container.execute("/app/.venv/bin/ktrdr", "doctor")
    assert "SIMULATED" in said or "127.0.0.1:4102 answers" in said, said
    assert "Traceback" not in said + container.logs
    assert container.stop()[0] == 0


def asked_as(container, host):
    """The code that the page answers with when it is called by a name."""
    code = (
        "import http.client, sys; c = http.client.HTTPConnection('127.0.0.1', 8000);"
        "c.request('GET', '/metrics', headers={'Host': sys.argv[1]}); print(c.getresponse().status)"
    )
    return container.execute("/app/.venv/bin/python", "-c", code, host)[1].strip()


@pytest.mark.parametrize("profile", ["", "simulated"])
def test_it_comes_up_as_compose_starts_it(start, compose, profile):
    (compose.root / ".env").write_text(OF_THE_HOST + "ktrdr_data_dir=/home/me/bars\n")
    (service,) = compose.services(profile).values()
    container = start(service["user"], service["environment"])
    assert container.until_healthy() <= HEALTHY_S
    assert container.execute(*service["healthcheck"]["test"][1:])[0] == 0
    wait_for(lambda: container.json("/api/v1/system/ib-status").get("host"), 20)
    said = container.json("/api/v1/system/ib-status")
    expected = ("live", "host.docker.internal", 4003) if not profile else (
        "simulated", "127.0.0.1", 4102
    )  # fmt: skip
    assert (said["gateway"], said["host"], said["port"]) == expected
    assert asked_as(container, "ktrdr:8000") == "200"
    assert asked_as(container, "evil.example:8000") == "400"
    assert "entrypoint: user" not in container.logs
    assert "Traceback" not in container.logs


def test_a_dead_program_makes_it_sick(start):
    container = start("1001:1001", SIMULATED)
    container.until_healthy()
    container.execute("/app/.venv/bin/ktrdr", "ctl", "stop", "gap-filler")
    code, said = container.execute(*container.tree.image.healthcheck)
    assert (code, said.count("\n")) == (1, 1)
    container.execute("/app/.venv/bin/ktrdr", "ctl", "start", "gap-filler")
    container.until_healthy(timeout_s=80)


def test_root_becomes_the_user_that_it_is_told(start, volume):
    (volume / "AAPL_1d.csv").write_text("timestamp,open,high,low,close,volume\n")
    (volume / "link").symlink_to("/etc/passwd")
    volume.chmod(0o755)
    received = {"PUID": "1002", "PGID": "1003"}
    container = start("0", GATEWAY | received, capabilities=DOCKERS_CAPABILITIES)
    assert container.until_healthy() <= HEALTHY_S
    status = container.execute("cat", "/proc/1/status", user="0")[1]
    said = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    assert said["Uid"].split() == ["1002"] * 4
    assert said["Gid"].split() == ["1003"] * 4
    assert int(said["CapEff"], 16) == int(said["CapInh"], 16) == 0
    assert (volume / "AAPL_1d.csv").stat().st_uid == 1002
    assert (volume / "link").lstat().st_uid == 1002
    assert (container.tree.folder / "etc/passwd").stat().st_uid == 0
    assert container.get("/livez")[0] == 200
    assert container.stop()[0] == 0


def test_root_that_is_told_nobody_leaves_what_others_own(start, volume):
    (volume / "AAPL_1d.csv").write_text("timestamp,open,high,low,close,volume\n")
    os.chown(volume / "AAPL_1d.csv", 4321, 4321)
    container = start("0", GATEWAY, capabilities=DOCKERS_CAPABILITIES)
    container.until_healthy()
    assert container.execute("id", "-u", user="1000")[1] == "1000\n"
    assert (volume.stat().st_uid, (volume / "AAPL_1d.csv").stat().st_uid) == (1000, 4321)


def test_a_volume_that_cannot_be_written_to_is_one_line_and_sick(start, volume):
    (volume / "AAPL_1d.csv").write_text("timestamp,open,high,low,close,volume\n")
    volume.chmod(0o755)
    container = start("1001:1001", GATEWAY)
    wait_for(lambda: container.get("/healthz")[0] == 200, 40)
    wait_for(lambda: container.get("/livez")[0] == 503, 20)
    (line,) = [line for line in container.logs.splitlines() if "entrypoint" in line]
    assert "user 1001:1001 may not write to /app/data, which is 0:0's" in line
    assert "chown -R 1001:1001" in line
    assert container.execute(*container.tree.image.healthcheck)[0] == 1
    assert "Traceback" not in container.logs


@pytest.mark.parametrize(
    ("user", "env", "said"),
    [
        ("0", {"PUID": "abc"}, "PUID=abc, PGID=1000: expected numbers"),
        ("0", {"PUID": "1002"}, "root may not become user 1002 here"),  # without capabilities
    ],
)
def test_a_user_that_cannot_be_is_refused_in_a_line(start, user, env, said):
    container = start(user, GATEWAY | env)
    assert container._process.wait(20) == 78
    assert said in container.logs.splitlines()[-1]
    assert "Traceback" not in container.logs


def test_a_uid_that_it_is_not_started_as_is_told(start):
    container = start("1001:1001", GATEWAY | {"PUID": "1002"})
    wait_for(lambda: "PUID=1002 does nothing" in container.logs, 20)


def test_a_wrong_setting_is_named_in_its_output(start):
    container = start("1000:1000", {"IB_HOST": "gateway", "IB_PORT": "abc"})
    wait_for(lambda: "status-app" in container.logs and "IB_PORT=abc" in container.logs, 40)
    assert container.execute(*container.tree.image.healthcheck)[0] == 1
    time.sleep(3)
    assert container.logs.count("IB_PORT=abc") < 20
