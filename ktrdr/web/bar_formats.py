"""Bars in the formats of the API, made piece by piece. Reads no file, and answers no request."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from flask import current_app
from pydantic_core import from_json

from ktrdr.ipc.messages import Json
from ktrdr.market.bars import Bar
from ktrdr.store.columns import COLUMNS, HEADER
from ktrdr.store.csv_text import Layout, Lines, format_rows
from ktrdr.store.time_spelling import spell_time
from ktrdr.times import utc

CSV, JSON, PARQUET = "text/csv", "application/json", "application/vnd.apache.parquet"
MEDIA_TYPES: Mapping[str, str] = {"csv": CSV, "json": JSON, "parquet": PARQUET}
"""Name of a format → its media type."""

_WITH_T = bytes.maketrans(b" ", b"T")
_GROUP_ROWS = 50_000
"""Of a group of a Parquet file, which its readers take at a time."""


def csv_parts(pieces: Iterable[Lines]) -> Iterator[bytes]:
    """CSV in the store's own format, so that it can be put into a store again."""
    yield f"{HEADER}\n".encode()
    for lines in pieces:
        if lines.is_usual:
            yield lines.raw
        else:
            yield format_rows(lines.rows().bars(), Layout(), spell_time)


def json_parts(about: Json, pieces: Iterable[Lines]) -> Iterator[bytes]:
    """One JSON object: `about`, the columns' names, a row per bar, and how many there are."""
    head = current_app.json.dumps(about | {"columns": COLUMNS}, separators=(",", ":"))
    return _json_parts(head, pieces)


def _json_parts(head: str, pieces: Iterable[Lines]) -> Iterator[bytes]:
    yield f'{head[:-1]},"bars":['.encode()
    count, comma = 0, b""
    for lines in pieces:
        yield comma + (_quoted(lines) or _json_rows(lines.rows().bars()))
        count, comma = count + lines.raw.count(b"\n"), b","
    yield f'],"count":{count}}}\n'.encode()


def _quoted(lines: Lines) -> bytes:
    """The lines as JSON, separated by commas, with their numbers as they are.

    Empty: the lines are not usual, or a number is spelled as JSON does not allow, such as `.5`.
    """
    if not lines.is_usual:
        return b""
    times = lines.raw.translate(_WITH_T).replace(b"+00:00,", b'+00:00",')
    text = b'["' + times.replace(b"\n", b'],["')[:-3]
    try:
        from_json(b"[" + text + b"]", allow_inf_nan=False, cache_strings="none")
    except ValueError:
        return b""
    return text


def _json_rows(bars: Iterable[Bar]) -> bytes:
    made = [[utc(bar.start).isoformat(), *bar[1:5], whole_volume(bar.volume)] for bar in bars]
    return json.dumps(made, separators=(",", ":"))[1:-1].encode()


def whole_volume(volume: float) -> float:
    """Whole volumes as whole numbers, as IB and the store write them."""
    return int(volume) if volume % 1 == 0 else volume


def parquet_parts(about: Json, pieces: Iterable[Lines]) -> Iterator[bytes]:
    """A Parquet file: timestamp (UTC), open, high, low, close, volume; `about` in its metadata.

    The metadata are JSON under `ktrdr`, as of `DataManager.load(as_="pyarrow")`.
    """
    # Its own pool keeps what it once had. It is chosen when pyarrow is imported.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    import pyarrow as pa  # noqa: PLC0415  # for those who have it, and only when it is needed
    from pyarrow import parquet  # noqa: PLC0415  # as above

    schema = pa.schema(
        [
            pa.field(COLUMNS[0], pa.timestamp("ms", tz="UTC")),
            *(pa.field(name, pa.float64()) for name in COLUMNS[1:]),
        ],
        metadata={"ktrdr": json.dumps(about, ensure_ascii=False)},
    )
    sink = _Sink()
    with parquet.ParquetWriter(sink, schema) as writer:
        for tables in _groups(map(_table, pieces)):
            writer.write_table(pa.concat_tables(tables).cast(schema))
            yield sink.taken()
    yield sink.taken()


def _table(lines: Lines) -> Any:
    """The lines as a table of pyarrow's, with exactly the numbers of the file."""
    import pyarrow as pa  # noqa: PLC0415  # as in `parquet_parts`
    from pyarrow import csv  # noqa: PLC0415  # as above

    rows, names = lines.rows(), list(lines.layout.columns)
    found = csv.read_csv(
        io.BytesIO(lines.raw),
        csv.ReadOptions(column_names=names, use_threads=False),
        csv.ParseOptions(quote_char=False),
        csv.ConvertOptions(
            include_columns=COLUMNS[1:], column_types=dict.fromkeys(COLUMNS[1:], pa.float64())
        ),
    )
    times = pa.array(rows.starts).cast(pa.timestamp("s", tz="UTC"))
    return found.add_column(0, COLUMNS[0], times)


def _groups(tables: Iterable[Any]) -> Iterator[list[Any]]:
    """So many tables at a time that a group of a Parquet file is worth its overhead."""
    held: list[Any] = []
    for table in tables:
        held.append(table)
        if sum(len(one) for one in held) >= _GROUP_ROWS:
            yield held
            held = []
    if held:
        yield held


class _Sink(io.RawIOBase):
    """A file to write into, whose content is taken out as it comes."""

    def __init__(self) -> None:
        super().__init__()
        self._held: list[bytes] = []
        self._written = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._written

    def write(self, content: Any) -> int:
        self._held.append(bytes(content))
        self._written += len(content)
        return len(content)

    def taken(self) -> bytes:
        """What was written since the last time."""
        held, self._held = self._held, []
        return b"".join(held)
