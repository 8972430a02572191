import math
import sys

import numpy as np
import pytest

from ktrdr.market.bars import Bar, are_sound


def found_sound(bar: Bar) -> list[bool]:
    """By itself, and among others."""
    return [bar.is_sound, *are_sound(np.array([bar[1:]] * 2, dtype=float)).tolist()]


@pytest.mark.parametrize(
    "bar",
    [
        Bar(0, 10, 12, 9, 11, 500),
        Bar(0, 1.1, 1.1, 1.1, 1.1, -1),
        Bar(0, -37.6, 10, -40.3, -37.6, 1),
    ],
)
def test_a_bar_between_its_low_and_high_is_sound(bar):
    assert found_sound(bar) == [True] * 3


@pytest.mark.parametrize(
    "bar",
    [
        Bar(0, 10, 9, 8, 9, 1),
        Bar(0, 10, 12, 11, 11, 1),
        Bar(0, math.nan, 12, 9, 11, 1),
        Bar(0, 10, math.inf, 9, 11, 1),
        Bar(0, 10, 12, 9, 11, -2),
        Bar(0, 10, 12, 9, 11, math.nan),
        Bar(0, 10, 12, 9, 11, math.inf),
        Bar(0, 10, 12, 9, -math.inf, 1),
        Bar(0, *[sys.float_info.max] * 4, 1),
        Bar(0, 10, 12, 9, 11, sys.float_info.max),
    ],
)
def test_a_bar_that_cannot_be_is_not(bar):
    assert found_sound(bar) == [False] * 3
