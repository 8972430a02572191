"""What other people's files mean, found by the sessions of their contract."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktrdr.completeness.file_fit import (
    ON_WEEKENDS,
    Hours,
    Kind,
    fit_in_utc,
    has_rows_on_weekends,
    in_utc,
    misfit,
    on_weekends,
    other_clock,
)
from ktrdr.market.sessions import Schedule, Session, expected
from ktrdr.market.timeframes import Timeframe
from ktrdr.market.zones import EXCHANGE_ZONES

M1, M5, M15, M30, H1, H4, D1 = Timeframe
USUAL = frozenset()


def moment(day, clock, zone):
    hour, minute = map(int, clock.split(":"))
    days, hour = divmod(hour, 24)
    local = datetime.fromisoformat(day) + timedelta(days=days, hours=hour, minutes=minute)
    return int(local.replace(tzinfo=ZoneInfo(zone)).timestamp())


def weekdays(first, last):
    day, end = datetime.fromisoformat(first), datetime.fromisoformat(last)
    while day <= end:
        if day.weekday() < 5:
            yield f"{day:%Y-%m-%d}"
        day += timedelta(days=1)


def schedule(zone, opens, closes, first="2026-10-19", last="2026-11-20"):
    """A session each weekday; New York leaves daylight saving time on 2026-11-01."""
    sessions = tuple(
        Session(
            moment(day, opens, zone),
            moment(day, closes, zone),
            int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()),
        )
        for day in weekdays(first, last)
    )
    begin, end = (
        int(datetime.fromisoformat(t).replace(tzinfo=UTC).timestamp()) for t in (first, last)
    )
    return Schedule(zone, begin - 86400, end + 3 * 86400, sessions)


STOCK = schedule("America/New_York", "9:30", "16:00")
INDIA = schedule("Asia/Kolkata", "9:15", "15:30")
FOREX = schedule("America/New_York", "-7:15", "17:00")
LATER = moment("2026-12-01", "00:00", "UTC")


def bars(of, step_s, first=0, opens_s=0, closes_s=0):
    """Bars of so many seconds in each session: their starts, or other times of them."""
    each = [
        np.arange(one.open + opens_s + first, one.close + closes_s + min(first, 1), step_s)
        for one in of.sessions
    ]
    return np.concatenate(each).astype(np.int64)


def on_the_clock(starts, zone):
    """What a clock of the zone showed, as if that were UTC."""
    local = ZoneInfo(zone)
    return np.array(
        [
            int(datetime.fromtimestamp(t, local).replace(tzinfo=UTC).timestamp())
            for t in starts.tolist()
        ],
        np.int64,
    )


def found(times, timeframe, of, *, has_zone=False, now=LATER, alignment=USUAL, **more):
    return misfit(times, Hours(timeframe, of, alignment, now, has_zone, **more))


def with_lunch(zone, *clocks):
    """Two sessions each weekday."""
    parts = [schedule(zone, *pair) for pair in clocks]
    sessions = sorted(one for part in parts for one in part.sessions)
    return Schedule(zone, parts[0].start, parts[0].end, tuple(sessions))


TOKYO = with_lunch("Asia/Tokyo", ("9:00", "11:30"), ("12:30", "15:30"))
HONG_KONG = with_lunch("Asia/Hong_Kong", ("9:30", "12:00"), ("13:00", "16:00"))
PARIS = schedule("Europe/Paris", "9:00", "17:30")
FUTURE = schedule("America/Chicago", "-7:00", "16:00")
ALL_DAY = schedule("UTC", "0:00", "24:00")
LONG_DAY = schedule("America/New_York", "4:00", "20:00")
KINDS = {
    "stock": STOCK,
    "India": INDIA,
    "Tokyo": TOKYO,
    "Hong Kong": HONG_KONG,
    "Paris": PARIS,
    "future": FUTURE,
    "forex": FOREX,
    "all day": ALL_DAY,
    "extended": LONG_DAY,
}


def days(starts, count):
    """The bars of the last so many days."""
    return starts[starts >= starts[-1] - 86400 * count]


@pytest.mark.parametrize("has_zone", [False, True])
@pytest.mark.parametrize("of", [STOCK, INDIA, FOREX], ids=["stock", "india", "forex"])
@pytest.mark.parametrize(("timeframe", "step_s"), [(M1, 60), (M5, 300), (M15, 900)])
def test_starts_in_utc_fit(timeframe, step_s, of, has_zone):
    assert found(bars(of, step_s), timeframe, of, has_zone=has_zone) is None


@pytest.mark.parametrize("alignment", [(), (240,), (720, 960), (0, 240, 480, 720, 960, 1200)])
@pytest.mark.parametrize("timeframe", [M1, M5, M15, M30, H1, H4])
@pytest.mark.parametrize("kind", KINDS)
def test_what_ib_itself_has_fits(kind, timeframe, alignment):
    """Whatever part of it: ktrdr's own files would be refused otherwise."""
    of = KINDS[kind]
    known = frozenset(alignment if timeframe is H4 else ())
    starts = expected(of, timeframe, of.start, of.end, LATER, alignment=known).starts
    for first in range(3):
        for last in range(3):
            for has_zone in (False, True):
                part = starts[first : len(starts) - last]
                told = found(part, timeframe, of, has_zone=has_zone, alignment=known)
                assert told is None, (first, last, has_zone, told)
    hours = Hours(timeframe, of, known, LATER, has_zone=True)
    assert on_weekends(starts, hours) is None
    for ahead_s in (-5 * 3600, 0, 9 * 3600):
        assert other_clock(starts, starts + ahead_s, hours) is None


