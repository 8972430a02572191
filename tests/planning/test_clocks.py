"""Which time counts where this machine's clock and the gateway's differ."""

import pytest

from ktrdr.planning.clocks import Clocks


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
    assert (clocks.agree, clocks.now(1000.0)) == (agree, now)
    assert bool(clocks.words) is not agree


def test_the_words_say_which_is_ahead():
    assert "86400 s behind this machine's" in Clocks(-86_400.0).words
    assert "90 s ahead of this machine's" in Clocks(90.0).words
