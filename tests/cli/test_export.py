"""`ktrdr export` into a folder: which series, what it says, and what is refused."""

import json

import pytest
from typer.testing import CliRunner

from ktrdr.cli import app

HEADER = "timestamp,open,high,low,close,volume\n"


def rows(*days):
    return HEADER + "".join(f"{day} 00:00:00+00:00,1,2,0.5,1.5,10\n" for day in days)


FILES = {
    "AAPL_1m": rows("2025-12-31", "2026-01-02"),
    "AAPL_1d": rows("2026-01-02", "2026-01-05"),
    "BRK B_1m": rows("2026-01-02"),
    "MSFT_1h": rows("2026-01-02"),
}


@pytest.fixture
def put(data_dir):
    def put(**files):
        for name, content in files.items():
            (data_dir / f"{name}.csv").write_text(content)

    put(**FILES)
    return put


@pytest.fixture
def ktrdr(put, make_settings, monkeypatch):
    settings = make_settings()
    monkeypatch.setenv("KTRDR_RUN_DIR", str(settings.run_dir))
    monkeypatch.setenv("KTRDR_DATA_DIR", str(settings.data_dir))
    monkeypatch.chdir(settings.data_dir.parent)
    assert put
    return lambda *words: CliRunner().invoke(app, ("export", *words))


def files_in(folder):
    """Symbol, timeframe and year of each file, as the folders name them."""
    found = (path.relative_to(folder).parts[:3] for path in folder.rglob("*.parquet"))
    return {" ".join(part.partition("=")[2] for part in parts) for parts in found}


ALL = {"AAPL 1m 2025", "AAPL 1m 2026", "AAPL 1d 2026", "BRK%20B 1m 2026", "MSFT 1h 2026"}


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ((), ALL),
        (("AAPL",), {one for one in ALL if one.startswith("AAPL")}),
        (("--timeframe", "1m"), {one for one in ALL if " 1m " in one}),
        (("BRK B", "AAPL", "--timeframe", "1m"), {one for one in ALL if " 1m " in one}),
        (("AAPL", "--timeframe", "1m", "--timeframe", "1d"), {o for o in ALL if o[0:4] == "AAPL"}),
        (("--start", "2026-01-01"), {one for one in ALL if one.endswith("2026")}),
        (("--end", "2026-01-01"), {"AAPL 1m 2025"}),
    ],
)
def test_symbols_timeframes_and_times_restrict_what_is_exported(ktrdr, scratch, words, wanted):
    result = ktrdr(*words, "--to", "bars/")
    assert result.exit_code == 0, result.output
    assert files_in(scratch / "bars") == wanted


def test_it_says_how_much_was_written_and_what_is_not_proven(ktrdr, put):
    put(NVDA_1m=HEADER)
    result = ktrdr("--to", "bars/")
    assert result.stdout == "6 bars in bars/, files: 5\n"
    names = "AAPL 1m, AAPL 1d, BRK B 1m, MSFT 1h, NVDA 1m"
    assert result.stderr.splitlines() == [
        "no bars in the store: NVDA 1m",
        f"not complete: {names}: gap-filler is not running (gap-filler.sock)",
    ]
    put(**{f"S{n}_1m": HEADER for n in range(4)})
    assert (
        "no bars in the store: NVDA 1m, S0 1m, S1 1m, S2 1m, S3 1m\n"
        in ktrdr("--to", "bars/").stderr
    )
    assert "MSFT 1h, NVDA 1m and 4 more: gap" in ktrdr("--to", "bars/").stderr


def test_a_folder_that_is_there_needs_no_slash(ktrdr, scratch):
    assert ktrdr("MSFT", "--to", "bars/").exit_code == 0
    assert ktrdr("BRK B", "--to", "bars").exit_code == 0
    assert files_in(scratch / "bars") == {"MSFT 1h 2026", "BRK%20B 1m 2026"}


