"""Exports bars of the store as one Parquet or Feather file, for programs that read these faster."""

from __future__ import annotations

import importlib.util
import io
import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ktrdr import __version__
from ktrdr.data.data_manager import DataManager, Moment
from ktrdr.data.frames import common_attrs
from ktrdr.errors import InvalidRequest, Misconfigured
from ktrdr.store.atomic_write import write_whole
from ktrdr.store.file_errors import TRY_AGAIN, unwritable

FORMATS = (".parquet", ".feather")


def export_bars(
    manager: DataManager,
    symbols: Sequence[str],
    timeframe: str,
    path: Path,
    start: Moment = None,
    end: Moment = None,
) -> dict[str, pd.DataFrame]:
    """Write `path` whole, or leave it as it was; returns the bars, by symbol.

    Columns: symbol, timestamp (UTC), open, high, low, close, volume; one row for each bar, ordered
    by symbol as they were given, then by time. The schema's metadata under `ktrdr` is a JSON
    object: source, complete, why, symbols, timeframe, written_by; pandas reads the same as the
    `attrs` of the frame.

    InvalidRequest: another ending than one of `FORMATS`. Misconfigured: pyarrow is not installed.
    StoreUnwritable: the disk refused. Further errors as `DataManager.load`.
    """
    if path.suffix not in FORMATS:
        raise InvalidRequest(
            f"{path}: expected a name that ends in {' or '.join(FORMATS)}, or a folder",
            hint=f"for a folder, end its name with a slash: {path}/",
        )
    check_pyarrow()
    frames = {one: manager.load(one, timeframe, start, end) for one in dict.fromkeys(symbols)}
    parts = [frame.reset_index().assign(symbol=one) for one, frame in frames.items()]
    table = pd.concat(parts, ignore_index=True)
    table = table[["symbol", *(name for name in table.columns if name != "symbol")]]
    table.attrs = common_attrs(frames) | {
        "symbols": list(frames),
        "written_by": f"ktrdr {__version__}",
    }
    try:
        write_whole(path, [_encoded(table, path.suffix)])
    except OSError as error:
        raise unwritable(path, error, TRY_AGAIN) from error
    return frames


def check_pyarrow() -> None:
    """Misconfigured: pyarrow is not installed."""
    if importlib.util.find_spec("pyarrow") is None:
        raise Misconfigured(
            "pyarrow is not installed",
            hint="python3 -m pip --python .venv/bin/python install 'pyarrow>=26,<27'",
        )


def _encoded(table: pd.DataFrame, ending: str) -> bytes:
    """The file; its facts are the table's `attrs`."""
    import pyarrow as pa  # noqa: PLC0415  # for those who have it
    from pyarrow import feather, parquet  # noqa: PLC0415  # as above

    facts = json.dumps(table.attrs, ensure_ascii=False).encode()
    columns = pa.Table.from_pandas(table, preserve_index=False)
    further = {b"ktrdr": facts, b"PANDAS_ATTRS": facts}
    columns = columns.replace_schema_metadata({**columns.schema.metadata, **further})
    file = io.BytesIO()
    write = parquet.write_table if ending == ".parquet" else feather.write_feather
    write(columns, file)
    return file.getvalue()
