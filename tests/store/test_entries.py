"""Entries of a store's folder that are no files of their own: named, shown, no end of others."""

import os
import shutil
import socket

import pytest
from typer.testing import CliRunner

from ktrdr.check.defects import FindingState
from ktrdr.check.store import StoreCheck
from ktrdr.cli import app
from ktrdr.errors import MalformedFile
from ktrdr.gap_filler.gap_filler import GapFiller
from ktrdr.market.instruments import parse_series
from ktrdr.store.csv_store import CsvStore
from tests.fake_connection import HEADER, NOW, Inline, coverage_of, fill, line, price, utc
from tests.store.test_probe import as_nobody, needs_root

DAY_OF_AAPL = [price(utc("2026-11-20 10:00")), price(utc("2026-11-20 11:00"))]


@pytest.fixture
def folder(data_dir):
    """A store with one sound series."""
    (data_dir / "AAPL_1h.csv").write_text(HEADER)
    return data_dir


@pytest.fixture
def filler(make_filler, folder):
    return make_filler(CsvStore(folder, indexed=True))


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


def shown(filler):
    return {f"{e['symbol']}_{e['timeframe']}": e for e in coverage_of(filler)["series"]}


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
def test_the_other_series_are_filled(make, folder, filler):
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
    filler.request_scan()
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
    filler.request_scan()
    fill(filler)
    odd = shown(filler)["AAPL_1h"]
    assert (odd["state"], odd["expected"], odd["first"]) == ("failed", None, None)
    path.unlink()
    path.write_text(there)
    filler.request_scan()
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
    assert hint in finding.fix
    assert finding.is_broken
    assert finding.state is FindingState.STAYS


@pytest.fixture
def ktrdr(make_settings, monkeypatch):
    """The command line on this store."""
    settings = make_settings()
    monkeypatch.setenv("KTRDR_RUN_DIR", str(settings.ktrdr_run_dir))
    monkeypatch.setenv("KTRDR_DATA_DIR", str(settings.data_dir))
    return lambda *words: CliRunner().invoke(app, words)


def test_the_command_check_reports_it_and_the_rest(ktrdr, folder):
    link_loop(folder / "ODD_1m.csv")
    result = ktrdr("check")
    assert result.exit_code == 1
    assert "ODD_1m.csv" in result.output
    assert "2 files" in result.output


NO_NAMES = [b"A\n_1m.csv", b"\xff\xfe_1m.csv", b"A_\xff.csv", b"A_\n1m.csv", b"<b>_1m.csv"]


@pytest.mark.parametrize("name", NO_NAMES)
def test_an_invalid_name_is_reported_in_one_line(name, folder, filler, ktrdr):
    try:
        (folder / os.fsdecode(name)).write_text(HEADER)
    except OSError:
        pytest.skip("this file system has no such names")
    fill(filler)
    (problem,) = filler.status.recent_errors
    for text in (problem.message, problem.hint):
        assert text
        assert "\n" not in text
        assert text.encode()  # it can be written to a log, which no surrogate can
    assert problem.what == "other files"
    assert list(shown(filler)) == ["AAPL_1h"]
    assert filler.status.state == "idle"
    result = ktrdr("check")
    assert result.exit_code == 1
    assert result.exception is None or isinstance(result.exception, SystemExit)


def test_an_invalid_name_is_reported_as_over_when_it_is_gone(folder, filler):
    (folder / "AAPL_2x.csv").write_text(HEADER)
    for is_over in (False, True):
        filler.request_scan()
        fill(filler)
        assert [problem.is_over for problem in filler.status.recent_errors] == [is_over]
        assert filler.status.strange == (0 if is_over else 1)
        assert filler.status.strange_one.startswith("" if is_over else "'AAPL_2x.csv' is no series")
        assert len(filler.status.unread) == filler.status.strange
        (folder / "AAPL_2x.csv").unlink(missing_ok=True)


