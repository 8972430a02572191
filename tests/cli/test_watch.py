"""`ktrdr watch` and `ktrdr contract`, against a gap filler with the simulated gateway."""

import json

import pytest
from typer.testing import CliRunner

from ktrdr.cli import app
from ktrdr.gap_filler.routes import routes
from ktrdr.ipc.server import LocalServer, serving
from tests.fake_connection import *  # noqa: F403  fixtures

HEADER = "timestamp,open,high,low,close,volume\n"


@pytest.fixture
def ktrdr(group, monkeypatch):
    """The command line, in the environment of a running group."""
    monkeypatch.setenv("KTRDR_RUN_DIR", str(group.settings.run_dir))
    monkeypatch.setenv("KTRDR_DATA_DIR", str(group.settings.data_dir))
    group.fill()
    with serving(LocalServer(group.settings.gap_filler_socket, routes(group.filler))):
        yield lambda *words: CliRunner().invoke(app, words)


def files(data_dir):
    return sorted(path.name for path in data_dir.glob("*.csv"))


def test_each_symbol_is_added_in_each_timeframe(ktrdr, group, data_dir):
    result = ktrdr("watch", "add", "AAPL", "MSFT", "1h", "1d", "since", "2026-11-10")
    assert result.exit_code == 0, result.output
    assert files(data_dir) == ["AAPL_1d.csv", "AAPL_1h.csv", "MSFT_1d.csv", "MSFT_1h.csv"]
    assert result.output.splitlines()[0] == (
        "AAPL_1h is kept from now on: AAPL_1h.csv was made, from 2026-11-10 on"
    )
    group.fill()
    listed = ktrdr("watch", "list").output.splitlines()
    assert listed[:2] == ["series\tstate\tsince", "AAPL_1h\tcomplete\t2026-11-10"]
    assert (data_dir / "AAPL_1d.csv").read_text().splitlines()[1][:10] == "2026-11-10"


def test_an_ambiguous_symbol_shows_the_choice_and_the_others_are_added(ktrdr, data_dir):
    result = ktrdr("watch", "add", "TWIN AAPL XYZQ 1d 1h")
    assert result.exit_code == 1
    assert files(data_dir) == ["AAPL_1d.csv", "AAPL_1h.csv"]
    text = result.output
    assert "TWIN_1h was not added: IB knows 2 contracts for TWIN" in text
    assert text.count("\tNYSE\t") == 1  # the same choice is shown once
    assert "TWIN_1d was not added: IB knows 2 contracts for TWIN" in text
    nyse = next(line for line in text.splitlines() if "\tNYSE\t" in line)
    assert "primary_exchange = NYSE" in nyse
    assert "next: choose one: ktrdr watch add TWIN 1d --con-id" in text
    assert "XYZQ_1d was not added" in text
    con_id = nyse.partition("\t")[0]
    assert ktrdr("watch", "add", "TWIN", "1d", "--con-id", con_id).exit_code == 0
    assert (data_dir / "instruments.toml").read_text() == '[TWIN]\nprimary_exchange = "NYSE"\n'


def test_a_dry_run_changes_nothing(ktrdr, data_dir):
    result = ktrdr("watch", "add", "AAPL", "1d", "--dry-run")
    assert (result.exit_code, files(data_dir)) == (0, [])
    assert "AAPL_1d would be added (only shown: nothing was changed)" in result.output


def test_a_file_of_entries_is_added_whole(ktrdr, data_dir, tmp_path):
    universe = tmp_path / "universe.txt"
    universe.write_text("# large ones\nAAPL since 2026-11-10  # apples\n\nMSFT 1h\n")
    result = ktrdr("watch", "add", "1d", "--from-file", str(universe))
    assert result.exit_code == 0, result.output
    assert files(data_dir) == ["AAPL_1d.csv", "MSFT_1d.csv", "MSFT_1h.csv"]
    assert "[AAPL]" in (data_dir / "instruments.toml").read_text()


def test_nothing_of_a_file_with_a_mistake_is_added(ktrdr, data_dir, tmp_path):
    universe = tmp_path / "universe.txt"
    universe.write_text("AAPL 1d\nMSFT 2m\n")
    result = ktrdr("watch", "add", "--from-file", str(universe))
    assert (result.exit_code, files(data_dir)) == (2, [])
    assert "universe.txt, line 2: 2m: expected one of" in result.output
    assert "next: did you mean 1m?" in result.output
    assert ktrdr("watch", "add", "--from-file", str(tmp_path / "none")).exit_code == 2


