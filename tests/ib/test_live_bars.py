"""Updates of the forming bar in, finished and sound bars out."""

import math

import pytest

from ktrdr.ib.live_bars import SETTLE_S, LiveBars
from ktrdr.market.bars import Bar
from ktrdr.market.timeframes import Timeframe

NINE = 1_795_165_200
"""2026-11-20 09:00 UTC."""
OPENED = NINE - 20.0


def bar(minute: int, volume: float = 10.0, close: float = 1.0) -> Bar:
    return Bar(NINE + 60 * minute, 1.0, 1.5, 0.5, close, volume)


def stream(forming: Bar | None = None, opened: float = OPENED) -> LiveBars:
    return LiveBars(Timeframe.M1, opened, forming)


def at(minute: int, second: float) -> float:
    return NINE + 60 * minute + second


def test_a_bar_is_finished_when_the_next_one_begins():
    live = stream()
    assert live.update(bar(0, 10), at(0, 5)) == []
    assert live.update(bar(0, 20), at(0, 55)) == []
    assert live.update(bar(1, 1), at(1, 0.2)) == [bar(0, 20)]
    assert live.problems == {}


def test_its_final_form_comes_after_its_end():
    live = stream()
    live.update(bar(0, 10), at(0, 55))
    assert live.settles_at is None
    assert live.settled(at(1, 30)) == []  # nothing came since its end: it may have missed the end
    live.update(bar(0, 30), at(1, 1))
    assert live.settled(at(1, 1)) == []
    assert live.settles_at == at(1, 1 + SETTLE_S)
    assert live.settled(at(1, 1 + SETTLE_S)) == [bar(0, 30)]
    assert live.settled(at(1, 10)) == []


def test_the_bar_that_was_forming_is_whole_if_the_first_answer_has_it():
    live = stream(bar(0, 10), at(0, 30))
    live.update(bar(0, 20), at(0, 55))
    assert live.update(bar(1), at(1, 1)) == [bar(0, 20)]


def test_it_needs_an_update_since_then():
    live = stream(bar(0, 10), at(0, 58))
    assert live.update(bar(1), at(1, 1)) == []


def test_a_bar_whose_end_may_have_been_missed_is_left_to_a_request():
    live = stream()
    live.update(bar(0, 10), at(0, 54))
    assert live.update(bar(1), at(1, 1)) == []
    live.update(bar(1), at(1, 56))
    assert live.update(bar(2), at(2, 1)) == [bar(1)]


def test_it_goes_by_the_gateways_clock():
    live = stream()
    live.update(bar(0, 10), at(1, 2), behind_s=10.0)
    assert live.settles_at is None
    live.update(bar(0, 20), at(1, 11), behind_s=10.0)
    assert live.settled(at(1, 12)) == [bar(0, 20)]


def test_without_that_it_is_left_to_a_request():
    live = stream(None, at(0, 30))
    live.update(bar(0, 5), at(0, 55))
    assert live.update(bar(1), at(1, 55)) == []
    assert live.update(bar(2), at(2, 1)) == [bar(1)]


def test_bars_that_were_skipped_are_not_invented():
    live = stream()
    live.update(bar(0), at(0, 59))
    assert live.update(bar(4), at(4, 1)) == []
    live.update(bar(4), at(4, 59))
    assert live.update(bar(5), at(5, 4)) == [bar(4)]


@pytest.mark.parametrize(
    ("update", "now", "why"),
    [
        (bar(0)._replace(high=math.nan), at(1, 58), "invalid prices or volume"),
        (bar(1)._replace(low=3.0), at(1, 58), "invalid prices or volume"),
        (bar(1)._replace(volume=-5), at(1, 58), "invalid prices or volume"),
        (Bar(NINE + 60, 0, 0, 0, 0, 0), at(1, 58), "invalid prices or volume"),
        (bar(1)._replace(start=NINE + 61), at(1, 58), "it begins at no whole minute"),
        (bar(3), at(1, 58), "it begins in the future"),
        (bar(0), at(1, 58), "it is older than the one before it"),
        (bar(-24 * 60 + 1), at(1, 58), "it is older than the one before it"),
        (None, at(1, 58), "unreadable"),
    ],
)
def test_what_cannot_be_right_is_named_and_changes_nothing(update, now, why):
    live = stream()
    live.update(bar(0), at(0, 59))
    live.update(bar(1, 7), at(1, 57))
    assert live.update(update, now) == []
    assert live.problems == {why: 1}
    assert live.update(bar(2), at(2, 1)) == [bar(1, 7)]


def test_a_bar_of_yesterday_is_not_taken_for_the_first():
    live = stream()
    assert live.update(bar(-24 * 60), at(0, 1)) == []
    assert live.problems == {"it has ended long ago": 1}


def test_a_bar_whose_volume_went_down_is_left_to_a_request():
    live = stream()
    live.update(bar(0, 10), at(0, 5))
    live.update(bar(0, 9), at(0, 10))
    live.update(bar(0, 30), at(0, 58))
    assert live.update(bar(1), at(1, 56)) == []
    assert live.problems == {"its volume went down": 1}
    assert live.update(bar(2), at(2, 1)) == [bar(1)]


def test_a_bar_is_finished_once():
    live = stream()
    live.update(bar(0), at(0, 30))
    live.update(bar(0), at(1, 0.1))
    assert live.settled(at(1, 1)) == [bar(0)]
    assert live.update(bar(0), at(1, 2)) == []
    assert live.problems == {"it was finished already": 1}
    assert live.update(bar(1), at(1, 55)) == []
    assert live.update(bar(1), at(1, 55)) == []
    assert live.update(bar(2), at(2, 0.5)) == [bar(1)]


def test_ten_thousand_updates_make_one_bar():
    live = stream()
    finished = [found for n in range(10_000) for found in live.update(bar(0, n), at(0, 59))]
    assert finished == []
    assert live.update(bar(1), at(1, 1)) == [bar(0, 9_999)]
