"""The gap filler, a real connection and the simulated gateway: bad answers, splits, revisions."""

import contextlib
from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from ktrdr.sim.market.market import GeneratedMarket
from tests.fake_connection import DAY, coverage_of, line, utc
from tests.simulated_group import HEADER, NOW, Group


class SettlingMarket(GeneratedMarket):
    """A day's last price is told as settled from the next day on: a quarter more."""

    def bars(self, contract, size, *args, as_of=None, **options):
        found = super().bars(contract, size, *args, as_of=as_of, **options)
        if not size.is_daily:
            return found
        is_settled = found.start // DAY < (as_of - date(1970, 1, 1)).days
        close = np.where(is_settled, found.close + 0.25, found.close)
        return replace(found, close=close, high=np.maximum(found.high, close))


@pytest.fixture
def group(make_settings, data_dir, wait_for):
    with contextlib.ExitStack() as stack:
        group = Group(stack, make_settings, data_dir, SettlingMarket(seed=5))
        wait_for(lambda: group.manager.is_connected)
        yield group


def text_of(bars):
    return HEADER + "".join(line(bar) for bar in bars)


@pytest.mark.parametrize("symbol", ["EURUSD", "AAPL", "ESZ6"])
def test_four_hour_bars_whose_hours_nobody_knows_yet_take_one_request(group, symbol):
    path = group.watch(f"{symbol}_4h")
    group.fill()
    bars = group.truth(symbol, "4h", utc("2026-11-15"), NOW)
    assert path.read_text() == text_of([bar for bar in bars if bar.start < NOW - 4 * 3600])
    requested = [one for one in group.gateway.record if one.get("bar_size") == "4 hours"]
    assert [one["event"] for one in requested] == ["received", "answered"]


RECENT = (utc("2026-11-16"), NOW)


@pytest.mark.parametrize("fault", ["doubled_bars", "unordered_bars"])
def test_bars_that_come_twice_or_out_of_order_are_stored_once_and_in_order(group, fault):
    path = group.watch("AAPL_5m")
    with group.gateway.fault(fault):
        group.fill()
    assert path.read_text() == text_of(group.truth("AAPL", "5m", *RECENT))
    assert group.problems() == []


def test_the_beginning_of_a_bar_at_the_end_of_an_answer_is_no_revision(group):
    """A session's first hour has 30 minutes: an hour after it the next but one is under way."""
    bars = group.truth("AAPL", "1h", utc("2026-11-16"), NOW)
    missing = [bar for bar in bars if bar.start == utc("2026-11-18 14:30")]
    path = group.watch("AAPL_1h", [bar for bar in bars if bar not in missing])
    group.fill()
    assert path.read_text() == text_of(bars)
    assert coverage_of(group.filler)["series"][0]["state"] == "complete"
    assert group.problems() == []


def test_missing_bars_are_not_taken_for_absent_after_one_answer(group):
    path = group.watch("AAPL_5m")
    there = group.truth("AAPL", "5m", *RECENT)
    with group.gateway.missing_bars(every=3):
        group.fill()
    assert set(path.read_text().splitlines()) < set(text_of(there).splitlines())
    assert set(group.filler.status.unfillable) == {"unproven"}
    assert coverage_of(group.filler)["series"][0]["state"] == "unproven"
    requested = len(group.requested())
    group.scan()
    assert len(group.requested()) == requested, "not before an hour has passed"
    group.now += 3601
    group.fill()
    assert path.read_text() == text_of(there)
    assert coverage_of(group.filler)["series"][0]["state"] == "complete"


