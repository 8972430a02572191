"""`ktrdr show`: the bars of a series."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import pandas as pd
import typer

from ktrdr.cli.arguments import AsJson, End, Start, Symbol, TimeframeName
from ktrdr.cli.group import settings_of_group, warn_if_simulated
from ktrdr.cli.nearest import checked_timeframe
from ktrdr.cli.output import note, show_json
from ktrdr.cli.stored_names import nearest_named
from ktrdr.data.data_manager import DataManager

_NEWEST = 1000


def show(
    symbol: Symbol,
    timeframe: TimeframeName,
    start: Start = None,
    end: End = None,
    *,
    limit: Annotated[
        int, typer.Option(min=1, help="Only so many, the newest, unless --start or --all is given.")
    ] = _NEWEST,
    all_: Annotated[bool, typer.Option("--all", help="All bars, however many.")] = False,
    fetch: Annotated[bool, typer.Option(help="Request bars that the store lacks from IB.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print the bars of a series as CSV. Whether some are missing is said on standard error.

    Example: ktrdr show AAPL 1m --start 2026-11-20

    Example: ktrdr show AAPL 1m --all > AAPL.csv
    """
    timeframe = str(checked_timeframe(timeframe))
    settings = settings_of_group(reads_bars=True)
    with nearest_named(settings.data_dir, symbol, timeframe), _requests_shown(shown=fetch) as done:
        frame = DataManager(settings).load(
            symbol, timeframe, start, end, fetch=fetch, progress=done
        )
    total = len(frame)
    if start is None and not all_:
        frame = frame.tail(limit)
    warn_if_simulated(frame.attrs["source"])
    volumes = frame["volume"]
    if (volumes % 1 == 0).all():  # as in the store
        frame = frame.assign(volume=volumes.astype("int64"))
    if as_json:
        show_json(_as_json(frame))
    else:
        frame.to_csv(sys.stdout)
    if len(frame) < total:
        note(f"the newest {len(frame):,} of {total:,} bars; --all prints all of them")
    if not frame.attrs["complete"]:
        note(f"not complete: {frame.attrs['why']}")


def _as_json(frame: pd.DataFrame) -> dict[str, Any]:
    """The same as the status API's bars in JSON."""
    names = ("symbol", "timeframe", "source", "complete", "why")
    values = zip(*(frame[name].tolist() for name in frame.columns), strict=True)
    times = [time.isoformat() for time in frame.index]
    return {
        **{name: frame.attrs.get(name) for name in names},
        "count": len(frame),
        "columns": [frame.index.name, *frame.columns],
        "bars": [[time, *row] for time, row in zip(times, values, strict=True)],
    }


@contextlib.contextmanager
def _requests_shown(*, shown: bool) -> Iterator[Callable[[int, int], None]]:
    """Show on standard error how many requests IB has answered, if that is a terminal."""
    if not shown or not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    from rich.progress import (  # noqa: PLC0415  # as rarely
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TimeRemainingColumn,
    )

    from ktrdr.cli.terminal import Terminal  # noqa: PLC0415

    columns = (
        "[progress.description]{task.description}",
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Terminal(stderr=True), transient=True) as progress:
        task = progress.add_task("requests to IB", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
