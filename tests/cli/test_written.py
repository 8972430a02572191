"""`ktrdr gaps --written` and `ktrdr release`, with a gap filler that runs and with none."""

import json
import os
import shutil
import threading

import pytest
from typer.testing import CliRunner

from ktrdr.cli import app
from ktrdr.errors import UnknownContract
from ktrdr.gap_filler.routes import routes
from ktrdr.ipc.server import LocalServer, serving
from ktrdr.times import utc as moment
from tests.fake_connection import *  # noqa: F403  fixtures
from tests.fake_connection import fill, price, utc

HEADER = "timestamp,open,high,low,close,volume,note\r\n"
DAY = utc("2026-11-19 10:00")
"""When a session of the stand-in begins, which has two hours."""
WHOSE = "AAPL_1m\tktrdr's, in a file that others began"
LONG_AGO_NS = 10**18


def row(start):
    bar = price(start)
    return (
        f"{moment(start):%Y-%m-%dT%H:%M:%SZ},{','.join(map(repr, bar[1:5]))},{bar.volume},mine\r\n"
    )


THEIRS = (HEADER + "".join(map(row, range(DAY, DAY + 1800, 60)))).removesuffix("\r\n")
"""Half an hour, and no line end."""


@pytest.fixture
def ktrdr(make_settings, monkeypatch):
    """The command line, in the environment of the programs."""
    settings = make_settings()
    monkeypatch.setenv("KTRDR_RUN_DIR", str(settings.run_dir))
    monkeypatch.setenv("KTRDR_DATA_DIR", str(settings.data_dir))
    return lambda *words: CliRunner().invoke(app, words)


@pytest.fixture
def aapl(data_dir):
    """A file that others began."""
    path = data_dir / "AAPL_1m.csv"
    path.write_bytes(THEIRS.encode())
    os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS))
    return path


@pytest.fixture
def filler(make_filler, aapl, put, connection):
    """A gap filler that has filled it, and a file of its own."""
    put("MSFT_1h")
    connection.refusals["TSLA"] = UnknownContract("no such contract", code=200)
    put("TSLA_1m", [DAY])
    filler = make_filler()
    fill(filler)
    assert aapl.read_text() != THEIRS
    return filler


@pytest.mark.usefixtures("filler")
def test_the_rows_of_ktrdr_are_listed(ktrdr):
    result = ktrdr("gaps", "--written")
    assert (result.exit_code, result.output.splitlines()) == (
        0,
        [
            "series\trows\tbars\tfirst\tlast",
            f"{WHOSE}\t240\t2026-11-17T10:00:00+00:00\t2026-11-18T11:59:00+00:00",
            f"{WHOSE}\t210\t2026-11-19T10:30:00+00:00\t2026-11-20T11:59:00+00:00",
            "MSFT_1h\tall rows are ktrdr's\t\t\t",
            "TSLA_1m\tno row is known to be ktrdr's\t\t\t",
        ],
    )


@pytest.mark.usefixtures("filler")
def test_the_list_as_json(ktrdr):
    listed = json.loads(ktrdr("gaps", "--written", "AAPL", "--json").output)["series"]
    (one,) = listed
    assert (one["file"], one["written"], one["rows"]) == ("AAPL_1m.csv", "some", 450)
    assert one["ranges"][1] == {
        "first": "2026-11-19T10:30:00+00:00",
        "last": "2026-11-20T11:59:00+00:00",
        "rows": 210,
    }
    msft = json.loads(ktrdr("gaps", "--written", "MSFT", "--json").output)["series"][0]
    assert (msft["written"], msft["rows"], msft["ranges"]) == ("all", None, [])


def test_a_release_gives_back_the_file_and_it_is_not_filled_again(ktrdr, filler, aapl, data_dir):
    filled = aapl.read_bytes()
    filler.close()
    result = ktrdr("release", "AAPL_1m")
    assert result.exit_code == 0, result.output
    assert aapl.read_bytes() == THEIRS.encode()
    lines = result.output.splitlines()
    assert lines[0] == "AAPL_1m.csv: 450 rows of ktrdr's were taken out"
    assert lines[1].startswith("it is byte for byte what it was before the first of them")
    kept = data_dir / lines[2].removeprefix("the file with these rows is ")
    assert kept.read_bytes() == filled
    assert lines[3:] == [
        "AAPL_1m is not kept any more",
        "next: to have it filled again: ktrdr watch add AAPL 1m",
    ]
    fill(filler)
    assert aapl.read_bytes() == THEIRS.encode()


@pytest.fixture
def running(filler, make_settings):
    """The gap filler steps, and answers at its socket."""
    is_over = threading.Event()

    def run():
        while not is_over.is_set():
            filler.step()
            filler.wait()

    with serving(LocalServer(make_settings().gap_filler_socket, routes(filler))):
        thread = threading.Thread(target=run)
        thread.start()
        yield filler
        is_over.set()
        filler.stop()
        thread.join()


