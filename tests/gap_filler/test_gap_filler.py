"""The gap filler against a stand-in for the connection process, with a clock of the test's own."""

import asyncio
import contextlib
import random
import shutil
import sqlite3
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from ktrdr.config.settings import ROOT, Settings
from ktrdr.errors import (
    CompetingSession,
    InvalidRequest,
    NotConnected,
    NotEntitled,
    PeerDown,
    PeerTimedOut,
    RequestFailed,
    TimedOut,
    UnknownContract,
)
from ktrdr.gap_filler.gap_filler import GapFiller
from ktrdr.gap_filler.routes import routes
from ktrdr.market.instruments import parse_series
from tests.fake_connection import (
    DAY,
    HEADER,
    LENGTHS,
    NOW,
    Inline,
    SetClock,
    coverage_of,
    fill,
    line,
    price,
    utc,
)

MINUTES_A_DAY = 120


def starts_in(path) -> list[int]:
    return [utc(text[:19]) for text in path.read_text().splitlines()[1:]]


def minutes(*days: str) -> list[int]:
    return [utc(f"{day} 10:00") + 60 * i for day in days for i in range(MINUTES_A_DAY)]


RECENT = ("2026-11-17", "2026-11-18", "2026-11-19", "2026-11-20")


def test_an_empty_series_is_filled_for_the_last_days(put, make_filler, connection):
    path = put("AAPL_1m")
    filler = make_filler()
    fill(filler)
    assert starts_in(path) == minutes(*RECENT)
    assert path.read_text() == HEADER + "".join(line(price(t)) for t in minutes(*RECENT))
    assert filler.status.gaps_remaining == 0
    assert filler.status.bars_added == 4 * MINUTES_A_DAY
    assert filler.status.state == "idle"
    assert len(connection.requested) == 1


@pytest.mark.parametrize("timeframe", list(LENGTHS))
def test_all_seven_timeframes_are_filled(put, make_filler, connection, timeframe):
    path = put(f"AAPL_{timeframe}")
    fill(make_filler())
    end = NOW if timeframe != "1d" else utc("2026-11-21")
    wanted = connection.market(timeframe, utc("2026-11-17"), end)
    assert starts_in(path) == [bar.start for bar in wanted]


def test_gaps_inside_a_file_are_closed_like_the_tail(put, make_filler):
    there = minutes(*RECENT)
    path = put("AAPL_1m", there[:50] + there[51:130] + there[190:400])
    filler = make_filler()
    fill(filler)
    assert starts_in(path) == there
    assert filler.status.gaps_detected == filler.status.gaps_filled == 3


def test_what_ib_has_not_is_remembered_and_not_requested_again(put, make_filler, connection, clock):
    connection.absent = set(minutes(*RECENT)[100:110])
    path = put("AAPL_1m")
    filler = make_filler()
    fill(filler)
    assert filler.status.unfillable == {"unproven": 1}
    after(3600, filler, clock)
    requested = len(connection.requested)
    for _ in range(3):
        filler.request_scan()
        fill(filler)
    assert len(connection.requested) == requested
    assert len(starts_in(path)) == 4 * MINUTES_A_DAY - 10
    assert filler.status.unfillable == {"no_trades": 1}
    assert filler.status.gaps_remaining == 0
    assert coverage_of(filler)["series"][0]["state"] == "complete"


def test_that_memory_survives_a_restart(put, make_filler, connection):
    connection.absent = set(minutes(*RECENT)[100:110])
    put("AAPL_1m")
    first = make_filler()
    fill(first)
    first.close()
    requested = len(connection.requested)
    fill(make_filler())
    assert len(connection.requested) == requested


def test_a_row_that_somebody_deletes_is_fetched_again(put, make_filler):
    path = put("AAPL_1m")
    filler = make_filler()
    fill(filler)
    there = starts_in(path)
    put("AAPL_1m", there[:20] + there[25:])
    filler.request_scan()
    fill(filler)
    assert starts_in(path) == there


def look_again(filler: GapFiller, clock: SetClock) -> None:
    """As the program does it, after the usual while."""
    clock.now += 300
    fill(filler)


def test_what_is_known_is_known_as_of_the_last_scan(put, make_filler, clock):
    clock.now += 60
    path = put("AAPL_1h")
    filler = make_filler()
    fill(filler)
    there = path.read_text()
    look_again(filler, clock)
    known = coverage_of(filler)
    assert known["series"][0]["until"] == known["scan_time"] == "2026-11-20T15:06:00+00:00"
    assert path.read_text() == there


def test_of_the_past_nothing_is_proven_until_it_was_assessed_as_it_is_now(put, make_filler, clock):
    old = [*minutes("2026-10-05", "2026-10-06"), *minutes(*RECENT)]
    path = put("AAPL_1m", old)
    filler = make_filler()

    def known_from():
        return coverage_of(filler)["series"][0]["from"][:10]

    fill(filler)
    assert known_from() == "2026-10-05"
    path.write_text(path.read_text().replace(line(price(old[7])), ""))
    filler.request_scan()
    filler._scan_all()
    assert known_from() == "2026-11-17"
    status = path.stat()
    key = (status.st_size, status.st_mtime_ns, status.st_ino)
    assert coverage_of(filler)["series"][0]["key"] == list(key)
    fill(filler)
    assert known_from() == "2026-10-05"
    clock.now += DAY
    filler.request_scan()
    filler._scan_all()
    assert known_from() == "2026-11-18"
    fill(filler)
    assert known_from() == "2026-10-05"


class Waiting(Inline):
    """Of the questions about one symbol no answer ever comes."""

    def __init__(self, symbol: str):
        self.symbol = symbol

    def submit(self, work, /, *args, **kwargs):
        requested = str(getattr(work, "args", ()))
        return Future() if self.symbol in requested else super().submit(work, *args, **kwargs)


def after(seconds: float, filler: GapFiller, clock: SetClock) -> None:
    """Look again so much later."""
    clock.now += seconds
    fill(filler)


@pytest.mark.parametrize("is_down", [False, True])
def test_files_are_assessed_while_answers_are_waited_for(
    put, make_settings, connection, clock, is_down
):
    names = [f"AAPL_{timeframe}" for timeframe in ("1m", "5m", "15m")]
    for name in names:
        put(name, minutes("2026-10-05")[::15] + minutes(*RECENT)[::15])
    settings = make_settings(ktrdr_gap_max_age_days=3)
    filler = GapFiller(settings, connection, clock, Inline())
    fill(filler)
    filler.close()
    filler = GapFiller(settings, connection, clock, Waiting("MUTE"))
    put("MUTE_1m")
    connection.connected = not is_down
    for _ in range(10):
        filler.step()
    known = {s["file"]: s["from"] for s in coverage_of(filler)["series"]}
    assert {known[f"{name}.csv"][:10] for name in names} == {"2026-10-05"}
    assert filler.status.state == ("waiting" if is_down else "filling")
    filler.close()


def test_a_file_that_begins_before_1970_is_kept_complete(put, make_filler, connection, clock):
    old = [utc("1928-03-05"), utc("1969-12-31")]
    path = put("AAPL_1d", old)
    filler = make_filler()
    for _ in range(3):
        fill(filler)
        clock.now += 300
    assert [t for t in starts_in(path) if t not in old] == [utc(day) for day in RECENT]
    (series,) = coverage_of(filler)["series"]
    assert (series["from"][:10], series["first"][:10]) == ("1928-03-05", "1928-03-05")
    assert series["present"] == 6
    assert len(connection.requested) == 1
    assert filler.status.recent_errors == ()


@pytest.mark.parametrize(
    ("timeframe", "closes", "finding"),
    [("1d", 43200, "12:01"), ("1h", 43680, "12:06"), ("15m", 43680, "12:06")],
)
def test_a_bar_is_had_at_the_first_scan_after_its_market_has_closed(
    put, make_filler, connection, clock, timeframe, closes, finding
):
    connection.closes = closes
    clock.now = utc(f"2026-11-20 {finding}")
    path = put(f"AAPL_{timeframe}")
    filler = make_filler()
    fill(filler)
    before = starts_in(path)
    look_again(filler, clock)
    assert len(starts_in(path)) == len(before) + 1


def test_what_failed_is_tried_again_at_the_next_scan(put, make_filler, connection, clock):
    clock.now += 60
    path = put("AAPL_1h")
    connection.bars_refusals["AAPL"] = RequestFailed("not now")
    filler = make_filler()
    fill(filler)
    connection.bars_refusals.clear()
    look_again(filler, clock)
    assert len(starts_in(path)) == 8


def test_what_failed_for_want_of_data_is_requested_as_soon_as_they_are_back(
    put, make_filler, connection, clock
):
    clock.now += 60
    path = put("AAPL_1h")
    connection.bars_refusals["AAPL"] = RequestFailed("HMDS server disconnect", code=162)
    filler = make_filler()
    for _ in range(8):  # it is put back for ever longer
        clock.now += 1800
        fill(filler)
    connection.bars_refusals.clear()
    clock.now += 61
    fill(filler)
    assert starts_in(path) == []
    connection.data_back_at = datetime(2026, 11, 20, 14, tzinfo=UTC)
    clock.now += 6
    fill(filler)
    assert len(starts_in(path)) == 8


