"""Exports bars of the store as a folder of Parquet files, one a symbol, timeframe and year."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from ktrdr import __version__
from ktrdr.data.data_manager import DataManager, Moment, span_of
from ktrdr.data.export import check_pyarrow
from ktrdr.data.fetching import ALWAYS
from ktrdr.data.frames import VALUES
from ktrdr.data.partitions import (
    KEY,
    Partition,
    check_partition,
    check_source,
    clear_unfinished,
    source_in,
    years_in,
)
from ktrdr.data.units import units_of
from ktrdr.errors import KtrdrError, MalformedFile, StoreUnwritable, UnknownSeries
from ktrdr.market.instruments import Instrument, Series
from ktrdr.store.atomic_write import write_whole
from ktrdr.store.file_errors import TRY_AGAIN, unwritable
from ktrdr.times import iso, utc


@dataclass(frozen=True)
class ExportedSeries:
    """What was written of a series."""

    series: Series
    written: dict[int, int] = field(default_factory=dict)
    """Year → bars in its file, as it was written now."""
    kept_years: list[int] = field(default_factory=list)
    """Years of earlier exports of which the store has no bars, though all were to be exported."""
    source: str | None = None
    why: str = ""
    """Why it cannot be proven that nothing is missing; empty: nothing is."""
    error: KtrdrError | None = None
    """Why it could not be read."""

    @property
    def bars(self) -> int:
        """How many were written."""
        return sum(self.written.values())


class _Piece(NamedTuple):
    """A part of the interval, with no more than a year of bars."""

    start: Moment
    end: Moment
    year: int | None
    """None: the series has no bars in the interval."""


def export_dataset(
    manager: DataManager,
    wanted: Sequence[Series],
    folder: Path,
    start: Moment = None,
    end: Moment = None,
) -> list[ExportedSeries]:
    """Write the bars that start in `[start, end)` to `symbol=/timeframe=/year=/bars.parquet`.

    The folder is created if there is none. Each file is replaced whole, or stays as it was; files
    of other series and years stay. One year of one series is in memory at a time. The columns:
    timestamp (UTC), open, high, low, close, volume. The schema's metadata under `ktrdr` is a JSON
    object: source, symbol, timeframe, coverage, units, written_by (docs/export.md).

    A series that cannot be read has an `error` in the result, and the others are written. Before
    anything is written: UnknownSeries: there is no such file. InvalidRequest: the folder has files
    of others, or a file of it has bars that are outside of the interval and would be lost.
    WrongSource: live and simulated bars would be in one folder. Misconfigured: pyarrow is not
    installed. At any time: StoreUnwritable: the disk refused.
    """
    check_pyarrow()
    span = span_of(start, end)
    export = _Export(manager, folder, (start, end), span, source_in(folder))
    plans = {one: export.plan(one) for one in wanted}
    return [
        ExportedSeries(one, error=plan) if isinstance(plan, KtrdrError) else export.write(one, plan)
        for one, plan in plans.items()
    ]


@dataclass(frozen=True)
class _Export:
    """An interval of a store's bars, and the folder that they go into."""

    manager: DataManager
    folder: Path
    interval: tuple[Moment, Moment]
    span: tuple[int, int]
    """The interval in UTC seconds."""
    known_source: str | None
    """Of the bars that are in the folder already; None: there are none, or it is not known."""

    def plan(self, series: Series) -> list[_Piece] | KtrdrError:
        """The parts to be written one by one, or why the series cannot be read.

        Errors as of `export_dataset` before anything is written.
        """
        try:
            bounds = self.manager.bounds(series.symbol, series.timeframe)
        except (MalformedFile, StoreUnwritable) as error:
            return error
        pieces = _pieces(bounds, self.interval, self.span)
        for piece in pieces:
            if piece.year is not None:
                check_partition(self.folder, Partition(series, piece.year), self.span)
        return pieces

    def write(self, series: Series, pieces: Sequence[_Piece]) -> ExportedSeries:
        """Write the parts of a series."""
        written: dict[int, int] = {}
        whys: dict[int | None, str] = {}
        source = None
        for piece in pieces:
            try:
                frame = self.manager.load(series.symbol, series.timeframe, piece.start, piece.end)
            except (MalformedFile, StoreUnwritable, UnknownSeries) as error:
                return ExportedSeries(series, written, source=source, error=error)
            source = frame.attrs["source"]
            check_source(self.folder, self.known_source, source)
            if not frame.attrs["complete"]:
                whys[piece.year] = frame.attrs["why"]
            for year, bars in _by_year(frame):
                self._replace(Partition(series, year), bars, piece)
                written[year] = len(bars)
        kept = years_in(self.folder, series) - written.keys() if self._is_all else set()
        return ExportedSeries(series, written, sorted(kept), source, _together(whys, len(pieces)))

    @property
    def _is_all(self) -> bool:
        return self.span == ALWAYS

    def _replace(self, partition: Partition, bars: pd.DataFrame, piece: _Piece) -> None:
        """Replace the file of a year, or leave it as it was."""
        check_partition(self.folder, partition, self.span)
        path = partition.path(self.folder)
        instrument = self.manager.instrument(partition.series.symbol)
        content = _encoded(bars, _facts(partition.series, instrument, bars, piece))
        try:
            with _new_folders(path.parent, self.folder):
                clear_unfinished(path)
                write_whole(path, [content])
        except OSError as error:
            raise unwritable(path, error, TRY_AGAIN) from error


