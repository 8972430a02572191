"""How fast a fill's bars have arrived, and how long the rest takes."""

import pytest

from ktrdr.completeness.fill import Counts
from ktrdr.completeness.fill_rate import RecentCounts, eta_words


def recent(*counts):
    known = RecentCounts()
    for now, present in counts:
        known = known.with_count(now, present)
    return known


@pytest.mark.parametrize(
    ("counts", "bars_per_s"),
    [
        ([], None),
        ([(0, 100)], None),
        ([(0, 100), (10, 100)], None),
        ([(0, 100), (2, 200)], None),  # too short a time
        ([(0, 100), (10, 1100)], 100),
        ([(0, 100), (20, 100), (25, 600)], 100),  # it did not begin at once
        ([(0, 0), (40, 4000), (70, 4300), (100, 4600)], 10),  # of the last minute alone
    ],
)
def test_the_rate_is_that_of_the_last_minute_since_the_first_bar(counts, bars_per_s):
    assert recent(*counts).bars_per_s == bars_per_s


def test_counts_in_quick_succession_are_not_all_kept():
    known = recent(*((n / 100, n) for n in range(3000)))
    assert len(known.counts) < 150
    assert known.bars_per_s == pytest.approx(100, rel=0.05)


def test_the_rest_takes_as_long_as_at_that_rate():
    counts = Counts(10_000, 4_000, {"open": 5_000, "asked": 1_000, "no_trades": 500})
    assert eta_words(counts, 50.0) == "about 1 to 3 min"  # 120 s, give or take a half
    assert eta_words(counts, None) == ""
    assert eta_words(Counts(10, 8, {"no_trades": 2}), 50.0) == ""
