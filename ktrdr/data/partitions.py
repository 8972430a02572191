"""The files of a partitioned folder: their places, who wrote them, what would be lost. No bars."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from ktrdr.errors import InvalidRequest, StoreUnwritable, WrongSource
from ktrdr.market.instruments import Series
from ktrdr.store.atomic_write import TEMPORARY
from ktrdr.store.file_errors import TRY_AGAIN, unwritable
from ktrdr.times import iso

FILE = "bars.parquet"
"""The one file of a partition."""
KEY = b"ktrdr"
"""Under which a file's facts are in its metadata."""
_UNREAD = (".", "_")
"""Names that begin so are left out by what reads such folders."""


class Partition(NamedTuple):
    """The bars of a series that start in one year (UTC)."""

    series: Series
    year: int

    def path(self, folder: Path) -> Path:
        """Its file. Values are percent-encoded, as Hive and pyarrow do."""
        return years_folder(folder, self.series) / f"year={self.year}" / FILE


def years_folder(folder: Path, series: Series) -> Path:
    """The folder with the years of a series."""
    symbol = quote(series.symbol, safe="")
    return folder / f"symbol={symbol}" / f"timeframe={series.timeframe.value}"


def years_in(folder: Path, series: Series) -> set[int]:
    """The years of a series that have a file."""
    found = years_folder(folder, series).glob(f"year=*/{FILE}")
    names = (path.parent.name.removeprefix("year=") for path in found)
    return {int(name) for name in names if name.isdecimal()}


def source_in(folder: Path) -> str | None:
    """The source of the bars in a folder; None: there are none, or it is not known.

    InvalidRequest: it is no folder, or has something else. StoreUnwritable: it cannot be read, or
    cannot be made.
    """
    try:
        if not folder.exists():
            _expect_parent(folder)
            return None
        if not folder.is_dir():
            raise InvalidRequest(f"{folder} is no folder", hint="name another one, or move it away")
        _expect_only(folder, "symbol=")
        for path in sorted(folder.glob("symbol=*/**/*.parquet")):
            source: str | None = _facts(path)["source"]
            if source:
                return source
    except OSError as error:
        raise unwritable(error.filename or folder, error, TRY_AGAIN) from error
    return None


def check_source(folder: Path, known: str | None, source: str | None) -> None:
    """WrongSource: live and simulated bars would be in one folder."""
    if known and source and known != source:
        raise WrongSource(
            f"{folder} has {known} bars, and these are {source}",
            hint="export them into another folder",
        )


def check_partition(folder: Path, partition: Partition, span: tuple[int, int]) -> None:
    """Check that the file of a partition can be replaced by the bars of an interval (UTC seconds).

    InvalidRequest: it has bars outside of the interval, or there are files of others.
    StoreUnwritable: it cannot be read.
    """
    path = partition.path(folder)
    try:
        for place, expected in zip(path.parents, (FILE, "year=", "timeframe="), strict=False):
            if place.exists():
                _expect_only(place, expected)
        facts = _facts(path) if path.exists() else None
    except OSError as error:
        raise unwritable(path, error, TRY_AGAIN) from error
    if facts is not None:
        _expect_inside(path, facts["coverage"], span)


def clear_unfinished(path: Path) -> None:
    """Remove what killed writers of this file left beside it."""
    for left in path.parent.glob(f".{path.name}.*{TEMPORARY}"):
        left.unlink(missing_ok=True)


def _expect_parent(folder: Path) -> None:
    """StoreUnwritable: a mistyped name, or a disk that is not mounted, is no reason to make it."""
    parent = folder.absolute().parent
    if not parent.is_dir():
        raise StoreUnwritable(
            f"{folder}: there is no folder {parent}",
            hint=f"make it first: mkdir -p {shlex.quote(str(parent))}",
        )


def _expect_only(folder: Path, expected: str) -> None:
    for entry in sorted(folder.iterdir()):
        if expected == FILE:
            is_expected = entry.name == FILE and entry.is_file()
        else:
            is_expected = entry.name.startswith(expected) and entry.is_dir()
        if is_expected or entry.name.startswith(_UNREAD):
            continue
        what = f"only {FILE}" if expected == FILE else f"only folders {expected}…"
        raise InvalidRequest(
            f"{folder} has {entry.name!r}, which is not of `ktrdr export`: expected {what}",
            hint="name a new or an empty folder, or move it away",
        )


def _facts(path: Path) -> dict[str, Any]:
    """What a file says of itself. InvalidRequest: it was written by another program."""
    import pyarrow as pa  # noqa: PLC0415  # for those who have it
    from pyarrow import parquet  # noqa: PLC0415  # as above

    try:
        facts = json.loads((parquet.read_schema(path).metadata or {})[KEY])
        if {"source", "coverage"} <= facts.keys():
            return dict(facts)
    except (pa.ArrowInvalid, AttributeError, KeyError, ValueError):
        pass
    raise InvalidRequest(
        f"{path} was not written by `ktrdr export`: its bars would be there twice, or be lost",
        hint="name a new or an empty folder, or move it away",
    )


def _expect_inside(path: Path, coverage: dict[str, Any], span: tuple[int, int]) -> None:
    """InvalidRequest: bars of the file, by its coverage, are outside of the interval."""
    first, last = (datetime.fromisoformat(coverage[name]).timestamp() for name in ("first", "last"))
    outside = list(_outside(first, last, span))
    if outside:
        raise InvalidRequest(
            f"{path} has bars {' and '.join(outside)}, which would be lost",
            hint="let --start and --end be the first days of years, or name another folder",
        )


def _outside(first: float, last: float, span: tuple[int, int]) -> Iterator[str]:
    if first < span[0]:
        yield f"before {iso(span[0])}"
    if last >= span[1]:
        yield f"from {iso(span[1])} on"