def _pieces(
    bounds: tuple[datetime, datetime] | None,
    interval: tuple[Moment, Moment],
    span: tuple[int, int],
) -> list[_Piece]:
    """The interval, cut at the turns of years between the first and the last bar.

    `bounds`: their starts; `span`: the interval in UTC seconds.
    """
    start, end = interval
    if bounds is None:
        return [_Piece(start, end, None)]
    first = max(bounds[0].timestamp(), span[0])
    last = min(bounds[1].timestamp(), span[1] - 1)
    if first > last:
        return [_Piece(start, end, None)]
    years = range(utc(first).year, utc(last).year + 1)
    turns = [datetime(year, 1, 1, tzinfo=UTC) for year in years[1:]]
    return [
        _Piece(begin, until, year)
        for begin, until, year in zip([start, *turns], [*turns, end], years, strict=True)
    ]


def _by_year(frame: pd.DataFrame) -> Iterator[tuple[int, pd.DataFrame]]:
    """The bars of each year: of one, unless bars came before or after the known ones meanwhile."""
    assert isinstance(frame.index, pd.DatetimeIndex)
    years = frame.index.year
    for year in years.unique():
        bars = frame[years == year] if len(years.unique()) > 1 else frame
        bars.attrs = frame.attrs
        yield int(year), bars


def _facts(
    series: Series, instrument: Instrument, bars: pd.DataFrame, piece: _Piece
) -> dict[str, Any]:
    """What the file of these bars says of itself, as JSON values."""
    start, end = span_of(piece.start, piece.end)
    return {
        "source": bars.attrs["source"],
        "symbol": series.symbol,
        "timeframe": series.timeframe.value,
        "coverage": {
            "complete": bars.attrs["complete"],
            "why": bars.attrs["why"],
            "first": bars.index[0].isoformat(),
            "last": bars.index[-1].isoformat(),
            "start": None if start == ALWAYS[0] else iso(start),
            "end": None if end == ALWAYS[1] else iso(end),
        },
        "units": units_of(instrument, series.timeframe),
        "written_by": f"ktrdr {__version__}",
    }


def _together(whys: dict[int | None, str], pieces: int) -> str:
    """Why a series is not complete, by what is said of its years."""
    if len(whys) == pieces and len(set(whys.values())) == 1:
        return next(iter(whys.values()))
    return "; ".join(f"{year}: {why}" for year, why in whys.items())


def _encoded(bars: pd.DataFrame, facts: dict[str, Any]) -> bytes:
    """A Parquet file; pandas has as `attrs` what is so of all files of a folder."""
    import pyarrow as pa  # noqa: PLC0415  # for those who have it
    from pyarrow import parquet  # noqa: PLC0415  # as above

    shared = {name: facts[name] for name in ("source", "written_by")}
    schema = pa.schema(
        [
            pa.field("timestamp", pa.timestamp("ms", tz="UTC")),
            *(pa.field(name, pa.float64()) for name in VALUES),
        ]
    )
    table = pa.Table.from_pandas(bars.reset_index(), schema, preserve_index=False)
    metadata = {
        KEY: json.dumps(facts, ensure_ascii=False).encode(),
        b"PANDAS_ATTRS": json.dumps(shared, ensure_ascii=False).encode(),
    }
    file = io.BytesIO()
    parquet.write_table(table.replace_schema_metadata(metadata), file)
    return file.getvalue()


@contextlib.contextmanager
def _new_folders(place: Path, folder: Path) -> Iterator[None]:
    """Make a folder in `folder`, whose parent there must be; empty ones go if the body fails."""
    try:
        folder.mkdir(exist_ok=True)
        place.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            for one in (place, *place.parents[:2]):
                one.rmdir()  # only if it is empty
        raise