@pytest.mark.parametrize(("of", "zone"), [(STOCK, "America/New_York"), (INDIA, "Asia/Kolkata")])
def test_a_local_clock_that_says_utc_is_told(of, zone):
    clocks = on_the_clock(bars(of, 60), zone)
    told = other_clock(clocks, clocks, Hours(M1, of, USUAL, LATER, has_zone=True))
    assert told.is_sure
    assert f"the same clock in {zone}" in told.what


def test_extended_hours_are_no_other_clock():
    starts = bars(LONG_DAY, 60)
    hours = Hours(M1, STOCK, USUAL, LATER, has_zone=True)
    assert other_clock(starts, starts, hours) is None
    assert on_weekends(starts, hours) is None


def test_a_forex_broker_s_clock_that_says_utc_has_rows_on_weekends():
    clocks = on_the_clock(bars(FOREX, 60), "Europe/Athens")
    assert on_weekends(clocks, Hours(M1, FOREX, USUAL, LATER, has_zone=True)) is ON_WEEKENDS


def test_a_few_rows_on_a_weekend_are_no_other_clock():
    starts = bars(FOREX, 60)
    saturday = moment("2026-11-14", "12:00", "UTC")
    few = np.sort(np.append(starts[-400:], saturday + 60 * np.arange(9)))
    assert on_weekends(few, Hours(M1, FOREX, USUAL, LATER, has_zone=True)) is None


def test_guessed_sessions_show_no_other_clock():
    guessed = Schedule(STOCK.zone, STOCK.start, STOCK.end, STOCK.sessions, "rules")
    clocks = on_the_clock(bars(STOCK, 60), "America/New_York")
    hours = Hours(M1, guessed, USUAL, LATER, has_zone=True)
    assert other_clock(clocks, clocks, hours) is None
    assert on_weekends(clocks, hours) is None


@pytest.mark.parametrize("clocks", [("17:30",), ("11:30", "16:30"), ("9:00", "13:00", "17:30")])
def test_auctions_alone_are_no_longer_bars(clocks):
    days_of = [f"{datetime.fromtimestamp(one.day, UTC):%Y-%m-%d}" for one in PARIS.sessions]
    starts = [moment(day, clock, "Europe/Paris") for day in days_of for clock in clocks]
    assert found(np.array(sorted(starts), np.int64), M1, PARIS, has_zone=True) is None


def test_half_days_and_rows_that_are_missing_fit():
    some = bars(STOCK, 60)
    kept = np.random.default_rng(1).random(len(some)) < 0.02
    assert found(some[kept], M1, STOCK) is None


def test_the_hours_of_us_stocks_fit():
    hours = np.sort(np.concatenate([bars(STOCK, 3600, opens_s=1800), bars(STOCK, 86400)]))
    assert found(hours, H1, STOCK) is None


@pytest.mark.parametrize(
    ("of", "zone"),
    [
        (STOCK, "America/New_York"),
        (STOCK, "America/Chicago"),
        (STOCK, "Europe/London"),
        (STOCK, "Asia/Kolkata"),
        (STOCK, "Asia/Tokyo"),
        (STOCK, "Australia/Sydney"),
        (INDIA, "Asia/Kolkata"),
        (FOREX, "Asia/Tokyo"),
        (FOREX, "Europe/Athens"),
    ],
)
@pytest.mark.parametrize("step_s", [60, 900])
def test_times_of_another_zone_are_told_from_utc(of, zone, step_s):
    starts = bars(of, step_s)
    timeframe = {60: M1, 900: M15}[step_s]
    told = found(on_the_clock(starts, zone), timeframe, of)
    assert told.kind is Kind.ZONE
    assert in_utc(on_the_clock(starts, zone), told.fits.zone).tolist() == starts.tolist()
    assert told.fits[1:3] == (len(starts), len(starts))


