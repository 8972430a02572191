from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from ktrdr.health.usage import (
    Load,
    Pace,
    Sample,
    Usage,
    chart,
    figures,
    pace_between,
    restarts_of,
)
from ktrdr.times import utc
from tests.played_peers import connected_status, idle_status

T = 1_795_000_000
DAY = 86_400


def sample(at, cpu=1.0, rss=2**20, name="gap-filler", pace=Pace()):  # noqa: B008 - a value
    return Sample(at, {name: Load(cpu, rss)}, pace)


def usage_of(*samples, starts=None):
    usage = Usage()
    for one in samples:
        usage = usage.with_sample(one, starts or {})
    return usage


@given(st.lists(st.integers(T, T + 5 * DAY), min_size=1))
def test_it_never_holds_more_than_24_hours_in_order(times):
    held = [one.at for one in usage_of(*map(sample, sorted(times))).samples]
    assert held == sorted(set(held))
    assert held[-1] - held[0] < DAY
    assert held[-1] == max(times)


def test_the_figures_of_a_program_are_of_what_was_measured():
    usage = usage_of(sample(T, None, 5), sample(T + 60, 3.0, 9), sample(T + 120, 1.0, 7))
    found = figures(usage, "gap-filler")
    assert (found.cpu_mean, found.cpu_most, found.rss_most) == (2.0, 3.0, 9)
    unknown = figures(usage, "alerts")
    assert (unknown.cpu_mean, unknown.rss_most, unknown.restarts) == (None, None, 0)


def test_the_first_start_that_is_known_is_no_restart():
    usage = usage_of(sample(T), starts={"gap-filler": T - 50.0})
    assert restarts_of(usage, "gap-filler") == ()
    usage = usage.with_sample(sample(T + 60), {"gap-filler": T + 42.4})
    assert restarts_of(usage, "gap-filler") == (T + 42,)
    assert figures(usage, "gap-filler").last_restart == utc(T + 42)


def test_a_clock_that_is_corrected_a_little_is_no_restart():
    usage = usage_of(sample(T), starts={"gap-filler": T - 50.0})
    usage = usage.with_sample(sample(T + 60), {"gap-filler": T - 49.6})
    assert restarts_of(usage, "gap-filler") == ()


def test_restarts_are_counted_for_24_hours():
    usage = usage_of(sample(T), starts={"gap-filler": T - 50.0})
    usage = usage.with_sample(sample(T + 60), {"gap-filler": T + 42.0})
    day_later = usage.with_sample(sample(T + 60 + DAY), {"gap-filler": T + 42.0})
    assert restarts_of(day_later, "gap-filler") == ()
    again = day_later.with_sample(sample(T + 120 + DAY), {"gap-filler": T + 90.0 + DAY})
    assert restarts_of(again, "gap-filler") == (T + 90 + DAY,)


def test_the_chart_has_a_gap_where_nobody_measured():
    usage = usage_of(sample(T, 1.24, 3 * 2**20), sample(T + 60, 2.0), sample(T + 600, 3.0))
    drawn = chart(usage, ["gap-filler", "alerts"])
    assert drawn["times"] == [T, T + 60, T + 120, T + 600]
    assert drawn["programs"]["gap-filler"]["cpu"] == [1.2, 2.0, None, 3.0]
    assert drawn["programs"]["gap-filler"]["memory"] == [3.0, 1.0, None, 1.0]
    assert drawn["programs"]["alerts"]["cpu"] == [None] * 4


def test_the_pace_is_what_the_counters_have_gained(filling):
    before = connected_status(), filling
    now = (
        replace(before[0], requests_answered=before[0].requests_answered + 30, requests_open=4),
        replace(idle_status(filling), bars_added=filling.bars_added + 6000),
    )
    assert pace_between(before, now, 60) == Pace(4, 0.5, 100.0)


def test_the_pace_of_a_program_that_began_anew_is_not_known(filling):
    before = connected_status(), filling
    now = replace(before[0], requests_answered=3), None
    assert pace_between(before, now, 60) == Pace(2, None, None)
    assert pace_between((None, None), before, 60) == Pace(2, None, None)