def test_a_folder_as_json(ktrdr, put):
    put(BAD_1m=f"{HEADER}x,1\n")
    result = ktrdr("AAPL", "BAD", "--timeframe", "1m", "--to", "bars/", "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    good, bad = found.pop("series")
    assert found == {"folder": "bars/", "bars": 2, "files": 2, "source": None}
    assert good.pop("why").startswith("gap-filler is not running")
    assert good == {
        "symbol": "AAPL",
        "timeframe": "1m",
        "bars": 2,
        "years": [2025, 2026],
        "kept_years": [],
        "complete": False,
        "error": None,
    }
    assert (bad["symbol"], bad["bars"], bad["complete"]) == ("BAD", 0, False)
    assert "BAD_1m.csv line 2" in bad["error"]


def test_a_series_that_cannot_be_read_is_an_error_and_the_others_are_written(ktrdr, put, scratch):
    put(BAD_1m=f"{HEADER}x,1\n")
    result = ktrdr("--to", "bars/")
    assert result.exit_code == 1
    assert "ktrdr: BAD_1m.csv line 2: " in result.stderr
    assert "ktrdr check BAD 1m" in result.stderr
    assert files_in(scratch / "bars") == ALL


def test_a_link_that_leads_nowhere_is_an_error_and_the_others_are_written(ktrdr, data_dir, scratch):
    (data_dir / "LOST_1m.csv").symlink_to("nowhere")
    result = ktrdr("--to", "bars/")
    assert result.exit_code == 1
    assert "ktrdr: LOST_1m.csv: " in result.stderr
    assert files_in(scratch / "bars") == ALL


def test_years_of_earlier_exports_are_named(ktrdr, put):
    ktrdr("AAPL", "--to", "bars/")
    put(AAPL_1m=rows("2026-01-02"))
    kept = "bars/ also has AAPL 1m of 2025, of which the store has no bars\n"
    assert kept in ktrdr("AAPL", "--to", "bars/").stderr
    assert kept not in ktrdr("AAPL", "--start", "2026-01-01", "--to", "bars/").stderr


def test_simulated_bars_are_called_so(ktrdr, data_dir):
    (data_dir / ".ktrdr").mkdir(exist_ok=True)
    (data_dir / ".ktrdr" / "source").write_text("simulated\n")
    result = ktrdr("MSFT", "--to", "bars/")
    assert result.stderr.startswith("SIMULATED: ")
    assert result.stdout.startswith("1 bars in bars/")


@pytest.mark.parametrize(
    ("words", "line", "hint"),
    [
        (("APL", "--to", "bars/"), "has no series of 'APL'", "did you mean AAPL?"),
        (
            ("AAPL", "--timeframe", "1h", "--to", "bars/"),
            "has AAPL in 1m, 1d, and not in 1h",
            "to have it kept: ktrdr watch add AAPL 1h",
        ),
        (("--timeframe", "2m", "--to", "bars/"), "'2m'", "did you mean 1m?"),
        (
            ("AAPL", "--timeframe", "1m", "--to", "bars"),
            "bars: expected a name that ends in .parquet or .feather, or a folder",
            "for a folder, end its name with a slash: bars/",
        ),
        (
            ("--timeframe", "1m", "--to", "all.parquet"),
            "all.parquet: expected one or more symbols, and --timeframe once",
            "all symbols and timeframes go into a folder: --to all/",
        ),
        (
            ("AAPL", "--timeframe", "1m", "--timeframe", "1d", "--to", "all.feather"),
            "all.feather: expected one or more symbols, and --timeframe once",
            "all symbols and timeframes go into a folder: --to all/",
        ),
        (
            ("--to", "."),
            ". has 'data', which is not of `ktrdr export`: expected only folders symbol=…",
            "name a new or an empty folder, or move it away",
        ),
        (("--start", "soon", "--to", "bars/"), "start='soon': expected a date or time", ""),
    ],
)
def test_what_is_wrong_is_one_line_with_the_next_step(ktrdr, scratch, words, line, hint):
    result = ktrdr(*words)
    assert result.exit_code == 2
    error, *more = result.stderr.splitlines()
    assert error.startswith("ktrdr: ")
    assert line in error
    assert more == ([f"next: {hint}"] if hint else [])
    assert [path.name for path in scratch.iterdir()] == ["data"]


def test_a_store_without_series_is_an_error(ktrdr, data_dir):
    for path in data_dir.iterdir():
        path.unlink()
    result = ktrdr("--to", "bars/")
    assert result.exit_code == 2
    assert "has no series\nnext: " in result.stderr


def test_an_unset_variable_is_no_folder(ktrdr, scratch, monkeypatch):
    (scratch / "empty").mkdir()
    monkeypatch.chdir(scratch / "empty")
    assert ktrdr("AAPL", "--timeframe", "1m", "--to", "").exit_code == 2
    assert not list((scratch / "empty").iterdir())
