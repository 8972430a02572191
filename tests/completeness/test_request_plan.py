from datetime import UTC, datetime
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktrdr.completeness.gaps import Gap
from ktrdr.completeness.request_plan import RequestLengths, outside, plan
from ktrdr.market.bars_request import BarsRequest
from ktrdr.market.instruments import instrument_for
from ktrdr.market.timeframes import Timeframe

DAY = 86400
AAPL = instrument_for("AAPL")


def utc(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


NOW = utc("2026-11-23 12:00")
EURUSD = instrument_for("EURUSD")


def ask(timeframe: Timeframe, start: str, end: str) -> BarsRequest:
    return BarsRequest(AAPL, timeframe, utc(start), utc(end))


def test_gaps_within_one_length_are_one_request():
    found = plan([Gap(0, 0, 1), Gap(6000, 6060, 2)], AAPL, Timeframe.M1)
    assert [(r.start, r.end) for r in found] == [(0, 6120)]


def test_gaps_farther_apart_are_several_the_newest_first():
    found = plan([Gap(0, 0, 1), Gap(6 * DAY, 6 * DAY, 1)], EURUSD, Timeframe.M1)
    assert [(r.start, r.end) for r in found] == [(6 * DAY, 6 * DAY + 60), (0, 60)]


def test_a_long_gap_is_cut_at_the_length_of_its_bar_size():
    found = plan([Gap(0, 30 * DAY - 60, 1)], EURUSD, Timeframe.M1)
    assert len(found) == 6
    assert (found[0].end, found[-1].start) == (30 * DAY, 0)


def test_regular_hours_have_few_bars_so_that_a_request_may_be_longer():
    long_gap = [Gap(0, 30 * DAY - 60, 1)]
    assert len(plan(long_gap, AAPL, Timeframe.M1)) == 3
    all_hours = instrument_for("AAPL", {"extended_hours": True})
    assert len(plan(long_gap, all_hours, Timeframe.M1)) == 6


def test_thirty_days_of_five_minutes_are_one_request():
    assert len(plan([Gap(0, 30 * DAY + 36000, 1)], AAPL, Timeframe.M5)) == 1


def test_what_cannot_be_paged_is_one_request_up_to_now():
    front = instrument_for("ES", {"sec_type": "CONTFUT"})
    (request,) = plan([Gap(0, 0, 1), Gap(60 * DAY, 61 * DAY, 9)], front, Timeframe.M1)
    assert (request.start, request.end) == (0, 61 * DAY + 60)
    later = BarsRequest(front, Timeframe.M1, utc("2026-11-18"), utc("2026-11-19"))
    assert later.ib_end(NOW) == ""
    assert later.ib_duration(NOW) == "7 D"


gap_lists = st.lists(st.tuples(st.integers(0, 200_000), st.integers(0, 20_000)), max_size=15).map(
    lambda pairs: [Gap(60 * a, 60 * (a + n), n + 1) for a, n in pairs]
)


@given(gap_lists, st.sampled_from([Timeframe.M1, Timeframe.M5, Timeframe.H1]))
def test_every_gap_is_covered_and_no_request_is_too_long(gaps, timeframe):
    found = plan(gaps, EURUSD, timeframe)
    for gap in gaps:
        for moment in (gap.first, gap.last):
            assert any(r.start <= moment < r.end for r in found)
    assert all(0 < r.end - r.start <= RequestLengths().seconds(timeframe, EURUSD) for r in found)
    assert all(a.start >= b.end for a, b in pairwise(found))


minutes_missing = st.sets(st.integers(0, 60), min_size=1, max_size=9)


@given(minutes_missing, st.integers(1, 20))
def test_no_fewer_requests_could_do_it(days, longest):
    """By trying all: each way to cut the missing days, in order, into stretches of that length."""
    lengths = RequestLengths({"1m": longest})
    gaps = [Gap(day * DAY, day * DAY, 1) for day in sorted(days)]
    length = int(lengths.seconds(Timeframe.M1, EURUSD) / DAY)

    @cache
    def fewest(left: tuple[int, ...]) -> int:
        if not left:
            return 0
        reach = [n for n in range(1, len(left) + 1) if left[n - 1] - left[0] < length]
        return 1 + min(fewest(left[n:]) for n in reach)

    assert len(plan(gaps, EURUSD, Timeframe.M1, lengths)) == fewest(tuple(sorted(days)))


def test_a_length_grows_with_quick_answers_and_shrinks_with_none():
    lengths = RequestLengths()
    whole = BarsRequest(EURUSD, Timeframe.M1, 0, 5 * DAY)
    assert lengths.answered(whole, took_s=4)
    assert lengths.days["1m"] == 7.5
    longer = BarsRequest(EURUSD, Timeframe.M1, 0, int(7.5 * DAY))
    assert lengths.failed(longer)
    assert lengths.days["1m"] == 3.75
    assert lengths.days["5m"] == 31


def test_a_length_grows_in_proportion_to_how_quick_many_bars_came():
    lengths = RequestLengths()
    whole = BarsRequest(EURUSD, Timeframe.M1, 0, 5 * DAY)
    lengths.answered(whole, took_s=1.25, bars=7200)
    assert lengths.days["1m"] == 20  # which takes 5 s, if each bar takes as long
    lengths = RequestLengths()
    lengths.answered(whole, took_s=0.01, bars=7000)
    assert lengths.days["1m"] == 30


def test_bars_of_a_quiet_market_were_quick_because_they_were_few():
    lengths = RequestLengths()
    whole = BarsRequest(EURUSD, Timeframe.M1, 0, 5 * DAY)
    assert not lengths.answered(whole, took_s=5, bars=1800)  # 20 s for 7,200
    assert lengths.are_measured(Timeframe.M1)
    assert not lengths.answered(BarsRequest(EURUSD, Timeframe.M1, 0, DAY), took_s=0.5)
    assert not lengths.answered(whole, took_s=3, bars=1800)  # half a second, and ten for all
    lengths.answered(whole, took_s=2, bars=1800)
    assert lengths.days["1m"] == 7.5
    assert not lengths.answered(BarsRequest(EURUSD, Timeframe.M1, 0, 8 * DAY), took_s=2, bars=900)


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 10)), max_size=5),
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 10)), max_size=4),
)
def test_what_is_outside_of_intervals_is_what_they_do_not_cover(runs, spans):
    taken: set[int] = set()
    gaps: list[Gap] = []
    for first, more in runs:
        bars = set(range(first, first + more + 1))
        if not bars & taken:
            taken |= bars
            gaps.append(Gap(60 * first, 60 * (first + more), more + 1))
    intervals = [(60 * start, 60 * (start + length)) for start, length in spans]
    covered = {bar for start, length in spans for bar in range(start, start + length)}
    left = outside(gaps, intervals, 60)
    assert [(gap.first, gap.last) for gap in left] == sorted((g.first, g.last) for g in left)
    bars_left = [bar for gap in left for bar in range(gap.first // 60, gap.last // 60 + 1)]
    assert sorted(bars_left) == sorted(taken - covered)


def test_an_answer_without_bars_shows_little_about_answers_with_many():
    lengths = RequestLengths()
    lengths.answered(BarsRequest(EURUSD, Timeframe.M1, 0, 5 * DAY), took_s=0.1, bars=12)
    assert lengths.days["1m"] == 7.5


def test_a_short_request_shows_nothing_about_long_ones():
    lengths = RequestLengths()
    assert not lengths.answered(BarsRequest(EURUSD, Timeframe.M1, 0, DAY), took_s=0.1)
    assert not lengths.answered(BarsRequest(EURUSD, Timeframe.M1, 0, 5 * DAY), took_s=15)
    assert lengths.days["1m"] == 5


def test_a_slow_answer_makes_the_next_ones_shorter():
    lengths = RequestLengths()
    lengths.answered(BarsRequest(EURUSD, Timeframe.M1, 0, 6 * DAY), took_s=50)
    assert lengths.days["1m"] == 4


def test_what_is_learnt_from_stocks_is_kept_in_days_of_a_market_without_pauses():
    lengths = RequestLengths()
    lengths.answered(BarsRequest(AAPL, Timeframe.M1, 0, int(12.5 * DAY)), took_s=4)
    assert lengths.days["1m"] == 7.5


def test_a_request_that_could_not_be_shorter_is_late_for_another_reason():
    lengths = RequestLengths()
    tail = BarsRequest(EURUSD, Timeframe.M1, 0, 300)
    assert not lengths.failed(tail)
    assert not lengths.answered(tail, took_s=50)
    assert lengths.days["1m"] == 5


def test_a_length_has_bounds_and_can_be_kept():
    lengths = RequestLengths()
    for _ in range(20):
        lengths.failed(BarsRequest(EURUSD, Timeframe.M1, 0, lengths.seconds(Timeframe.M1, EURUSD)))
        lengths.answered(
            BarsRequest(EURUSD, Timeframe.H1, 0, lengths.seconds(Timeframe.H1, EURUSD)), 1
        )
    assert (lengths.days["1m"], lengths.days["1h"]) == (1, 720)
    assert RequestLengths(lengths.days).days == lengths.days
    assert RequestLengths({"1m": 1e9, "nonsense": 3}).days["1m"] == 30


def test_up_to_a_day_is_requested_in_seconds():
    request = ask(Timeframe.M1, "2026-11-20 14:30", "2026-11-20 15:30")
    assert request.ib_duration(NOW) == "3720 S"
    assert request.ib_end(NOW) == "20261120-15:31:00"


def test_ib_gets_no_seconds_beyond_a_day():
    request = ask(Timeframe.M1, "2026-11-19 00:00", "2026-11-20 00:00")
    assert request.ib_duration(NOW) == "3 D"


def test_ib_gets_no_days_beyond_a_year():
    assert ask(Timeframe.D1, "2016-11-20", "2026-11-20").ib_duration(NOW) == "11 Y"


def test_an_end_in_the_future_is_now():
    assert ask(Timeframe.H1, "2026-11-23 10:00", "2026-11-23 12:00").ib_end(NOW) == ""


def test_daily_bars_are_asked_for_past_the_evening_of_their_day():
    request = ask(Timeframe.D1, "2026-11-17", "2026-11-18")
    assert request.ib_end(NOW) == "20261120-00:00:00"
    assert request.ib_duration(NOW) == "5 D"


@pytest.mark.parametrize("timeframe", list(Timeframe))
def test_a_duration_always_reaches_back_to_the_start(timeframe):
    for minutes in (1, 30, 1439, 1440, 1441, 10_000, 400_000):
        request = BarsRequest(AAPL, timeframe, NOW - 60 * minutes, NOW)
        count, unit = request.ib_duration(NOW).split()
        reach = int(count) * {"S": 1, "D": DAY, "Y": 365 * DAY}[unit]
        assert NOW - reach <= request.start


def test_a_large_answer_may_take_longer():
    small = ask(Timeframe.M1, "2026-11-20 14:30", "2026-11-20 15:30")
    large = ask(Timeframe.M1, "2026-11-13 15:30", "2026-11-20 15:30")
    assert small.timeout_s < 60 < large.timeout_s
