"""Entries of a store's folder that are no files of their own: named, shown, no end of others."""

import os
import shutil
import socket
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from ktrdr.cli import app
from ktrdr.config import ROOT
from ktrdr.data.csv_store import CsvStore
from ktrdr.data.ib_gap_filler import GapFiller
from ktrdr.data.store_check import StoreCheck
from ktrdr.planning.soundness import State
from tests.data.conftest import Inline, utc

HEADER = "timestamp,open,high,low,close,volume\n"
NOW = utc("2026-11-20 15:00")


@pytest.fixture
def folder(data_dir):
    """A store with one sound series."""
    (data_dir / "AAPL_1h.csv").write_text(HEADER)
    return data_dir


@pytest.fixture
def filler(make_settings, connection, folder):
    store = CsvStore(folder, indexed=True)
    clock = lambda: NOW  # noqa: E731
    settings = make_settings(ktrdr_gap_max_age_days=3)
    filler = GapFiller(settings, connection, clock, Inline(), store=store)
    yield filler
    filler.close()


def link_loop(path):
    path.symlink_to(path.name)


def dangling(path):
    path.symlink_to("nowhere.txt")


def through_a_file(path):
    path.symlink_to("AAPL_1h.csv/more.csv")


def folder_named_so(path):
    path.mkdir()


def pipe(path):
    os.mkfifo(path)


def listening(path):
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


ODD = {
    link_loop: ("Too many levels of symbolic links", "remove it"),
    dangling: ("a link to 'nowhere.txt', which is not there", "remove the link"),
    through_a_file: ("Not a directory", "remove it"),
    folder_named_so: ("a folder, and no regular file", "another name"),
    pipe: ("a pipe, and no regular file", "remove it"),
    listening: ("a socket, and no regular file", "remove it"),
}


def fill(filler):
    for _ in range(100):
        if not filler.step():
            return
    raise AssertionError("it never ends")


def shown(filler):
    return {f"{e['symbol']}_{e['timeframe']}": e for e in filler.coverage["series"]}


@pytest.mark.parametrize("make", list(ODD), ids=lambda make: make.__name__)
def test_it_is_shown_as_a_series_that_a_person_must_see_to(make, folder, filler):
    make(folder / "ODD_1m.csv")
    fill(filler)
    what, hint = ODD[make]
    odd = shown(filler)["ODD_1m"]
    assert odd["state"] == "failed"
    assert what in odd["error"]
    assert odd["error"].startswith("ODD_1m.csv: ")
    assert hint in odd["hint"]
    (problem,) = filler.status.recent_errors
    assert (problem.what, problem.message, problem.hint) == ("ODD_1m", odd["error"], odd["hint"])
    assert (filler.status.series, filler.status.series_blocked) == (2, 1)


@pytest.mark.parametrize("make", list(ODD), ids=lambda make: make.__name__)
def test_the_others_are_filled_beside_it(make, folder, filler):
    make(folder / "ODD_1m.csv")
    fill(filler)
    assert shown(filler)["AAPL_1h"]["state"] == "complete"
    assert filler.status.state == "idle"


@pytest.mark.parametrize("make", list(ODD), ids=lambda make: make.__name__)
def test_as_soon_as_a_file_is_in_its_place_that_is_filled(make, folder, filler):
    path = folder / "ODD_1m.csv"
    make(path)
    fill(filler)
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    path.write_text(HEADER)
    filler.ask_for_scan()
    fill(filler)
    assert shown(filler)["ODD_1m"]["state"] == "complete"
    assert shown(filler)["ODD_1m"]["hint"] is None
    assert filler.status.series_blocked == 0


def test_a_file_whose_place_a_link_loop_takes_is_left_alone_until_it_is_back(folder, filler):
    path = folder / "AAPL_1h.csv"
    fill(filler)
    there = path.read_text()
    path.unlink()
    link_loop(path)
    filler.ask_for_scan()
    fill(filler)
    odd = shown(filler)["AAPL_1h"]
    assert (odd["state"], odd["expected"], odd["first"]) == ("failed", None, None)
    path.unlink()
    path.write_text(there)
    filler.ask_for_scan()
    fill(filler)
    assert shown(filler)["AAPL_1h"]["state"] == "complete"
    assert path.read_text() == there


