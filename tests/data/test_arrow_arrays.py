"""What pyarrow makes of a file is what Python reads in it, or nothing."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ktrdr.data.arrow_arrays import arrays_of
from ktrdr.market.timeframes import Timeframe
from ktrdr.store.csv_text import COLUMNS, Layout, Lines, Window

FIRST = datetime(2026, 11, 20, 14, 30, tzinfo=UTC)
USUAL = "%Y-%m-%d %H:%M:%S+00:00"

finite = st.floats(allow_nan=False, allow_infinity=False)
prices = st.one_of(
    finite.map(repr),
    st.decimals(-99_999, 99_999, places=5).map(str),
    st.integers(-(10**18), 10**18).map(str),
    st.from_regex(r"-?[0-9]{1,20}\.[0-9]{0,25}(e-?[0-9]{1,2})?", fullmatch=True),
)
oddities = st.sampled_from(
    ["", " ", "nan", "-inf", "1e999", "1_0", "+1", " 1.5 ", "0x10", ".5", "1.", "1,5", '"1"',
     "1\r", "1\x00", "\ufeff1", "٣", "NULL", "-0", "1e-400"]
)  # fmt: skip
spellings = st.sampled_from(
    [USUAL, "%Y-%m-%dT%H:%M:%S+00:00", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S",
     "%Y-%m-%d %H:%M:%S+01:00", "%Y-%m-%d %H:%M+00:00", "%Y-%m-%d", "%s"]
)  # fmt: skip


def window(lines, columns=COLUMNS, piece_lines=1000, newline="\n", timeframe=Timeframe.M1):
    layout = Layout(columns, newline.encode())
    groups = [lines[at : at + piece_lines] for at in range(0, len(lines), piece_lines)]
    texts = ["".join(line + newline for line in group).encode() for group in groups]
    pieces = [Lines("X_1m.csv", layout, timeframe, text) for text in texts]
    return Window(sum(map(len, texts)), iter(pieces))


def rows_of(values, spelling=USUAL):
    times = [FIRST + timedelta(minutes=n) for n in range(len(values))]
    return [",".join([f"{time:{spelling}}", *row]) for time, row in zip(times, values, strict=True)]


def bits(values):
    return np.array(values, np.float64).view(np.uint64).tolist()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(*[prices] * 5), min_size=1, max_size=12), st.integers(1, 12))
def test_numbers_are_those_that_python_reads_to_the_last_bit(values, piece_lines):
    found = arrays_of(window(rows_of(values), piece_lines=piece_lines))
    wanted = [[float(text) for text in row] for row in values]
    if not np.isfinite(wanted).all():
        assert found is None
        return
    first = int(FIRST.timestamp())
    assert found.starts.tolist() == [first + 60 * n for n in range(len(values))]
    assert bits(found.numbers.T) == bits(wanted)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(*[st.one_of(oddities, prices)] * 5), min_size=1, max_size=3),
    spellings,
    st.sampled_from(["\n", "\r\n"]),
)
def test_what_it_makes_of_odd_lines_is_right_or_nothing(values, spelling, newline):
    found = arrays_of(window(rows_of(values, spelling), newline=newline))
    if found is not None:
        assert bits(found.numbers.T) == bits([[float(text) for text in row] for row in values])
        texts = [row.split(",")[0] for row in rows_of(values, spelling)]
        wanted = [datetime.fromisoformat(text).timestamp() for text in texts]
        assert found.starts.tolist() == wanted


@pytest.mark.parametrize(
    "line",
    [
        "",
        "2026-11-20 14:31:00+00:00,1,1,1,1",
        "2026-11-20 14:31:00+00:00,1,1,1,1,1,1",
        "2026-11-20 14:31:00+00:00,1,1,1,1,nan",
        "2026-11-20 14:31:30+00:00,1,1,1,1,1",
        "2026-11-20 14:30:00+00:00,1,1,1,1,1",
        "2026-11-20 14:29:00+00:00,1,1,1,1,1",
        "2026-11-20 14:31:00,1,1,1,1,1",
        "1795185060,1,1,1,1,1",
        "\ufeff2026-11-20 14:31:00+00:00,1,1,1,1,1",
    ],
)
@pytest.mark.parametrize("piece_lines", [1, 2])
def test_what_is_not_certain_is_left(line, piece_lines):
    lines = [*rows_of([["1"] * 5]), line]
    assert arrays_of(window(lines, piece_lines=piece_lines)) is None


def test_a_day_begins_at_midnight():
    lines = ["2026-11-20 00:00:00+00:00,1,1,1,1,1", "2026-11-21 00:01:00+00:00,1,1,1,1,1"]
    assert len(arrays_of(window(lines[:1], timeframe=Timeframe.D1)).starts) == 1
    assert arrays_of(window(lines, timeframe=Timeframe.D1)) is None


def test_columns_are_found_by_the_header():
    columns = ("note", "volume", "close", "timestamp", "low", "high", "open")
    lines = [f'"a,7,4,{FIRST:{USUAL}},1,5,2', "\xe9,8,4,2026-11-20 14:31:00+00:00,1,5,3"]
    found = arrays_of(window(lines, columns))
    assert found.numbers.T.tolist() == [[2, 5, 1, 4, 7], [3, 5, 1, 4, 8]]


def test_a_window_without_lines_has_no_bars():
    assert arrays_of(window([])).numbers.shape == (5, 0)


def test_rows_that_become_shorter_have_room():
    """The first rows, by which the room is guessed, are three times as long as the others."""
    values = [["1.1234567890123"] * 5] * 10 + [["1"] * 5] * 2000
    found = arrays_of(window(rows_of(values), piece_lines=10))
    assert bits(found.numbers.T) == bits([[float(text) for text in row] for row in values])


def test_a_span_is_cut_out():
    found = arrays_of(window(rows_of([[str(n)] * 5 for n in range(10)])))
    first = int(FIRST.timestamp())
    assert found.between(first + 60, first + 121).numbers[0].tolist() == [1, 2]
    assert found.between(first + 121, first).starts.tolist() == []