def test_bars_that_ib_does_not_have_each_time_are_taken_for_absent_until_the_next_day(group):
    path = group.watch("AAPL_5m")
    there = group.truth("AAPL", "5m", *RECENT)
    with group.gateway.missing_bars(every=3):
        group.fill()
        group.now += 3601
        group.fill()
    assert set(group.filler.status.unfillable) == {"no_trades"}
    requested = len(group.requested())
    group.scan()
    assert len(group.requested()) == requested
    group.now += 3 * DAY // 2
    group.fill()
    assert path.read_text() == text_of(there)


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("nan", "invalid bars, the first at 2026-11-16T"),
        ("inf", "invalid bars, the first at 2026-11-16T"),
        ("unset", "invalid bars, the first at 2026-11-16T"),
        ("low", "invalid bars, the first at 2026-11-16T"),
        ("half_minute", "invalid bars, the first at 2026-11-16T"),
        ("zero", "invalid bars, the first at 2026-11-16T"),
        ("unset_volume", "invalid bars, the first at 2026-11-16T"),
        ("contradicting", "invalid bars, the first at 2026-11-16T"),
        ("night", "bars at times without trading, the first at 2026-11-17T02:35"),
    ],
)
def test_of_a_damaged_answer_what_is_valid_is_stored_and_the_rest_requested_again(group, how, why):
    path = group.watch("AAPL_5m")
    there = group.truth("AAPL", "5m", *RECENT)
    with group.gateway.wrong_bars(how):
        group.fill()
    stored = path.read_text()
    assert set(stored.splitlines()) < set(text_of(there).splitlines())
    (problem,) = group.problems()
    assert f" {why}" in problem
    assert "requested 2026-11-16T14:30:00+00:00 to 2026-11-20T21:00:00+00:00" in problem
    assert set(group.filler.status.unfillable) == {"late"}
    requested = len(group.requested())
    group.scan()
    assert len(group.requested()) == requested, "not before an hour has passed"
    group.now += 3601
    group.fill()
    assert path.read_text() == text_of(there)
    assert group.filler.status.unfillable == {}


def test_an_answer_that_cannot_be_read_is_a_failure_and_waited_for_no_longer(group):
    path = group.watch("AAPL_5m")
    with group.gateway.wrong_bars("torn"):
        group.fill()
    assert path.read_text() == HEADER
    assert "cannot be read" in group.problems()[0]
    (entry,) = coverage_of(group.filler)["series"]
    assert set(entry["missing"]) == {"failed"}
    group.now += 301
    group.fill()
    assert path.read_text() == text_of(group.truth("AAPL", "5m", *RECENT))


BEFORE_THE_SPLIT = utc("2026-11-27 22:00")  # SPLT splits four for one on the Monday after
AFTER_THE_SPLIT = utc("2026-11-30 22:00")


@pytest.mark.parametrize("timeframe", ["5m", "1h", "1d"])
def test_after_a_split_an_owned_series_is_rebuilt_and_swapped(group, timeframe):
    group.now = BEFORE_THE_SPLIT
    path = group.watch(f"SPLT_{timeframe}")
    group.fill()
    before = path.read_text()
    first = group.truth("SPLT", timeframe, utc("2026-11-23"), group.now)
    assert before == text_of(first)
    group.now = AFTER_THE_SPLIT
    group.fill()
    received = group.truth("SPLT", timeframe, utc("2026-11-23"), group.now)
    assert received[: len(first)] != first
    assert path.read_text() == text_of(received)
    (kept,) = (group.folder / ".ktrdr" / "replaced").iterdir()
    assert kept.read_text().startswith(before)
    assert list((group.folder / ".ktrdr" / "renewed").glob("*.csv")) == []
    group.scan()
    requested = len(group.requested())
    group.scan()
    assert len(group.requested()) == requested
    assert coverage_of(group.filler)["series"][0]["state"] == "complete"


def at_the_split(group):
    """A series of ours and the moment before its renewal is over: no bars are answered."""
    group.now = BEFORE_THE_SPLIT
    path = group.watch("SPLT_1h")
    group.fill()
    group.now = AFTER_THE_SPLIT
    old = path.read_text()
    while not (group.folder / ".ktrdr" / "renewed" / "SPLT_1h.csv").exists():
        assert group.filler.step()
    return path, old


def test_a_file_that_is_edited_while_it_is_rebuilt_is_left(group):
    path, _ = at_the_split(group)
    edited = path.read_text() + "2026-11-30 23:00:00+00:00,1.0,1.0,1.0,1.0,1\n"
    path.write_text(edited)
    group.fill()
    assert path.read_text() == edited
    assert "the file was changed in the meantime" in "".join(group.problems())
    assert list((group.folder / ".ktrdr" / "renewed").glob("*.csv")) == []
    group.scan()
    assert path.read_text() == edited
    assert coverage_of(group.filler)["series"][0]["state"] == "failed"
    assert "nothing is added in another unit" in group.problems()[0]


