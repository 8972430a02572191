"""etc/supervisord.conf: the programs as the contract names them."""

from __future__ import annotations

import configparser
import os
import shlex
import shutil
from pathlib import Path

import pytest
from supervisor.options import ServerOptions

CONF = Path(__file__).resolve().parents[2] / "etc/supervisord.conf"
COMMANDS = {
    "port-forward": ["scripts/ib_port_forward.sh"],
    "ib-connection": [".venv/bin/python", "-m", "ktrdr.data.ib_connection_manager"],
    "gap-filler": [".venv/bin/python", "-m", "ktrdr.data.ib_gap_filler"],
    "status-app": [".venv/bin/python", "-m", "ktrdr.web"],
    "alerts": [".venv/bin/python", "-m", "ktrdr.alerts"],
    "gateway-sim": [".venv/bin/python", "-m", "ktrdr.sim"],
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder with the file, and the folders that supervisor insists on."""
    folder = tmp_path_factory.mktemp("a project")
    (folder / "etc").mkdir()
    (folder / "var/log").mkdir(parents=True)
    (folder / "var/run").mkdir()
    shutil.copy(CONF, folder / "etc")
    return folder


@pytest.fixture(scope="module")
def groups(root):
    """What supervisor itself makes of the file; a program outside of groups is a group of one."""
    options = ServerOptions()
    options.realize(["-c", str(root / "etc/supervisord.conf")])
    return {group.name: group.process_configs for group in options.process_group_configs}


@pytest.fixture(scope="module")
def programs(groups):
    return {name: configs[0] for name, configs in groups.items()}


def test_it_has_the_programs_in_no_group(groups):
    assert set(groups) == set(COMMANDS)
    assert all([config.name for config in configs] == [name] for name, configs in groups.items())


@pytest.mark.parametrize("name", COMMANDS)
def test_each_program_has_the_contracts_command(root, programs, name):
    program, *arguments = shlex.split(programs[name].command)
    expected, *expected_arguments = COMMANDS[name]
    assert Path(os.path.normpath(program)) == root / expected
    assert arguments == expected_arguments


def test_all_but_alerts_and_the_simulator_start_by_themselves(programs):
    by_themselves = {name for name, it in programs.items() if it.autostart}
    assert set(COMMANDS) - by_themselves == {"alerts", "gateway-sim"}


def test_each_program_comes_back_and_goes_as_a_whole(programs):
    for program in programs.values():
        assert program.autorestart is not False
        assert program.startretries >= 1000
        assert program.stopasgroup
        assert program.killasgroup
        assert program.stopwaitsecs == 10


def test_each_program_has_a_log_of_its_own_that_is_rotated(root, programs):
    for name, program in programs.items():
        assert Path(os.path.normpath(program.stdout_logfile)) == root / f"var/log/{name}.log"
        assert program.redirect_stderr
        assert program.stdout_logfile_maxbytes == 5 * 1024 * 1024
        assert program.stdout_logfile_backups == 5


def test_a_client_can_tell_the_simulators_account(programs):
    assert programs["gateway-sim"].environment["KTRDR_SIM_ACCOUNT"] == "SIMULATED"


def test_nothing_in_it_depends_on_the_environment():
    parser = configparser.RawConfigParser(inline_comment_prefixes=(" ;",))
    parser.read(CONF)
    assert not [
        value for name in parser.sections() for _, value in parser.items(name) if "%(ENV" in value
    ]
