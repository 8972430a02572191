"""`ktrdr export`: bars of the store as one file, or as a folder of partitioned Parquet files."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

from ktrdr.cli.arguments import AsJson, End, Start
from ktrdr.cli.completion import complete_symbol, complete_timeframe
from ktrdr.cli.exit_codes import ExitCode
from ktrdr.cli.group import settings_of_group, warn_if_simulated
from ktrdr.cli.nearest import checked_timeframe, chosen_of
from ktrdr.cli.output import note, show_error, show_json, show_line
from ktrdr.cli.stored_names import nearest_named
from ktrdr.config.settings import Settings
from ktrdr.data.data_manager import DataManager
from ktrdr.data.dataset import ExportedSeries, export_dataset
from ktrdr.data.export import FORMATS, export_bars
from ktrdr.errors import InvalidRequest, UnknownSeries
from ktrdr.market.instruments import Series
from ktrdr.store.entries import Entries, read_entries
from ktrdr.store.file_errors import TRY_AGAIN, unwritable

_MOST_NAMED = 5


def export(
    symbols: Annotated[
        list[str] | None,
        typer.Argument(
            help="One or more; into a folder by default all.",
            show_default=False,
            autocompletion=complete_symbol,
        ),
    ] = None,
    *,
    timeframe: Annotated[
        list[str] | None,
        typer.Option(
            help="1m 5m 15m 30m 1h 4h 1d; into a folder also several times, by default all.",
            show_default=False,
            autocompletion=complete_timeframe,
        ),
    ] = None,
    to: Annotated[
        str, typer.Option(help="A file that ends in .parquet or .feather, or a folder: bars/")
    ],
    start: Start = None,
    end: End = None,
    as_json: AsJson = False,
) -> None:
    """Write bars into a Parquet or Feather file, or a folder.

    A file has the bars of one timeframe. The columns: symbol, timestamp, and the values.

    A folder is partitioned as symbol=AAPL/timeframe=1m/year=2026, for DuckDB, Polars and pandas. It
    is one that there is, or whose name ends with a slash. Its files of the same series and years
    are replaced, each in one step; all others stay.

    Example: ktrdr export AAPL MSFT --timeframe 1m --to bars.parquet

    Example: ktrdr export AAPL MSFT --timeframe 1m --timeframe 1h --to bars/

    Example: ktrdr export --to bars/
    """
    timeframes = [str(checked_timeframe(one)) for one in timeframe or ()]
    settings = settings_of_group(reads_bars=True)
    if _is_folder(to):
        entries = _entries(settings.data_dir)
        chosen = _chosen(settings.data_dir, entries, symbols or [], timeframes)
        readable = [one for one in chosen if one not in entries.blocked]
        found = export_dataset(DataManager(settings), readable, Path(to), start, end)
        blocked = entries.blocked.items()
        found += [ExportedSeries(one, error=error) for one, error in blocked if one in chosen]
        _show_series(found, to, as_json=as_json)
        return
    if not symbols or len(timeframes) != 1:
        raise InvalidRequest(
            f"{to}: expected one or more symbols, and --timeframe once",
            hint=f"all symbols and timeframes go into a folder: --to {Path(to).with_suffix('')}/",
        )
    frames = _exported(settings, symbols, timeframes[0], Path(to), start, end)
    _show_frames(frames, f"{Path(to)}", timeframes[0], as_json=as_json)


def _is_folder(to: str) -> bool:
    """Whether a folder of partitioned files is meant."""
    is_file = to.rstrip("/").endswith(FORMATS)
    return not is_file and (to.endswith("/") or (bool(to) and Path(to).is_dir()))


def _entries(folder: Path) -> Entries:
    """The series of the store. UnknownSeries: it has none."""
    try:
        entries = read_entries(folder)
    except OSError as error:
        raise unwritable(folder, error, TRY_AGAIN) from error
    if not entries.found and not entries.blocked:
        hint = "`ktrdr config` shows which store this is"
        raise UnknownSeries(f"the store {folder} has no series", hint=hint)
    return entries


def _chosen(
    folder: Path, entries: Entries, symbols: Sequence[str], timeframes: Sequence[str]
) -> list[Series]:
    """The series of the store with these symbols and timeframes; none given: with any.

    UnknownSeries: there are none of one of them.
    """
    known, where = {*entries.found, *entries.blocked}, f"the store {folder}"
    chosen: set[Series] = set()
    of_symbols: Sequence[str | None] = symbols or [None]
    of_timeframes: Sequence[str | None] = timeframes or [None]
    for symbol, timeframe in product(of_symbols, of_timeframes):
        chosen |= chosen_of(known, where, symbol, timeframe)
    return sorted(chosen, key=lambda one: (one.symbol, one.timeframe.length_s))


def _exported(
    settings: Settings,
    symbols: Sequence[str],
    timeframe: str,
    to: Path,
    start: str | None,
    end: str | None,
) -> dict[str, pd.DataFrame]:
    """The exported bars by symbol; a wrong symbol is named with the nearest right one."""
    with contextlib.ExitStack() as named:
        for symbol in symbols:
            named.enter_context(nearest_named(settings.data_dir, symbol, timeframe))
        return export_bars(DataManager(settings), symbols, timeframe, to, start, end)


def _show_frames(
    frames: dict[str, pd.DataFrame], to: str, timeframe: str, *, as_json: bool
) -> None:
    source = next(iter(frames.values())).attrs["source"]
    warn_if_simulated(source)
    count = sum(len(frame) for frame in frames.values())
    if as_json:
        about = [_summary_of(one, frame) for one, frame in frames.items()]
        show_json(
            {"file": to, "bars": count, "timeframe": timeframe, "source": source}
            | {"symbols": about}
        )
        return
    show_line(f"{count:,} bars in {to}")
    for symbol, frame in frames.items():
        if not frame.attrs["complete"]:
            note(f"{symbol} is not complete: {frame.attrs['why']}")


def _summary_of(symbol: str, frame: pd.DataFrame) -> dict[str, Any]:
    known = {name: frame.attrs.get(name) for name in ("complete", "why")}
    return {"symbol": symbol, "bars": len(frame), **known}


def _show_series(found: Sequence[ExportedSeries], to: str, *, as_json: bool) -> None:
    """Exit code 1 if a series could not be read."""
    source = next((one.source for one in found if one.source), None)
    warn_if_simulated(source)
    bars, files = sum(one.bars for one in found), sum(len(one.written) for one in found)
    if as_json:
        about = {"folder": to, "bars": bars, "files": files, "source": source}
        show_json(about | {"series": [_as_json(one) for one in found]})
    else:
        show_line(f"{bars:,} bars in {to}, files: {files:,}")
        _show_notes(found, to)
    for one in found:
        if one.error is not None:
            show_error(one.error)
    if any(one.error for one in found):
        raise typer.Exit(ExitCode.NOT_GREEN)


def _show_notes(found: Sequence[ExportedSeries], to: str) -> None:
    """What is not there, or not from now; series with the same reason in one line."""
    read = [one for one in found if one.error is None]
    empty = [one for one in read if not one.written]
    if empty:
        note(f"no bars in the store: {_names(empty)}")
    for why in dict.fromkeys(one.why for one in read if one.why):
        note(f"not complete: {_names(one for one in read if one.why == why)}: {why}")
    for one in read:
        if one.kept_years:
            years = ", ".join(map(str, one.kept_years))
            note(f"{to} also has {_names([one])} of {years}, of which the store has no bars")


def _names(found: Iterable[ExportedSeries]) -> str:
    names = [f"{one.series.symbol} {one.series.timeframe.value}" for one in found]
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more:,} more" if more > 0 else "")


def _as_json(found: ExportedSeries) -> dict[str, Any]:
    return {
        "symbol": found.series.symbol,
        "timeframe": found.series.timeframe.value,
        "bars": found.bars,
        "years": list(found.written),
        "kept_years": found.kept_years,
        "complete": not found.why and found.error is None,
        "why": found.why,
        "error": found.error and found.error.message,
    }