@pytest.mark.parametrize("make", list(ODD), ids=lambda make: make.__name__)
def test_check_names_it_with_what_to_do(make, folder):
    make(folder / "ODD_1m.csv")
    check = StoreCheck(folder, lambda: NOW)
    assert [finding for one in check.check_rest() for finding in one.findings] == []
    findings = {str(s): check.check(s, fix=True).findings for s in check.series()}
    (finding,) = findings["ODD_1m"]
    what, hint = ODD[make]
    assert findings["AAPL_1h"] == ()
    assert finding.where == "ODD_1m.csv"
    assert what in finding.what
    assert hint in finding.mend
    assert finding.is_broken
    assert finding.state is State.STAYS


@pytest.fixture
def ktrdr(make_settings, monkeypatch):
    """The command line on this store."""
    settings = make_settings()
    monkeypatch.setenv("KTRDR_RUN_DIR", str(settings.ktrdr_run_dir))
    monkeypatch.setenv("KTRDR_DATA_DIR", str(settings.data_dir))
    return lambda *words: CliRunner().invoke(app, words)


def test_the_command_check_tells_of_it_and_of_the_rest(ktrdr, folder):
    link_loop(folder / "ODD_1m.csv")
    said = ktrdr("check")
    assert said.exit_code == 1
    assert "ODD_1m.csv" in said.output
    assert "2 files" in said.output


NO_NAMES = [b"A\n_1m.csv", b"\xff\xfe_1m.csv", b"A_\xff.csv", b"A_\n1m.csv", b"<b>_1m.csv"]


@pytest.mark.parametrize("name", NO_NAMES)
def test_a_name_that_is_none_of_a_series_is_told_in_one_line(name, folder, filler, ktrdr):
    (folder / os.fsdecode(name)).write_text(HEADER)
    fill(filler)
    (problem,) = filler.status.recent_errors
    for text in (problem.message, problem.hint):
        assert text
        assert "\n" not in text
        assert text.encode()  # it can be written to a log, which no surrogate can
    assert problem.what == "store"
    assert list(shown(filler)) == ["AAPL_1h"]
    assert filler.status.state == "idle"
    said = ktrdr("check")
    assert said.exit_code == 1
    assert said.exception is None or isinstance(said.exception, SystemExit)


SCAN = """
import sys, pathlib
from ktrdr.data.csv_store import CsvStore
there = CsvStore(pathlib.Path(sys.argv[1])).scan()
print(sorted(map(str, there.found)), *(f"{e.message} ({e.hint})" for e in there.blocked.values()))
"""


@pytest.mark.skipif(not shutil.which("setpriv") or os.geteuid(), reason="needs root and setpriv")
def test_a_link_into_a_folder_that_may_not_be_read_is_named(folder, scratch):
    secret = scratch / "secret"
    secret.mkdir(mode=0o700)
    (secret / "x.csv").write_text(HEADER)
    (folder / "ODD_1m.csv").symlink_to(secret / "x.csv")
    scratch.chmod(0o755)
    nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    command = [*nobody, sys.executable, "-c", SCAN, str(folder)]
    path = {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, cwd=ROOT, env=path, check=False
    )
    assert done.stdout.startswith("['AAPL_1h'] ODD_1m.csv: Permission denied (let "), done.stderr


def test_what_a_link_leads_to_is_not_shown(folder, filler, scratch):
    secret = scratch / "passwd"
    secret.write_text("root:x:0:0:secret\n")
    (folder / "ODD_1m.csv").symlink_to(secret)
    fill(filler)
    odd = shown(filler)["ODD_1m"]
    assert odd["state"] == "failed"
    assert "expected the header" in odd["error"]
    assert "secret" not in odd["error"]


def test_leftovers_behind_a_link_that_cannot_be_followed_stop_no_start(folder):
    link_loop(folder / "ODD_1m.csv")
    dangling(folder / "MORE_1m.csv")
    assert CsvStore(folder).clear_leftovers() == 0
