"""Each command as JSON, options of gaps, show and fill, against played peers and a store."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from ktrdr.cli import app
from tests.played_peers import *  # noqa: F403  fixtures
from tests.played_peers import FILL, SERIES

MINUTE = timedelta(minutes=1)
HEADER = "timestamp,open,high,low,close,volume\n"
COUNTS = {name: value for name, value in SERIES.items() if name != "days"}
FAILED = COUNTS | {"symbol": "MSFT", "state": "failed", "key": [1, 2, 3]}


@pytest.fixture
def ktrdr(peers, settings, monkeypatch):
    monkeypatch.setenv("KTRDR_RUN_DIR", str(settings.run_dir))
    monkeypatch.setenv("KTRDR_DATA_DIR", str(settings.data_dir))
    peers.coverage = {"scan_time": "2026-11-20T21:00:00+00:00", "series": [COUNTS, FAILED]}
    return lambda *words: CliRunner().invoke(app, words)


def as_json(result):
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_gaps_are_those_of_the_status_api_without_inner_keys(ktrdr, client):
    shown = as_json(ktrdr("gaps", "--json"))
    served = client.get("/api/v1/data/coverage").get_json()
    assert shown["scan_time"] == served["scan_time"]
    for one, other in zip(shown["series"], served["series"], strict=True):
        assert one == {name: other[name] for name in other.keys() - {"gaps", "days"}}


def test_only_series_in_a_state_are_shown(ktrdr):
    failed = as_json(ktrdr("gaps", "--only", "failed", "--json"))["series"]
    assert [one["symbol"] for one in failed] == ["MSFT"]
    lines = ktrdr("gaps", "--only", "failed").stdout.splitlines()
    assert [line.split("\t")[0] for line in lines] == ["series", "MSFT_1m"]
    both = ktrdr("gaps", "--only", "failed", "--only", "filling").stdout.splitlines()
    assert len(both) == 3
    wrong = ktrdr("gaps", "--only", "faild")
    assert wrong.exit_code == 2
    assert "did you mean failed?" in wrong.stderr


def test_a_day_s_bars_as_json(ktrdr, peers):
    found = as_json(ktrdr("gaps", "AAPL", "1m", "--day", "2026-11-21", "--json"))
    assert found == peers.day


def test_fills_are_those_of_the_status_api(ktrdr, client):
    assert as_json(ktrdr("fills", "--json")) == client.get("/api/v1/data/fills").get_json()


def test_a_fill_as_json_is_one_document(ktrdr, peers):
    peers.fills = {"fills": [FILL | {"state": "done"}]}
    start = ("fill", "AAPL", "1m", "--from", "2015-01-01", "--json")
    assert as_json(ktrdr(*start))["state"] == "done"
    accepted = as_json(ktrdr(*start, "--no-wait"))
    assert (accepted["id"], accepted["state"]) == (FILL["id"], "waiting")
    assert "accepted" not in accepted
    cancelled = as_json(ktrdr("fill", "--cancel", "AAPL", "1m", "--json"))
    assert [one["state"] for one in cancelled["cancelled"]] == ["cancelled"]


def test_a_fill_is_waited_for_so_long_and_goes_on(ktrdr):
    result = ktrdr("fill", "AAPL", "1m", "--from", "2015-01-01", "--timeout", "0")
    assert result.exit_code == 1
    assert "ktrdr: not done after 0 s; the fill goes on\n" in result.stderr
    assert "next: `ktrdr fills` shows it, `ktrdr fill --cancel AAPL 1m` stops it" in result.stderr


def test_a_new_connection_is_requested_as_over_the_api(ktrdr, peers, client):
    assert ktrdr("reconnect").stdout == "a new connection to IB has been requested\n"
    served = client.post("/api/v1/system/ib-connection/reconnect").get_json()
    assert as_json(ktrdr("reconnect", "--json")) == served
    assert peers.requested == [{"what": "reconnected"}] * 3


def test_scan_faults_and_lists_as_json(ktrdr, peers):
    assert as_json(ktrdr("scan", "--json")) == {"scan_id": peers.scan["scan_id"]}
    listed = as_json(ktrdr("alerts", "list", "--json"))
    nothing = {"problems": [], "waiting_to_be_sent": 0, "sent": []}
    assert listed == nothing | {"source": "simulated", "is_on": False}


def test_check_as_json(ktrdr, settings):
    row = "2026-11-20 14:30:00+00:00,1,1,1,1,5\n"
    (settings.data_dir / "AAPL_1m.csv").write_text(f"{HEADER}{row}{row}oops,1,1,1,1,1\n")
    result = ktrdr("check", "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 1
    assert (found["files"], found["rows"]) == (1, 2)
    places = {(one["file"], tuple(one["lines"]), one["state"]) for one in found["findings"]}
    assert ("AAPL_1m.csv", (4,), "stays") in places


@pytest.fixture
def bars(settings, ktrdr):
    """1,500 bars, a minute each."""
    assert ktrdr
    begin = datetime(2026, 11, 10, 14, tzinfo=UTC)
    rows = [f"{begin + n * MINUTE},{n + 0.5},9999.5,0.5,1.5,{n}\n" for n in range(1500)]
    (settings.data_dir / "AAPL_1m.csv").write_text(HEADER + "".join(rows))
    return rows


def test_the_newest_bars_are_shown_and_how_many_there_are(ktrdr, bars):
    result = ktrdr("show", "AAPL", "1m")
    lines = result.stdout.splitlines(keepends=True)
    assert lines[1:] == bars[-1000:]
    assert f"the newest 1,000 of {len(bars):,} bars; --all prints all of them" in result.stderr
    few = ktrdr("show", "AAPL", "1m", "--limit", "3")
    assert few.stdout.splitlines(keepends=True)[1:] == bars[-3:]


@pytest.mark.parametrize("words", [("--all",), ("--start", "2026-11-01")])
def test_all_bars_are_shown_where_that_is_wanted(ktrdr, bars, words):
    result = ktrdr("show", "AAPL", "1m", *words)
    assert result.stdout.splitlines(keepends=True)[1:] == bars
    assert "the newest" not in result.stderr


def test_bars_as_json_are_those_of_the_status_api(ktrdr, bars, client):
    assert bars
    shown = as_json(ktrdr("show", "AAPL", "1m", "--all", "--json"))
    served = client.get("/api/v1/data/AAPL/1m?format=json").get_json()
    assert shown["columns"] == served["columns"]
    assert shown["bars"] == served["bars"]
    assert (shown["count"], shown["symbol"]) == (len(bars), "AAPL")


def test_an_export_as_json_says_what_was_written(ktrdr, bars, tmp_path):
    path = tmp_path / "bars.parquet"
    found = as_json(ktrdr("export", "AAPL", "--timeframe", "1m", "--to", str(path), "--json"))
    assert (found["bars"], found["file"]) == (len(bars), str(path))
    assert [one["symbol"] for one in found["symbols"]] == ["AAPL"]


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("show", "aapl", "1m"), "did you mean AAPL?"),
        (("show", "AAPL", "1h"), "AAPL is there in 1m; to have it kept: ktrdr watch add AAPL 1h"),
        (("show", "AAPL", "2m"), "did you mean 1m?"),
        (("show", "ZZZZ", "1m"), "to have it kept: ktrdr watch add ZZZZ 1m"),
        (("show", "BRK B", "1m"), "to have it kept: ktrdr watch add 'BRK B' 1m"),
        (("export", "APL", "--timeframe", "1m", "--to", "x.parquet"), "did you mean AAPL?"),
        (("fill", "AAPL", "1min", "--from", "2026-01-01"), "did you mean 1m?"),
    ],
)
def test_a_wrong_name_is_answered_with_the_nearest(ktrdr, bars, words, hint):
    assert bars
    result = ktrdr(*words)
    assert result.exit_code == 2
    assert f"next: {hint}\n" in result.stderr


def test_a_reader_that_closes_the_pipe_is_no_error(bars, settings):
    assert bars
    command = [sys.executable, "-m", "ktrdr.cli", "show", "AAPL", "1m", "--all"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=settings.run_dir
    ) as run:
        run.stdout.readline()
        run.stdout.close()
        assert "Traceback" not in run.stderr.read()
