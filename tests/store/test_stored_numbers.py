"""The numbers of a file's rows, however they are spelled."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktrdr.errors import MalformedFile
from ktrdr.market.bars import Bar
from ktrdr.market.timeframes import Timeframe
from ktrdr.store.csv_text import HEADER, Layout, format_rows, read_rows
from ktrdr.store.time_spelling import spell_time

FIRST = 1_795_185_000
LAYOUT = Layout(begin=len(HEADER) + 1, is_whole=True)
NUMBERS = st.one_of(
    st.floats(allow_nan=False),
    st.decimals(-10_000, 10_000, places=4).map(float),
    st.integers(-1, 10**20).map(float),
)


def bars_of(*rows: str) -> list[Bar]:
    """Those of these rows, a minute each; only their numbers are given."""
    lines = [f"{spell_time(FIRST + 60 * n)},{row}\n" for n, row in enumerate(rows)]
    return read_rows("AAPL_1m.csv", LAYOUT, "".join(lines).encode(), Timeframe.M1).bars()


@given(st.lists(st.tuples(*[NUMBERS] * 5), min_size=1, max_size=5))
def test_numbers_are_read_exactly_as_they_were_written(numbers):
    bars = [Bar(FIRST + 60 * n, *values) for n, values in enumerate(numbers)]
    text = format_rows([one for one in bars if math.isfinite(one.volume)], LAYOUT, spell_time)
    read = read_rows("AAPL_1m.csv", LAYOUT, text, Timeframe.M1).bars()
    assert read == [one for one in bars if math.isfinite(one.volume)]
    assert all(type(value) is float for one in read for value in one[1:])


@pytest.mark.parametrize(
    ("row", "values"),
    [
        ("1,2,3,4,5", (1, 2, 3, 4, 5)),
        (" 1.5 ,2,+3,.5,5.", (1.5, 2, 3, 0.5, 5)),
        ("1e3,2E-2,01,-0,5", (1000, 0.02, 1, 0, 5)),
        ("1,2,3,4,5\r", (1, 2, 3, 4, 5)),
        (f"1,2,3,4,{'9' * 400}", (1, 2, 3, 4, math.inf)),
        ("1,inf,-inf,4,1e999", (1, math.inf, -math.inf, 4, math.inf)),
    ],
)
def test_other_spellings_mean_the_same_beside_usual_ones(row, values):
    assert [one[1:] for one in bars_of("1.5,2.5,0.5,2,100", row)] == [
        (1.5, 2.5, 0.5, 2, 100),
        values,
    ]


@pytest.mark.parametrize(
    "row", ["1,2,3,4", "1,2,3,4,", "1,,3,4,5", "1,2,3,4,[5]", '1,2,3,4,"5"', "1,2,3,4,null", "x"]
)
def test_what_is_no_number_is_named_with_its_line(row):
    with pytest.raises(MalformedFile, match="prices as numbers") as caught:
        bars_of("1.5,2.5,0.5,2,100", row)
    assert row in caught.value.message


def test_a_row_of_four_beside_one_of_six_is_not_two_of_five():
    with pytest.raises(MalformedFile):
        bars_of("1,2,3,4", "1,2,3,4,5,6")
