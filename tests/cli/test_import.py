"""`ktrdr import`: which files, what is shown, and how it ends."""

import hashlib
import json

import pytest
from typer.testing import CliRunner

from ktrdr.cli import app

HEADER = "Date,Open,High,Low,Close,Volume\n"
DAYS = HEADER + "".join(f"2024-01-0{day},1,2,0.5,1.5,10\n" for day in (2, 3, 4, 5, 8, 9))


@pytest.fixture
def ktrdr(data_dir, make_settings, monkeypatch):
    settings = make_settings()
    monkeypatch.setenv("KTRDR_RUN_DIR", str(settings.run_dir))
    monkeypatch.setenv("KTRDR_DATA_DIR", str(data_dir))
    return lambda *words: CliRunner().invoke(app, ("import", *map(str, words)))


@pytest.fixture
def folder(tmp_path):
    """Files of another program, one of them in a subfolder."""
    folder = tmp_path / "others"
    (folder / "NFLX").mkdir(parents=True)
    (folder / "KO-1day.csv").write_text(DAYS)
    (folder / "prices.csv").write_text(DAYS)
    (folder / "notes.txt").write_text("nothing")
    (folder / "NFLX" / "1d.csv").write_text(DAYS)
    return folder


def test_a_file_is_imported_and_shown(ktrdr, folder, data_dir):
    result = ktrdr(folder / "KO-1day.csv")
    assert result.exit_code == 0, result.output
    lines = [line.split("\t") for line in result.stdout.splitlines()]
    shown = dict(zip(lines[0], lines[1], strict=True))
    assert shown["becomes"] == "KO_1d.csv"
    assert shown["bars"] == "6"
    assert shown["first"] == "2024-01-02 00:00:00+00:00"
    assert shown["last"] == "2024-01-09 00:00:00+00:00"
    assert shown["times"] == "the date as written"
    assert "open=Open" in shown["columns"]
    assert lines[-1] == ["1 of 1 files imported, 6 bars"]
    assert (data_dir / "KO_1d.csv").read_text().splitlines()[1] == (
        "2024-01-02 00:00:00+00:00,1.0,2.0,0.5,1.5,10"
    )


def test_a_folder_is_imported_without_its_subfolders_unless_wanted(ktrdr, folder, data_dir):
    result = ktrdr(folder, "--dry-run")
    assert result.exit_code == 1
    assert "passed over in subfolders: 1 (--recursive takes them)" in result.stderr
    assert "prices.csv: neither its name nor its rows say which series it is" in result.stderr
    assert "next: say which, such as: --to AAPL_1d" in result.stderr
    assert result.stdout.splitlines()[-1] == "1 of 2 files would be imported, 6 bars"
    assert not list(data_dir.glob("*.csv"))
    ktrdr(folder, "--recursive")
    assert {path.name for path in data_dir.glob("*.csv")} == {"KO_1d.csv", "NFLX_1d.csv"}


def test_files_of_one_series_become_one_and_are_named(ktrdr, tmp_path, data_dir):
    days = DAYS.splitlines(keepends=True)
    (tmp_path / "KO_1d_2024-01.csv").write_text("".join(days[:4]))
    (tmp_path / "KO_1d_2024.csv").write_text("".join([days[0], *days[3:]]))
    files = tmp_path / "KO_1d_2024-01.csv", tmp_path / "KO_1d_2024.csv"
    for words in ((*files, "--dry-run"), files):
        result = ktrdr(*words)
        assert result.exit_code == 0, result.output
        assert "KO_1d.csv: joined from 2 files: KO_1d_2024-01.csv, KO_1d_2024.csv" in result.stderr
        assert (
            "bars that are in KO_1d_2024-01.csv too, alike, and taken from there: 1"
            in result.stderr
        )
        verb = "would be imported" if "--dry-run" in words else "imported"
        assert result.stdout.splitlines()[-1] == f"2 of 2 files {verb}, 6 bars"
    assert len((data_dir / "KO_1d.csv").read_text().splitlines()) == 7
    listed = [line.split("\t") for line in ktrdr("--list").stdout.splitlines()[1:]]
    assert [(one[0], one[5]) for one in listed] == [("KO_1d", str(file)) for file in files]


def test_refused_lines_are_printed_and_kept(ktrdr, folder, data_dir):
    file = folder / "KO-1day.csv"
    file.write_text(DAYS + "2024-01-10,null,null,null,null,null\n")
    result = ktrdr(file)
    assert result.exit_code == 1
    assert "KO-1day.csv line 8: no number: 'null': '2024-01-10,null" in result.stderr
    kept = data_dir / ".ktrdr/imported/KO_1d.refused.csv"
    assert str(kept) in result.stderr
    assert kept.read_text().splitlines() == [
        "line,why,text,file",
        """8,no number: 'null',"2024-01-10,null,null,null,null,null\",KO-1day.csv""",
    ]


def test_what_was_imported_is_listed_with_its_checksum(ktrdr, folder):
    assert ktrdr("--list").stdout == "nothing was imported into this store\n"
    file = folder / "KO-1day.csv"
    file.write_text(DAYS)
    ktrdr(file)
    lines = [line.split("\t") for line in ktrdr("--list").stdout.splitlines()]
    shown = dict(zip(lines[0], lines[1], strict=True))
    assert (shown["series"], shown["bars"], shown["from"]) == ("KO_1d", "6", str(file))
    records = json.loads(ktrdr("--list", "--json").stdout)["imported"]
    assert [one["sha256"] for one in records] == [shown["SHA-256"]]
    assert shown["SHA-256"] == hashlib.sha256(DAYS.encode()).hexdigest()


def test_json_has_what_was_understood(ktrdr, folder):
    result = ktrdr(folder / "KO-1day.csv", folder / "prices.csv", "--dry-run", "--json")
    assert result.exit_code == 1
    one, other = json.loads(result.stdout)["files"]
    assert (one["series"], one["bars"], one["refused_lines"], one["error"]) == (
        "KO_1d",
        6,
        [],
        None,
    )
    assert other["next_step"] == "say which, such as: --to AAPL_1d"


def test_a_store_that_is_not_there_is_not_made(ktrdr, folder, data_dir):
    data_dir.rename(data_dir.with_name("unmounted"))
    result = ktrdr(folder / "KO-1day.csv")
    assert result.exit_code == 2
    assert f"the store {data_dir} is not there" in result.stderr
    assert not data_dir.exists()


@pytest.mark.parametrize(
    ("words", "what", "hint"),
    [
        ((), "no file is named", "ktrdr import"),
        (("there.csv",), "there is no such file", "give the path"),
        (("KO-1day.csv", "--to", "AAPL"), "--to AAPL", "such as --to AAPL_1m"),
        (("KO-1day.csv", "prices.csv", "--to", "AAPL_1d"), "differ by more", "files of one series"),
        (("KO-1day.csv", "--zone", "Mars"), "time zone 'Mars'", ""),
        (("KO-1day.csv", "--stamp", "begin"), "--stamp 'begin': expected one of start end", ""),
        (("KO-1day.csv", "--columns", "day=Date"), "'day=Date': expected ROLE=COLUMN", "such as"),
        (("KO-1day.csv", "--columns", "dates=us"), "expected dates=day-first or month-first", ""),
    ],
)
def test_a_wrong_word_is_told_in_a_line(ktrdr, folder, monkeypatch, words, what, hint):
    monkeypatch.chdir(folder)
    result = ktrdr(*words)
    assert result.exit_code == 2
    assert what in result.stderr
    assert hint in result.stderr
