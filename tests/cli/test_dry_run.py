"""`ktrdr gaps --dry-run`, without any program."""

import json

import pytest
from typer.testing import CliRunner

from ktrdr.cli import app
from tests.fake_connection import *  # noqa: F403  fixtures
from tests.fake_connection import utc


@pytest.fixture
def ktrdr(make_settings, monkeypatch, put, data_dir):
    """The command line, and a store before its first start."""
    settings = make_settings()
    monkeypatch.setenv("KTRDR_RUN_DIR", str(settings.run_dir))
    monkeypatch.setenv("KTRDR_DATA_DIR", str(settings.data_dir))
    put("BTC_1d")
    put("ETH_1d", [utc("2020-01-02")])
    (data_dir / "BAD_1m.csv").write_text("what is this\n")
    crypto = "".join(f'[{one}]\nsec_type = "CRYPTO"\n' for one in ("BTC", "ETH"))
    (data_dir / "instruments.toml").write_text(crypto)
    return lambda *words: CliRunner().invoke(app, words)


def test_each_series_is_a_line_and_a_sum_follows(ktrdr, data_dir):
    result = ktrdr("gaps", "--dry-run")
    assert result.exit_code == 1
    head, bad, btc, eth, last = result.output.splitlines()
    assert head == "series\trequests\tfrom\tto\tbars\twhat is written"
    assert bad.startswith("BAD_1m\t0\t\t\t\tnothing: BAD_1m.csv line 1: 'what is this'")
    bars = btc.split("\t")[4]
    assert btc.split("\t")[:2] == ["BTC_1d", "1"]
    assert btc.split("\t")[5] == (
        f"{bars} are appended; counted by usual sessions: its own are requested first"
    )
    assert eth.split("\t")[5] == (
        f"{bars} are appended; in a file of others, whose rows stay as they are; counted by usual "
        "sessions: its own are requested first, and the file is looked at then"
    )
    assert last == (
        f"2 requests for sessions and 2 for bars: {2 * int(bars)} bars for 2 files; nothing was "
        "requested or written"
    )
    assert not (data_dir / ".ktrdr").exists()


def test_the_same_as_json_of_one_symbol(ktrdr):
    result = ktrdr("gaps", "BTC", "--dry-run", "--json")
    assert result.exit_code == 0
    plan = json.loads(result.output)
    assert (plan["session_requests"], plan["bar_requests"]) == (1, 1)
    (one,) = plan["series"]
    assert (one["file"], one["inserted"], one["owned"]) == ("BTC_1d.csv", 0, True)
    assert one["appended"] == plan["bars"] > 20
    (request,) = one["requests"]
    assert request["start"] < request["end"]


def test_forms_of_the_command_exclude_each_other(ktrdr):
    for words in (("--written", "--dry-run"), ("--dry-run", "--only", "failed")):
        result = ktrdr("gaps", *words)
        assert result.exit_code == 2
        assert "exclude each other" in result.output