def test_a_failure_of_before_that_is_received_after_data_are_back_is_retried_at_once(
    put, make_filler, connection, clock
):
    path = put("AAPL_1h")
    clock.now += 60
    connection.bars_refusals["AAPL"] = CompetingSession("logged in elsewhere", code=162)

    def data_are_back():  # while the refusal is on its way
        connection.data_back_at = datetime.fromtimestamp(clock.now + 1, UTC)

    connection.after_refusal = data_are_back
    filler = make_filler()
    fill(filler)
    connection.bars_refusals.clear()
    clock.now += 2
    fill(filler)
    assert len(starts_in(path)) == 8


def test_what_became_due_without_data_is_requested_when_they_are_back(
    put, make_filler, connection, clock
):
    clock.now = utc("2026-11-20 11:00:30")
    path = put("AAPL_1m")
    filler = make_filler()
    fill(filler)
    assert starts_in(path)[-1] == utc("2026-11-20 10:59")
    clock.now += 120  # long before the next scan
    connection.data_back_at = datetime.fromtimestamp(clock.now, UTC)
    fill(filler)
    assert starts_in(path)[-1] == utc("2026-11-20 11:01")


def test_what_is_refused_to_the_account_is_not_requested_when_data_are_back(
    put, make_filler, connection, clock
):
    put("AAPL_1h")
    connection.bars_refusals["AAPL"] = NotEntitled("subscribe", code=354)
    filler = make_filler()
    fill(filler)
    for _ in range(4):  # it is put back for hours
        clock.now += 1900
        fill(filler)
    requested = len(connection.requested)
    connection.data_back_at = datetime(2026, 11, 20, 14, tzinfo=UTC)
    clock.now += 61
    fill(filler)
    assert len(connection.requested) == requested


def test_what_was_late_is_requested_again_at_the_next_scan(put, make_filler, connection, clock):
    clock.now = utc("2026-11-20 11:01")
    last = utc("2026-11-20 10:00")
    connection.absent = {last}
    path = put("AAPL_1h")
    filler = make_filler()
    fill(filler)
    connection.absent.clear()
    look_again(filler, clock)
    assert starts_in(path)[-1] == last


def test_a_late_bar_is_not_taken_for_absent(put, make_filler, connection, clock):
    clock.now = utc("2026-11-20 11:00:30")
    newest = utc("2026-11-20 10:59")
    connection.absent = {newest}
    path = put("AAPL_1m")
    filler = make_filler()
    fill(filler)
    assert newest not in starts_in(path)
    assert filler.status.gaps_remaining == 0
    assert filler.status.unfillable == {"late": 1}
    assert len(connection.requested) == 1, "it is not asked for over and over"
    connection.absent = set()
    clock.now += 300
    fill(filler)
    assert newest in starts_in(path)


def test_where_ib_is_behind_nothing_is_taken_for_absent(put, make_filler, connection, clock):
    """No bar is told after the last one: that one is old shows how far IB has got."""
    clock.now = utc("2026-11-20 11:30:30")
    there = minutes("2026-11-20")
    to_come = set(minutes(*(f"2026-11-{day}" for day in range(21, 26))))
    connection.absent = {*there[60:], *to_come}
    path = put("AAPL_1m")
    filler = make_filler()
    fill(filler)
    assert filler.status.unfillable == {"late": 1}
    connection.absent = {*there[80:], *to_come}
    clock.now += 900
    fill(filler)
    assert starts_in(path)[-1] == there[79]


def test_what_never_comes_is_requested_less_and_less_often(put, make_filler, connection, clock):
    """A day without a trade has no daily bar, and nobody knows so before the next morning."""
    clock.now = utc("2026-11-20 12:05:00")
    connection.absent = {utc("2026-11-20")}
    put("AAPL_1d")
    filler = make_filler()
    fill(filler)
    requested = len(connection.requested)
    for _ in range(12 * 36):
        clock.now += 300
        fill(filler)
    assert filler.status.unfillable == {"no_trades": 1}
    assert 5 < len(connection.requested) - requested < 16


