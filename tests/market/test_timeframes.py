from datetime import UTC, datetime

import pytest

from ktrdr.market.timeframes import Timeframe


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def test_there_are_the_seven_of_the_contract():
    assert [t.value for t in Timeframe] == ["1m", "5m", "15m", "30m", "1h", "4h", "1d"]


def test_it_speaks_ibs_bar_sizes():
    sizes = ["1 min", "5 mins", "15 mins", "30 mins", "1 hour", "4 hours", "1 day"]
    assert [t.ib_bar_size for t in Timeframe] == sizes


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'2m'.*1m 5m 15m 30m 1h 4h 1d"):
        Timeframe.parse("2m")


def test_a_bar_begins_on_a_whole_minute_and_a_day_at_midnight():
    assert Timeframe.H1.can_begin_at(at("2026-11-20 14:31"))
    assert not Timeframe.H1.can_begin_at(at("2026-11-20 14:30:30"))
    assert Timeframe.D1.can_begin_at(at("2026-11-20 00:00"))
    assert not Timeframe.D1.can_begin_at(at("2026-11-20 05:00"))
