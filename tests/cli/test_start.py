"""What a command imports before it does anything, which whoever typed it waits for."""

import json
import subprocess
import sys

import pytest
from typer.main import get_command

from ktrdr.cli.commands import app

HEAVY = (
    "rich",
    "numpy",
    "pandas",
    "pyarrow",
    "ib_insync",
    "ib_async",
    "flask",
    "aiohttp",
    "apprise",
)
LIST_IMPORTS = """
import json, sys
from ktrdr.cli import app
try:
    app(sys.argv[1:])
finally:
    print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""


def imported(make_settings, *words):
    """The modules that a command has imported when it ends."""
    settings = make_settings()
    environment = {"KTRDR_RUN_DIR": f"{settings.run_dir}", "KTRDR_DATA_DIR": f"{settings.data_dir}"}
    command = [sys.executable, "-c", LIST_IMPORTS, *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize(
    "words",
    [
        "",
        "--help",
        "status",
        "gaps",
        "coverage",
        "config",
        "fills",
        "logs",
        "watch list",
        "ctl --help",
    ],
)
def test_a_command_imports_nothing_heavy_that_it_does_not_need(make_settings, words):
    assert not imported(make_settings, *words.split()) & set(HEAVY)


@pytest.mark.parametrize("words", [("--help",), ("--version",), ("nonsense",)])
def test_help_and_mistakes_need_nothing_of_ours_but_the_table(make_settings, words):
    ours = {name for name in imported(make_settings, *words) if name.startswith("ktrdr.")}
    assert {name for name in ours if not name.startswith("ktrdr.cli")} <= {
        "ktrdr.errors",
        "ktrdr.escapes",
    }


def test_the_table_has_the_beginning_of_each_command_s_own_help():
    table = get_command(app)
    for name, place in table.places.items():
        assert place.summary.endswith("."), name
        assert " ".join(place.load(name).help.split()).startswith(place.summary), name
