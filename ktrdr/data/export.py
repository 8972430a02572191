"""Bars of the store as one Parquet or Feather file, for programs that read these faster."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ktrdr.data.data_manager import DataManager, Moment
from ktrdr.data.file_change import write_whole
from ktrdr.errors import InvalidRequest, Misconfigured, StoreUnwritable

FORMATS = (".parquet", ".feather")


def export_bars(
    manager: DataManager,
    symbols: Sequence[str],
    timeframe: str,
    path: Path,
    start: Moment = None,
    end: Moment = None,
) -> dict[str, pd.DataFrame]:
    """Write `path` whole, or leave it as it was; what was loaded, by symbol.

    Columns: symbol, timestamp (UTC), open, high, low, close, volume; one row for each bar, ordered
    by symbol as they were given, then by time. InvalidRequest: another ending than one of
    `FORMATS`. Misconfigured: pyarrow is not installed. StoreUnwritable: the disk refused. Further
    errors as `DataManager.load`.
    """
    if path.suffix not in FORMATS:
        raise InvalidRequest(f"{path}: expected a name that ends in {' or '.join(FORMATS)}")
    if importlib.util.find_spec("pyarrow") is None:
        raise Misconfigured(
            "pyarrow is not installed",
            hint="python3 -m pip --python .venv/bin/python install 'pyarrow>=26,<27'",
        )
    frames = {one: manager.load(one, timeframe, start, end) for one in dict.fromkeys(symbols)}
    parts = [frame.reset_index().assign(symbol=one) for one, frame in frames.items()]
    table = pd.concat(parts, ignore_index=True)
    table = table[["symbol", *(name for name in table.columns if name != "symbol")]]
    table.attrs = {}
    try:
        write_whole(path, [_encoded(table, path.suffix)])
    except OSError as error:
        raise StoreUnwritable(f"{path}: {error.strerror or error}") from error
    return frames


def _encoded(table: pd.DataFrame, ending: str) -> bytes:
    file = io.BytesIO()
    if ending == ".parquet":
        table.to_parquet(file, engine="pyarrow", index=False)
    else:
        table.to_feather(file)
    return file.getvalue()
