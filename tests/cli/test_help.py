"""What each command's help says, what can be completed, and the page about the command line."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from ktrdr.cli.commands import app
from ktrdr.cli.exit_codes import ExitCode

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
OF_OTHERS = ("up", "down", "ctl")
"""These become another program, whose output and exit codes they have."""


def commands():
    """Each command by its words."""
    found = {}
    for name, place in get_command(app).places.items():
        loaded = place.load(name)
        found[name] = loaded
        found |= {
            f"{name} {sub}": command for sub, command in getattr(loaded, "commands", {}).items()
        }
    return found


ALL = commands()
GROUPS = [name for name, command in ALL.items() if hasattr(command, "commands")]
LEAVES = [name for name in ALL if name not in GROUPS]


@pytest.mark.parametrize("name", ALL)
def test_each_help_has_an_example_of_that_command(name):
    examples = re.findall(r"^Example: (.*)$", ALL[name].help, re.MULTILINE)
    assert examples
    assert all(f"ktrdr {name}" in example for example in examples)


@pytest.mark.parametrize("name", [name for name in LEAVES if name not in OF_OTHERS])
def test_each_command_can_print_json(name):
    assert any("--json" in param.opts for param in ALL[name].params)


@pytest.mark.parametrize("name", ALL)
def test_no_option_or_argument_is_without_help(name):
    assert [param.name for param in ALL[name].params if not getattr(param, "help", "")] == []


def test_the_page_has_a_row_for_each_command_and_no_other():
    rows = re.findall(r"^\| `ktrdr ?([a-z ]*)[^`]*` \|", PAGE, re.MULTILINE)
    assert {row.strip() for row in rows} == {"", *LEAVES}
    assert len(rows) == len(set(rows))


def test_the_page_has_all_exit_codes():
    codes = re.findall(r"^\| ([0-9]+) \|", PAGE, re.MULTILINE)
    assert list(map(int, codes)) == list(ExitCode)


def test_each_option_that_the_page_names_is_there():
    params = [param for command in ALL.values() for param in command.params]
    known = {option for param in params for option in (*param.opts, *param.secondary_opts)}
    known |= {"--help", "--version", "--install-completion", "--show-completion"}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", PAGE)) <= known


def completed(words, settings):
    """What bash offers at the end of these words."""
    environment = os.environ | {
        "_KTRDR_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(words.count(" ")),
        "KTRDR_RUN_DIR": str(settings.run_dir),
        "KTRDR_DATA_DIR": str(settings.data_dir),
    }
    command = [sys.executable, "-c", "from ktrdr.cli import app; app(prog_name='ktrdr')"]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout.split()


@pytest.fixture
def store(make_settings):
    settings = make_settings()
    for name in ("AAPL_1m", "AAPL_1d", "AMD_1h", "MSFT_1h"):
        (settings.data_dir / f"{name}.csv").touch()
    return settings


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("ktrdr show A", ["AAPL", "AMD"]),
        ("ktrdr gaps AAPL ", ["1m", "1d"]),
        ("ktrdr fill NVDA 1", ["1m", "15m", "1h", "1d"]),
        ("ktrdr watch remove M", ["MSFT"]),
        ("ktrdr logs gap", ["gap-filler"]),
        ("ktrdr cov", ["coverage"]),
        ("ktrdr watch l", ["list"]),
    ],
)
def test_a_shell_completes_names_symbols_and_timeframes(store, words, expected):
    assert completed(words, store) == expected


def test_without_a_store_nothing_is_offered_and_nothing_said(make_settings):
    settings = make_settings()
    settings.data_dir.rmdir()
    assert completed("ktrdr show A", settings) == []
