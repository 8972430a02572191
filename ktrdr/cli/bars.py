"""`ktrdr show` and `ktrdr export`: the bars of the store."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from ktrdr.cli.group import err, out, settings_of_group, warn_if_simulated


def show(
    symbol: str,
    timeframe: Annotated[str, typer.Argument(help="1m 5m 15m 30m 1h 4h 1d")],
    start: Annotated[str | None, typer.Option(help="From this date or time on (UTC).")] = None,
    end: Annotated[str | None, typer.Option(help="Before this date or time (UTC).")] = None,
    *,
    fetch: Annotated[bool, typer.Option(help="Request bars that the store lacks from IB.")] = False,
) -> None:
    """Print the bars of a series as CSV. Whether some are missing is said on standard error."""
    from ktrdr.data.data_manager import DataManager  # noqa: PLC0415  # pandas is needed here only

    with settings_of_group(reads_bars=True) as settings, _requests_shown(shown=fetch) as progress:
        frame = DataManager(settings).load(
            symbol, timeframe, start, end, fetch=fetch, progress=progress
        )
        warn_if_simulated(frame.attrs["source"])
        volumes = frame["volume"]
        if (volumes % 1 == 0).all():  # as in the store
            frame["volume"] = volumes.astype("int64")
        frame.to_csv(sys.stdout)
        if not frame.attrs["complete"]:
            err.print(f"not complete: {frame.attrs['why']}", markup=False, highlight=False)


@contextlib.contextmanager
def _requests_shown(*, shown: bool) -> Iterator[Callable[[int, int], None]]:
    """Show on standard error how many requests IB has answered."""
    columns = (
        "[progress.description]{task.description}",
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True, disable=not shown) as progress:
        task = progress.add_task("requests to IB", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def export(
    symbols: Annotated[list[str], typer.Argument(help="One or more.")],
    *,
    timeframe: Annotated[str, typer.Option(help="1m 5m 15m 30m 1h 4h 1d")],
    to: Annotated[Path, typer.Option(help="A file that ends in .parquet or .feather.")],
    start: Annotated[str | None, typer.Option(help="From this date or time on (UTC).")] = None,
    end: Annotated[str | None, typer.Option(help="Before this date or time (UTC).")] = None,
) -> None:
    """Write bars into a Parquet or Feather file. The columns: symbol, timestamp, and the values."""
    from ktrdr.data.data_manager import DataManager  # noqa: PLC0415  # pandas is needed here only
    from ktrdr.data.export import export_bars  # noqa: PLC0415  # as above

    with settings_of_group(reads_bars=True) as settings:
        frames = export_bars(DataManager(settings), symbols, timeframe, to, start, end)
        count = sum(len(frame) for frame in frames.values())
        out.print(f"{count:,} bars in {to}", markup=False, highlight=False)
        warn_if_simulated(next(iter(frames.values())).attrs["source"])
        for symbol, frame in frames.items():
            if not frame.attrs["complete"]:
                why = f"{symbol} is not complete: {frame.attrs['why']}"
                err.print(why, markup=False, highlight=False)
