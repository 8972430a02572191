"""`ktrdr follow` at a store that grows."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from ktrdr.cli import app

HEADER = "timestamp,open,high,low,close,volume\n"
ROWS = [
    f"2026-11-20 14:3{minute}:00+00:00,228.06,228.21,227.98,228.15,41200\n" for minute in range(9)
]
WORDS = ("follow", "AAPL", "MSFT", "--timeframe", "1m", "--start", "2026-11-20")


@pytest.fixture
def store(make_settings, data_dir, monkeypatch):
    monkeypatch.setenv("KTRDR_RUN_DIR", str(make_settings().run_dir))
    monkeypatch.setenv("KTRDR_DATA_DIR", str(data_dir))
    (data_dir / "AAPL_1m.csv").write_text(HEADER + ROWS[0])
    (data_dir / "MSFT_1m.csv").write_text(HEADER)
    return data_dir


def test_bars_are_printed_as_they_come_until_ctrl_c(store):
    command = [sys.executable, "-m", "ktrdr.cli", *WORDS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout.readline() == "symbol," + HEADER
        assert running.stdout.readline() == f"AAPL,{ROWS[0]}"
        with (store / "MSFT_1m.csv").open("a") as file:
            file.write(ROWS[1])
        assert running.stdout.readline() == f"MSFT,{ROWS[1]}"
        running.send_signal(signal.SIGINT)
        assert running.wait(20) == 130


def test_as_json_it_is_an_object_a_line(store):
    (store / "MSFT_1m.csv").write_text(HEADER + ROWS[1])
    result = CliRunner().invoke(app, [*WORDS, "--timeout", "0.1", "--json"])
    assert result.exit_code == 0
    assert [json.loads(line) for line in result.stdout.splitlines()][1] == {
        "symbol": "MSFT",
        "timeframe": "1m",
        "timestamp": "2026-11-20T14:31:00+00:00",
        "open": 228.06,
        "high": 228.21,
        "low": 227.98,
        "close": 228.15,
        "volume": 41200,
    }


def test_a_series_that_is_not_there_is_named_with_the_nearest(store):
    assert store
    result = CliRunner().invoke(app, ["follow", "APPL", "--timeframe", "1m"])
    assert result.exit_code == 2
    assert "has no APPL_1m.csv" in result.stderr
    assert "did you mean AAPL?" in result.stderr