def test_a_series_whose_new_file_is_removed_is_rebuilt_when_it_is_checked_next(group):
    path, _ = at_the_split(group)
    (group.folder / ".ktrdr" / "renewed" / "SPLT_1h.csv").unlink()
    group.fill()
    assert "the staging copy was removed" in "".join(group.problems())
    group.now += DAY
    group.fill()
    assert path.read_text() == text_of(group.truth("SPLT", "1h", utc("2026-11-23"), group.now))


def test_a_series_that_was_whole_again_when_all_ended_is_swapped_at_the_next_start(group):
    path, _ = at_the_split(group)
    received = text_of(group.truth("SPLT", "1h", utc("2026-11-23"), group.now))
    group.end_filler()
    (group.folder / ".ktrdr" / "renewed" / "SPLT_1h.csv").write_text(received)
    group.start_filler()
    group.fill()
    assert path.read_text() == received
    assert coverage_of(group.filler)["series"][0]["state"] == "complete"


def test_what_is_left_of_an_earlier_rebuild_is_not_taken_for_this_one(group):
    group.now = BEFORE_THE_SPLIT
    stale = group.truth("SPLT", "1h", utc("2026-11-23"), utc("2026-11-25"))
    renewed = group.folder / ".ktrdr" / "renewed" / "SPLT_1h.csv"
    renewed.parent.mkdir(parents=True)
    renewed.write_text(text_of(stale))
    path = group.watch("SPLT_1h")
    group.fill()
    group.now = AFTER_THE_SPLIT
    group.fill()
    assert path.read_text() == text_of(group.truth("SPLT", "1h", utc("2026-11-23"), group.now))
    assert group.problems() == []


def test_after_a_split_a_file_with_foreign_rows_is_reported_and_left(group):
    group.now = BEFORE_THE_SPLIT
    theirs = group.truth("SPLT", "5m", utc("2026-11-23"), utc("2026-11-26"))
    path = group.watch("SPLT_5m", theirs)
    group.fill()
    before = path.read_text()
    group.now = AFTER_THE_SPLIT
    group.fill()
    assert path.read_text().startswith(before)
    assert "by a split ratio (4:1" in group.problems()[0]
    assert not (group.folder / ".ktrdr" / "replaced").exists()


def test_the_newest_daily_bar_is_requested_again_when_it_has_settled(group):
    """On a Saturday, when there is no newer bar that would bring it along."""
    path = group.watch("ESZ6_1d")
    group.now = utc("2026-11-20 23:00")
    group.fill()
    friday = path.read_text().splitlines()[-1]
    assert friday.startswith("2026-11-20")
    requested = len(group.requested())
    group.now = utc("2026-11-21 17:00")
    group.fill()
    assert len(group.requested()) == requested
    group.now = utc("2026-11-21 18:01")
    group.fill()
    settled = path.read_text().splitlines()[-1]
    assert float(settled.split(",")[4]) == float(friday.split(",")[4]) + 0.25
    assert path.read_text() == text_of(group.truth("ESZ6", "1d", *RECENT))
    requested = len(group.requested())
    for _ in range(20):
        group.now += 3600
        group.fill()
    assert len(group.requested()) - requested <= 1, "the sample of a day"


def test_an_ambiguous_symbol_is_filled_once_a_line_of_its_hint_is_pasted(group):
    path = group.watch("TWIN_1d")
    group.fill()
    (problem,) = group.filler.status.recent_errors
    _, table, line, _ = problem.hint.split("\n")
    assert line.startswith('primary_exchange = "NASDAQ"')
    assert path.read_text() == HEADER
    (group.folder / "instruments.toml").write_text(f"{table}\n{line}\n")
    group.scan()
    assert path.read_text() == text_of(group.truth("TWIN", "1d", *RECENT))


def test_old_bars_that_have_changed_are_found_by_the_sample_of_a_day(group):
    """On a weekend, when nothing else is asked for."""
    (group.folder / "instruments.toml").write_text("[AAPL]\nsince = 2026-10-20\n")
    path = group.watch("AAPL_1h")
    group.market.split("AAPL", date(2026, 11, 21), 2)
    group.fill()
    for _ in range(2):
        group.now += DAY
        group.fill()
    received = group.truth("AAPL", "1h", utc("2026-10-20"), group.now)
    assert path.read_text() == text_of(received)
