from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktrdr.completeness.coverage import compute_coverage
from ktrdr.completeness.gap_counts import counted
from ktrdr.market.sessions import Expected

BARS = np.arange(20, dtype=np.int64) * 60
NONE = np.empty(0, dtype=np.int64)


def gaps(missing: str, *, absent: str = ""):
    """The gaps of twenty bars of which those at these letters are missing: `a` is the first."""
    lacking, proven = (
        np.array([ord(c) - ord("a") for c in text], int) for text in (missing, absent)
    )
    present = np.delete(BARS, np.concatenate((lacking, proven)))
    return compute_coverage(
        Expected(BARS, np.zeros(20, np.int64)), present, BARS[proven], NONE, 0
    ).gaps


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (None, gaps("abc"), (1, 0)),
        (None, gaps("abcgh"), (2, 0)),
        (gaps("abc"), gaps("abc"), (0, 0)),
        (gaps("abc"), gaps(""), (0, 1)),
        (gaps("abc"), gaps("ab"), (0, 0)),
        (gaps("abc"), gaps("ac"), (1, 0)),
        (gaps("ac"), gaps("abc"), (0, 1)),
        (gaps("abc"), gaps("h"), (1, 1)),
        (gaps("abc"), gaps("", absent="abc"), (0, 0)),
        (gaps("abc"), gaps("c", absent="ab"), (0, 0)),
    ],
    ids="new two same filled shorter split grown moved absent part_absent".split(),
)
def test_gaps_are_counted_once_however_they_change(before, after, expected):
    assert counted(before, after) == expected


def test_what_is_not_assessed_any_more_was_not_filled():
    assert counted(gaps("abc"), gaps(""), since=600) == (0, 0)
    assert counted(gaps("abc"), gaps(""), since=120) == (0, 1)


@given(st.lists(st.text("abcdefghijklmnopqrst", max_size=20), min_size=1, max_size=8))
def test_what_was_found_less_what_was_filled_is_what_is_there(looks):
    found = filled = 0
    before = None
    for missing in looks:
        after = gaps("".join(sorted(set(missing))))
        more, fewer = counted(before, after)
        found, filled, before = found + more, filled + fewer, after
        assert found - filled == len(after)
        assert min(more, fewer) >= 0
