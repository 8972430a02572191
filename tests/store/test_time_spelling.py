"""New rows spell their time as the file does, so that its owner's tools read it as before."""

import io
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ktrdr.errors import MalformedFile
from ktrdr.market.bars import Bar
from ktrdr.market.instruments import Series
from ktrdr.market.timeframes import Timeframe
from ktrdr.store.csv_store import CsvStore
from ktrdr.store.time_spelling import spelling_like

HEADER = "timestamp,open,high,low,close,volume\n"
MINUTES = Series("AAPL", Timeframe.M1)
HALF_PAST_TWO = int(datetime(2026, 11, 24, 14, 30, tzinfo=UTC).timestamp())


def bar(start: int) -> Bar:
    return Bar(start, 2.0, 2.0, 2.0, 2.0, 100.0)


@pytest.fixture
def store(data_dir):
    return CsvStore(data_dir)


@pytest.mark.parametrize(
    ("before", "spelled", "after"),
    [
        ("2026-11-24 14:29:00+00:00", "2026-11-24 14:30:00+00:00", "2026-11-24 14:31:00+00:00"),
        ("2026-11-24T14:29:00+00:00", "2026-11-24T14:30:00+00:00", "2026-11-24T14:31:00+00:00"),
        ("2026-11-24T14:29:00Z", "2026-11-24T14:30:00Z", "2026-11-24T14:31:00Z"),
        ("2026-11-24 14:29:00Z", "2026-11-24 14:30:00Z", "2026-11-24 14:31:00Z"),
        ("2026-11-24T14:29:00", "2026-11-24T14:30:00", "2026-11-24T14:31:00"),
        ("2026-11-24 14:29:00", "2026-11-24 14:30:00", "2026-11-24 14:31:00"),
        ("2026-11-24 14:29", "2026-11-24 14:30", "2026-11-24 14:31"),
        ("20261124 14:29:00", "20261124 14:30:00", "20261124 14:31:00"),
        ("20261124T142900Z", "20261124T143000Z", "20261124T143100Z"),
        ("2026-11-24T14:29:00.000Z", "2026-11-24T14:30:00.000Z", "2026-11-24T14:31:00.000Z"),
        ("2026-11-24 14:29:00.000000", "2026-11-24 14:30:00.000000", "2026-11-24 14:31:00.000000"),
        ("2026-11-24 09:29:00-05:00", "2026-11-24 09:30:00-05:00", "2026-11-24 09:31:00-05:00"),
        ("2026-11-24 19:59:00+05:30", "2026-11-24 20:00:00+05:30", "2026-11-24 20:01:00+05:30"),
        ("2026-11-24T14:29:00+0000", "2026-11-24T14:30:00+0000", "2026-11-24T14:31:00+0000"),
        ("2026-11-24_14:29:00+00", "2026-11-24_14:30:00+00", "2026-11-24_14:31:00+00"),
        ("1795530540", "1795530600", "1795530660"),
        ("01795530540", "01795530600", "01795530660"),
        (" 2026-11-24 14:29:00 ", " 2026-11-24 14:30:00 ", " 2026-11-24 14:31:00 "),
        ("2026-11-24 14:29:00 +00:00", "2026-11-24 14:30:00 +00:00", "2026-11-24 14:31:00 +00:00"),
        (
            "2026-11-24 19:59:15+05:30:15",
            "2026-11-24 20:00:15+05:30:15",
            "2026-11-24 20:01:15+05:30:15",
        ),
    ],
)
def test_new_rows_spell_their_time_as_the_last_one_does(store, data_dir, before, spelled, after):
    path = data_dir / "AAPL_1m.csv"
    path.write_text(f"{HEADER}{spelled},1,1,1,1,1\n")
    for start in (HALF_PAST_TWO + 60, HALF_PAST_TWO - 60):
        store.add(MINUTES, [bar(start)])
    new = "2.0,2.0,2.0,2.0,100"
    assert path.read_text() == f"{HEADER}{before},{new}\n{spelled},1,1,1,1,1\n{after},{new}\n"
    if 0 < spelled.count(":") < 4 and "_" not in spelled:
        assert dtype_by_pandas(path.read_text()) == dtype_by_pandas(f"{HEADER}{spelled},1,1,1,1,1")


