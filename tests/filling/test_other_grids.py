"""Bars that begin at other minutes, told by the simulated gateway to the real programs."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from ktrdr.completeness.gaps import Gap
from ktrdr.ledger.ledger import Ledger
from ktrdr.market.instruments import Series, contract_name, instrument_for
from ktrdr.market.timeframes import Timeframe
from tests.fake_connection import DAY, coverage_of, line, utc
from tests.simulated_group import HEADER, NOW, state

SINCE = utc("2026-11-14")
GRIDS = [("1h", 30), ("15m", 5)]
HOUR = 3600


def rows_of(group, name, since=SINCE, **grid):
    symbol, timeframe = name.split("_")
    return "".join(line(bar) for bar in group.truth(symbol, timeframe, since, group.now, **grid))


def later(group, seconds):
    group.now += seconds
    group.fill()
    assert "no_trades" not in group.filler.status.unfillable


def found(group):
    return [problem for problem in group.problems() if "other minutes" in problem]


@pytest.mark.parametrize(("timeframe", "minutes"), GRIDS)
def test_another_grid_is_a_finding_and_learnt_when_it_is_received_again(group, timeframe, minutes):
    name = f"AAPL_{timeframe}"
    path = group.watch(name)
    with group.gateway.fault("other_grid", minutes=minutes):
        later(group, 0)
        assert path.read_text() == HEADER
        assert (state(group), group.filler.status.unfillable) == ("waiting", {"late": 1})
        (problem,) = found(group)
        later(group, 301)
        assert path.read_text() == HEADER + rows_of(group, name, minutes=minutes)
        assert (state(group), group.filler.status.unfillable) == ("complete", {})
        learnt = found(group)[0]
    expected, other = {
        "1h": ("09:30, 10:00, 11:00 …", "09:30, 10:30, 11:30 …"),
        "15m": ("09:30, 09:45, 10:00 …", "09:30, 09:35, 09:50 …"),
    }[timeframe]
    words = f"IB's bars begin at other minutes than expected ({other}, expected {expected}): "
    assert problem == words + "requested again, and stored if IB returns them again"
    assert learnt == words + "returned again, so bars are expected there from now on"


def mark_absent(group, name, span):
    """As if IB had lacked the usual bars of that time."""
    ledger = Ledger(group.folder / ".ktrdr" / "ledger.sqlite")
    contract = contract_name(instrument_for(name.split("_")[0]))
    ledger.absences.record_absent(f"{name} {contract}", [Gap(*map(utc, span), 4)], int(group.now))
    ledger.close()


@pytest.mark.parametrize(("timeframe", "minutes"), GRIDS)
def test_what_was_learnt_holds_for_other_days_and_after_a_restart(group, timeframe, minutes):
    name = f"AAPL_{timeframe}"
    path = group.watch(name)
    mark_absent(group, name, ("2026-10-26 13:00", "2026-10-26 18:00"))
    with group.gateway.fault("other_grid", minutes=minutes):
        later(group, 0)
        later(group, 301)
        group.end_filler()
        group.start_filler()
        group.now = utc("2026-11-23 18:03")  # in the middle of Monday's session
        since = utc("2026-10-26")  # before New York's clocks changed
        group.fill()
        group.filler.requests.request(Series("AAPL", Timeframe(timeframe)), since)
        later(group, 0)
        done = [
            bar
            for bar in group.truth("AAPL", timeframe, since, group.now, minutes=minutes)
            if bar.start + (HOUR if timeframe == "1h" else 900) + 10 <= group.now
        ]
        assert path.read_text() == HEADER + "".join(line(bar) for bar in done)
        assert state(group) == "complete"
    assert found(group) == []


def test_a_bar_of_a_learnt_grid_is_requested_as_soon_as_it_is_due(group):
    path = group.watch("AAPL_15m")
    with group.gateway.fault("other_grid", minutes=5):
        later(group, 0)
        later(group, 301)
        group.now = utc("2026-11-23 18:04:55")
        group.fill()
        before = len(path.read_text().splitlines())
        later(group, 301)  # 13:10 in New York: that of 12:50 is over since 13:05
        assert len(path.read_text().splitlines()) == before + 1


SYMBOLS = ("AAPL", "MSFT", "KO")


@pytest.mark.parametrize("rate", [0.2, 1.0])
@pytest.mark.parametrize(
    ("timeframe", "minutes", "step_s"), [("1h", 30, 901), ("15m", 5, 181), ("5m", 2, 181)]
)
def test_hours_of_answers_on_another_grid_leave_no_trace(group, timeframe, minutes, step_s, rate):
    paths = {symbol: group.watch(f"{symbol}_{timeframe}") for symbol in SYMBOLS}
    group.now = utc("2026-11-20 16:00")
    group.fill()
    with group.gateway.fault("other_grid", minutes=minutes, rate=rate):
        for _ in range(20):
            later(group, step_s)
            for symbol, path in paths.items():
                true = rows_of(group, f"{symbol}_{timeframe}").splitlines()
                assert set(path.read_text().splitlines()[1:]) <= set(true)
        struck = group.gateway.summary()["verdicts"]["other_grid"]
    group.now = float(NOW)
    later(group, 0)
    later(group, HOUR)
    for symbol, path in paths.items():
        assert path.read_text() == HEADER + rows_of(group, f"{symbol}_{timeframe}")
    assert {one["state"] for one in coverage_of(group.filler)["series"]} == {"complete"}
    assert struck > 0


@pytest.mark.parametrize(("timeframe", "minutes"), GRIDS)
def test_one_answer_on_another_grid_costs_a_fresh_series_no_bar(group, timeframe, minutes):
    path = group.watch(f"AAPL_{timeframe}")
    with group.gateway.fault("other_grid", minutes=minutes):
        later(group, 0)
    later(group, 301)
    assert path.read_text() == HEADER + rows_of(group, f"AAPL_{timeframe}")
    assert state(group) == "complete"
    with group.gateway.fault("other_grid", minutes=minutes):
        later(group, 301)
        later(group, 301)
    assert path.read_text() == HEADER + rows_of(group, f"AAPL_{timeframe}")


def test_while_the_clocks_disagree_no_grid_is_learnt(group, wait_for):
    path = group.watch("AAPL_1h")
    with group.gateway.fault("other_grid", minutes=30), group.gateway.wrong_clock(-600):
        wait_for(lambda: abs(group.manager.status().clock_offset_s) > 60)  # a heartbeat
        for _ in range(3):
            later(group, 601)
    later(group, 301)
    assert path.read_text() == HEADER + rows_of(group, "AAPL_1h")
    assert state(group) == "complete"


def days_later(group, days):
    """Looking every few hours."""
    for _ in range(8 * days):
        group.now += 3 * HOUR
        group.fill()


@pytest.mark.parametrize(("before", "since"), [(30, 0), (0, 30)])
def test_when_ib_changes_its_grid_the_series_is_rebuilt_a_day_later(group, before, since):
    path = group.watch("AAPL_1h")
    with group.gateway.fault("other_grid", minutes=before):
        later(group, 0)
        later(group, 301)
    old = rows_of(group, "AAPL_1h", minutes=before)
    assert path.read_text() == HEADER + old
    known = len(found(group))
    with group.gateway.fault("other_grid", minutes=since):
        group.now = utc("2026-11-23 15:00")
        group.fill()
        later(group, 5 * HOUR)
        assert path.read_text() == HEADER + old
        days_later(group, 3)
        assert [problem.split("): ")[1] for problem in found(group)[: -known or None]] == [
            "returned for more than a day, so the series is rebuilt",
            "not stored unless IB returns them for more than a day",
        ]
        new = rows_of(group, "AAPL_1h", minutes=since)
        assert path.read_text() == HEADER + new
        assert state(group) == "complete"
    (kept,) = (group.folder / ".ktrdr" / "replaced").iterdir()
    assert kept.read_text() == HEADER + old


def test_next_to_foreign_rows_no_other_grid_is_stored_and_the_way_out_is_named(group):
    there = group.truth("AAPL", "1h", SINCE, utc("2026-11-18"))
    path = group.watch("AAPL_1h", there)
    before = path.read_text()
    with group.gateway.fault("other_grid", minutes=30):
        for _ in range(4):
            later(group, DAY)
        assert path.read_text() == before
        (last, *_) = (p for p in group.filler.status.recent_errors if "minutes" in p.message)
        assert last.message.endswith("because foreign bars in the file begin at other minutes")
        assert last.hint == (
            "to have them, move AAPL_1h.csv away and create it with its header line"
        )
        group.watch("AAPL_1h")
        group.scan()
        rows = path.read_text().splitlines()[1:]
        kept = rows_of(group, "AAPL_1h", int(group.now - 5 * DAY), minutes=30).splitlines()
        assert set(kept) <= set(rows)
    clocks = {
        f"{datetime.fromisoformat(row[:25]).astimezone(ZoneInfo('America/New_York')):%M}"
        for row in rows
    }
    assert clocks == {"30"}


def test_a_series_that_is_rebuilt_takes_its_place_only_with_bars_in_it(group):
    """Its old file has them, and the gateway tells of others for a while."""
    group.now = utc("2026-11-27 22:00")
    path = group.watch("SPLT_1h")
    group.fill()
    group.now = utc("2026-11-30 22:00")
    while not (group.folder / ".ktrdr" / "renewed" / "SPLT_1h.csv").exists():
        assert group.filler.step()
    old = path.read_text()
    with group.gateway.fault("other_grid", minutes=30):
        group.fill()
        assert path.read_text() == old
    for _ in range(2):
        group.now += 301
        group.fill()
    assert path.read_text() == HEADER + rows_of(group, "SPLT_1h", utc("2026-11-21"))
