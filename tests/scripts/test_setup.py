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


def test_a_python_that_cannot_make_a_venv_is_named_with_what_is_missing(copy, path):
    add(copy, "python3.11", 'case "$*" in *ensurepip*) exit 1;; esac')
    code, output = copy.run(copy.folder / "scripts/up", PATH=path)
    assert code == 1
    assert "python3.11: cannot make a .venv" in output
    assert "apt-get install python3-venv" in output


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
