"""What commands print to a terminal, to a narrow one, and where there is none."""

import re
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from ktrdr.cli import app
from ktrdr.cli.exit_codes import ExitCode, code_of
from ktrdr.errors import (
    InvalidRequest,
    Misconfigured,
    NotConnected,
    PeerDown,
    PeerTimedOut,
    StoreUnwritable,
    UnknownContract,
    UnknownFill,
    UnknownSeries,
)
from ktrdr.ipc.codec import to_json
from ktrdr.ipc.server import LocalServer, serving
from tests.cli.terminal import shown_in_terminal
from tests.played_peers import filling_status, idle_status

LONG = "line 7: '2026-11-20 14:30:00+00:00,1,2,oops,1,5': expected prices as numbers, and not words"
SERIES = {
    "symbol": "AAPL",
    "timeframe": "1m",
    "file": "AAPL_1m.csv",
    "state": "failed",
    "expected": 390,
    "present": 388,
    "missing": {"no_trades": 2},
    "last": "2026-11-20T20:59:00+00:00",
    "error": LONG,
    "hint": "ktrdr check --fix",
}
BOXES = re.compile("[\u2500-\u257f]")
COLORS = "\x1b["


@pytest.fixture
def environment(make_settings, monkeypatch):
    """That of a command whose gap filler has one series in trouble."""
    settings = make_settings()
    monkeypatch.setenv("KTRDR_RUN_DIR", str(settings.run_dir))
    monkeypatch.setenv("KTRDR_DATA_DIR", str(settings.data_dir))
    status = to_json(replace(idle_status(filling_status(settings.data_dir)), source="live"))

    async def says_status(_query):
        return status

    async def says_coverage(_query):
        return {"series": [SERIES]}

    routes = {("GET", "/status"): says_status, ("GET", "/coverage"): says_coverage}
    with serving(LocalServer(settings.gap_filler_socket, routes)):
        yield settings


def plain(text):
    """A text without control sequences."""
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("columns", ["20", "80"])
def test_without_a_terminal_a_row_is_a_line_and_whole(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    lines = CliRunner().invoke(app, ["gaps"]).stdout.splitlines()
    assert lines[0].split("\t")[:3] == ["series", "state", "expected"]
    (row,) = (line.split("\t") for line in lines[1:])
    assert row[:4] == ["AAPL_1m", "failed", "390", "388"]
    assert row[4] == f"{LONG} (next: ktrdr check --fix); 2 without trades, verified"
    assert row[5] == "2026-11-20T20:59:00+00:00"


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("words", [("gaps",), ("status",), ("--help",), ("fill", "--help"), ("x",)])
def test_without_a_terminal_there_are_no_boxes_and_no_colors(words):
    output = CliRunner().invoke(app, words).output
    assert not BOXES.search(output)
    assert COLORS not in output


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("columns", [80, 120])
def test_in_a_narrow_terminal_the_longest_column_is_wrapped(columns):
    code, output = shown_in_terminal("gaps", columns=columns)
    lines = plain(output).splitlines()
    assert code == 0
    assert max(map(len, lines)) <= columns
    assert any("AAPL_1m" in line and "failed" in line and "388" in line for line in lines)
    assert "…" not in output
    for word in (word for word in LONG.split() if len(word) < 24):
        assert word in output


@pytest.mark.usefixtures("environment")
def test_in_a_very_narrow_terminal_each_column_is_a_line():
    _, output = shown_in_terminal("gaps", columns=30)
    lines = plain(output).splitlines()
    begin = lines.index("AAPL_1m")
    assert lines[begin + 1 : begin + 4] == ["  state: failed", "  expected: 390", "  present: 388"]
    assert f"  missing: {LONG}" in output


def test_in_a_wide_terminal_a_row_is_whole(environment):
    assert environment.run_dir
    _, output = shown_in_terminal("gaps", columns=250)
    assert LONG in output
    assert "2026-11-20 20:59" in output


@pytest.mark.usefixtures("environment")
def test_a_terminal_shows_colors_unless_it_is_told_not_to():
    assert "\x1b[31mcritical\x1b[0m" in shown_in_terminal("status")[1]
    for variables in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        output = shown_in_terminal("status", **variables)[1]
        assert "critical ib-connection is not running" in output
        assert COLORS not in output


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PeerDown("x"), 3),
        (PeerTimedOut("x"), 3),
        (InvalidRequest("x"), 2),
        (UnknownSeries("x"), 2),
        (UnknownFill("x"), 2),
        (Misconfigured("x"), 2),
        (UnknownContract("x"), 1),
        (NotConnected("x"), 1),
        (StoreUnwritable("x"), 1),
    ],
)
def test_each_error_has_its_exit_code(error, code):
    assert code_of(error) == code


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--help",), ExitCode.GREEN),
        (("gaps",), ExitCode.GREEN),
        (("status",), ExitCode.DOWN),
        (("chekc",), ExitCode.USAGE),
        (("gaps", "--nonsense"), ExitCode.USAGE),
        (("gaps", "AAPL", "2m"), ExitCode.USAGE),
        (("gaps", "AAPL", "5m"), ExitCode.USAGE),
        (("sim", "status"), ExitCode.DOWN),
        (("fill", "AAPL", "1m"), ExitCode.USAGE),
    ],
)
@pytest.mark.usefixtures("environment")
def test_a_command_ends_with_the_code_of_the_table(words, code):
    assert CliRunner().invoke(app, words).exit_code == code