def test_a_symbol_with_a_space_is_one_argument(ktrdr):
    result = ktrdr("watch", "add", "--dry-run", "--unchecked", "XYZ K", "AAPL", "1d", "--json")
    assert [one["symbol"] for one in json.loads(result.stdout)["series"]] == ["XYZ K", "AAPL"]


def test_a_series_is_removed_and_its_file_stays(ktrdr, group, data_dir):
    ktrdr("watch", "add", "AAPL", "1d", "since", "2026-11-10")
    group.fill()
    result = ktrdr("watch", "remove", "AAPL", "1d")
    assert (result.exit_code, files(data_dir)) == (0, ["AAPL_1d.csv"])
    assert result.output == "AAPL_1d is not kept any more; AAPL_1d.csv stays\n"
    group.fill()
    assert ktrdr("watch", "list").output.splitlines()[1:] == ["AAPL_1d\tnot watched\t2026-11-10"]
    missing = ktrdr("watch", "remove", "AAPL", "1h")
    assert missing.exit_code == 2
    assert "AAPL_1h.csv is not in the store" in missing.output
    assert "did you mean AAPL_1d?" in missing.output


def test_since_and_the_contract_of_a_series_are_changed(ktrdr, data_dir):
    ktrdr("watch", "add", "AAPL", "1d", "since", "2026-11-10")
    result = ktrdr("watch", "set", "AAPL", "1d", "--since", "2026-11-12")
    assert (result.exit_code, result.output) == (0, "AAPL_1d was changed, from 2026-11-12 on\n")
    changed = json.loads(ktrdr("watch", "set", "AAPL", "1d", "--since", "", "--json").stdout)
    assert changed["series"][0]["since"] is None

    known = json.loads(ktrdr("contract", "TWIN", "--json").stdout)["candidates"]
    ids = [one["con_id"] for one in known]
    ktrdr("watch", "add", "TWIN", "1d", "--con-id", str(ids[0]))
    assert ktrdr("watch", "set", "TWIN", "1d", "--con-id", str(ids[1])).exit_code == 0
    assert 'primary_exchange = "NYSE"' in (data_dir / "instruments.toml").read_text()

    assert ktrdr("watch", "set", "AAPL", "1d").exit_code == 2
    wrong = ktrdr("watch", "set", "AAPL", "1h", "--since", "2026-11-12")
    assert wrong.exit_code == 2
    assert "AAPL_1h.csv is not in the store" in wrong.stderr


def test_everything_can_be_had_as_json(ktrdr):
    result = ktrdr("watch", "add", "AAPL", "TWIN", "1d", "--json")
    outcomes = {one["symbol"]: one["outcome"] for one in json.loads(result.stdout)["series"]}
    assert (result.exit_code, outcomes) == (1, {"AAPL": "added", "TWIN": "ambiguous"})
    removed = json.loads(ktrdr("watch", "remove", "AAPL", "MSFT", "1d", "--json").stdout)
    assert [one["outcome"] for one in removed["series"]] == ["removed", "unknown_series"]
    assert "series" in json.loads(ktrdr("watch", "list", "--json").stdout)
    twin = json.loads(ktrdr("contract", "TWIN", "--json").stdout)
    assert [one["exchange"] for one in twin["candidates"]] == ["NASDAQ", "NYSE"]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("add",), "no symbol is named"),
        (("add", "AAPL"), "name a timeframe"),
        (("add", "AAPL", "1d", "since", "2030"), "since 2030"),
        (("add", "AAPL", "TWIN", "1d", "--con-id", "7"), "--con-id is for one symbol"),
        (("remove", "AAPL", "1d", "since", "2020"), "since"),
    ],
)
def test_wrong_words_are_refused_with_code_2(ktrdr, data_dir, words, named):
    result = ktrdr("watch", *words)
    assert (result.exit_code, files(data_dir)) == (2, [])
    assert named in result.output


def test_the_contracts_of_a_symbol_are_shown_with_lines_to_paste(ktrdr):
    result = ktrdr("contract", "TWIN")
    assert result.exit_code == 0
    assert result.output.startswith("con_id\tlocal symbol\texchange")
    assert '[TWIN]\nprimary_exchange = "NYSE"\n' in result.output
    one = ktrdr("contract", "AAPL").output
    assert "the symbol alone" in one
    assert "instruments.toml" not in one
    unknown = ktrdr("contract", "XYZQ")
    assert unknown.exit_code == 1
    assert "next: " in unknown.output


def test_without_a_gap_filler_the_code_is_3(make_settings, monkeypatch):
    monkeypatch.setenv("KTRDR_RUN_DIR", str(make_settings().run_dir))
    for words in (("watch", "list"), ("watch", "add", "AAPL", "1d"), ("contract", "AAPL")):
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 3
        assert "gap-filler is not running" in result.output
