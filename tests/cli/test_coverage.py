"""`ktrdr coverage`: a heat map in a terminal, lines without one."""

import json

import pytest
from typer.testing import CliRunner

from ktrdr.cli import app
from ktrdr.cli.coverage import heat_map
from ktrdr.cli.half_blocks import cells
from ktrdr.ipc.series_messages import CoverageGrid, GridRow
from tests.cli.terminal import shown_in_terminal
from tests.played_peers import *  # noqa: F403  fixtures

LEGEND = {" ": "outside", ".": "closed", "c": "complete", "!": "failed", "w": "waiting"}
GRID = {
    "version": "1a",
    "first": "2026-11-16",
    "days": 6,
    "legend": LEGEND,
    "series": [
        {"symbol": "AAPL", "timeframe": "1m", "state": "failed", "row": "cc!c.."},
        {"symbol": "MSFT", "timeframe": "1h", "state": "complete", "row": "  cc.."},
    ],
}


@pytest.fixture
def ktrdr(peers, settings, monkeypatch):
    monkeypatch.setenv("KTRDR_RUN_DIR", str(settings.run_dir))
    monkeypatch.setenv("KTRDR_DATA_DIR", str(settings.data_dir))
    peers.grid = GRID
    return lambda *words: CliRunner().invoke(app, ["coverage", *words])


def test_without_a_terminal_each_day_is_a_line(ktrdr):
    lines = ktrdr().stdout.splitlines()
    assert lines[:2] == ["series\tday\tstate", "AAPL_1m\t2026-11-16\tcomplete"]
    assert "AAPL_1m\t2026-11-18\tfailed" in lines
    assert "MSFT_1h\t2026-11-18\tcomplete" in lines
    assert len(lines) == 1 + 6 + 4  # what is outside is left out


def test_a_span_and_a_series_are_chosen(ktrdr, peers):
    result = ktrdr("MSFT", "1h", "--from", "2026-11-16", "--to", "2026-11-21", "--json")
    grid = json.loads(result.stdout)
    assert [row[grid["columns"].index("symbol")] for row in grid["series"]] == ["MSFT"]
    assert {"what": "grid", "from": "2026-11-16", "to": "2026-11-21"} in peers.requested
    assert "SIMULATED: " in result.stderr


def test_a_wrong_series_names_the_nearest(ktrdr):
    result = ktrdr("APPL")
    assert result.exit_code == 2
    assert "did you mean AAPL?" in result.stderr
    assert "next: to have it kept: ktrdr watch add AAPL 5m" in ktrdr("AAPL", "5m").stderr


def test_in_a_terminal_two_days_are_one_character_in_their_colours(ktrdr):
    assert ktrdr
    _, output = shown_in_terminal("coverage", columns=60)
    (row,) = (line for line in output.splitlines() if line.startswith("AAPL 1m"))
    green, red, grey = "\x1b[32m\x1b[42m▀\x1b[0m", "\x1b[31m\x1b[42m▀\x1b[0m", "\x1b[90m\x1b[100m▀"
    assert row == f"AAPL 1m  {green}{red}{grey}\x1b[0m  1 failed"
    assert "MSFT 1h   " in output
    assert "failed" in output.splitlines()[-1]


def test_without_colours_each_day_has_the_character_of_its_state(ktrdr):
    assert ktrdr
    _, output = shown_in_terminal("coverage", columns=60, NO_COLOR="1")
    assert "AAPL 1m  cc!c..  1 failed\n" in output
    assert "\x1b" not in output
    assert "! failed" in output.splitlines()[-1]


def test_a_day_alone_and_days_outside_are_drawn_in_halves():
    assert cells("c") == [("▄", "green", None)]
    assert cells("c ") == [("▀", "green", None)]
    assert cells("  ") == [(" ", None, None)]
    assert cells("!c") == [("▀", "red", "green")]


@pytest.mark.parametrize(("columns", "days"), [(40, 40 - 7 - 8 - 4), (80, 80 - 7 - 8 - 4)])
def test_as_many_days_are_drawn_as_fit_and_the_newest(columns, days):
    row = "c" * 364 + "!"
    grid = CoverageGrid("1", "2025-11-21", 365, LEGEND, [GridRow("AAPL", "1m", "failed", row)])
    first, line, _ = heat_map(grid, columns, in_color=False)
    assert line == f"AAPL 1m  {row[-days:]}  1 failed"
    assert len(first) <= columns
    assert first.endswith("2026-11-20")


@pytest.mark.parametrize("state", ["not_understood", "incomplete_row"])
def test_a_series_whose_file_is_in_the_way_is_not_said_to_have_failed(state):
    grid = CoverageGrid("1", "2025-11-21", 3, LEGEND, [GridRow("AAPL", "1m", state, "c!!")])
    _, line, _ = heat_map(grid, 60, in_color=False)
    assert line == f"AAPL 1m  c!!  {state.replace('_', ' ')}"


def test_days_before_all_series_are_not_drawn_and_a_series_without_days_has_its_state():
    rows = [GridRow("AAPL", "1m", "complete", "   cc"), GridRow("MSFT", "1m", "waiting", "     ")]
    grid = CoverageGrid("1", "2026-11-16", 5, LEGEND, rows)
    first, aapl, msft, _ = heat_map(grid, 80, in_color=False)
    assert first.split() == ["2026-11-19", "2026-11-20"]
    assert (aapl, msft) == ("AAPL 1m  cc  complete", "MSFT 1m      waiting")