def test_a_gap_filler_that_runs_leaves_it_alone_from_then_on(ktrdr, running, aapl, connection):
    result = ktrdr("release", "AAPL_1m", "--json")
    assert result.exit_code == 0, result.output
    released = json.loads(result.output)
    assert (released["rows"], released["as_before"], released["edited"]) == (450, True, [])
    assert aapl.read_bytes() == THEIRS.encode()
    requested = len(connection.requested)
    running.request_scan()
    listed = ktrdr("watch", "list").output.splitlines()
    assert "AAPL_1m\tnot watched\t" in listed
    assert len(connection.requested) == requested
    assert aapl.read_bytes() == THEIRS.encode()


def test_it_is_filled_again_once_that_is_wanted(ktrdr, filler, aapl, data_dir):
    filled = aapl.read_bytes()
    ktrdr("release", "AAPL_1m")
    os.utime(aapl, ns=(LONG_AGO_NS, LONG_AGO_NS))
    (data_dir / "instruments.toml").unlink()
    filler.request_scan()
    fill(filler)
    assert aapl.read_bytes() == filled
    assert ktrdr("release", "AAPL_1m").exit_code == 0
    assert aapl.read_bytes() == THEIRS.encode()


@pytest.mark.usefixtures("filler")
def test_rows_that_others_changed_stay_and_the_code_says_so(ktrdr, aapl):
    ours = b"2026-11-20T11:59:00Z,"
    changed = aapl.read_bytes().replace(ours + b"10", ours + b"20")
    aapl.write_bytes(changed + row(utc("2026-11-20 12:00")).encode())
    listed = ktrdr("gaps", "--written", "AAPL").output.splitlines()
    assert listed[-1].split("\t")[1:3] == ["ktrdr's, changed by others since", "1"]
    result = ktrdr("release", "AAPL_1m")
    assert result.exit_code == 1
    lines = result.output.splitlines()
    assert lines[0] == "AAPL_1m.csv: 449 rows of ktrdr's were taken out"
    assert lines[1].startswith("others have changed the file since, so it is not compared with")
    assert lines[2] == ("1 rows stay, since others have changed them: at 2026-11-20T11:59:00+00:00")
    left = aapl.read_bytes()
    assert left.startswith(THEIRS.encode() + b"\r\n" + ours + b"20")
    assert left.endswith(row(utc("2026-11-20 12:00")).encode())
    assert left.count(b"\n") == 33


@pytest.mark.usefixtures("filler")
@pytest.mark.parametrize(
    ("name", "code", "why"),
    [
        ("MSFT_1h", 1, "all of its rows are ktrdr's, so that none would be left"),
        ("TSLA_1m", 1, "it is not known which of its rows are ktrdr's"),
        ("AAPL_5m", 2, "has no AAPL_5m.csv"),
        ("AAPL", 2, "'AAPL'"),
    ],
)
def test_what_cannot_be_released_is_refused_and_stays_kept(ktrdr, data_dir, name, code, why):
    before = {path: path.read_bytes() for path in data_dir.glob("*.csv")}
    result = ktrdr("release", name)
    assert result.exit_code == code
    assert why in result.output
    assert "next: " in result.output
    assert {path: path.read_bytes() for path in data_dir.glob("*.csv")} == before
    assert not (data_dir / "instruments.toml").exists()


def test_without_a_ledger_nothing_is_known(ktrdr, filler, aapl, data_dir):
    filler.close()
    shutil.rmtree(data_dir / ".ktrdr")
    filled = aapl.read_bytes()
    assert "no row is known to be ktrdr's" in ktrdr("gaps", "--written", "AAPL").output
    result = ktrdr("release", "AAPL_1m")
    assert result.exit_code == 1
    assert "the record of them, .ktrdr/ledger.sqlite, is not there" in result.output
    assert aapl.read_bytes() == filled
    assert not (data_dir / ".ktrdr").exists()


@pytest.mark.usefixtures("filler")
def test_a_file_that_cannot_be_read_is_named_and_the_others_are_listed(ktrdr, aapl):
    aapl.write_bytes(b"what is this\n")
    result = ktrdr("gaps", "--written")
    assert result.exit_code == 1
    assert "AAPL_1m\tAAPL_1m.csv line 1: 'what is this': expected the header" in result.output
    assert "MSFT_1h\tall rows" in result.output


def test_an_emptied_file_is_ktrdr_s_from_then_on(ktrdr, filler, aapl):
    aapl.write_bytes(HEADER.encode())
    filler.request_scan()
    fill(filler)
    assert "all of its rows are ktrdr's" in ktrdr("release", "AAPL_1m").output
    aapl.write_bytes(aapl.read_bytes() + row(utc("2026-11-20 12:00")).encode())
    assert "it is not known which of its rows are" in ktrdr("release", "AAPL_1m").output