def dtype_by_pandas(text: str) -> str:
    """Of its index of dates."""
    dtype = str(pd.read_csv(io.StringIO(text), index_col=0, parse_dates=True).index.dtype)
    assert dtype.startswith("datetime64"), dtype
    return dtype


@pytest.mark.parametrize(
    ("spelled", "start"),
    [
        ("2026-W48-2T14:30:00", HALF_PAST_TWO + 86400),
        ("2026-11-24\N{BULLET}14:30:00", HALF_PAST_TWO + 86400),
        ("1795530600", -86400),
        ("1795530600", 10**12),
        ("2026-11-24 14:30", 10**12),
        ("2026-11-24 14:30:00+00:00", 10**12),
    ],
)
def test_nothing_is_written_where_new_rows_could_not_be_spelled_so(store, data_dir, spelled, start):
    path = data_dir / "AAPL_1m.csv"
    text = f"{HEADER}{spelled},1,1,1,1,1\n".encode().replace("\N{BULLET}".encode(), b"\xff")
    path.write_bytes(text)
    with pytest.raises(MalformedFile, match=r"AAPL_1m\.csv.*expected"):
        store.add(MINUTES, [bar(start)])
    assert path.read_bytes() == text


def test_hours_without_minutes_have_no_bar_of_a_minute(store, data_dir):
    path = data_dir / "AAPL_1m.csv"
    path.write_text(f"{HEADER}2026-11-24 14,1,1,1,1,1\n")
    store.add(MINUTES, [bar(HALF_PAST_TWO + 1800)])
    text = path.read_text()
    assert text.splitlines()[-1] == "2026-11-24 15,2.0,2.0,2.0,2.0,100"
    with pytest.raises(MalformedFile, match="2026-11-24 15:01:00"):
        store.add(MINUTES, [bar(HALF_PAST_TWO + 1860)])
    assert path.read_text() == text


ZONES = ("", "Z", "+00:00", "+0000", "+00", "-05:00", "-0500", "+05:30", "+0530", "+09")
MOMENTS = st.integers(-(10**9), 5 * 10**9)


@given(
    MOMENTS,
    st.sampled_from(["%Y-%m-%d", "%Y%m%d"]),
    st.sampled_from("T _"),
    st.sampled_from(["%H", "%H:%M", "%H%M", "%H:%M:%S", "%H%M%S", "%H:%M:%S.000", "%H%M%S.000000"]),
    st.sampled_from(ZONES),
    MOMENTS,
)
def test_each_time_in_a_spelling_is_read_as_that_time(first, date, between, clock, zone, second):
    step_s = {"%H": 3600, "%H:%M": 60, "%H%M": 60}.get(clock, 1)
    offset = datetime.fromisoformat(f"2026-11-24T14:30{zone or 'Z'}").utcoffset()
    assert offset is not None
    shift_s = int(offset.total_seconds())
    first, second = ((one + shift_s) // step_s * step_s - shift_s for one in (first, second))

    def spelled(start: int) -> str:
        local = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=start) + offset
        return local.strftime(date + between + clock) + zone

    text = spelled(first)
    assume(len(text) != 8 or not text.isdigit())
    spell = spelling_like(text, first)
    assert spell(second) == spelled(second)
    read = datetime.fromisoformat(spell(second))
    assert (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp() == second


def test_days_are_spelled_without_an_hour(store, data_dir):
    path = data_dir / "AAPL_1d.csv"
    path.write_text(f"{HEADER}2026-11-24,1,1,1,1,1\n")
    store.add(Series("AAPL", Timeframe.D1), [bar(HALF_PAST_TWO // 86400 * 86400 + 86400)])
    assert path.read_text().splitlines()[-1] == "2026-11-25,2.0,2.0,2.0,2.0,100"
    rows = store.rows(Series("AAPL", Timeframe.D1))
    assert np.diff(rows.starts).tolist() == [86400]
