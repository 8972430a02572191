"""`ktrdr config`: what is in force, and from where; and `ktrdr up`, `ktrdr down`."""

import json
import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from ktrdr.cli import app
from ktrdr.cli.config import in_force_here, in_force_in_group
from ktrdr.config.running_group import RunningGroup, fingerprints
from ktrdr.config.settings import load_settings

TOKEN = "s3cret-s3cret-s3cret"


@pytest.fixture
def ktrdr(bare_environment, monkeypatch, tmp_path):
    assert bare_environment is None
    monkeypatch.setenv("KTRDR_RUN_DIR", str(tmp_path / "run"))
    return lambda *words: CliRunner().invoke(app, ["config", *words])


def test_each_setting_is_shown_with_where_it_is_from(ktrdr, monkeypatch):
    monkeypatch.setenv("IB_HOST", "10.0.0.9")
    lines = ktrdr().stdout.splitlines()
    assert lines[0] == "setting\tvalue\tfrom"
    assert "IB_HOST\t10.0.0.9\tenvironment" in lines
    assert "IB_PORT\t4002\tdefault" in lines
    assert "KTRDR_ALERTS\t\tdefault" in lines


def test_a_secret_is_hidden(ktrdr, monkeypatch):
    monkeypatch.setenv("KTRDR_STATUS_TOKEN", TOKEN)
    for words in ((), ("--json",), ("--changed",)):
        result = ktrdr(*words)
        assert TOKEN not in result.output
        assert "set, and hidden" in result.output


def test_only_what_is_changed(ktrdr, monkeypatch):
    monkeypatch.setenv("IB_PORT", "4001")
    settings = json.loads(ktrdr("--changed", "--json").stdout)["settings"]
    assert settings["IB_PORT"] == {"value": "4001", "source": "environment"}
    assert set(settings) == {"IB_PORT", "KTRDR_RUN_DIR"}


def test_a_wrong_setting_is_an_error(ktrdr, monkeypatch):
    monkeypatch.setenv("IB_PORT", "http")
    result = ktrdr()
    assert result.exit_code == 2
    assert "IB_PORT=http: expected a port" in result.stderr


def test_what_env_sets_is_told_apart_from_the_environment(bare_environment, monkeypatch, tmp_path):
    assert bare_environment is None
    file = tmp_path / ".env"
    file.write_text("IB_HOST=gate\nIB_PORT=4001\n")
    monkeypatch.setenv("IB_PORT", "7496")
    found = in_force_here(load_settings(_env_file=file))
    assert (found["IB_HOST"].value, found["IB_HOST"].source) == ("gate", ".env")
    assert (found["IB_PORT"].value, found["IB_PORT"].source) == ("7496", "environment")


def test_a_running_group_says_what_it_was_given(make_settings):
    settings = make_settings(ib_host="gate", ktrdr_status_token=TOKEN)
    secrets = tuple(fingerprints(settings).items())
    without = settings.model_copy(update={"ktrdr_status_token": None})
    given = ("IB_HOST=gate in .env", f"KTRDR_DATA_DIR={settings.data_dir}")
    found = in_force_in_group(RunningGroup(without, given, secrets))
    assert found["IB_HOST"].source == "running group, from its .env"
    assert found["KTRDR_DATA_DIR"].source == "running group, from its environment"
    assert found["KTRDR_STATUS_TOKEN"].value == "set, and hidden"
    assert found["IB_PORT"].source == "default"


RUN = """
import sys
from pathlib import Path
from ktrdr.cli.group_scripts import become
become(Path(sys.argv[1]))
"""


def test_a_script_takes_over_with_its_own_exit_code(tmp_path):
    script = tmp_path / "up"
    script.write_text('#!/bin/sh\necho "started by $PPID"\nexit 7\n')
    script.chmod(0o700)
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(script)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (7, f"started by {os.getpid()}\n")


def test_without_the_script_the_next_step_is_the_container_s(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(tmp_path / "up")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "docker compose up -d" in done.stderr