def test_bars_of_a_session_that_schedule_does_not_have_are_stored_when_they_are_received_again(
    put, make_filler, connection, clock
):
    weekend = ("2026-11-14", "2026-11-15")
    connection.is_closed = lambda day: (day // DAY + 3) % 7 > 4
    path = put("AAPL_1m")
    filler = make_filler(ktrdr_gap_max_age_days=11)
    fill(filler)
    assert not {*minutes(*weekend)} & {*starts_in(path)}
    assert coverage_of(filler)["series"][0]["state"] != "complete"
    (problem,) = filler.status.recent_errors
    assert "IB sent 240 bars at times without trading" in problem.message
    after(3601, filler, clock)
    assert {*minutes(*weekend, "2026-11-16")} <= {*starts_in(path)}
    assert coverage_of(filler)["series"][0]["state"] == "complete"
    for _ in range(3):
        after(DAY, filler, clock)
    by_day = {day["date"]: day for day in coverage_of(filler)["series"][0]["days"]}
    counts = {"expected": 120, "present": 120, "missing": {}}
    assert [by_day[day] for day in weekend] == [{"date": day, **counts} for day in weekend]
    assert coverage_of(filler)["series"][0]["state"] == "complete"


def test_bars_of_a_session_that_schedule_does_not_have_are_forgotten_when_they_were_a_mistake(
    put, make_filler, connection, clock
):
    connection.is_closed = lambda day: (day // DAY + 3) % 7 > 4
    path = put("AAPL_1m")
    filler = make_filler(ktrdr_gap_max_age_days=8)
    fill(filler)
    connection.absent = {*minutes("2026-11-14", "2026-11-15")}
    for _ in range(4):
        after(DAY, filler, clock)
    assert not connection.absent & {*starts_in(path)}
    assert coverage_of(filler)["series"][0]["state"] == "complete"


ODD, MOVED = utc("2026-11-18 10:50"), utc("2026-11-18 10:45")


def is_moved(bar):
    return bar._replace(start=ODD) if bar.start == MOVED else bar


def test_a_single_odd_bar_is_left_out_and_what_its_answer_does_not_have_is_requested_again(
    put, make_filler, connection, clock
):
    path = put("AAPL_15m")
    connection.factor = is_moved
    filler = make_filler()
    fill(filler)
    assert not {ODD, MOVED} & {*starts_in(path)}
    assert coverage_of(filler)["series"][0]["state"] == "waiting"
    assert filler.status.unfillable.keys() == {"late"}
    (problem,) = filler.status.recent_errors
    assert "IB sent 1 bars that begin at other minutes than the rest" in problem.message
    connection.factor = lambda bar: bar
    after(3601, filler, clock)
    after(3601, filler, clock)
    assert starts_in(path) == [b.start for b in connection.market("15m", utc("2026-11-17"), NOW)]
    assert coverage_of(filler)["series"][0]["state"] == "complete"


def test_an_odd_bar_that_is_the_same_for_more_than_a_day_is_stored(
    put, make_filler, connection, clock
):
    path = put("AAPL_15m")
    connection.factor = is_moved
    filler = make_filler()
    fill(filler)
    for _ in range(24):
        after(3600, filler, clock)
    assert ODD not in starts_in(path)
    for _ in range(24):
        after(3600, filler, clock)
    assert ODD in starts_in(path)
    assert coverage_of(filler)["series"][0]["state"] == "complete"


def test_the_first_bar_of_a_session_is_left_out_where_the_next_one_is_odd(
    put, make_filler, connection
):
    """It ends where that begins, five minutes later than it should."""
    open_, second = utc("2026-11-18 10:00"), utc("2026-11-18 10:15")
    path = put("AAPL_15m")
    connection.factor = lambda bar: bar._replace(start=bar.start + 300 * (bar.start == second))
    fill(make_filler())
    assert utc("2026-11-18 10:30") in starts_in(path)
    assert not {open_, second, second + 300} & {*starts_in(path)}


def test_a_control_is_the_very_bar_that_was_requested(put, make_filler, connection, clock):
    """Another one in its place proves nothing of what IB lacks."""
    there = minutes(*RECENT)
    put("AAPL_1m", there[:200] + there[210:])
    connection.silent = True
    filler = make_filler(ktrdr_gap_max_age_days=9)
    fill(filler)
    silence = connection.received

    def only_others(symbol, timeframe, start, end):
        return [price(start + 30)] if end - start == 60 else silence(symbol, timeframe, start, end)

    connection.received = only_others
    for _ in range(5):
        after(12 * 3600, filler, clock)
        assert "no_trades" not in filler.status.unfillable


def test_what_an_answer_may_have_cut_off_is_not_taken_for_absent(put, make_filler, connection):
    """It begins in the middle of a day: IB has sent no more than so many bars."""
    connection.most = 150
    path = put("AAPL_1m")
    fill(make_filler())
    assert starts_in(path) == minutes(*RECENT)


def test_no_data_for_a_part_of_a_day_wants_a_control(put, make_filler, connection, clock):
    there = minutes(*RECENT)
    path = put("AAPL_1m", there[:200] + there[210:])
    connection.silent = True
    filler = make_filler(ktrdr_gap_max_age_days=9)
    fill(filler)
    for _ in range(5):
        after(12 * 3600, filler, clock)
        assert "no_trades" not in filler.status.unfillable
        assert coverage_of(filler)["series"][0]["state"] != "complete"
    assert any("where it had one" in error.message for error in filler.status.recent_errors)
    connection.silent = False
    after(3 * DAY, filler, clock)
    assert set(there) <= set(starts_in(path))


def test_the_bar_that_is_still_forming_stays_out(put, make_filler, clock):
    clock.now = utc("2026-11-20 11:07:30")
    minute, hour, day = put("AAPL_1m"), put("AAPL_1h"), put("AAPL_1d")
    fill(make_filler())
    assert starts_in(minute)[-1] == utc("2026-11-20 11:06")
    assert starts_in(hour)[-1] == utc("2026-11-20 10:00")
    assert starts_in(day)[-1] == utc("2026-11-19")


def test_a_scan_is_due_after_the_interval(put, make_filler, clock):
    put("AAPL_1m")
    clock.now = utc("2026-11-20 11:00:30")
    filler = make_filler(ktrdr_gap_check_interval_s=300)
    fill(filler)
    scanned = filler.status.last_scan_time
    clock.now += 299
    fill(filler)
    assert filler.status.last_scan_time == scanned
    clock.now += 1
    fill(filler)
    assert filler.status.last_scan_time == scanned + timedelta(seconds=300)


def test_five_symbols_a_cycle_and_the_next_at_once(put, make_filler, connection):
    for i in range(12):
        put(f"S{i:02}_1h")
        put(f"S{i:02}_30m")
    filler = make_filler()
    begun = [0]
    while filler.step():
        begun.append(len({symbol for symbol, *_ in connection.requested}))
    assert begun[:4] == [0, 1, 6, 11]  # the first one's hours are those of the others
    assert filler.status.symbols_processed == 12
    assert len(connection.requested) == 24


def test_bars_need_not_wait_for_the_sessions_of_each_contract(put, make_filler, connection):
    paths = [put(f"S{i}_1m") for i in range(4)]
    filler = make_filler()
    fill(filler)
    assert connection.order == [
        ("/sessions", "S0"),
        *(("/bars", f"S{i}") for i in range(4)),
        *(("/sessions", f"S{i}") for i in range(1, 4)),
    ]
    assert all(starts_in(path) == minutes(*RECENT) for path in paths)


def test_a_contract_that_is_unlike_its_kind_is_complete_once_its_own_sessions_are_there(
    put, make_filler, connection
):
    connection.closes_of = {"S1": 46800}
    put("S0_1m")
    path = put("S1_1m")
    filler = make_filler()
    fill(filler)
    an_hour_longer = [t for t in range(utc("2026-11-17"), NOW, 60) if 36000 <= t % DAY < 46800]
    assert starts_in(path) == an_hour_longer
    assert filler.status.gaps_remaining == 0


def test_what_is_no_contract_is_not_requested_a_second_time_for_its_sessions(
    put, make_filler, connection
):
    connection.refusals["S1"] = UnknownContract("no such contract", code=200)
    path = put("S0_1m")
    put("S1_1m")
    filler = make_filler()
    fill(filler)
    assert starts_in(path) == minutes(*RECENT)
    assert [request for request in connection.order if request[1] == "S1"] == [("/bars", "S1")]


def test_a_series_that_fails_starves_nobody_and_waits_longer_each_time(
    put, make_filler, connection, clock
):
    connection.refusals["BAD"] = RequestFailed("who knows", code=162)
    put("BAD_1m")
    good = put("GOOD_1m")
    filler = make_filler(ktrdr_gap_batch_symbols=1, ktrdr_gap_check_interval_s=86400)
    fill(filler)
    assert len(starts_in(good)) == 4 * MINUTES_A_DAY
    assert filler.status.recent_errors[0].what == "BAD_1m"
    times = []
    for _ in range(400):
        failures = filler.status.recent_errors[0].time
        clock.now += 5
        filler.step()
        if filler.status.recent_errors[0].time != failures:
            times.append(clock.now)
    waits = [later - earlier for earlier, later in pairwise(times)]
    assert waits == [60, 120, 240, 480, 960]


def test_an_unknown_symbol_is_named_and_the_others_go_on(put, make_filler, connection):
    connection.refusals["XYZZY"] = UnknownContract("no security definition", code=200, hint="look")
    put("XYZZY_1m")
    good = put("AAPL_1m")
    filler = make_filler()
    fill(filler)
    assert len(starts_in(good)) == 4 * MINUTES_A_DAY
    assert filler.status.unfillable == {"unknown_contract": 1}
    assert filler.status.gaps_remaining == 0
    problem = filler.status.recent_errors[0]
    assert (problem.what, problem.message, problem.hint) == (
        "XYZZY_1m",
        "no security definition",
        "look",
    )


def test_the_log_has_what_to_do_next_to_what_it_is_about(put, make_filler, connection, caplog):
    hint = 'say so:\n[CLF7]\nlocal_symbol = "CLF27"'
    connection.refusals["CLF7"] = UnknownContract("none such", code=200, hint=hint)
    put("CLF7_1m")
    fill(make_filler())
    assert ("CLF7_1m: none such", hint) in [
        (record.getMessage(), getattr(record, "hint", "")) for record in caplog.records
    ]


@pytest.mark.parametrize(
    "error", [UnknownContract("none such", code=200), NotEntitled("subscribe", code=354)]
)
def test_what_ib_refuses_for_good_is_requested_again_all_the_same(
    put, make_filler, connection, clock, error
):
    connection.refusals["AAPL"] = error
    path = put("AAPL_1m")
    filler = make_filler(ktrdr_gap_max_age_days=9)
    waits = []
    fill(filler)
    for _ in range(6):
        began, failed_at = clock.now, filler.status.recent_errors[0].time
        while filler.status.recent_errors[0].time == failed_at:
            after(60, filler, clock)
        waits.append(clock.now - began)
    assert waits == [60, 300, 1800, 7200, 21600, 21600]
    connection.refusals.clear()
    after(21600, filler, clock)
    assert set(minutes(*RECENT)) <= set(starts_in(path))


def test_without_permission_the_gaps_say_so_until_a_scan_is_requested(put, make_filler, connection):
    path = put("AAPL_1m")
    filler = make_filler()
    fill(filler)
    there = starts_in(path)
    put("AAPL_1m", there[10:])
    connection.refusals["AAPL"] = NotEntitled("subscribe", code=354)
    filler.request_scan()
    fill(filler)
    assert filler.status.unfillable == {"not_entitled": 1}
    connection.refusals.clear()
    filler.request_scan()
    fill(filler)
    assert starts_in(path) == there


@pytest.mark.parametrize(
    "text",
    [
        HEADER + "x,1,2\n",
        HEADER + line(price(utc("2026-11-20 10:05"))) + line(price(utc("2026-11-20 10:01"))),
        HEADER + 2 * line(price(utc("2026-11-20 10:05"))),
        "who,knows\n1,2\n",
    ],
)
def test_a_broken_file_is_named_and_left_and_the_others_go_on(put, make_filler, data_dir, text):
    broken = data_dir / "AAPL_1m.csv"
    broken.write_text(text)
    good = put("MSFT_1m")
    filler = make_filler()
    fill(filler)
    assert broken.read_text() == text
    assert len(starts_in(good)) == 4 * MINUTES_A_DAY
    assert [p.what for p in filler.status.recent_errors] == ["AAPL_1m"]
    assert "AAPL_1m.csv line" in filler.status.recent_errors[0].message
    states = {s["file"]: s["state"] for s in coverage_of(filler)["series"]}
    assert states == {"AAPL_1m.csv": "failed", "MSFT_1m.csv": "complete"}


def test_a_file_that_was_mended_is_filled(put, make_filler, data_dir):
    (data_dir / "AAPL_1m.csv").write_text(HEADER + "x,1,2\n")
    filler = make_filler()
    fill(filler)
    path = put("AAPL_1m")
    filler.request_scan()
    fill(filler)
    assert len(starts_in(path)) == 4 * MINUTES_A_DAY


def test_a_file_name_that_is_no_series_is_named(put, make_filler):
    path = put("notes")
    filler = make_filler()
    fill(filler)
    (error,) = filler.status.recent_errors
    assert "'notes.csv' is no series" in error.message
    assert not error.is_over
    path.unlink()
    filler.request_scan()
    fill(filler)
    assert [error.is_over for error in filler.status.recent_errors] == [True]


@pytest.mark.parametrize(("store", "gateway"), [("live", "simulated"), ("simulated", "live")])
def test_a_store_of_the_other_source_is_left_alone(
    put, make_filler, connection, data_dir, store, gateway
):
    path = put("AAPL_1m")
    (data_dir / ".ktrdr").mkdir()
    (data_dir / ".ktrdr" / "source").write_text(store + "\n")
    connection.gateway = gateway
    filler = make_filler(ib_host="127.0.0.1" if gateway == "live" else None)
    assert not filler.step()
    assert filler.status.state == "refused"
    assert f"holds {store} bars, and the gateway is {gateway}" in filler.status.reason
    assert path.read_text() == HEADER
    assert sorted(p.name for p in (data_dir / ".ktrdr").iterdir()) == ["source"]
    assert connection.requested == []


def test_simulated_bars_do_not_enter_a_live_store_through_a_forwarder(
    put, make_filler, connection, data_dir
):
    """IB_HOST is set, but what answers there is a simulated gateway."""
    path = put("AAPL_1m")
    (data_dir / ".ktrdr").mkdir()
    (data_dir / ".ktrdr" / "source").write_text("live\n")
    connection.gateway = "simulated"
    filler = make_filler(ib_host="host.docker.internal")
    assert not filler.step()
    filler.step()
    assert filler.status.state == "refused"
    assert path.read_text() == HEADER


def test_a_wrong_entry_is_named_and_nothing_is_requested(put, make_filler, connection, data_dir):
    path = put("AAPL_1m")
    (data_dir / "instruments.toml").write_text('[AAPL]\nsec_type = "SHARE"\n')
    filler = make_filler()
    assert not filler.step()
    assert filler.status.series_blocked == 1
    assert "SHARE" in filler.status.recent_errors[0].message
    assert connection.requested == []
    (data_dir / "instruments.toml").write_text("[AAPL]\n")
    filler.request_scan()
    fill(filler)
    assert len(starts_in(path)) == 4 * MINUTES_A_DAY


def test_a_wrong_entry_stops_nobody_else(put, make_filler, data_dir):
    (data_dir / "instruments.toml").write_text('["../x"]\n[AAPL]\nsince = "2020"\n')
    put("AAPL_1m")
    good = put("MSFT_1m")
    filler = make_filler()
    fill(filler)
    assert len(starts_in(good)) == 4 * MINUTES_A_DAY
    assert filler.status.series_blocked == 1


def test_instruments_that_are_no_toml_are_named_and_nothing_is_requested(
    put, make_filler, connection, data_dir
):
    put("AAPL_1m")
    (data_dir / "instruments.toml").write_text("[AAPL\n")
    filler = make_filler()
    assert not filler.step()
    assert filler.status.state == "refused"
    assert "instruments.toml" in filler.status.reason
    assert connection.requested == []


@pytest.mark.parametrize("error", [PeerDown("ib-connection is not running"), None])
def test_without_a_connection_it_waits_and_says_so(put, make_filler, connection, error):
    path = put("AAPL_1m")
    connection.down, connection.connected = error, error is not None
    filler = make_filler()
    fill(filler)  # there is nothing that it waits for
    assert filler.status.state == "waiting"
    assert ("connection" if error else "no data from IB: waiting") in filler.status.reason
    connection.down, connection.connected = None, True
    fill(filler)
    assert len(starts_in(path)) == 4 * MINUTES_A_DAY


def test_a_connection_that_breaks_between_costs_nothing_that_has_come(put, make_filler, connection):
    paths = [put(f"{symbol}_1m") for symbol in ("AAPL", "ESZ6", "CLF7", "BMW")]  # none like another
    (paths[0].parent / "instruments.toml").write_text('[BMW]\nexchange = "IBIS"\n')

    def break_after_two():
        if len(connection.requested) >= 2:
            connection.down = NotConnected("the connection broke")

    connection.after = break_after_two
    filler = make_filler()
    while filler.step():
        pass
    assert filler.status.state == "waiting"
    assert sum(bool(starts_in(p)) for p in paths) >= 2
    connection.down, connection.after = None, lambda: None
    fill(filler)
    assert all(len(starts_in(p)) == 4 * MINUTES_A_DAY for p in paths)


def test_older_gaps_are_shown_and_filled_only_when_requested(put, make_filler):
    old = minutes("2026-11-10", "2026-11-11")
    path = put("AAPL_1m", old[:5] + old[8:])
    filler = make_filler()
    fill(filler)
    assert filler.status.unfillable == {"too_old": 2}  # three minutes, and five whole days
    filler.requests.request(path_series(path), utc("2026-11-10"))
    fill(filler)
    assert starts_in(path)[:10] == old[:10]
    assert filler.status.unfillable == {}


def path_series(path):
    return parse_series(path.name)


def test_since_asks_for_history_however_old(put, make_filler, data_dir):
    (data_dir / "instruments.toml").write_text("[AAPL]\nsince = 2026-10-01\n")
    path = put("AAPL_1d")
    fill(make_filler())
    assert starts_in(path) == list(range(utc("2026-10-01"), utc("2026-11-21"), DAY))


def test_an_empty_store_is_no_error(make_filler, data_dir):
    filler = make_filler()
    assert not filler.step()
    assert (filler.status.state, filler.status.series) == ("idle", 0)
    assert list(data_dir.iterdir()) == []


def test_a_file_that_is_deleted_is_forgotten(put, make_filler):
    path = put("AAPL_1m")
    filler = make_filler()
    fill(filler)
    path.unlink()
    filler.request_scan()
    fill(filler)
    assert filler.status.series == 0
    assert not path.exists()


def test_coverage_says_for_each_day_what_is_there(put, make_filler, connection):
    connection.absent = {minutes("2026-11-18")[0]}
    put("AAPL_1m")
    filler = make_filler()
    fill(filler)
    (entry,) = coverage_of(filler)["series"]
    assert entry["symbol"] == "AAPL"
    assert (entry["expected"], entry["present"], entry["holes"]) == (480, 479, 0)
    assert entry["missing"] == {"no_trades": 1}
    assert entry["days"][1] == {
        "date": "2026-11-18",
        "expected": 120,
        "present": 119,
        "missing": {"no_trades": 1},
    }
    assert entry["first"] == "2026-11-17T10:00:00+00:00"


def test_the_time_left_is_learnt_from_what_was_answered(put, make_filler, connection):
    for name in "AB":
        put(f"{name}_1m")
    filler = make_filler(ktrdr_gap_batch_symbols=1)
    assert filler.status.eta_s is None
    assert filler.step()
    connection.connected = False
    assert filler.status.eta_s is None or filler.status.eta_s >= 0
    connection.connected = True
    fill(filler)
    assert filler.status.eta_s == 0


def test_a_fill_for_a_series_that_is_not_there_is_refused(make_filler):
    fill_route = routes(make_filler())["POST", "/fill"]
    query = {"symbol": "BRK B", "timeframe": "1m", "from": "2026-01-01"}
    with pytest.raises(InvalidRequest, match=r"BRK B_1m\.csv is not in the store") as raised:
        asyncio.run(fill_route(query))
    assert raised.value.hint == "keep it: .venv/bin/ktrdr watch add 'BRK B' 1m"


def test_since_takes_effect_without_a_restart(put, make_filler, data_dir):
    path = put("AAPL_1d")
    filler = make_filler()
    fill(filler)
    assert len(starts_in(path)) == 4
    (data_dir / "instruments.toml").write_text("[AAPL]\nsince = 2026-10-01\n")
    filler.request_scan()
    fill(filler)
    assert starts_in(path) == list(range(utc("2026-10-01"), utc("2026-11-21"), DAY))


def test_a_long_history_with_a_short_one_goes_on_day_after_day(put, make_filler, data_dir, clock):
    (data_dir / "instruments.toml").write_text('[AAPL]\nsince = { "1d" = 2026-06-01 }\n')
    daily, minute = put("AAPL_1d"), put("AAPL_1m")
    filler = make_filler()
    for day in range(14):
        clock.now = NOW + day * DAY
        fill(filler)
        assert starts_in(daily)[-1] == utc("2026-11-20") + day * DAY
        assert starts_in(minute)[-1] == utc("2026-11-20 11:59") + day * DAY
    assert starts_in(daily)[0] == utc("2026-06-01")


def test_after_a_long_sleep_it_knows_that_it_knows_nothing(put, make_filler, clock):
    path = put("AAPL_1m")
    filler = make_filler(ktrdr_gap_max_age_days=30)
    fill(filler)
    clock.now += 20 * DAY
    fill(filler)
    assert starts_in(path)[-1] == utc("2026-12-10 11:59")


def test_a_bar_that_cannot_be_true_is_not_requested_over_and_over(
    put, make_filler, connection, clock
):
    bad = minutes(*RECENT)[30]
    connection.invalid = {bad}
    path = put("AAPL_1m")
    filler = make_filler()
    fill(filler)
    assert len(connection.requested) == 1
    assert "1 invalid bars" in filler.status.recent_errors[0].message
    assert filler.status.unfillable == {"late": 1}
    connection.invalid = set()
    clock.now += 2 * 3600
    fill(filler)
    assert bad in starts_in(path)


def test_a_bar_that_is_never_valid_is_requested_less_and_less_often(
    put, make_filler, connection, clock
):
    bad = utc("2026-11-18 11:00")
    connection.invalid = {bad}
    put("AAPL_1h")
    filler = make_filler(ktrdr_gap_max_age_days=40)
    fill(filler)
    requested = len(connection.requested)
    times = []
    for hour in range(1, 24 * 6):
        clock.now = NOW + hour * 3600
        fill(filler)
        if any(start <= bad < end for _, _, start, end in connection.requested[requested:]):
            times.append(hour)
        requested = len(connection.requested)
    assert times == [1, 3, 7, 15, 31, 63, 127]


def test_a_damaged_answer_proves_no_absence(put, make_filler, connection, clock):
    """It has every second minute only, and one bar that cannot be."""
    there = minutes(*RECENT)
    connection.absent, connection.invalid = set(there[1:200:2]), {there[4]}
    path = put("AAPL_1m")
    filler = make_filler()
    fill(filler)
    assert set(filler.status.unfillable) == {"late"}
    connection.absent, connection.invalid = set(), set()
    clock.now += 3601
    fill(filler)
    assert starts_in(path) == there


def test_the_id_of_a_requested_scan_stays_when_others_follow(put, make_filler, clock):
    put("AAPL_1d")
    filler = make_filler()
    fill(filler)
    first = filler.status.last_scan_id
    requested = filler.request_scan()
    fill(filler)
    assert requested != first
    for _ in range(2):
        scanned = filler.status.last_scan_time
        clock.now += 400
        fill(filler)
        assert filler.status.last_scan_time > scanned
        assert filler.status.last_scan_id == requested


def test_scans_a_second_apart_do_not_hammer(put, make_filler, connection, clock):
    clock.now = utc("2026-11-20 11:00:30")
    connection.absent = {utc("2026-11-20 10:59")}
    put("AAPL_1m")
    filler = make_filler(ktrdr_gap_check_interval_s=1)
    for _ in range(40):
        fill(filler)
        clock.now += 1
    assert len(connection.requested) <= 2


def test_a_slow_peer_costs_one_series_and_not_the_others(put, make_filler, connection):
    connection.refusals["SLOW"] = PeerTimedOut("ib-connection did not answer within 120 s")
    put("SLOW_1m")
    good = put("AAPL_1m")
    filler = make_filler()
    fill(filler)
    assert len(starts_in(good)) == 4 * MINUTES_A_DAY
    assert filler.status.recent_errors[0].what == "SLOW_1m"


def test_a_file_that_goes_while_its_bars_are_on_their_way_is_no_trouble(
    put, make_filler, connection
):
    path = put("AAPL_1m")
    good = put("MSFT_1m")
    connection.after = lambda: path.unlink(missing_ok=True)
    filler = make_filler()
    fill(filler)
    assert not path.exists()
    assert len(starts_in(good)) == 4 * MINUTES_A_DAY
    assert filler.status.series == 1


def test_a_locked_ledger_is_waited_for_and_kept(put, make_filler, data_dir):
    path = put("AAPL_1m")
    (data_dir / ".ktrdr").mkdir()
    other = sqlite3.connect(data_dir / ".ktrdr" / "ledger.sqlite")
    with contextlib.closing(other):
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("PRAGMA user_version = 3")
        other.execute("CREATE TABLE t (x)")
        filler = make_filler()
        assert not filler.step()
        assert filler.status.state == "waiting"
        assert "locked" in filler.status.reason
    fill(filler)
    assert len(starts_in(path)) == 4 * MINUTES_A_DAY
    assert not (data_dir / ".ktrdr" / "ledger.broken").exists()


def test_after_its_end_no_file_of_the_store_is_open(put, make_filler, data_dir):
    def still_open():
        files = [Path(file.path) for file in psutil.Process().open_files()]
        return [file.name for file in files if file.is_relative_to(data_dir)]

    put("AAPL_1m")
    filler = make_filler()
    fill(filler)
    assert "ledger.sqlite" in still_open()
    filler.close()
    assert still_open() == []


def test_a_ledger_that_is_deleted_is_built_again(put, make_filler, connection, data_dir):
    connection.absent = set(minutes(*RECENT)[100:101])
    path = put("AAPL_1m")
    filler = make_filler()
    fill(filler)
    shutil.rmtree(data_dir / ".ktrdr")
    filler.request_scan()
    fill(filler)
    assert (data_dir / ".ktrdr" / "ledger.sqlite").exists()
    assert filler.status.unfillable == {"no_trades": 1}
    assert len(starts_in(path)) == 4 * MINUTES_A_DAY - 1


def test_a_ledger_that_is_damaged_inside_is_left_for_a_new_one_with_its_fills(
    put, make_filler, data_dir
):
    put("AAPL_1m")
    filler = make_filler()
    fill(filler)
    filler.requests.request(parse_series("AAPL_1m.csv"), int(NOW) - 3 * DAY)
    filler.close()
    path = data_dir / ".ktrdr" / "ledger.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as ledger:
        page, size = "SELECT rootpage FROM sqlite_schema WHERE name = 'absent'", "PRAGMA page_size"
        begin = (ledger.execute(page).fetchone()[0] - 1) * ledger.execute(size).fetchone()[0]
    with path.open("r+b") as file:
        file.seek(begin)
        file.write(b"\xff" * 1000)
    again = make_filler()
    assert not again.step()
    assert "damaged" in again.status.store_trouble.message
    fill(again)
    assert again.status.store_trouble is None
    assert (data_dir / ".ktrdr" / "ledger.broken").exists()
    assert [one.id for one in again.requests.listed("AAPL").fills] == [1]


def test_absences_of_one_contract_say_nothing_of_another(put, make_filler, connection, data_dir):
    entries = data_dir / "instruments.toml"
    entries.write_text('[ES]\nsec_type = "FUT"\nexpiry = "202509"\n')
    connection.absent = set(minutes(*RECENT))
    path = put("ES_1m")
    filler = make_filler()
    fill(filler)
    assert starts_in(path) == []
    connection.absent = set()
    entries.write_text('[ES]\nsec_type = "FUT"\nexpiry = "202612"\n')
    filler.request_scan()
    fill(filler)
    assert len(starts_in(path)) == 4 * MINUTES_A_DAY


def test_live_bars_own_folder_takes_no_simulated_ones(make_filler, connection):
    filler = make_filler(ktrdr_data_dir=ROOT / "data")
    before = sorted((ROOT / "data").glob("*.csv"))
    assert not filler.step()
    assert filler.status.state == "refused"
    assert "where live bars belong" in filler.status.reason
    assert sorted((ROOT / "data").glob("*.csv")) == before
    assert connection.requested == []


class WhereLiveBarsBelong(Settings):
    """Settings whose data folder is the one that live bars go to by default."""

    @property
    def is_live_folder(self) -> bool:
        return True


def test_it_takes_none_either_when_the_gateway_says_only_later_what_it_is(
    put, make_settings, connection, clock
):
    path = put("AAPL_1m")
    settings = make_settings(ib_host="host.docker.internal")
    connection.gateway = "simulated"
    filler = GapFiller(WhereLiveBarsBelong(**settings.model_dump()), connection, clock, Inline())
    for _ in range(3):
        assert not filler.step()
        assert filler.status.state == "refused"
    filler.close()
    assert path.read_text() == HEADER
    assert connection.requested == []


def test_an_empty_answer_is_accepted_only_when_the_contract_answers_at_all(
    put, make_filler, connection, clock
):
    """The tail is missing because IB sends nothing, not because nothing was traded."""
    there = minutes(*RECENT)
    path = put("AAPL_1m", there[:-MINUTES_A_DAY])
    connection.absent = set(there[-MINUTES_A_DAY:])
    connection.silent = True
    filler = make_filler(ktrdr_gap_max_age_days=9)
    fill(filler)
    assert filler.status.unfillable == {"unproven": 2}
    for _ in range(5):
        after(12 * 3600, filler, clock)
        assert "no_trades" not in filler.status.unfillable
    connection.silent = False
    connection.absent = set()
    after(3 * DAY, filler, clock)
    assert set(there) <= set(starts_in(path))


def test_a_day_without_any_bar_is_not_taken_for_absent_on_one_day(
    put, make_filler, connection, clock
):
    connection.absent = set(minutes("2026-11-18"))
    path = put("AAPL_1m")
    filler = make_filler(ktrdr_gap_max_age_days=6)
    fill(filler)
    assert len(starts_in(path)) == 6 * MINUTES_A_DAY
    began = clock.now
    while "no_trades" not in filler.status.unfillable:
        assert filler.status.unfillable == {"unproven": 1}
        assert coverage_of(filler)["series"][0]["state"] == "unproven"
        after(1800, filler, clock)
    assert DAY < clock.now - began < DAY + 7200
    wednesday = utc("2026-11-18 10:00")
    requested = [start for _, _, start, end in connection.requested if start <= wednesday < end]
    assert len(requested) == 4, "an answer that lacked it, and three more"


def test_empty_days_at_the_edge_of_an_answer_are_requested_once_more(put, make_filler, connection):
    before = [f"2026-11-{day}" for day in range(10, 18)]
    connection.absent = set(minutes(*before))
    put("AAPL_1m")
    filler = make_filler()
    fill(filler)
    assert filler.status.unfillable == {"unproven": 1}
    assert connection.heads_asked == ["AAPL"], "nothing is older: perhaps it is not listed yet"
    spans = [(start, end) for _, timeframe, start, end in connection.requested if timeframe == "1m"]
    assert len(spans) == 2  # all of it, and the empty day alone
    requested = len(connection.requested)
    for _ in range(3):
        filler.request_scan()
        fill(filler)
    assert len(connection.requested) == requested


def test_what_is_older_than_ibs_first_bar_is_not_expected_where_bars_bear_that_out(
    put, make_filler, connection
):
    connection.heads["AAPL"] = utc("2026-11-18 10:00")
    path = put("AAPL_1m")
    filler = make_filler()
    fill(filler)
    assert starts_in(path) == minutes("2026-11-18", "2026-11-19", "2026-11-20")
    assert filler.status.unfillable == {}
    assert coverage_of(filler)["series"][0]["state"] == "complete"


def test_a_first_bar_reported_too_late_takes_nothing_away(put, make_filler, connection, clock):
    """The answer was cut off, and the first bar is a lie."""
    connection.most = 150
    head = connection._head
    connection._head = lambda query: head(query) | {"head": utc("2026-11-19 10:00")}
    path = put("AAPL_1m")
    filler = make_filler()
    connection.refused_from = {utc("2026-11-17 10:00"): RequestFailed("for now", code=162)}
    fill(filler)
    connection.refused_from = {}
    after(3600, filler, clock)
    assert starts_in(path)[: 4 * MINUTES_A_DAY] == minutes(*RECENT)


@pytest.mark.parametrize("seed", [1, 3])
def test_however_many_days_are_empty_the_proof_comes_to_an_end(
    put, make_filler, connection, data_dir, seed
):
    """Nothing beside the span is told, so that every edge is in doubt."""
    chance = random.Random(seed)
    (data_dir / "instruments.toml").write_text("[AAPL]\nsince = 2026-09-01\n")
    days = [f"{datetime.fromtimestamp(utc('2026-09-01') + DAY * i, UTC):%F}" for i in range(81)]
    empty = [day for day in days if chance.random() < 0.4]
    connection.absent, connection.tells_beside = set(minutes(*empty)), False
    path = put("AAPL_1m")
    filler = make_filler()
    for _ in range(20):
        if not filler.step():
            break
    assert starts_in(path) == [t for t in minutes(*days) if t not in connection.absent]
    assert filler.status.gaps_remaining == 0
    assert len(connection.requested) < 40


def failing_for_hours(filler, connection, clock) -> int:
    """How many requests twelve hours cost in which nothing works."""
    fill(filler)
    requested = len(connection.requested)
    for _ in range(12 * 12):
        clock.now += 300
        fill(filler)
    return len(connection.requested) - requested


def test_a_proof_that_fails_is_tried_less_and_less_often(put, make_filler, connection, clock):
    put("AAPL_1m", minutes(*RECENT)[:-MINUTES_A_DAY])
    connection.silent = True
    assert failing_for_hours(make_filler(), connection, clock) < 2 * 12 * 2 + 20


def test_a_first_bar_that_nobody_reports_is_requested_less_and_less_often(
    put, make_filler, connection, clock
):
    put("AAPL_1m")
    connection.absent = set(minutes("2026-11-17"))
    connection.tells_beside = False
    connection.head_refusal = RequestFailed("who knows", code=162)
    filler = make_filler()
    failing_for_hours(filler, connection, clock)
    assert 1 < len(connection.heads_asked) < 12 * 2 + 10
    assert any(error.message == "who knows" for error in filler.status.recent_errors)


def test_rows_of_times_without_trading_are_no_control(put, make_filler, connection, clock):
    """Somebody's bars of the evening are nearest to the empty day, and IB has none of them."""
    rows = [*minutes("2026-11-17"), utc("2026-11-18 16:00"), *minutes("2026-11-19", "2026-11-20")]
    connection.absent, connection.tells_beside = set(minutes("2026-11-18")), False
    put("AAPL_1m", rows)
    filler = make_filler(ktrdr_gap_max_age_days=6)
    fill(filler)
    for _ in range(4):
        after(12 * 3600, filler, clock)
    assert coverage_of(filler)["series"][0]["missing"].keys() == {"no_trades"}
    assert filler.status.recent_errors == ()


def test_a_hole_that_always_fails_does_not_hold_up_newer_bars(put, make_filler, connection, clock):
    clock.now = utc("2026-11-20 10:30:30")
    there = minutes(*RECENT)
    path = put("AAPL_1m", [t for t in there if t != there[50] and t < clock.now - 1200])
    connection.refused_from = {there[50]: RequestFailed("who knows", code=162)}
    filler = make_filler()
    for _ in range(6):
        fill(filler)
        clock.now += 300
    assert starts_in(path)[-1] >= clock.now - 1000
    assert coverage_of(filler)["series"][0]["missing"] == {"failed": 1}
    connection.refused_from = {}
    filler.request_scan()
    fill(filler)
    assert there[50] in starts_in(path)


def test_a_series_that_is_never_answered_holds_one_place_only(
    put, make_filler, connection, clock, data_dir
):
    (data_dir / "instruments.toml").write_text("[DEAD]\nsince = 2025-01-01\n")
    put("DEAD_1m")
    connection.bars_refusals["DEAD"] = TimedOut("no answer")
    filler = make_filler()
    fill(filler)
    assert len(connection.requested) > 5
    for _ in range(3):
        requested = len(connection.requested)
        clock.now += 1801
        fill(filler)
        assert len(connection.requested) == requested + 1


def test_a_check_that_failed_once_is_forgotten_when_it_succeeds(
    put, make_filler, connection, clock
):
    """A future that has expired: nothing else is asked for any more."""
    connection.last_trade_dates["ESZ5"] = "20261119"
    put("ESZ5_1h")
    filler = make_filler(ktrdr_gap_max_age_days=20)
    fill(filler)
    clock.now += DAY
    connection.bars_refusals["ESZ5"] = RequestFailed("who knows", code=162)
    fill(filler)
    assert coverage_of(filler)["series"][0]["state"] == "failed"
    connection.bars_refusals.clear()
    clock.now += DAY
    fill(filler)
    assert coverage_of(filler)["series"][0]["state"] == "complete"


def test_a_month_is_no_last_trading_day(put, make_filler, connection):
    connection.last_trade_dates["ESZ6"] = "202612"
    path = put("ESZ6_1m")
    fill(make_filler())
    assert starts_in(path) == minutes(*RECENT)


def test_before_the_listing_nothing_is_expected(put, make_filler, connection):
    connection.heads["FRESH"] = minutes("2026-11-19")[30]
    path = put("FRESH_1m")
    filler = make_filler()
    fill(filler)
    assert starts_in(path) == minutes("2026-11-19", "2026-11-20")[30:]
    (entry,) = coverage_of(filler)["series"]
    assert entry["expected"] == entry["present"] == 2 * MINUTES_A_DAY - 30
    assert entry["listed"] == "2026-11-19T10:30:00+00:00"
    assert filler.status.unfillable == {}
    requested = len(connection.requested)
    filler.request_scan()
    fill(filler)
    assert (len(connection.requested), connection.heads_asked) == (requested, ["FRESH"])


class FirstBarsLate(Inline):
    """Keeps back the answers about the days with the first bars until they are released."""

    def __init__(self, connection, first):
        self.connection, self.first = connection, first
        self.held = []

    def submit(self, work, /, *args, **kwargs):
        before = len(self.connection.requested)
        done = super().submit(work, *args, **kwargs)
        if any(start <= self.first < end for *_, start, end in self.connection.requested[before:]):
            self.held.append((Future(), done))
            return self.held[-1][0]
        return done

    def release(self):
        for late, done in self.held:
            late.set_result(done.result())


def test_a_listing_that_is_told_before_its_first_bars_is_believed_when_these_come(
    put, make_settings, connection, clock
):
    first = connection.heads["FRESH"] = minutes("2026-10-20")[0]
    path = put("FRESH_5m")
    executor = FirstBarsLate(connection, first)
    filler = GapFiller(make_settings(ktrdr_gap_max_age_days=120), connection, clock, executor)
    while not connection.heads_asked:
        assert filler.step()
    filler.step()  # it takes what was told
    executor.release()
    fill(filler)
    filler.close()
    assert starts_in(path)[0] == first
    assert filler.status.unfillable == {}
    assert connection.heads_asked == ["FRESH"]
    (entry,) = coverage_of(filler)["series"]
    assert entry["listed"] == "2026-10-20T10:00:00+00:00"


def test_after_its_last_day_nothing_is_expected_of_a_future(put, make_filler, connection):
    connection.last_trade_dates["ESZ5"] = "20261118"
    path = put("ESZ5_1m")
    filler = make_filler()
    fill(filler)
    assert starts_in(path) == minutes("2026-11-17", "2026-11-18")
    (entry,) = coverage_of(filler)["series"]
    assert entry["expires"] == "2026-11-18T00:00:00+00:00"
    assert entry["missing"] == {}


def test_a_last_day_that_is_reported_too_early_takes_nothing_away_that_is_stored(
    put, make_filler, connection
):
    there = minutes(*RECENT)
    path = put("ESZ5_1m", [*there[:-60], *there[-50:]])
    connection.last_trade_dates["ESZ5"] = "20261118"
    fill(make_filler())
    assert starts_in(path) == there


def test_a_contract_of_which_ib_has_nothing_is_requested_again_tomorrow(
    put, make_filler, connection, clock
):
    connection.heads["NONE"] = utc("2030-01-01")
    connection.heads_unknown = True
    put("NONE_1m")
    filler = make_filler(ktrdr_gap_max_age_days=60)
    fill(filler)
    assert filler.status.unfillable == {"unproven": 1}
    requested = len(connection.requested)
    assert (requested, len(connection.heads_asked)) == (5, 1)
    filler.request_scan()
    fill(filler)
    assert len(connection.requested) == requested
    clock.now += DAY + 60
    fill(filler)
    assert len(connection.requested) > requested


def test_a_revised_bar_that_is_owned_is_corrected(put, make_filler, connection, clock):
    path = put("AAPL_1d")
    filler = make_filler()
    fill(filler)
    newest = starts_in(path)[-1]
    connection.revised = {newest: price(newest)._replace(volume=4711)}
    clock.now = utc("2026-11-21 15:00")
    fill(filler)
    assert f"{price(newest).close!r},4711" in path.read_text()
    assert len(starts_in(path)) == len(set(starts_in(path)))
    assert filler.status.recent_errors == ()


def test_a_revised_bar_in_a_file_of_others_is_reported_and_left(put, make_filler, connection):
    there = minutes(*RECENT)
    path = put("AAPL_1m", there[:300])
    connection.revised = {there[299]: price(there[299])._replace(close=1.0, low=1.0)}
    filler = make_filler()
    fill(filler)
    assert path.read_text().startswith(HEADER + "".join(line(price(t)) for t in there[:300]))
    assert "is left" in filler.status.recent_errors[0].message


def split(bar):
    return bar._replace(**{k: getattr(bar, k) / 4 for k in ("open", "high", "low", "close")})


def test_after_a_split_an_owned_series_is_rebuilt_and_swapped(
    put, make_filler, connection, clock, data_dir
):
    path = put("AAPL_1m")
    filler = make_filler()
    fill(filler)
    before = path.read_text()
    clock.now = utc("2026-11-21 15:00")
    connection.factor = split
    fill(filler)
    there = minutes(*RECENT, "2026-11-21")
    assert path.read_text() == HEADER + "".join(line(split(price(t))) for t in there)
    (kept,) = (data_dir / ".ktrdr" / "replaced").iterdir()
    assert (
        kept.read_text() == before + "".join(line(split(price(t))) for t in minutes("2026-11-21"))
        or kept.read_text() == before
    )
    assert list((data_dir / ".ktrdr" / "renewed").glob("*.csv")) == []
    requested = len(connection.requested)
    filler.request_scan()
    fill(filler)
    assert len(connection.requested) == requested


def test_a_split_that_the_older_bars_alone_show_is_followed(put, make_filler, connection, clock):
    path = put("AAPL_1m")
    filler = make_filler()
    connection.invalid = set(minutes(*RECENT)[60:63])
    fill(filler)
    newest = utc("2026-11-20")

    def late(bar):
        return split(bar) if bar.start < newest else bar

    connection.factor, connection.invalid = late, set()
    requested = len(connection.requested)
    for _ in range(6):
        after(3600, filler, clock)
    there = [late(price(t)) for t in minutes(*RECENT)]
    assert path.read_text() == HEADER + "".join(map(line, there))
    assert len(connection.requested) - requested < 12


@pytest.mark.parametrize(
    "error", [IndexError("index 3 is out of bounds"), ValueError("year 0 is out of range")]
)
def test_a_bug_in_one_series_costs_no_other(put, make_filler, connection, error):
    put("AAPL_1m")
    path = put("MSFT_1m")
    connection.refusals["AAPL"] = error
    filler = make_filler()
    fill(filler)
    assert starts_in(path) == minutes(*RECENT)
    (problem,) = filler.status.recent_errors
    assert problem.what == "AAPL_1m"
    assert str(error) in problem.message


def test_a_series_that_is_rebuilt_goes_on_after_a_crash(
    put, make_filler, connection, clock, data_dir
):
    path = put("AAPL_1m")
    first = make_filler()
    fill(first)
    clock.now = utc("2026-11-21 15:00")
    connection.factor = split
    until = len(connection.requested) + 3  # the new day, and two looks that show a split

    def crash():
        if len(connection.requested) >= until:
            connection.refusals["AAPL"] = RequestFailed("crash")

    connection.after = crash
    fill(first)
    first.close()
    old = path.read_text()
    assert (data_dir / ".ktrdr" / "renewed" / "AAPL_1m.csv").exists()
    connection.after, connection.refusals = lambda: None, {}
    fill(make_filler())
    assert path.read_text() != old
    assert line(split(price(minutes(*RECENT)[0]))) in path.read_text()


def test_after_a_split_a_file_with_foreign_rows_is_left(put, make_filler, connection):
    there = minutes(*RECENT)
    path = put("AAPL_1m", there[:300])
    connection.factor = split
    filler = make_filler()
    fill(filler)
    assert path.read_text() == HEADER + "".join(line(price(t)) for t in there[:300])
    assert "by a split ratio (4:1" in filler.status.recent_errors[0].message


@pytest.mark.parametrize("theirs", [0, 300])
def test_what_comes_with_nothing_but_revised_bars_is_stored_at_once(
    put, make_filler, connection, clock, theirs
):
    there = minutes(*RECENT)
    path = put("AAPL_1m", there[:theirs])
    filler = make_filler()
    fill(filler)
    connection.revised = {t: price(t)._replace(volume=4711 + t % 7) for t in there[295:]}
    before = path.read_text()
    clock.now = utc("2026-11-21 15:00")
    fill(filler)
    new = [price(t) for t in minutes("2026-11-21")]
    if theirs:
        assert path.read_text() == before + "".join(map(line, new))
        assert "is left" in filler.status.recent_errors[0].message
    else:
        assert path.read_text().endswith("".join(map(line, new)))
        assert filler.status.recent_errors == ()
    assert filler.status.gaps_remaining == 0
    assert coverage_of(filler)["series"][0]["state"] == "complete"


def test_what_is_received_in_another_unit_and_then_not_is_requested_less_and_less_often(
    put, make_filler, connection, clock
):
    path = put("AAPL_1m")
    filler = make_filler()
    fill(filler)
    before = path.read_text()
    clock.now = utc("2026-11-21 15:00")
    connection.factor = lambda bar: split(bar) if connection.priorities[-1] == "tail" else bar
    requested = len(connection.requested)
    fill(filler)
    assert len(connection.requested) - requested == 4, "twice, each time with more of what differs"
    assert filler.status.unfillable == {"late": 1}
    assert "then bars that match" in filler.status.recent_errors[0].message
    for _ in range(200):
        clock.now += 301
        fill(filler)
    assert len(connection.requested) - requested < 30
    assert path.read_text() == before
    connection.factor = lambda bar: bar
    clock.now += DAY
    fill(filler)
    new = [price(t) for t in minutes("2026-11-21", "2026-11-22")]
    assert path.read_text() == before + "".join(map(line, new))
    assert coverage_of(filler)["series"][0]["state"] == "complete"


def test_while_a_series_cannot_be_rebuilt_in_one_unit_its_file_is_left_as_it_is(
    put, make_filler, connection, clock, data_dir
):
    path = put("AAPL_1m")
    filler = make_filler(ktrdr_gap_max_age_days=200)
    fill(filler)
    before = path.read_text()
    clock.now = utc("2026-11-21 15:00")
    is_whole = False

    def received(bar):
        """As before, where no more than history is asked for."""
        is_old = connection.requested[-1][-1] < utc("2026-08-10")
        return bar if is_old and not is_whole else split(bar)

    connection.factor = received
    attempts = []
    for _ in range(2 * 24 * 12):
        requested = len(connection.requested)
        fill(filler)
        assert path.read_text() == before
        if len(connection.requested) > requested:
            attempts.append(int(clock.now))
        clock.now += 301
    assert coverage_of(filler)["series"][0]["state"] == "failed"
    assert "from one answer to the next" in filler.status.recent_errors[0].message
    assert 2 <= len(attempts) <= 4, "after an hour, six hours and a day"
    is_whole = True
    clock.now += 3 * DAY
    fill(filler)
    assert coverage_of(filler)["series"][0]["state"] == "complete"
    rows = path.read_text().splitlines()[1:]
    assert rows[-1] == line(split(price(starts_in(path)[-1]))).strip()
    assert rows[0] == line(split(price(starts_in(path)[0]))).strip()
    (kept,) = (data_dir / ".ktrdr" / "replaced").iterdir()
    assert kept.read_text() == before


@pytest.mark.parametrize("theirs", [True, False])
def test_what_touches_no_stored_bar_is_not_written_before_any_was_compared(
    put, make_filler, connection, clock, theirs
):
    """After a month in which nothing ran: three requests, of which only the oldest can tell."""
    there = minutes("2026-10-15", "2026-10-16")
    clock.now = utc("2026-10-16 15:00")
    path = put("AAPL_1m", there if theirs else [])
    given = {"ktrdr_gap_max_age_days": 1 if not theirs else 60}
    if not theirs:
        fill(make_filler(**given))
    assert starts_in(path) == there
    before = path.read_text()
    clock.now = NOW
    connection.factor = split
    filler = make_filler(ktrdr_gap_max_age_days=36)
    for _ in range(100):
        more = filler.step()
        rows = path.read_text().splitlines()[1:]
        old = [line(price(t)).strip() for t in starts_in(path)]
        assert rows == old or not set(rows) & set(old)
        if not more:
            break
    if theirs:
        assert path.read_text() == before
        assert coverage_of(filler)["series"][0]["state"] == "failed"
    else:
        assert set(starts_in(path)) > set(minutes(*RECENT)) | set(there)


def test_an_answer_that_was_under_way_when_a_series_is_rebuilt_is_not_written(
    put, make_filler, connection, data_dir
):
    path = put("AAPL_1m")
    filler = make_filler(ktrdr_gap_max_age_days=60)
    holes = [utc("2026-10-01 10:30"), utc("2026-10-20 10:30"), utc("2026-11-10 10:30")]
    connection.refused_from = {t: RequestFailed("no") for t in holes}
    fill(filler)
    before = path.read_text()
    assert before != HEADER
    connection.refused_from = {}
    connection.factor = split
    filler.request_scan()
    fill(filler)
    rows = path.read_text().splitlines()[1:]
    assert rows == [line(split(price(t))).strip() for t in starts_in(path)]
    kept = sorted((data_dir / ".ktrdr" / "replaced").iterdir())
    assert [one.read_text() for one in kept] == [before]


def test_to_old_foreign_rows_in_another_unit_bars_are_added_as_long_as_the_newest_are_alike(
    put, make_filler, connection, clock
):
    there = minutes("2026-11-09", "2026-11-10")
    theirs = "".join(line(split(price(t))) for t in there)
    path = put("AAPL_1m")
    path.write_text(HEADER + theirs + "".join(line(price(t)) for t in minutes(*RECENT)))
    filler = make_filler()
    fill(filler)
    for day in ("2026-11-21", "2026-11-22"):
        clock.now = utc(f"{day} 15:00")
        fill(filler)
        assert path.read_text().startswith(HEADER + theirs)
        assert path.read_text().endswith("".join(line(price(t)) for t in minutes(day)))
    assert "by a split ratio (1:4" in filler.status.recent_errors[0].message
    assert coverage_of(filler)["series"][0]["state"] == "complete"
    assert connection.priorities.count("tail") == 2


def test_however_many_bars_are_revised_only_those_are_written_anew(
    put, make_filler, connection, clock, data_dir
):
    there = minutes(*RECENT)
    connection.absent = {there[0]}  # asked for again the next day, with all that follows
    path = put("AAPL_1m")
    fill(make_filler(ktrdr_gap_max_age_days=5))
    revised = {t: price(t)._replace(volume=4711) for t in there[100:400]}
    connection.revised = revised
    clock.now = utc("2026-11-21 15:00")
    fill(make_filler(ktrdr_gap_max_age_days=5))
    received = [revised.get(t, price(t)) for t in (*there[1:], *minutes("2026-11-21"))]
    assert path.read_text().endswith("".join(map(line, received)))
    assert not (data_dir / ".ktrdr" / "replaced").exists()


def test_what_is_adjusted_for_dividends_is_rebuilt_after_one(
    put, make_filler, connection, clock, data_dir
):
    (data_dir / "instruments.toml").write_text('[AAPL]\nwhat_to_show = "ADJUSTED_LAST"\n')
    path = put("AAPL_1h")
    filler = make_filler(ktrdr_gap_max_age_days=20)
    fill(filler)
    there = starts_in(path)
    paid = lambda bar: bar._replace(**{k: getattr(bar, k) - 1 for k in bar._fields[1:5]})  # noqa: E731
    connection.factor = paid
    clock.now = utc("2026-11-21 15:00")
    fill(filler)
    received = [paid(price(t)) for t in (*there, utc("2026-11-21 10:00"), utc("2026-11-21 11:00"))]
    assert path.read_text() == HEADER + "".join(map(line, received))
    assert len(list((data_dir / ".ktrdr" / "replaced").iterdir())) == 1


def test_a_file_that_somebody_has_edited_is_not_owned_any_more(put, make_filler):
    path = put("AAPL_1m")
    filler = make_filler()
    fill(filler)
    assert coverage_of(filler)["series"][0]["ours"]
    path.write_text(path.read_text())
    filler.request_scan()
    fill(filler)
    assert not coverage_of(filler)["series"][0]["ours"]


def test_a_row_that_is_edited_while_bars_are_on_their_way_stays(
    put, make_filler, connection, clock
):
    """Nobody has looked at the file since, and yet it is not ours any more."""
    path = put("AAPL_1m")
    filler = make_filler()
    fill(filler)
    edited = path.read_text().replace(line(price(minutes(*RECENT)[-1])), "", 1)
    edited += line(price(minutes(*RECENT)[-1])._replace(volume=4711))
    clock.now = utc("2026-11-21 15:00")
    connection.after = lambda: path.write_text(edited) if edited != path.read_text() else None
    assert filler.step()
    connection.after = lambda: None
    clock.now = utc("2026-11-22 15:00")
    fill(filler)
    assert path.read_text().startswith(edited)
    assert not coverage_of(filler)["series"][0]["ours"]


def test_rows_that_are_edited_before_a_check_stay(put, make_filler, connection, clock):
    """The check of a day finds that it differs."""
    connection.last_trade_dates["ESZ5"] = "20261120"
    path = put("ESZ5_1h")
    filler = make_filler(ktrdr_gap_max_age_days=12)
    fill(filler)
    edited = HEADER + "".join(line(price(t)._replace(volume=4711)) for t in starts_in(path))
    connection.after = lambda: path.write_text(edited)  # while the check is under way
    clock.now += DAY + 1
    fill(filler)
    assert path.read_text() == edited
    assert "is left" in filler.status.recent_errors[0].message


def test_old_bars_are_compared_once_a_day(put, make_filler, connection, clock):
    (wanted,) = [put("AAPL_1d")]
    filler = make_filler(ktrdr_gap_max_age_days=30)
    fill(filler)
    requested = len(connection.requested)
    for _ in range(3):
        clock.now += 3600
        fill(filler)
    assert len(connection.requested) == requested, "not on the first day"
    clock.now += DAY
    fill(filler)
    compared = [a for a in connection.requested[requested:] if a[2] < clock.now - 7 * DAY]
    assert len(compared) == 1
    assert wanted.exists()


def test_what_is_requested_is_called_so(put, make_filler, connection):
    put("AAPL_1m")
    filler = make_filler()
    seen = []
    connection.after = lambda: seen.append(coverage_of(filler)["series"])
    fill(filler)
    assert coverage_of(filler)["series"][0]["state"] == "complete"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RequestFailed("who knows", code=162), "failed"),
        (NotEntitled("no", code=354), "not_entitled"),
    ],
)
def test_what_fails_says_why_with_ibs_code(put, make_filler, connection, error, reason):
    put("AAPL_1m", minutes(*RECENT)[:100])
    filler = make_filler()
    connection.bars_refusals["AAPL"] = error
    fill(filler)
    (entry,) = coverage_of(filler)["series"]
    assert set(entry["missing"]) == {reason}
    assert entry["error_code"] == error.code


