"""The symbols and timeframes of a store's folder, for commands that were given a wrong one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ktrdr.cli.nearest import adding, similar, timeframes_of
from ktrdr.errors import UnknownSeries
from ktrdr.store.entries import read_entries


@contextlib.contextmanager
def nearest_named(folder: Path, symbol: str | None, timeframe: str | None) -> Iterator[None]:
    """Have an UnknownSeries of this symbol and timeframe name the nearest one in the store."""
    try:
        yield
    except UnknownSeries as error:
        try:
            known = read_entries(folder)
        except OSError:
            raise error from None
        series = [*known.found, *known.blocked]
        of_symbol = [one for one in series if one.symbol == symbol]
        hint = error.hint
        if of_symbol and timeframe:
            there = f"{symbol} is there in {timeframes_of(of_symbol)}"
            hint = f"{there}; {adding(str(symbol), timeframe)}"
        elif symbol:
            hint = similar(symbol, series) or (adding(symbol, timeframe) if timeframe else hint)
        raise UnknownSeries(error.message, hint=hint) from None
