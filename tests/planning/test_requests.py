from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktrdr.planning.gaps import Gap
from ktrdr.planning.instruments import instrument_for
from ktrdr.planning.requests import SPAN_DAYS, BarsRequest, plan
from ktrdr.planning.timeframes import Timeframe

DAY = 86400
AAPL = instrument_for("AAPL")


def utc(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


NOW = utc("2026-11-23 12:00")


def ask(timeframe: Timeframe, start: str, end: str) -> BarsRequest:
    return BarsRequest(AAPL, timeframe, utc(start), utc(end))


def test_near_holes_are_one_request():
    found = plan([Gap(0, 0, 1), Gap(6000, 6060, 2)], AAPL, Timeframe.M1)
    assert [(r.start, r.end) for r in found] == [(0, 6120)]


def test_far_holes_are_asked_for_apart_the_newest_first():
    found = plan([Gap(0, 0, 1), Gap(5 * DAY, 5 * DAY, 1)], AAPL, Timeframe.M1)
    assert [(r.start, r.end) for r in found] == [(5 * DAY, 5 * DAY + 60), (0, 60)]


def test_a_long_gap_is_cut_at_the_span_of_its_bar_size():
    found = plan([Gap(0, 30 * DAY - 60, 1)], AAPL, Timeframe.M1)
    assert len(found) == 5
    assert (found[0].end, found[-1].start) == (30 * DAY, 0)


gap_lists = st.lists(st.tuples(st.integers(0, 200_000), st.integers(0, 20_000)), max_size=15).map(
    lambda pairs: [Gap(60 * a, 60 * (a + n), n + 1) for a, n in pairs]
)


@given(gap_lists, st.sampled_from([Timeframe.M1, Timeframe.M5, Timeframe.H1]))
def test_every_gap_is_covered_and_no_request_is_too_long(gaps, timeframe):
    found = plan(gaps, AAPL, timeframe)
    for gap in gaps:
        for moment in (gap.first, gap.last):
            assert any(r.start <= moment < r.end for r in found)
    assert all(0 < r.end - r.start <= SPAN_DAYS[timeframe] * DAY for r in found)
    assert all(a.start >= b.end for a, b in pairwise(found))


def test_up_to_a_day_is_asked_for_in_seconds():
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