def test_each_bar_of_a_day_is_accounted_for(put, make_filler, connection, clock):
    clock.now = utc("2026-11-20 11:00:30")
    there = minutes("2026-11-20")
    connection.absent = {there[3]}
    put("AAPL_1m")
    filler = make_filler()
    fill(filler)
    said = asyncio.run(
        routes(filler)["GET", "/coverage"](
            {"symbol": "AAPL", "timeframe": "1m", "day": "2026-11-20"}
        )
    )
    assert (said["day"], said["state"]) == ("2026-11-20", "open")
    statuses = dict(map(tuple, said["bars"]))
    assert [statuses[t] for t in there[2:5]] == ["present", "no_trades", "present"]
    assert statuses[there[59]] == "present"
    assert statuses[there[60]] == "not_due"
    assert len(statuses) == MINUTES_A_DAY


def test_the_gaps_of_an_interval_come_without_days(put, make_filler, connection, clock):
    clock.now = utc("2026-11-20 11:00:30")
    there = minutes("2026-11-20")
    connection.absent = {there[3], there[10]}
    put("AAPL_1m")
    filler = make_filler()
    fill(filler)
    ask = routes(filler)["GET", "/coverage"]
    query = {"symbol": "AAPL", "timeframe": "1m"}
    (whole,) = asyncio.run(ask(query))["series"]
    gaps = [tuple(gap) for gap in whole["gaps"]]
    assert [gap[:2] for gap in gaps[-2:]] == [(there[n], there[n]) for n in (3, 10)]
    for span, wanted in {
        f"{there[3]}/{there[4]}": gaps[-2:-1],
        f"{there[4]}/{there[10]}": [],
        f"{there[3] + 1}/{there[10] + 1}": gaps[-1:],
        f"{-(2**62)}/{2**62}": gaps,
    }.items():
        (one,) = asyncio.run(ask(query | {"gaps": span}))["series"]
        assert [tuple(gap) for gap in one["gaps"]] == wanted
        assert one["days"] == []
        without = {"gaps", "days"}
        assert {n: v for n, v in one.items() if n not in without} == {
            n: v for n, v in whole.items() if n not in without
        }
    with pytest.raises(InvalidRequest, match="gaps=yesterday: expected UTC seconds"):
        asyncio.run(ask(query | {"gaps": "yesterday"}))


def test_a_day_without_bars_says_why(put, make_filler, connection):
    connection.heads["AAPL"] = minutes("2026-11-19")[0]
    put("AAPL_1m")
    filler = make_filler()
    fill(filler)
    ask = routes(filler)["GET", "/coverage"]
    query = {"symbol": "AAPL", "timeframe": "1m", "day": "2026-11-18"}
    assert asyncio.run(ask(query))["state"] == "before_listing"
    with pytest.raises(InvalidRequest, match="have not been assessed yet"):
        asyncio.run(ask(query | {"symbol": "NONE"}))


def test_the_newest_bars_go_first_and_history_last(put, make_filler, connection, data_dir):
    (data_dir / "instruments.toml").write_text("[AAPL]\nsince = 2026-06-01\n")
    there = minutes(*RECENT)
    put("AAPL_1m", [*there[:100], *there[103:300]])
    fill(make_filler(ktrdr_gap_max_age_days=30))
    priorities = dict(zip([a[2] for a in connection.requested], connection.priorities, strict=True))
    newest, *_, oldest = sorted(priorities, reverse=True)
    assert priorities[oldest] == "backfill"
    assert priorities[newest] in ("tail", "recent")