def test_a_file_that_was_given_its_name_is_no_longer_reported_without_a_new_scan(folder, filler):
    (folder / "IBM-1h.csv").write_text(HEADER)
    fill(filler)
    assert filler.status.strange == 1
    (folder / "IBM-1h.csv").rename(folder / "IBM_1h.csv")
    filler.note_changed_files({"IBM-1h.csv", "IBM_1h.csv"})
    fill(filler)
    assert filler.status.strange == 0
    assert shown(filler)["IBM_1h"]["state"] == "complete"


OTHERS = {
    "name": ("AAPL-1d.csv", "AAPL_1d.csv"),
    "capitals": ("MSFT_1d.CSV", "MSFT_1d.csv"),
    "compressed": ("IBM_1d.csv.gz", "IBM_1d.csv"),
    "text": ("KO_1d.txt", "KO_1d.csv"),
    "format": ("T_1d.parquet", "T_1d.csv"),
    "subfolder": ("stocks/META_1d.csv", "META_1d.csv"),
}


def test_files_that_are_not_read_are_reported_once_for_each_kind(folder, filler, caplog):
    (folder / "stocks").mkdir()
    for name, _ in OTHERS.values():
        for number in range(12):
            (folder / name.replace("_", f"{number:02}_").replace("-", f"{number:02}-")).touch()
        (folder / name).touch()
    for _ in range(2):
        filler.request_scan()
        fill(filler)
    unread = {one.kind: one for one in filler.status.unread}
    assert list(unread) == list(OTHERS)
    assert filler.status.strange == 13 * len(OTHERS)
    problems = {one.message: one for one in filler.status.recent_errors}
    assert len(problems) == len(OTHERS)
    assert caplog.text.count("other files: ") == len(OTHERS)
    for kind, (name, proper) in OTHERS.items():
        one = unread[kind]
        assert (one.count, len(one.files)) == (13, 10)
        assert problems[f"13 files are not read: {one.cause}"].hint == one.hint
        shortened = {f.replace("00", ""): p.replace("00", "") for f, p in one.files.items()}
        assert shortened[name] == proper


@needs_root
def test_a_link_into_a_folder_that_may_not_be_read_is_named(folder, scratch):
    secret = scratch / "secret"
    secret.mkdir(mode=0o700)
    (secret / "x.csv").write_text(HEADER)
    (folder / "ODD_1m.csv").symlink_to(secret / "x.csv")
    scratch.chmod(0o755)

    def scan() -> str:
        there = CsvStore(folder).scan()
        received = [f"{error.message} ({error.hint})" for error in there.blocked.values()]
        return f"{sorted(map(str, there.found))} {received[0]}"

    assert as_nobody(scan).startswith("['AAPL_1h'] ODD_1m.csv: Permission denied (let ")


# Two names for one file.


def hard_link(folder):
    (folder / "JPM_1h.csv").hardlink_to(folder / "WMT_1h.csv")


def two_links(folder):
    outside = folder.parent / "shared.txt"
    (folder / "WMT_1h.csv").rename(outside)
    for name in ("WMT_1h.csv", "JPM_1h.csv"):
        (folder / name).symlink_to(outside)


def another_timeframe(folder):
    (folder / "WMT_1m.csv").hardlink_to(folder / "WMT_1h.csv")


@pytest.mark.parametrize("make", [hard_link, two_links, another_timeframe])
def test_nothing_is_written_to_a_file_that_two_series_have(make, folder, filler):
    path = folder / "WMT_1h.csv"
    path.write_text(HEADER + "".join(map(line, DAY_OF_AAPL)))
    make(folder)
    there = path.read_text()
    fill(filler)
    refused = {name: e for name, e in shown(filler).items() if e["state"] == "failed"}
    names = sorted(path.name for path in folder.glob("*.csv") if path.name != "AAPL_1h.csv")
    assert sorted(f"{name}.csv" for name in refused) == names
    for entry in refused.values():
        assert all(name in entry["error"] and name in entry["hint"] for name in names)
    assert path.read_text() == there
    assert filler.status.series_blocked == 2
    assert shown(filler)["AAPL_1h"]["state"] == "complete"


@pytest.mark.parametrize("make", [hard_link, two_links])
def test_when_one_of_the_names_is_gone_the_other_is_filled(make, folder, filler):
    path = folder / "WMT_1h.csv"
    path.write_text(HEADER)
    make(folder)
    fill(filler)
    (folder / "JPM_1h.csv").unlink()
    filler.request_scan()
    fill(filler)
    assert shown(filler)["WMT_1h"]["state"] == "complete"
    assert path.read_text() != HEADER


