"""How long after its end a bar is requested."""

import pytest

from ktrdr.completeness.settle_times import FIRST_S, LEAST_S, MOST_S, Newest, SettleTimes


def learnt(times, bars, *, needs_s, revised=False, kind="STK", series="AAPL_1m"):
    """Let `bars` bars pass that IB has, or has in their final form, so long after their end."""
    for minute in range(bars):
        start, waited_s = 60 * minute, times.wait_s(kind)
        is_early = waited_s < needs_s
        newest = Newest(start, waited_s, was_there=revised or not is_early)
        before = start - 60
        changed = {before} if revised and is_early else set()
        received = {before, start} if newest.was_there else {before}
        times.answered(kind, series, newest, received, changed)
    return times.wait_s(kind)


def test_it_begins_with_two_seconds():
    assert SettleTimes().wait_s("STK") == FIRST_S == 2.0


@pytest.mark.parametrize("revised", [False, True])
def test_it_grows_until_bars_are_there_in_their_final_form(revised):
    times = SettleTimes()
    assert 6.0 <= learnt(times, 100, needs_s=6.0, revised=revised) < 9.1
    assert times.wait_s("CASH") == FIRST_S


def test_it_shrinks_while_bars_are_never_early_and_not_below_a_second():
    times = SettleTimes()
    assert learnt(times, 2000, needs_s=0.0) == pytest.approx(LEAST_S, abs=0.2)
    assert learnt(times, 4000, needs_s=0.0) == LEAST_S


def test_it_stays_within_bounds():
    assert learnt(SettleTimes(), 3000, needs_s=100.0) == MOST_S


def test_a_bar_that_never_comes_shows_nothing():
    times = SettleTimes()
    for minute in range(500):
        times.answered("STK", "ILLIQ_1m", Newest(60 * minute, 2.0, was_there=False), (), ())
    assert times.wait_s("STK") == FIRST_S


def test_a_rare_revision_changes_nothing():
    times = SettleTimes()
    for minute in range(300):
        start = 60 * minute
        changed = {start - 60} if minute % 100 == 50 else set()
        times.answered("STK", "AAPL_1m", Newest(start, 2.0, True), {start - 60, start}, changed)
    assert times.wait_s("STK") <= FIRST_S
