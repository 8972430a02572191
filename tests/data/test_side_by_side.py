"""Several symbols in one frame, as pandas would join them."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ktrdr.data.side_by_side import side_by_side

VALUES = ["open", "high", "low", "close", "volume"]
FIRST = 1_795_185_000


def frame_of(minutes):
    times = pd.to_datetime([FIRST + 60 * n for n in minutes], unit="s", utc=True).as_unit("s")
    rows = [[minute + place / 10 for place in range(5)] for minute in minutes]
    index = pd.DatetimeIndex(times, name="timestamp")
    return pd.DataFrame(rows, index=index, columns=VALUES, dtype=np.float64)


def joined_by_pandas(frames):
    return pd.concat(frames, axis=1, names=["symbol", None], sort=True).sort_index()


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.lists(st.integers(-50, 50), unique=True).map(sorted), min_size=1, max_size=4),
    st.sampled_from([1, 60, 60 * 24 * 365]),
)
def test_rows_are_all_times_and_columns_all_symbols(minutes, step):
    """Near each other and far apart, which are different ways."""
    frames = {f"S{n}": frame_of([step * one for one in own]) for n, own in enumerate(minutes)}
    before = {name: frame.copy() for name, frame in frames.items()}
    found = side_by_side(frames)
    pd.testing.assert_frame_equal(
        found, joined_by_pandas(frames), check_exact=True, check_freq=False
    )
    assert found.index.dtype == "datetime64[s, UTC]"
    found.iloc[:, :] = 7.0
    for name, frame in frames.items():
        pd.testing.assert_frame_equal(frame, before[name])


@pytest.mark.parametrize("names", [("B", "A"), ("A",)])
def test_symbols_stay_in_the_given_order(names):
    found = side_by_side({name: frame_of([1, 2]) for name in names})
    assert list(found.columns) == [(name, value) for name in names for value in VALUES]
    assert found[names[0]]["close"].tolist() == [1.3, 2.3]
