"""What .ci/run does, with stand-ins for the scripts that it calls."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

RUN = Path(__file__).resolve().parents[2] / ".ci/run"
FAKE_PYTHON = 'case "$*" in *print*) echo {version};; esac'


WANTED = ("socat", "chromium")


def add(file, text):
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)


@pytest.fixture
def ci(copy):
    """Runs it where each script only says its name and what it is to test with."""
    (copy.folder / ".ci").mkdir()
    shutil.copy(RUN, copy.folder / ".ci/run")
    path = copy.path_with_tools_only()
    tools = copy.folder / "tools"
    for name in WANTED:
        add(tools / name, "")
    for name in ("check", "fuzz", "test"):
        add(copy.folder / "scripts" / name, f'echo "{name} ${{TEST_PYTHON##*/}}"')
    for version in ("3.11", "3.12", "3.14"):
        add(tools / f"python{version}", FAKE_PYTHON.format(version=version))

    def run():
        code, output = copy.run(tools / "bash", copy.folder / ".ci/run", PATH=path)
        return code, [line for line in output.splitlines() if not line.startswith("==")]

    run.tools, run.scripts = tools, copy.folder / "scripts"
    return run


def test_the_whole_suite_runs_with_every_python_that_is_there(ci):
    suites = ["test python3.11", "test python3.12", "test python3.14"]
    assert ci() == (0, ["check ", "fuzz ", *suites])


def test_a_suite_that_fails_is_named_and_the_others_run_all_the_same(ci):
    add(
        ci.scripts / "test",
        'case "$TEST_PYTHON" in *3.12) exit 1;; esac; echo "${TEST_PYTHON##*/}"',
    )
    code, lines = ci()
    assert code == 1
    assert lines[2:] == ["python3.11", "python3.14", "The suite failed with Python 3.12."]


def without(ci, wanted, user):
    """This program is missing; apt-get notes what it is told, and installs nothing."""
    (ci.tools / wanted).unlink()
    (ci.tools / "id").unlink()
    add(ci.tools / "id", f"echo {user}")
    add(ci.tools / "apt-get", f'echo "$*" >>"{ci.tools}/asked"')


@pytest.mark.parametrize("wanted", WANTED)
def test_as_root_it_gets_what_tests_want_and_says_so_where_that_fails(ci, wanted):
    without(ci, wanted, 0)
    code, lines = ci()
    assert code == 0
    asked = (ci.tools / "asked").read_text()
    assert f"install -y --no-install-recommends {wanted}" in asked
    assert f"{wanted} is not installed: the tests that want it are skipped." in lines


@pytest.mark.parametrize("wanted", WANTED)
def test_as_somebody_else_it_installs_nothing(ci, wanted):
    without(ci, wanted, 1000)
    assert ci()[0] == 0
    assert not (ci.tools / "asked").exists()
