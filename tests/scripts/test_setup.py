"""What scripts/setup does before there is a .venv; whole installations are not repeated here."""

from __future__ import annotations

import shutil
import tomllib

import pytest
from packaging.specifiers import SpecifierSet


def add(copy, name, text):
    """A program for the PATH that has nothing but tools."""
    file = copy.folder / "tools" / name
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)


@pytest.fixture
def path(copy):
    (copy.folder / ".venv").unlink()
    return copy.path_with_tools_only()


@pytest.mark.parametrize("script", ["up", "test", "check"])
def test_without_a_python_it_says_which_ones_were_looked_at(copy, path, script):
    add(copy, "python3.12", "exit 127  # a shim without the thing behind it")
    add(copy, "python3", 'case "$*" in *sys.exit*) exit 1;; *version_info*) echo 3.9.2;; esac')
    code, output = copy.run(copy.folder / "scripts" / script, PATH=path)
    assert code == 1
    assert "python3.12: does not run" in output
    assert "python3.13: not found" in output
    assert "python3: is 3.9.2" in output
    assert not (copy.folder / ".venv").exists()


def without_venv(copy, name, version):
    add(copy, name, f'case "$*" in *ensurepip*) exit 1;; *print*) echo {version};; esac')


@pytest.mark.parametrize("name", ["python3.14", "python3"])
def test_a_python_of_debian_that_lacks_venv_is_named_with_the_package_that_has_it(copy, path, name):
    without_venv(copy, name, "3.14")
    add(copy, "apt-get", "exit 1")
    code, output = copy.run(copy.folder / "scripts/up", PATH=path)
    assert code == 1
    assert f"{name}: cannot make a .venv, as it lacks venv or ensurepip" in output
    assert "apt-get install python3.14-venv, or uv python install 3.13" in output


SYSTEMS = {
    "apt-get": "apt-get install python3 python3-venv, or uv",
    "dnf": "dnf install python3, or uv",
    "brew": "brew install python@3.13, or uv",
    "nothing that we know": "Install one with: uv python install 3.13",
}


@pytest.mark.parametrize("manager", SYSTEMS)
def test_without_a_python_it_says_what_installs_one_on_this_system(copy, path, manager):
    add(copy, manager.split()[0], "exit 1")
    code, output = copy.run(copy.folder / "scripts/up", PATH=path)
    assert code == 1
    assert SYSTEMS[manager] in output


def test_where_the_python_of_the_system_is_too_old_a_newer_package_is_named(copy, path):
    """As on Ubuntu 22.04, whose python3 is 3.10."""
    add(copy, "apt-get", "exit 1")
    add(copy, "apt-cache", 'case "$*" in "show python3.11-venv") ;; *) exit 1;; esac')
    output = copy.run(copy.folder / "scripts/up", PATH=path)[1]
    assert "apt-get install python3.11-venv, or uv" in output


def test_another_python_to_test_with_that_does_not_fit_is_named(copy, path):
    add(copy, "python3.14", 'case "$*" in *sys.exit*) exit 1;; esac')
    code, output = copy.run(copy.folder / "scripts/test", PATH=path, TEST_PYTHON="python3.14")
    assert code == 1
    assert "TEST_PYTHON=python3.14: expected the path or name of a Python from 3.11" in output


def test_every_python_that_can_be_tested_with_is_found_the_oldest_first(copy, path):
    tools = copy.folder / "tools"
    add(copy, "python3.13", "")
    add(copy, "python3.12", "exit 127  # a shim of pyenv, which has the version itself")
    add(copy, "pyenv", f'[ "$1" = root ] && echo "{copy.folder}/pyenv"')
    hidden = copy.folder / "pyenv/versions/3.12.1/bin/python3.12"
    hidden.parent.mkdir(parents=True)
    shutil.copy(tools / "python3.13", hidden)
    find = f'. "{copy.folder}/scripts/setup" && all_pythons'
    code, output = copy.run(tools / "bash", "-c", find, PATH=path)
    assert (code, output.splitlines()) == (0, [str(hidden), str(tools / "python3.13")])


def test_the_versions_that_are_looked_for_are_those_that_the_project_allows(copy, path):
    project = tomllib.loads((copy.folder / "pyproject.toml").read_text())["project"]
    allowed = SpecifierSet(project["requires-python"])
    bash = copy.folder / "tools/bash"
    code, output = copy.run(
        bash, "-c", f'. "{copy.folder}/scripts/setup"; say $versions', PATH=path
    )
    assert code == 0
    assert output.split() == list(allowed.filter(f"3.{minor}" for minor in range(30)))


def test_down_is_content_when_there_is_nothing(copy, path):
    code, output = copy.run(copy.folder / "scripts/down", PATH=path)
    assert (code, output) == (0, "Nothing was running.\n")
