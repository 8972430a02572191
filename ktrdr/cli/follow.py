"""`ktrdr follow`: each finished bar once, as the store gets it."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Annotated

import typer

from ktrdr.cli.arguments import AsJson, Start
from ktrdr.cli.completion import complete_symbol, complete_timeframe
from ktrdr.cli.exit_codes import ExitCode
from ktrdr.cli.group import settings_of_group, warn_if_simulated
from ktrdr.cli.nearest import checked_timeframe
from ktrdr.cli.output import show_error
from ktrdr.data.data_manager import DataManager
from ktrdr.data.follower import FinishedBar, Follower
from ktrdr.data.following import FollowedStore
from ktrdr.errors import MalformedFile, StoreUnwritable


def follow(
    symbols: Annotated[
        list[str], typer.Argument(help="One or more.", autocompletion=complete_symbol)
    ],
    *,
    timeframe: Annotated[
        str,
        typer.Option(help="1m 5m 15m 30m 1h 4h 1d", autocompletion=complete_timeframe),
    ],
    start: Start = None,
    timeout: Annotated[
        float | None, typer.Option(min=0, help="End when no bar has come for so many seconds.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print each finished bar once, as it comes.

    As CSV, or with --json an object a line, until Ctrl-C. It begins with the bars that end from now
    on, or with --start. A series that cannot be read is named, and the others go on.

    Example: ktrdr follow AAPL MSFT --timeframe 1m
    """
    settings = settings_of_group(reads_bars=True)
    manager = DataManager(settings)
    bars = manager.follow(symbols, str(checked_timeframe(timeframe)), start, timeout=timeout)
    warn_if_simulated(FollowedStore(settings).source)
    if not as_json:
        typer.echo("symbol,timestamp,open,high,low,close,volume")
    try:
        with bars:
            while not _print(bars, as_json=as_json):
                pass
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)


def _print(bars: Follower, *, as_json: bool) -> bool:
    """Print what comes. True: it has ended; False: a series cannot be read."""
    try:
        for bar in bars:
            typer.echo(_object(bar) if as_json else _line(bar))
    except (MalformedFile, StoreUnwritable) as error:
        show_error(error)
        return False
    return True


def _line(bar: FinishedBar) -> str:
    prices = (bar.open, bar.high, bar.low, bar.close)
    return ",".join(map(str, (bar.symbol, bar.start, *prices, _whole(bar.volume))))


def _object(bar: FinishedBar) -> str:
    """As of the status API's stream."""
    values = asdict(bar) | {"volume": _whole(bar.volume)}
    start = values.pop("start").isoformat()
    names = {name: values.pop(name) for name in ("symbol", "timeframe")}
    return json.dumps(names | {"timestamp": start} | values)


def _whole(volume: float) -> float:
    """Whole volumes as whole numbers, as in the store."""
    return int(volume) if volume % 1 == 0 else volume