def test_a_link_to_another_series_is_refused_and_that_series_goes_on(folder, filler):
    (folder / "JPM_1h.csv").symlink_to("AAPL_1h.csv")
    fill(filler)
    refused = shown(filler)["JPM_1h"]
    assert "it is a link to AAPL_1h.csv, which has the bars of AAPL_1h" in refused["error"]
    assert "remove the link JPM_1h.csv" in refused["hint"]
    assert refused["state"] == "failed"
    assert shown(filler)["AAPL_1h"]["state"] == "complete"


def test_answers_that_come_when_a_second_name_was_made_are_not_written(
    make_settings, connection, folder
):
    path = folder / "WMT_1h.csv"
    path.write_text(HEADER)
    held = []

    class Later(Inline):
        def submit(self, work, /, *args, **kwargs):
            if "WMT" in str(getattr(work, "args", ())) and "_bars" in str(work):
                held.append(done := super().submit(work, *args, **kwargs))
                late = type(done)()
                late.given = done
                held[-1] = late
                return late
            return super().submit(work, *args, **kwargs)

    filler = GapFiller(make_settings(), connection, lambda: NOW, Later())
    for _ in range(5):
        filler.step()
    assert held
    hard_link(folder)
    filler.request_scan()
    filler.step()
    for late in held:
        late.set_result(late.given.result())
    fill(filler)
    assert path.read_text() == HEADER
    filler.close()


@pytest.mark.parametrize("make", [hard_link, two_links])
def test_a_second_name_is_noticed_at_the_very_write(make, folder):
    path, wmt = folder / "WMT_1h.csv", parse_series("WMT_1h.csv")
    path.write_text(HEADER)
    store = CsvStore(folder)
    store.scan()
    make(folder)
    with pytest.raises(MalformedFile, match=r"JPM_1h\.csv and WMT_1h\.csv are one file"):
        store.add(wmt, DAY_OF_AAPL)
    assert path.read_text() == HEADER
    (folder / "JPM_1h.csv").unlink()
    assert store.add(wmt, DAY_OF_AAPL) == 2


def test_a_link_to_a_file_elsewhere_that_no_other_series_has_works(folder, filler, scratch):
    outside = scratch / "jpm.txt"
    outside.write_text(HEADER)
    (folder / "JPM_1h.csv").symlink_to(outside)
    fill(filler)
    assert shown(filler)["JPM_1h"]["state"] == "complete"
    assert (folder / "JPM_1h.csv").is_symlink()
    assert outside.read_text() != HEADER


def test_a_snapshot_outside_the_store_may_share_files_with_it(folder, filler, scratch):
    (scratch / "snapshot").mkdir()
    (scratch / "snapshot" / "AAPL_1h.csv").hardlink_to(folder / "AAPL_1h.csv")
    fill(filler)
    assert shown(filler)["AAPL_1h"]["state"] == "complete"
    assert (scratch / "snapshot" / "AAPL_1h.csv").read_text() == HEADER


def test_two_files_that_are_alike_are_two(folder):
    for name in ("JPM_1h.csv", "jpm_1h.csv", "WMT_1h.csv"):
        (folder / name).write_text(HEADER)
        os.utime(folder / name, ns=(10**18, 10**18))
    there = CsvStore(folder).scan()
    assert not there.blocked
    assert parse_series("WMT_1h.csv") in there.found


def test_check_names_both_and_fixes_neither(folder):
    path = folder / "WMT_1h.csv"
    path.write_text(HEADER + "\n" + "".join(map(line, DAY_OF_AAPL)))
    hard_link(folder)
    there = path.read_text()
    check = StoreCheck(folder, lambda: NOW)
    findings = [f for s in check.series() for f in check.check(s, fix=True).findings]
    assert [finding.where for finding in findings] == ["JPM_1h.csv", "WMT_1h.csv"]
    assert all("are one file" in finding.what for finding in findings)
    assert path.read_text() == there


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
