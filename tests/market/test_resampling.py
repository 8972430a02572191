from datetime import UTC, datetime

import numpy as np
import pytest

from ktrdr.market.resampling import larger_bars
from ktrdr.market.sessions import Schedule, Session
from ktrdr.market.timeframes import DAY_S, Timeframe
from ktrdr.market.usual_sessions import by_rules


def utc(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def text(time_s: int) -> str:
    return f"{datetime.fromtimestamp(time_s, UTC):%m-%d %H:%M}"


STOCKS = by_rules("STK", utc("2026-10-20"), utc("2026-12-01"))
"""New York leaves daylight saving time on 2026-11-01: 09:30 is 13:30 UTC before, 14:30 after."""


def into(schedule, starts, larger, alignment=frozenset()):
    found, ends = larger_bars(schedule, np.array(starts, np.int64), larger, alignment)
    return [text(t) for t in found.tolist()], [text(t) for t in ends.tolist()]


@pytest.mark.parametrize(
    ("day", "open_", "close"),
    [("2026-10-30", "13:30", "20:00"), ("2026-11-02", "14:30", "21:00")],
)
def test_hours_of_stocks_begin_with_the_session_then_with_the_clock(day, open_, close):
    first, last = utc(f"{day} {open_}"), utc(f"{day} {close}") - 60
    starts = [first, first + 29 * 60, first + 30 * 60, last]
    second = text(first + 1800)
    assert into(STOCKS, starts, Timeframe.H1) == (
        [text(first), text(first), second, text(last - 59 * 60)],
        [second, second, text(first + 5400), text(last + 60)],
    )


def test_a_half_day_ends_its_last_bar():
    sessions = (Session(utc("2026-11-27 14:30"), utc("2026-11-27 18:00"), utc("2026-11-27")),)
    half = Schedule("America/New_York", 0, utc("2027-01-01"), sessions)
    noon = utc("2026-11-27 17:30")
    assert into(half, [noon], Timeframe.H4) == (["11-27 17:00"], ["11-27 18:00"])
    assert into(half, [noon], Timeframe.D1) == (["11-27 00:00"], ["11-27 18:00"])


def test_the_evening_of_a_future_belongs_to_the_next_trading_day():
    futures = by_rules("FUT", utc("2026-11-10"), utc("2026-11-20"))
    sunday_evening, monday = utc("2026-11-15 23:00"), utc("2026-11-16 21:59")
    assert into(futures, [sunday_evening, monday], Timeframe.D1)[0] == ["11-16 00:00"] * 2


def test_four_hours_begin_where_they_were_seen_to():
    start = utc("2026-11-18 15:10")
    assert into(STOCKS, [start], Timeframe.H4) == (["11-18 14:30"], ["11-18 17:00"])
    learnt = frozenset({9 * 60 + 30, 13 * 60 + 30})
    assert into(STOCKS, [start], Timeframe.H4, learnt) == (["11-18 14:30"], ["11-18 18:30"])


def test_what_is_outside_all_sessions_goes_by_the_clock():
    early = utc("2026-11-18 09:07")
    assert into(STOCKS, [early], Timeframe.M15) == (["11-18 09:00"], ["11-18 09:15"])
    assert into(STOCKS, [early], Timeframe.D1)[0] == ["11-18 00:00"]
    assert into(STOCKS, [], Timeframe.H1) == ([], [])


def test_the_bars_of_a_day_are_all_of_one_day():
    crypto = by_rules("CRYPTO", utc("2026-11-10"), utc("2026-11-12"))
    starts = range(utc("2026-11-10"), utc("2026-11-11"), 60)
    assert set(into(crypto, starts, Timeframe.D1)[0]) == {"11-10 00:00"}
    assert len(set(into(crypto, starts, Timeframe.H4)[0])) == DAY_S // Timeframe.H4.length_s
