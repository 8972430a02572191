"""What it takes to believe that bars are absent. Times are plain seconds; a day has 100 bars."""

import numpy as np
import pytest

from ktrdr.completeness.evidence import (
    Answered,
    Density,
    Judgement,
    UnprovenAbsences,
    flanked_now,
    weigh,
)

HOUR, DAY = 3600, 86400
NOW = 1_000 * DAY
LIQUID = Density(present=5000)
SPARSE = Density(present=300, absent=700)


def bars(days):
    """Starts and days of so many days of 100 bars each."""
    day = np.repeat(np.arange(900, 900 + days) * DAY, 100)
    return day + np.tile(np.arange(100) * 60, days), day


class Series:
    """A gap that is asked for, time after time."""

    def __init__(self, days, gap, density=LIQUID):
        self.starts, self.days = bars(days)
        self.missing = np.zeros(len(self.starts), np.bool_)
        self.missing[gap] = True
        self.density = density
        self.unproven = UnprovenAbsences.none(len(self.starts))
        self.now = NOW
        self.control_at = None

    def receive(
        self, received=slice(None), requested=slice(None), agreed=None, *, is_progress=False
    ) -> Judgement:
        """An answer that lacks the whole gap; `received`: from where to where it has bars."""
        wanted = np.zeros(len(self.starts), np.bool_)
        wanted[requested] = True
        within = self.starts[received] if received is not None else []
        answer = Answered(
            wanted,
            (int(within[0]), int(within[-1])) if len(within) else None,
            self.now,
            control_at=self.control_at,
            is_progress=is_progress,
        )
        found = weigh(
            self.starts, self.days, self.missing, answer, self.unproven, self.density, agreed
        )
        self.unproven = found.unproven
        self.missing &= ~found.absent
        return found

    def hear_until_believed(self, most=20, **kwargs):
        """When it was heard, in seconds since the first time; always when that is due."""
        times = []
        for _ in range(most):
            times.append(self.now - NOW)
            found = self.receive(**kwargs)
            if not found.still_missing.any():
                return times
            self.control_at = self.now
            self.now = int(found.again_at[found.still_missing].min())
        return [*times, "never"]


def test_a_minute_without_trades_between_others_is_accepted_at_once():
    assert Series(5, [250]).hear_until_believed() == [0]


def test_so_are_the_many_of_a_series_that_is_known_to_be_illiquid():
    gap = [i for i in range(1, 498) if i % 10 not in (0, 3, 7)]
    assert Series(5, gap, SPARSE).hear_until_believed() == [0]


def test_what_is_not_known_to_be_illiquid_is_requested_once_more():
    gap = [i for i in range(1, 498) if i % 10 not in (0, 3, 7)]
    for density in (Density(), LIQUID):
        assert Series(5, gap, density).hear_until_believed() == [0, HOUR]


def test_few_bars_at_the_edge_of_an_answer_may_have_been_cut_off():
    assert Series(5, slice(495, 500), SPARSE).hear_until_believed() == [0, 300, 25 * HOUR]


def test_what_was_at_the_edge_is_requested_again_as_soon_as_bars_are_received_beyond_it():
    missing, requested, received = (np.zeros(10, np.bool_) for _ in range(3))
    missing[[0, 3, 4, 9]] = True
    received[5:7] = requested[5:7] = True
    assert np.flatnonzero(flanked_now(missing, requested, received)).tolist() == [3, 4]
    requested[4] = True  # weighed by this very answer
    assert not flanked_now(missing, requested, received).any()
    requested[4] = received[5] = False
    assert not flanked_now(missing, requested, received).any()


def test_a_session_of_a_liquid_series_is_not_taken_for_absent_on_one_day():
    times = Series(5, slice(200, 300)).hear_until_believed()
    assert len(times) >= 3
    assert times[-1] > DAY


@pytest.mark.parametrize("received", [None, slice(0, 200), slice(300, 500)])
def test_nor_is_it_where_nothing_was_received_on_one_side_or_at_all(received):
    assert Series(5, slice(200, 300)).hear_until_believed(received=received)[-1] > DAY


def test_whole_weeks_are_not_accepted_from_one_episode():
    times = Series(30, slice(500, 2500)).hear_until_believed()
    assert len(times) >= 4
    assert times[-1] > 3 * DAY


def test_a_gap_is_weighed_as_a_whole_though_it_is_requested_in_parts():
    series = Series(30, slice(500, 2500))
    series.control_at = NOW + 2 * DAY
    for _ in range(20):
        for first in range(500, 2500, 100):
            found = series.receive(received=None, requested=slice(first, first + 100))
            assert not found.absent.any()
        series.now += 2 * HOUR


def test_what_was_requested_often_on_one_day_is_not_accepted_for_it():
    series = Series(5, slice(200, 300))
    series.control_at = NOW + 100 * DAY
    for _ in range(80):
        assert not series.receive().absent.any()
        series.now += 1000


def test_without_a_control_it_is_never_accepted_and_requested_less_and_less_often():
    series = Series(5, slice(200, 300))
    times = [NOW]
    for _ in range(9):
        found = series.receive(received=None)
        assert found.still_missing.sum() == 100
        series.now = int(found.again_at[found.still_missing].min())
        times.append(series.now)
    assert found.wants_control[200:300].all()
    pauses = np.diff(times)
    assert pauses[-1] == 30 * DAY
    assert (pauses > 0).all()


def test_a_control_that_answered_before_proves_nothing():
    series = Series(5, slice(200, 300))
    series.control_at = NOW - 1
    for _ in range(6):
        found = series.receive(received=None)
        series.now = int(found.again_at[found.still_missing].min())
    assert found.wants_control[200:300].all()


def test_a_day_missing_from_schedule_too_is_absent_at_once_between_received_bars():
    series = Series(5, slice(200, 300))
    agreed = np.zeros(500, np.bool_)
    agreed[200:300] = True
    assert series.hear_until_believed(agreed=agreed) == [0]
    at_the_edge = Series(5, slice(400, 500))
    assert (
        at_the_edge.receive(received=slice(0, 400), agreed=np.roll(agreed, 200)).still_missing.sum()
        == 100
    )


def test_what_was_not_requested_is_neither_accepted_nor_counted():
    series = Series(5, slice(0, 500), SPARSE)
    found = series.receive(received=None, requested=slice(0, 100))
    assert not found.still_missing[100:].any()
    assert not found.absent.any()
    assert (found.unproven.times[:100] == 1).all()
    assert not found.unproven.times[100:].any()


def test_bars_that_have_come_are_unproven_no_more():
    series = Series(5, slice(200, 300))
    series.receive(received=None)
    series.missing[:] = False
    found = series.receive()
    assert not found.unproven.times.any()
    assert not found.still_missing.any()


def test_an_answer_with_every_third_bar_left_out_is_not_accepted_of_a_liquid_series():
    found = Series(5, slice(1, 499, 3)).receive()
    assert not found.absent.any()


def test_a_halt_of_some_minutes_is_accepted_when_it_is_received_again():
    assert Series(5, slice(220, 240)).hear_until_believed() == [0, HOUR]


def test_an_answer_that_brings_bars_may_be_cut_off_and_counts_for_nothing_at_its_edge():
    series = Series(5, slice(0, 200))
    for _ in range(50):
        found = series.receive(received=slice(200, 500), is_progress=True)
        assert not found.absent.any()
        assert not found.unproven.times.any()
        assert (found.again_at[found.still_missing] == series.now).all()
        series.now += DAY
