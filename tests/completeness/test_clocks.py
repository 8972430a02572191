"""Which time counts where this machine's clock and the gateway's differ, or this one jumps."""

from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktrdr.completeness.clocks import APART_S, Clocks, Moment

AT = Moment(1000.0, 7.0)
DAY = 86400.0


@pytest.mark.parametrize(
    ("offset_s", "agree", "now"),
    [
        (None, True, 1000.0),
        (0.4, True, 1000.0),
        (-1.9, True, 1000.0),
        (-30.0, True, 970.0),
        (30.0, True, 1000.0),
        (60.0, True, 1000.0),
        (61.0, False, 1000.0),
        (-61.0, False, 939.0),
        (-86_400.0, False, -85_400.0),
    ],
)
def test_the_clock_that_is_behind_counts(offset_s, agree, now):
    clocks = Clocks(offset_s)
    assert (clocks.agree(AT), clocks.now(AT)) == (agree, now)
    assert bool(clocks.words(AT)) is not agree


def test_the_words_say_which_is_ahead():
    assert "86400 s behind this machine's" in Clocks(-86_400.0).words(AT)
    assert "90 s ahead of this machine's" in Clocks(90.0).words(AT)


def after(*readings: tuple[float, float], offset_s: float | None = 0.0) -> Clocks:
    """What is known after looks at both clocks: seconds that passed, and how far one is set."""
    clocks = Clocks(offset_s)
    for passed_s, set_by_s in readings:
        clocks = clocks.seen(moment(passed_s, set_by_s))
    return clocks


def moment(passed_s: float, set_by_s: float) -> Moment:
    return Moment(1000.0 + passed_s + set_by_s, 7.0 + passed_s)


@pytest.mark.parametrize("by_s", [61.0, DAY, 400 * DAY])
def test_a_jump_ahead_is_not_the_time_until_it_has_lasted(by_s):
    clocks = after((0, 0))
    for passed_s in (10, 11, 200, 309):
        at = moment(passed_s, by_s)
        clocks = clocks.seen(at)
        assert (clocks.agree(at), clocks.now(at)) == (False, 1000.0 + passed_s)
        assert f"jumped by {by_s:.0f} s, ahead" in clocks.words(at)
    at = moment(310, by_s)
    clocks = clocks.seen(at)
    assert (clocks.agree(at), clocks.now(at), clocks.words(at)) == (True, at.wall_s, "")


def test_a_jump_counts_before_anybody_has_noticed_it():
    clocks, at = after((0, 0)), moment(10, DAY)
    assert (clocks.agree(at), clocks.now(at)) == (False, 1010.0)


@pytest.mark.parametrize("by_s", [-61.0, -DAY])
def test_after_a_jump_back_the_time_is_what_the_clock_shows(by_s):
    clocks, at = after((0, 0), (10, by_s)), moment(20, by_s)
    assert (clocks.agree(at), clocks.now(at)) == (False, at.wall_s)
    assert "back" in clocks.words(at)
    assert clocks.seen(moment(310, by_s)).agree(moment(310, by_s))


def test_what_is_wrong_is_not_right_because_nobody_knows_any_more():
    assert not Clocks(-DAY).received(None, AT).agree(AT)


def test_a_jump_that_is_taken_back_is_none():
    clocks, at = after((0, 0), (10, DAY), (50, 0)), moment(51, 0)
    assert (clocks.agree(at), clocks.now(at), clocks.words(at)) == (True, at.wall_s, "")
    assert not clocks.seen(moment(340, DAY)).agree(moment(340, DAY))


def test_a_gateway_whose_clock_went_on_shows_that_this_one_was_set_right():
    clocks = after((0, -DAY)).received(DAY, moment(1, -DAY))
    assert not clocks.agree(moment(2, -DAY))
    clocks = clocks.seen(moment(10, 0))
    assert not clocks.agree(moment(10, 0))
    assert clocks.received(0.4, moment(11, 0)).agree(moment(12, 0))


def test_a_gateway_whose_clock_has_jumped_too_is_no_witness():
    clocks = (
        after((0, 0))
        .received(0.4, moment(1, 0))
        .seen(moment(10, DAY))
        .received(0.4, moment(11, DAY))
    )
    at = moment(12, DAY)
    assert (clocks.agree(at), clocks.now(at)) == (False, 1012.0)
    assert clocks.received(None, at).now(at) == 1012.0


def test_a_gateway_whose_clock_has_not_jumped_may_say_that_this_one_is_wrong():
    clocks = after((0, 0)).received(0.4, moment(1, 0)).seen(moment(10, DAY))
    clocks = clocks.received(0.4 - DAY, moment(11, DAY)).seen(moment(400, DAY))
    at = moment(401, DAY)
    assert not clocks.has_jumped(at)
    assert (clocks.agree(at), clocks.now(at)) == (False, pytest.approx(1401.4))


def test_another_jump_begins_anew():
    clocks = after((0, 0), (10, DAY), (300, 2 * DAY))
    at = moment(311, 2 * DAY)
    assert not clocks.seen(at).agree(at)
    at = moment(600, 2 * DAY)
    assert clocks.seen(at).agree(at)


def test_small_steps_are_no_jump_however_many():
    readings = [(60.0 * n, 30.0 * n) for n in range(100)]
    at = moment(*readings[-1])
    assert after(*readings).agree(at)
    assert after(*readings).now(at) == at.wall_s


def test_what_is_behind_counts_also_while_a_jump_is_not_accepted():
    at = moment(10, DAY)
    assert after((0, 0), offset_s=-2 * DAY).now(at) == 1010.0 - DAY
    assert after((0, 0), offset_s=2 * DAY).now(at) == 1010.0


STRETCHES = st.lists(
    st.tuples(st.sampled_from([0.0, 61.0, 600.0, DAY, 9 * DAY]), st.integers(1, 280)), max_size=20
)


@given(STRETCHES, st.sampled_from([1.0, 7.0, 60.0]), st.booleans())
def test_a_clock_that_is_ahead_for_minutes_is_never_the_time(stretches, every_s, is_one_machine):
    """Whatever it jumps to, and whether or not the gateway's jumps with it."""
    clocks = after((0, 0)).received(0.0, moment(0, 0))
    passed_s = 0.0
    for set_by_s, of_it in groupby(stretches, key=lambda stretch: stretch[0]):
        lasts_s = min(280, sum(lasts_s for _, lasts_s in of_it))
        ends_s = passed_s + lasts_s
        while passed_s < ends_s:
            at = moment(passed_s, set_by_s)
            assert clocks.now(at) <= 1000.0 + passed_s + APART_S
            clocks = clocks.seen(at).received(0.0 if is_one_machine else -set_by_s, at)
            assert clocks.now(at) <= 1000.0 + passed_s + APART_S
            assert clocks.agree(at) is (set_by_s == 0.0)
            passed_s += every_s
    at = moment(passed_s, 0.0)
    assert clocks.seen(at).received(0.0, at).now(at) == at.wall_s