def test_one_day_of_a_us_stock_is_enough():
    starts = days(bars(STOCK, 60), 0.5)
    told = found(on_the_clock(starts, "America/New_York"), M1, STOCK)
    assert (told.kind, told.fits[:3]) == (Kind.ZONE, ("America/New_York", 390, 390))
    assert told.why == "as UTC 90 of 390 rows lie in the contract's sessions"


def test_winter_time_all_year_is_a_zone_of_its_own():
    starts = bars(STOCK, 60)
    told = found(on_the_clock(starts, "Etc/GMT+5"), M1, STOCK)
    assert told.fits[:3] == ("Etc/GMT+5", len(starts), len(starts))


@pytest.mark.parametrize("zone", sorted(set(EXCHANGE_ZONES.values())))
def test_every_zone_of_an_exchange_is_found(zone):
    starts = bars(STOCK, 900)
    told = found(on_the_clock(starts, zone), M15, STOCK)
    if told is None:  # as good as UTC
        assert on_the_clock(starts, zone).tolist() == starts.tolist()
    else:
        assert in_utc(on_the_clock(starts, zone), told.fits.zone).tolist() == starts.tolist()


def test_times_with_a_zone_are_not_doubted_for_another():
    times = on_the_clock(bars(STOCK, 60), "Asia/Tokyo")
    told = found(times, M1, STOCK, has_zone=True)
    assert (told.kind, told.fits) == (Kind.HOURS, None)


def test_rows_of_the_future_lie_in_no_session():
    """Of a market that is open day and night nothing else shows it."""
    always = schedule("UTC", "0:00", "24:00")
    starts = days(bars(always, 60), 0.5)
    now = int(starts[-1]) + 60
    assert found(starts, M1, always, now=now) is None
    told = found(on_the_clock(starts, "Asia/Tokyo"), M1, always, now=now)
    assert told.kind is Kind.ZONE
    assert "not in the future" in told.why
    assert in_utc(on_the_clock(starts, "Asia/Tokyo"), told.fits.zone)[-1] <= now


@pytest.mark.parametrize(("timeframe", "step_s"), [(M1, 60), (M5, 300), (M15, 900)])
@pytest.mark.parametrize("of", [STOCK, FOREX], ids=["stock", "forex"])
def test_bars_named_by_their_end_are_told(of, timeframe, step_s):
    ends = bars(of, step_s, first=step_s)
    assert ends[-1] == of.sessions[-1].close
    assert found(ends, timeframe, of).kind is Kind.STAMP


def test_ends_of_the_hours_of_us_stocks_are_told():
    ends = bars(STOCK, 3600, first=1800)
    assert [ends[0] - STOCK.sessions[0].open, len(ends)] == [1800, 7 * len(STOCK.sessions)]
    assert found(ends, H1, STOCK).kind is Kind.STAMP


def test_a_bar_of_the_closing_auction_is_no_sign_of_ends():
    with_auction = np.sort(np.concatenate([bars(STOCK, 60), [one.close for one in STOCK.sessions]]))
    assert found(with_auction, M1, STOCK) is None


def test_two_sessions_do_not_show_that_rows_are_ends():
    assert found(bars(STOCK, 60, first=60)[-780:], M1, STOCK) is None
    assert found(bars(STOCK, 60, first=60)[-1170:], M1, STOCK).kind is Kind.STAMP


def test_ends_in_extended_hours_are_told():
    ends = bars(STOCK, 60, first=60, opens_s=-19800, closes_s=14400)
    assert found(ends, M1, STOCK, has_zone=True).kind is Kind.STAMP


@pytest.mark.parametrize(("opens_s", "what"), [(-18000, "09:30, 10:30"), (-19800, "reach into")])
def test_hours_that_do_not_go_with_the_sessions_are_told(opens_s, what):
    """From 04:30 on they begin at half past; from 04:00 on one begins at nine."""
    hours = bars(STOCK, 3600, opens_s=opens_s, closes_s=7200)
    told = found(hours, H1, STOCK, has_zone=True)
    assert (told.kind, what in told.why) == (Kind.GRID, True)


def test_ends_without_a_zone_are_of_their_zone():
    ends = bars(STOCK, 60, first=60)
    told = found(on_the_clock(ends, "America/New_York"), M1, STOCK)
    assert (told.kind, told.fits.zone) == (Kind.ZONE, "America/New_York")


def test_hours_from_half_past_are_of_another_grid():
    told = found(bars(STOCK, 3600), H1, STOCK)
    assert told.kind is Kind.GRID
    assert told.why == (
        "its bars begin at 09:30, 10:30, 11:30 … by the exchange's clock, IB's at "
        "09:30, 10:00, 11:00 …"
    )


