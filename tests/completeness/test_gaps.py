import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ktrdr.completeness.coverage import compute_coverage
from ktrdr.completeness.gaps import Gap, Reason, among, in_runs, missing
from ktrdr.market.sessions import Expected


def array(*values: int):
    return np.array(values, dtype=np.int64)


NONE = array()


def test_a_hole_inside_counts_like_a_missing_tail():
    found = missing(array(0, 60, 120, 180, 240), array(0, 60, 180), NONE)
    assert found == [Gap(120, 120, 1), Gap(240, 240, 1)]


def test_neighbours_are_one_gap_even_over_a_closed_market():
    assert missing(array(0, 60, 9000, 9060), array(0), NONE) == [Gap(60, 9060, 3)]


def test_what_ib_has_not_ends_a_gap_and_is_none():
    assert missing(array(0, 60, 120), NONE, array(60)) == [Gap(0, 0, 1), Gap(120, 120, 1)]


def test_nothing_expected_is_nothing_missing():
    assert missing(NONE, array(0, 60), NONE) == []


bars = st.sets(st.integers(0, 400)).map(lambda s: np.array(sorted(s), dtype=np.int64) * 60)


@given(bars, bars, bars)
def test_gaps_hold_exactly_the_bars_that_are_neither_there_nor_absent(expected, present, absent):
    found = missing(expected, present, absent)
    inside = [t for t in expected.tolist() for gap in found if gap.first <= t <= gap.last]
    lacking = set(expected.tolist()) - set(present.tolist()) - set(absent.tolist())
    assert set(inside) == lacking
    assert sum(gap.bars for gap in found) == len(lacking)


def test_coverage_says_why_each_bar_is_missing():
    starts = array(0, 60, 86400, 86460, 172800)
    days = array(0, 0, 86400, 86400, 172800)
    found = compute_coverage(
        Expected(starts, days), array(60, 86400), array(86460), NONE, fill_from=86400
    )
    assert found.gap_counts == {Reason.TOO_OLD: 1, Reason.NO_TRADES: 1, Reason.OPEN: 1}
    assert (found.expected, found.present) == (5, 2)
    assert [(d.day, d.expected, d.present, d.missing) for d in found.days] == [
        (0, 2, 1, {Reason.TOO_OLD: 1}),
        (86400, 2, 1, {Reason.NO_TRADES: 1}),
        (172800, 1, 0, {Reason.OPEN: 1}),
    ]


def test_a_bar_that_is_there_is_not_absent_whatever_the_ledger_says():
    found = compute_coverage(
        Expected(array(0), array(0)), array(0), array(0), array(0), fill_from=0
    )
    assert list(found.gaps) == []


def test_a_late_bar_waits_and_is_not_open():
    found = compute_coverage(
        Expected(array(0, 60), array(0, 0)), array(0), NONE, array(0, 60), fill_from=0
    )
    assert found.gap_counts == {Reason.LATE: 1}
    assert found.open_gaps == []


def test_a_refusal_names_the_open_gaps_anew():
    found = compute_coverage(Expected(array(0, 60), array(0, 0)), NONE, array(0), NONE, fill_from=0)
    assert found.refused(Reason.NOT_ENTITLED).gap_counts == {
        Reason.NO_TRADES: 1,
        Reason.NOT_ENTITLED: 1,
    }


MINUTES = st.lists(st.integers(0, 4_000_000), unique=True, max_size=60)


@given(MINUTES, MINUTES)
def test_what_is_known_of_long_and_short_series(starts, known):
    """The minutes of eight years, of a month and of hours: looked up in different ways."""
    for scale in (1, 100, 100_000):
        mine, theirs = (
            np.array(sorted({m // scale for m in one}), np.int64) * 60 for one in (starts, known)
        )
        there = set(theirs.tolist())
        assert among(mine, theirs).tolist() == [start in there for start in mine.tolist()]
        some = mine[len(mine) // 3 : 2 * len(mine) // 3]
        there = set(some.tolist())
        assert among(mine, some).tolist() == [start in there for start in mine.tolist()]


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=40))
def test_each_bar_is_counted_with_its_trading_day(bars):
    """Also where the days do not ascend, as a calendar with an error may have it."""
    days = np.array([day * 86400 for day, _ in bars], np.int64)
    starts = np.arange(len(bars), dtype=np.int64) * 60
    there = np.array([is_there for _, is_there in bars], np.bool_)
    nothing = np.empty(0, np.int64)
    coverage = compute_coverage(Expected(starts, days), starts[there], nothing, nothing, 0)
    assert [(one.day, one.expected, one.present, one.missing) for one in coverage.days] == [
        (
            day,
            len(of_day),
            sum(of_day),
            {Reason.OPEN: of_day.count(False)} if False in of_day else {},
        )
        for day in sorted(set(days.tolist()))
        for of_day in [[is_there for other, is_there in bars if other * 86400 == day]]
    ]


SPANS = st.lists(st.tuples(st.integers(-5, 60), st.integers(0, 20)), max_size=8)


@given(st.lists(st.integers(0, 50), unique=True), SPANS)
def test_bars_within_recorded_runs(starts, spans):
    expected = np.array(sorted(starts), np.int64) * 60
    recorded = [(60 * first, 60 * (first + more)) for first, more in spans]
    inside = [t for t in expected.tolist() if any(a <= t <= b for a, b in recorded)]
    assert in_runs(recorded, expected).tolist() == inside
