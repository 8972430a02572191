"""What a folder's watcher reports of real files, and what the gap filler does then."""

import contextlib
import queue
import threading

import pytest

from ktrdr.gap_filler.gap_filler import GapFiller
from ktrdr.store.csv_store import CsvStore
from ktrdr.store.folder_watch import FolderWatch
from tests.fake_connection import HEADER, NOW, Inline, coverage_of, fill, utc

WITHIN_S = 2.0


@pytest.fixture
def received():
    return queue.Queue()


@pytest.fixture
def watching(received):
    """`watching(folder)`: what is reported, after the report at the beginning."""

    @contextlib.contextmanager
    def watching(folder, *, is_there=True):
        watch = FolderWatch(folder, received.put, again_s=0.05)
        watch.start()
        try:
            if is_there:
                assert received.get(timeout=10) is None
            yield
        finally:
            watch.stop()

    return watching


def test_a_new_file_is_reported_within_two_seconds(received, watching, data_dir):
    with watching(data_dir):
        (data_dir / "ORCL_1d.csv").write_text(HEADER)
        assert received.get(timeout=WITHIN_S) == {"ORCL_1d.csv"}


def test_a_file_that_is_changed_replaced_or_removed_is_reported(received, watching, data_dir):
    path = data_dir / "ORCL_1d.csv"
    path.write_text(HEADER)
    with watching(data_dir):
        with path.open("a") as file:
            file.write("x\n")
        assert "ORCL_1d.csv" in received.get(timeout=WITHIN_S)
        (data_dir / ".new").write_text(HEADER)
        (data_dir / ".new").replace(path)
        assert "ORCL_1d.csv" in received.get(timeout=WITHIN_S)
        path.unlink()
        assert received.get(timeout=WITHIN_S) == {"ORCL_1d.csv"}


def test_reading_and_changes_in_subfolders_are_not_reported(received, watching, data_dir):
    (data_dir / ".ktrdr").mkdir()
    (data_dir / "first.csv").write_text(HEADER)
    with watching(data_dir):
        (data_dir / ".ktrdr/ledger").write_text("x")
        (data_dir / "first.csv").read_text()
        (data_dir / "last.csv").write_text("")
        assert received.get(timeout=WITHIN_S) == {"last.csv"}


def test_many_changes_are_reported_together(received, watching, data_dir):
    with watching(data_dir):
        for number in range(300):
            (data_dir / f"A{number}_1d.csv").write_text(HEADER)
        names = set()
        calls = 0
        while len(names) < 300:
            names |= received.get(timeout=WITHIN_S)
            calls += 1
        assert calls < 10


def test_a_folder_that_is_made_later_is_watched_then(received, watching, scratch, caplog):
    folder = scratch / "later"
    with watching(folder, is_there=False):
        wait_for_line(caplog, "is missing: new files are noticed only at scans")
        folder.mkdir()
        assert received.get(timeout=WITHIN_S) is None
        (folder / "A_1d.csv").write_text(HEADER)
        assert received.get(timeout=WITHIN_S) == {"A_1d.csv"}
    assert len(caplog.records) == 1


def test_a_folder_that_was_replaced_is_watched_anew(received, watching, data_dir):
    with watching(data_dir):
        data_dir.rename(data_dir.with_name("old"))
        data_dir.mkdir()
        while received.get(timeout=15) is not None:
            pass
        (data_dir / "A_1d.csv").write_text(HEADER)
        assert received.get(timeout=WITHIN_S) == {"A_1d.csv"}


def test_what_cannot_be_watched_is_one_line_in_the_log(received, watching, data_dir, caplog):
    data_dir.rmdir()
    data_dir.symlink_to(data_dir)  # no folder can be had by it
    with watching(data_dir, is_there=False):
        wait_for_line(caplog, "cannot be watched")
        with pytest.raises(queue.Empty):
            received.get(timeout=0.3)
    assert len(caplog.records) == 1
    data_dir.unlink()
    data_dir.mkdir()


def wait_for_line(caplog, words):
    line_written = threading.Event()
    while not any(words in record.message for record in caplog.records):
        line_written.wait(0.01)


def test_it_ends_at_once_and_leaves_no_thread(watching, data_dir):
    before = threading.active_count()
    with watching(data_dir):
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


# What the gap filler makes of it.


@pytest.fixture
def filler(make_filler):
    return make_filler()


@pytest.fixture
def notice(clock):
    """What was reported; no other series is assessed, and no scan is made."""

    def note(filler, *names):
        scanned = filler.status.last_scan_time
        clock.now += 1
        filler.note_changed_files(names)
        fill(filler)
        assert filler.status.last_scan_time == scanned

    return note