@pytest.mark.parametrize(
    ("step_s", "timeframe", "why"),
    [
        (60, M5, "most rows are a minute apart, less than a bar of 5m"),
        (300, H1, "most rows are 5 minutes apart, less than a bar of 1h"),
        (1800, H4, "most rows are 30 minutes apart, less than a bar of 4h"),
        (3600, H4, "most rows are 60 minutes apart, less than a bar of 4h"),
        (300, M1, "all rows begin as bars of 5m do, and not as those of 1m"),
        (1800, M1, "all rows begin as bars of 30m do, and not as those of 1m"),
        (900, M5, "all rows begin as bars of 15m do, and not as those of 5m"),
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata"])
def test_bars_of_another_length_are_told(step_s, timeframe, why, zone):
    told = found(on_the_clock(bars(STOCK, step_s), zone), timeframe, STOCK)
    assert (told.kind, told.why) == (Kind.LENGTH, why)


def test_extended_hours_are_told():
    early_to_late = bars(STOCK, 60, opens_s=-19800, closes_s=14400)
    told = found(early_to_late, M1, STOCK, has_zone=True)
    assert told.kind is Kind.EXTENDED_HOURS
    inside, rows = 390 * len(STOCK.sessions), len(early_to_late)
    inside += len(STOCK.sessions)  # the bar at the close
    assert told.why == (
        f"{inside} of {rows} rows lie in the contract's sessions, most others in extended hours"
    )
    assert (
        found(early_to_late, M1, STOCK, has_zone=True, has_extended_hours=True).kind is Kind.HOURS
    )


def test_extended_hours_without_a_zone_are_of_their_zone():
    early_to_late = bars(STOCK, 60, opens_s=-19800, closes_s=14400)
    told = found(on_the_clock(early_to_late, "America/New_York"), M1, STOCK)
    assert (told.kind, told.fits.zone) == (Kind.ZONE, "America/New_York")


def test_too_few_rows_other_days_days_and_guessed_sessions_tell_nothing():
    times = on_the_clock(bars(STOCK, 60), "America/New_York")
    assert found(times[:19], M1, STOCK) is None
    assert found(times[:20], M1, STOCK) is not None
    assert found(times - 300 * 86400, M1, STOCK) is None
    assert found(times, D1, STOCK) is None
    guessed = Schedule(STOCK.zone, STOCK.start, STOCK.end, STOCK.sessions, "rules")
    assert found(times, M1, guessed) is None
    empty = Schedule(STOCK.zone, STOCK.start, STOCK.end, ())
    assert found(times, M1, empty) is None


def test_an_hour_that_comes_twice_is_the_first_of_the_two():
    clock = np.array([moment("2026-11-01", "01:30", "UTC")], np.int64)
    assert in_utc(clock, "America/New_York")[0] == moment("2026-11-01", "05:30", "UTC")


@given(
    st.sampled_from([STOCK, INDIA, FOREX]),
    st.lists(st.integers(STOCK.start - 86400, STOCK.end + 86400), min_size=1, max_size=60),
    st.lists(st.tuples(st.integers(0, 20), st.sampled_from(["open", "close"]), st.integers(-1, 1))),
)
def test_rows_in_sessions_are_counted_as_by_looking_at_each(of, times, edges):
    times += [getattr(of.sessions[number], end) + aside for number, end, aside in edges]
    times = sorted(times)
    known = [at for at in times if of.start <= at <= of.end]
    inside = [at for at in known if any(one.open <= at <= one.close for one in of.sessions)]
    outside = {at // 86400 for at in known if at not in inside}
    hours = Hours(M1, of, USUAL, LATER, has_zone=True, has_extended_hours=True)
    fit = fit_in_utc(np.array(times), hours)
    assert (fit.rows, fit.inside, fit.days_outside) == (len(known), len(inside), len(outside))


@given(st.lists(st.integers(FOREX.start, FOREX.end), min_size=1, max_size=40))
def test_rows_on_weekends_are_those_half_an_hour_from_any_session(times):
    def is_there(at):
        after = [one.open - at for one in FOREX.sessions if one.open > at]
        before = [at - one.close for one in FOREX.sessions if one.close < at]
        if not after or not before or len(after) + len(before) < len(FOREX.sessions):
            return False
        return min(after) + min(before) >= 86400 and min(after) > 1800 and min(before) >= 1800

    hours = Hours(M1, FOREX, USUAL, LATER, has_zone=True)
    assert has_rows_on_weekends(np.array(sorted(times)), hours) == any(map(is_there, times))
