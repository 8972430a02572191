"""What the gap filler says of itself: numbers that are what they are called, and what is amiss."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import time
from datetime import UTC, datetime

import pytest

from ktrdr.errors import NotEntitled, RequestFailed, StoreUnwritable, UnknownContract, WrongSource
from ktrdr.gap_filler.gap_filler import GapFiller
from ktrdr.ipc.messages import OutageCost
from ktrdr.ledger.fills import FillRecords
from ktrdr.ledger.ledger import Clock, Ledger
from ktrdr.market.instruments import parse_series
from ktrdr.store.csv_store import CsvStore
from tests.fake_connection import DAY, HEADER, NOW, Inline, coverage_of, fill, utc
from tests.gap_filler.test_gap_filler import RECENT, minutes, starts_in
from tests.store.dict_store import DictStore
from tests.store.test_probe import as_nobody, mounted, needs_root


def test_all_is_complete_and_as_new_as_its_market(put, make_filler):
    put("AAPL_1m")
    fill(filler := make_filler())
    said = filler.status
    assert (said.series, said.series_current, said.series_states) == (1, 1, {})
    assert said.newest_bar_time == datetime(2026, 11, 20, 11, 59, tzinfo=UTC)
    assert said.eta_words == said.waits_for == ""


def test_bars_that_became_due_just_now_make_no_series_late(put, make_filler, clock, connection):
    clock.now = utc("2026-11-20 11:00")
    put("AAPL_1m")
    fill(filler := make_filler())
    connection.connected = False
    for now, current in (("11:05", 1), ("11:09", 0)):
        clock.now = utc(f"2026-11-20 {now}")
        filler.request_scan()
        filler.step()
        assert filler.status.series_current == current, now
    assert filler.status.series_states == {"waiting": 1}
    assert filler.status.waits_for == "no data from IB: waiting"


def test_a_market_that_is_closed_makes_no_series_late(put, make_filler, clock, connection):
    put("AAPL_1m")
    fill(filler := make_filler())
    connection.connected = False
    clock.now = utc("2026-11-21 09:59")
    filler.request_scan()
    filler.step()
    assert filler.status.series_current == 1


def test_a_failed_gap_is_one_gap_however_often_it_was_tried(put, make_filler, connection):
    put("AAPL_1h")
    filler = make_filler()
    connection.bars_refusals = {"AAPL": RequestFailed("once", code=162)}
    for _ in range(6):
        filler.request_scan()
        fill(filler)
    said = filler.status
    assert (said.gaps_remaining, said.gaps_failed, said.requests_failed) == (1, 1, 6)
    assert said.waits_for.startswith("the next try, at 15:0")
    assert said.waits_for.endswith(" UTC")
    connection.bars_refusals = {}
    filler.request_scan()
    fill(filler)
    said = filler.status
    assert (said.gaps_remaining, said.gaps_failed, said.requests_failed) == (0, 0, 6)
    assert (said.gaps_detected, said.gaps_filled) == (1, 1)
    assert [problem.is_over for problem in said.recent_errors] == [True]


def test_counters_say_since_when_they_count(put, make_filler, clock):
    put("AAPL_1m")
    fill(filler := make_filler())
    clock.now += DAY
    fill(filler)
    assert filler.status.counted_since == datetime.fromtimestamp(NOW, UTC)
    assert filler.status.as_of == datetime.fromtimestamp(NOW + DAY, UTC)


def test_never_more_gaps_are_filled_than_were_found(put, make_filler):
    there = minutes(*RECENT)
    put("AAPL_1m", there[::7])
    fill(filler := make_filler())
    said = filler.status
    assert said.gaps_detected == said.gaps_filled == len(there[::7]) - (there[-1] in there[::7])
    assert said.gaps_remaining == 0


def test_a_gap_that_takes_many_requests_is_one_gap(put, make_filler, connection):
    put("AAPL_1m")
    fill(filler := make_filler(ktrdr_gap_max_age_days=90))
    said = filler.status
    assert len(connection.requested) > 1
    assert (said.gaps_detected, said.gaps_filled, said.gaps_remaining) == (1, 1, 0)


def test_a_program_that_was_started_again_counts_anew_and_says_so(put, make_filler, clock):
    put("AAPL_1m")
    fill(make_filler())
    clock.now += 60
    fill(filler := make_filler())
    said = filler.status
    assert (said.gaps_detected, said.bars_added) == (0, 0)
    assert said.counted_since == datetime.fromtimestamp(NOW + 60, UTC)


class Unhurried(CsvStore):
    """Its disk takes its time, so that what is left takes some, too."""

    def add(self, series, bars, **how):
        time.sleep(0.15)
        return super().add(series, bars, **how)


def test_no_time_is_promised_while_what_failed_waits_for_its_next_try(
    make_settings,
    connection,
    clock,
    put,
):
    """Though it is known well how long it would take."""
    put("MSFT_1m")
    settings = make_settings(ktrdr_gap_max_age_days=120)
    store = Unhurried(settings.data_dir, indexed=True)
    with contextlib.closing(GapFiller(settings, connection, clock, Inline(), store)) as filler:
        promised = []
        while filler.step():
            promised.append(filler.status.eta_s)
        assert any(promised)
        connection.bars_refusals = {"AAPL": RequestFailed("once", code=162)}
        put("AAPL_1m")
        filler.request_scan()
        fill(filler)
        said = filler.status
        assert (said.state, said.gaps_failed, said.eta_s, said.eta_words) == ("idle", 1, None, "")
        assert said.waits_for.startswith("the next try, at")


def test_series_that_need_somebody_are_named_by_their_reason(put, make_filler, connection):
    for name in ("AAPL_1m", "XYZQ_1d", "XYZQ_1h", "NOPERM_1d", "BAD_1m"):
        put(name)
    (put("BAD_1m")).write_text("timestamp,open,high,low,close,volume\noops\n")
    connection.refusals = {
        "XYZQ": UnknownContract("none such", code=200, hint="is it spelt so?"),
        "NOPERM": NotEntitled("No market data permissions", code=162, hint="subscribe"),
    }
    fill(filler := make_filler())
    said = filler.status
    assert (said.series, said.series_current, said.series_troubled) == (5, 1, 4)
    assert sorted((one.outcome, one.series, one.count) for one in said.troubles) == [
        ("malformed_file", ("BAD_1m",), 1),
        ("not_entitled", ("NOPERM_1d",), 1),
        ("unknown_contract", ("XYZQ_1h", "XYZQ_1d"), 2),
    ]
    assert said.series_states == {}


def test_a_series_whose_file_was_removed_needs_nobody(put, make_filler, connection):
    put("AAPL_1m")
    path = put("XYZQ_1d")
    connection.refusals = {"XYZQ": UnknownContract("none such", code=200, hint="is it spelt so?")}
    fill(filler := make_filler())
    path.unlink()
    filler.request_scan()
    fill(filler)
    said = filler.status
    assert (said.series, said.series_current, said.troubles) == (1, 1, ())
    assert [problem.is_over for problem in said.recent_errors] == [True]


def test_bars_that_a_broken_file_does_not_have_are_not_hidden(put, make_filler):
    path = put("AAPL_1h")
    path.write_text(HEADER + "2026-11-17 10:00:00+00:00,1,2,oops,1,5\n")
    fill(filler := make_filler())
    said = filler.status
    assert (said.gaps_remaining, said.unfillable) == (0, {"broken_file": 1})
    (entry,) = coverage_of(filler)["series"]
    assert (entry["expected"], entry["present"], entry["missing"]) == (8, 1, {"broken_file": 7})
    path.write_text(HEADER)
    filler.request_scan()
    fill(filler)
    assert (filler.status.gaps_remaining, filler.status.unfillable) == (0, {})


def test_gaps_of_a_file_that_breaks_are_not_waited_for(put, make_filler, connection):
    path = put("AAPL_1h")
    connection.bars_refusals = {"AAPL": RequestFailed("once", code=162)}
    fill(filler := make_filler())
    assert filler.status.gaps_remaining == 1
    path.write_text(HEADER + "oops\n")
    filler.request_scan()
    fill(filler)
    assert (filler.status.gaps_remaining, filler.status.unfillable) == (0, {"broken_file": 1})


def test_the_days_say_the_same_of_their_missing_bars_as_the_series(put, make_filler, connection):
    put("AAPL_1h")
    put("MSFT_1h")
    connection.bars_refusals = {
        "AAPL": RequestFailed("once", code=162),
        "MSFT": NotEntitled("no permissions", code=162),
    }
    fill(filler := make_filler())
    for entry, reason in zip(
        coverage_of(filler)["series"], ("failed", "not_entitled"), strict=True
    ):
        by_day = [day["missing"] for day in entry["days"]]
        assert {name for missing in by_day for name in missing} == {reason}
        assert entry["missing"] == {reason: sum(missing[reason] for missing in by_day)}


class OneRefused(DictStore):
    """The file of one series may not be written to."""

    def add(self, series, bars, **how):
        if series.symbol == "MSFT":
            raise StoreUnwritable("MSFT_1m.csv: Permission denied") from PermissionError(13, "no")
        return super().add(series, bars, **how)


def test_a_folder_that_has_gone_stops_all_and_forgets_nothing(put, make_filler, data_dir):
    path = put("AAPL_1m")
    fill(filler := make_filler())
    data_dir.rename(data_dir.with_name("away"))
    data_dir.mkdir()
    filler.request_scan()
    for _ in range(3):
        assert not filler.step()
    said = filler.status
    assert (said.series, said.state) == (1, "waiting")
    assert "has gone" in said.store_trouble.message
    assert "mount its disk again" in said.store_trouble.hint
    assert list(data_dir.iterdir()) == []
    shutil.rmtree(data_dir)
    data_dir.with_name("away").rename(data_dir)
    fill(filler)
    assert filler.status.store_trouble is None
    assert (filler.status.series_current, filler.status.state) == (1, "idle")
    assert path.exists()


@needs_root
def test_what_failed_on_a_full_disk_is_filled_as_soon_as_there_is_room(
    put,
    make_filler,
    connection,
    data_dir,
):
    with mounted(data_dir, "size=544k"):
        path = put("AAPL_1m")
        put("XYZQ_1d")
        connection.refusals = {"XYZQ": UnknownContract("none such", code=200, hint="look")}
        fill(filler := make_filler())
        more = put("MSFT_1m")
        with contextlib.suppress(OSError):
            (data_dir / "ballast").write_bytes(bytes(2**20))
        filler.request_scan()
        for _ in range(6):
            filler.step()
        said = filler.status
        assert said.store_trouble.message == f"the disk with {data_dir} is full"
        assert said.state == "waiting"
        assert [trouble.series for trouble in said.troubles] == [("XYZQ_1d",)]
        requested = len(connection.requested)
        for _ in range(5):
            filler.step()
        assert len(connection.requested) == requested  # nothing is asked for that cannot be kept
        (data_dir / "ballast").unlink()
        filler.step()
        fill(filler)
        assert filler.status.store_trouble is None
        assert filler.status.series_current == 2
        assert starts_in(more) == starts_in(path) == minutes(*RECENT)
        filler.close()


def test_one_file_that_cannot_be_written_to_needs_somebody_and_stops_no_other(
    make_settings,
    connection,
    clock,
    data_dir,
):
    store = OneRefused(data_dir)
    for name in ("AAPL_1m.csv", "MSFT_1m.csv"):
        store.create(parse_series(name))
    filler = GapFiller(make_settings(ktrdr_gap_max_age_days=3), connection, clock, Inline(), store)
    fill(filler)
    said = filler.status
    assert (said.series_current, said.store_trouble) == (1, None)
    (trouble,) = said.troubles
    assert (trouble.outcome, trouble.series) == ("store_unwritable", ("MSFT_1m",))
    filler.close()


class Locked(DictStore):
    """Nothing can be written down in it. What its gap filler says while it looks is kept."""

    filler: GapFiller
    is_locked = True

    def __init__(self, folder):
        super().__init__(folder)
        self.said = []

    def scan(self):
        self.said.append(self.filler.status)
        return super().scan()

    def claim(self, source):
        if self.is_locked:
            raise sqlite3.OperationalError("database is locked")
        super().claim(source)


@pytest.fixture
def locked(make_settings, connection, clock, data_dir):
    """A store with one series, that cannot be written to."""
    store = Locked(data_dir)
    store.create(parse_series("AAPL_1m.csv"))
    settings = make_settings(ktrdr_gap_max_age_days=3)
    store.filler = GapFiller(settings, connection, clock, Inline(), store)
    yield store
    store.filler.close()


def test_what_the_store_refuses_is_reported_until_a_try_went_well(locked):
    for _ in range(4):
        assert not locked.filler.step()
    first, *later = [status.store_trouble for status in locked.said]
    assert first is None
    assert len(later) == 3
    assert all(trouble and "database is locked" in trouble.message for trouble in later)
    locked.is_locked = False
    fill(locked.filler)
    assert locked.filler.status.store_trouble is None
    assert (locked.filler.status.state, locked.filler.status.series_current) == ("idle", 1)


def test_entries_that_cannot_be_read_are_reported_until_they_can(locked, data_dir):
    locked.is_locked = False
    (data_dir / "instruments.toml").write_text("[[[ broken")
    for _ in range(4):
        assert not locked.filler.step()
    assert [status.state for status in locked.said] == ["scanning", *["refused"] * 3]
    (data_dir / "instruments.toml").unlink()
    fill(locked.filler)
    assert locked.filler.status.state == "idle"


def may_only_be_read(path):
    path.write_text(HEADER)
    path.chmod(0o444)


def may_not_be_read(path):
    path.write_text(HEADER)
    path.chmod(0)


def leads_where_nobody_may_look(path):
    secret = path.parents[1] / "secret"
    secret.mkdir(mode=0o700)
    (secret / "x.csv").write_text(HEADER)
    path.symlink_to(secret / "x.csv")


@needs_root
@pytest.mark.parametrize("make", [may_only_be_read, may_not_be_read, leads_where_nobody_may_look])
def test_a_file_of_somebody_else_needs_somebody_and_stops_no_other(
    put,
    make_filler,
    data_dir,
    scratch,
    make,
):
    put("AAPL_1m").chmod(0o666)
    make(data_dir / "MSFT_1m.csv")
    scratch.chmod(0o755)
    data_dir.chmod(0o777)

    def work() -> str:
        fill(filler := make_filler())
        said = filler.status
        (trouble,) = said.troubles
        state = f"{said.series_current} of {said.series}, {said.state}, {said.store_trouble}"
        return f"{state}: {trouble.series} {trouble.message} ({trouble.hint})"

    said = as_nobody(work)
    assert said.startswith("1 of 2, idle, None: ('MSFT_1m',) ")
    assert "MSFT_1m.csv: Permission denied" in said
    assert "(let the user that runs the programs read" in said


def test_an_outage_has_cost_the_bars_that_became_due_in_it(put, make_filler, clock, connection):
    clock.now = utc("2026-11-20 10:30")
    for name in ("AAPL_1m", "AAPL_5m", "AAPL_1d"):
        put(name)
    fill(filler := make_filler())
    connection.connected = False
    clock.now = utc("2026-11-20 11:00")
    filler.request_scan()
    filler.step()
    outage = utc("2026-11-20 10:30"), utc("2026-11-20 11:00")
    assert filler.published.cost_of(*outage) == OutageCost(30 + 6, 30 + 6)
    connection.connected = True
    fill(filler)
    assert filler.published.cost_of(*outage) == OutageCost(30 + 6, 0)
    assert filler.published.cost_of(utc("2026-11-19 12:06"), utc("2026-11-20 10:00")).bars_late == 0


def test_an_entry_that_cannot_be_read_refuses_until_it_is_mended(put, make_filler, data_dir):
    put("AAPL_1m")
    fill(filler := make_filler())
    entries = data_dir / "instruments.toml"
    for wrong in ("[[[ broken", "[A]\nx = " + "[" * 3000 + "]" * 3000):
        entries.write_text(wrong)
        filler.note_changed_files(["instruments.toml"])
        scan = filler.request_scan()
        for _ in range(3):
            assert not filler.step()
            assert filler.status.state == "refused"
            assert "instruments.toml" in filler.status.reason
        entries.unlink()
        fill(filler)
        assert (filler.status.state, filler.status.last_scan_id) == ("idle", scan)


def as_a_link_to_nothing(path):
    path.symlink_to("/nowhere/instruments.toml")


@pytest.mark.parametrize("make", [as_a_link_to_nothing, os.mkfifo, os.mkdir])
def test_entries_that_cannot_be_read_are_not_taken_for_none(
    put, make_filler, data_dir, connection, make
):
    put("BTC_1h")
    entries = data_dir / "instruments.toml"
    make(entries)
    filler = make_filler()
    for _ in range(3):
        assert not filler.step()
    said = filler.status
    assert (said.state, connection.requested) == ("refused", [])
    assert str(entries) in said.reason
    assert "remove the link" in said.hint or "move it away" in said.hint


def test_a_file_in_the_place_of_the_folder_is_the_folder_that_has_gone(put, make_filler, data_dir):
    put("AAPL_1m")
    fill(filler := make_filler())
    data_dir.rename(data_dir.with_name("away"))
    data_dir.touch()
    assert not filler.step()
    assert f"the folder {data_dir} has gone" in filler.status.store_trouble.message
    data_dir.unlink()
    data_dir.with_name("away").rename(data_dir)
    fill(filler)
    assert (filler.status.store_trouble, filler.status.series_current) == (None, 1)


def test_nothing_is_promised_while_bars_wait_for_proof(put, make_filler, connection):
    connection.absent = set(minutes(*RECENT)[100:110])
    put("AAPL_1m")
    fill(filler := make_filler())
    said = filler.status
    assert (said.series_states, said.gaps_remaining) == ({"unproven": 1}, 0)
    assert (said.eta_s, said.eta_words) == (None, "")
    assert said.waits_for.startswith("the next try, at")


def test_into_the_store_of_the_other_source_nothing_is_written(put, make_filler, data_dir):
    put("AAPL_1m")
    ours = data_dir / ".ktrdr"
    ours.mkdir()
    (ours / "source").write_text("live\n")
    ledger = Ledger(ours / "ledger.sqlite")
    ledger.keep_clock(Clock("earlier", 0.0, NOW - DAY))
    ledger.close()
    fill_id = FillRecords(ours / "ledger.sqlite").request(parse_series("AAPL_1d.csv"), 0, NOW).id

    def state():
        return {path.name: path.read_bytes() for path in data_dir.rglob("*") if path.is_file()}

    before = state()
    filler = make_filler()
    for _ in range(3):
        filler.step()
        assert filler.status.state == "refused"
        assert state() == before
    with pytest.raises(WrongSource):
        filler.requests.cancel({"id": str(fill_id)})
    assert state() == before