def series(filler):
    return [f"{one['symbol']}_{one['timeframe']}" for one in coverage_of(filler)["series"]]


def test_a_new_file_is_filled_without_a_scan(filler, put, notice):
    put("MSFT_1d")
    fill(filler)
    path = put("AAPL_1d")
    notice(filler, "AAPL_1d.csv")
    assert series(filler) == ["AAPL_1d", "MSFT_1d"]
    assert len(path.read_text().splitlines()) == 5


def test_a_file_of_which_rows_were_deleted_is_filled_again(filler, put, notice):
    path = put("AAPL_1d")
    fill(filler)
    text = path.read_text()
    path.write_text("".join(text.splitlines(keepends=True)[:3]))
    notice(filler, "AAPL_1d.csv")
    assert path.read_text() == text


def test_a_file_that_was_removed_is_forgotten(filler, put, notice):
    put("AAPL_1d")
    path = put("MSFT_1d")
    fill(filler)
    path.unlink()
    notice(filler, "MSFT_1d.csv")
    assert series(filler) == ["AAPL_1d"]


def test_nothing_is_forgotten_while_the_whole_folder_is_missing(filler, put, data_dir, notice):
    put("AAPL_1d")
    fill(filler)
    data_dir.rename(data_dir.with_name("away"))
    notice(filler, "AAPL_1d.csv")
    assert series(filler) == ["AAPL_1d"]
    data_dir.with_name("away").rename(data_dir)


class Counted(CsvStore):
    """A store that counts how often it is looked at which bars a series has."""

    looks = 0

    def contents(self, series, since):
        self.looks += 1
        return super().contents(series, since)


def test_the_gap_fillers_own_writing_causes_no_scan_and_no_request(
    make_settings, connection, put, notice
):
    settings = make_settings(ktrdr_gap_max_age_days=30)
    store = Counted(settings.data_dir, indexed=True)
    connection.absent = {utc(f"2026-11-{day}") for day in range(10, 18)}
    put("AAPL_1d")
    with contextlib.closing(
        GapFiller(settings, connection, lambda: NOW, Inline(), store)
    ) as filler:
        fill(filler)
        assert coverage_of(filler)["series"][0]["missing"] == {"unproven": 8}
        before = store.looks, len(connection.requested)
        notice(filler, "AAPL_1d.csv", ".AAPL_1d.csv.tmp")
        assert (store.looks, len(connection.requested)) == before


def test_names_that_are_no_series_are_left_to_the_scan(filler, put, notice):
    put("AAPL_1d")
    fill(filler)
    notice(filler, "AAPL_2d.csv", "notes.txt", "..csv")
    assert series(filler) == ["AAPL_1d"]


def test_a_file_that_was_broken_and_is_fixed_is_filled(filler, put, notice):
    path = put("AAPL_1d")
    path.write_text(HEADER + "oops\n")
    fill(filler)
    assert coverage_of(filler)["series"][0]["error"]
    path.write_text(HEADER)
    notice(filler, "AAPL_1d.csv")
    assert len(path.read_text().splitlines()) == 5


def test_instruments_toml_takes_effect_at_once(filler, put, data_dir):
    path = put("AAPL_1d")
    fill(filler)
    (data_dir / "instruments.toml").write_text("[AAPL]\nsince = 2026-11-01\n")
    filler.note_changed_files(["instruments.toml"])
    fill(filler)
    assert path.read_text().splitlines()[1].startswith("2026-11-01")


def test_a_name_is_looked_at_again_when_instruments_toml_can_be_read(filler, put, data_dir):
    fill(filler)
    toml = data_dir / "instruments.toml"
    toml.write_text("[AAPL\n")
    path = put("AAPL_1d")
    filler.note_changed_files(["AAPL_1d.csv"])
    fill(filler)
    assert filler.status.state == "refused"
    toml.unlink()
    fill(filler)
    assert len(path.read_text().splitlines()) == 5


def test_a_second_name_for_one_file_is_refused_at_once_and_taken_back_so(
    filler, put, data_dir, notice
):
    path, other = put("AAPL_1d"), data_dir / "MSFT_1d.csv"
    fill(filler)
    text = path.read_text()
    path.write_text(HEADER)
    other.hardlink_to(path)
    notice(filler, "AAPL_1d.csv", "MSFT_1d.csv")
    assert [bool(one["error"]) for one in coverage_of(filler)["series"]] == [True, True]
    assert path.read_text() == HEADER
    other.unlink()
    notice(filler, "MSFT_1d.csv")
    assert series(filler) == ["AAPL_1d"]
    assert path.read_text() == text
