"""DataFrames of bars: from the store's rows, from fetched bars, and into larger ones."""

from __future__ import annotations

import csv
import io
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ktrdr.data.arrow_arrays import BarArrays
from ktrdr.errors import MalformedFile
from ktrdr.market.bars import Bar
from ktrdr.market.sessions import Int64Array
from ktrdr.store.columns import COLUMNS
from ktrdr.store.csv_text import Rows, check_each
from ktrdr.store.file_advice import check_command

VALUES = list(COLUMNS[1:])
_COLUMNS = pd.Index(VALUES)
_NO_STARTS = np.empty(0, dtype=np.int64)


def frame_of(name: str, rows: Rows | None) -> pd.DataFrame:
    """The rows of a file exactly as written, to the last digit. MalformedFile: not numbers."""
    if rows is None or not len(rows.starts):
        return pd.DataFrame(columns=VALUES, dtype=np.float64, index=times_of(_NO_STARTS))
    places = rows.layout.value_places
    try:
        values = pd.read_csv(
            io.BytesIO(rows.text),
            header=None,
            usecols=places,
            dtype=dict.fromkeys(places, np.float64),
            engine="c",
            quoting=csv.QUOTE_NONE,
        )
    except ValueError as error:
        check_each(name, rows)
        raise MalformedFile(f"{name}: {error}", hint=check_command(name)) from error
    values = values[places].set_axis(VALUES, axis=1)
    if len(values) != len(rows.starts) or values.isna().to_numpy().any():
        check_each(name, rows)
        expected = "expected six fields in each row, prices as numbers"
        raise MalformedFile(f"{name}: {expected}", hint=check_command(name))
    values.index = times_of(rows.starts)
    return values


def frame_of_arrays(arrays: BarArrays) -> pd.DataFrame:
    """The same from arrays, which become the frame's own: nothing is copied."""
    index, columns = times_of(arrays.starts), _COLUMNS.copy()
    return pd.DataFrame(arrays.numbers.T, index=index, columns=columns, copy=False)


def with_bars(local: pd.DataFrame, bars: Sequence[Bar]) -> pd.DataFrame:
    """Local and fetched bars in order; a local one takes precedence."""
    if not bars:
        return local
    index = times_of([bar.start for bar in bars])
    fetched = pd.DataFrame([bar[1:] for bar in bars], columns=VALUES, index=index, dtype=np.float64)
    new = fetched[~fetched.index.isin(local.index)]
    return (new if local.empty else pd.concat([local, new])).sort_index()


def below_each_other(frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Several symbols in one frame, in the given order, with a first column `symbol`."""
    parts = [
        frame.reset_index().assign(symbol=name).set_index("symbol")
        for name, frame in frames.items()
    ]
    return pd.concat(parts)


def common_attrs(frames: Mapping[str, pd.DataFrame]) -> dict[Hashable | None, Any]:
    """The `attrs` of several symbols' bars together, as JSON values."""
    each = [frame.attrs for frame in frames.values()]
    incomplete = [f"{s}: {f.attrs['why']}" for s, f in frames.items() if not f.attrs["complete"]]
    return {
        "timeframe": each[0]["timeframe"],
        "source": next((one["source"] for one in each if one["source"]), None),
        "complete": not incomplete,
        "why": "; ".join(incomplete),
    }


def aggregated(frame: pd.DataFrame, into: Int64Array) -> pd.DataFrame:
    """Bars aggregated from others: `into` has for each row the start of its larger bar."""
    if frame.empty:
        return frame
    grouped = frame.groupby(times_of(into))
    made = grouped.agg({"open": "first", "high": "max", "low": "min", "close": "last"})
    has_volume = grouped["volume"].max() >= 0
    made["volume"] = grouped["volume"].sum().where(has_volume, -1.0)
    made.index.name = "timestamp"
    return made


def starts_of(frame: pd.DataFrame) -> Int64Array:
    """UTC seconds of its rows."""
    index = frame.index
    assert isinstance(index, pd.DatetimeIndex)
    return index.as_unit("s").asi8


def times_of(starts: Any) -> pd.DatetimeIndex:
    """UTC seconds as an index named `timestamp`."""
    seconds = np.asarray(starts, dtype=np.int64)
    return pd.DatetimeIndex(seconds, dtype="datetime64[s, UTC]", name="timestamp", copy=False)
