"""The symbols and timeframes of a store's folder, for commands that were given a wrong one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ktrdr.errors import UnknownSeries
from ktrdr.market.nearest_series import next_step, similar
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
        hint = ""
        if symbol:
            hint = next_step(symbol, timeframe, series) if timeframe else similar(symbol, series)
        raise UnknownSeries(error.message, hint=hint or error.hint) from None
