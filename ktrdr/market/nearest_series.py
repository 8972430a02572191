"""What to do about a series that is not there: which one was meant, or how to have it kept."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Collection

from ktrdr.market.instruments import Series


def next_step(symbol: str, timeframe: str, known: Collection[Series]) -> str:
    """The hint for a series that is not among these."""
    if of_symbol := [one for one in known if one.symbol == symbol]:
        return f"{symbol} is there in {timeframes_of(of_symbol)}; {adding(symbol, timeframe)}"
    return similar(symbol, known) or adding(symbol, timeframe)


def similar(symbol: str, known: Collection[Series]) -> str:
    """The nearest symbol as a question; empty: none is near."""
    names = {one.symbol.upper(): one.symbol for one in known}
    meant = difflib.get_close_matches(symbol.upper(), names, 1)
    return f"did you mean {names[meant[0]]}?" if meant else ""


def timeframes_of(series: Collection[Series]) -> str:
    """The timeframes of some series, the shortest first."""
    return ", ".join(
        one.timeframe.value for one in sorted(series, key=lambda one: one.timeframe.length_s)
    )


def adding(symbol: str, timeframe: str) -> str:
    """What has a series kept."""
    return f"to have it kept: ktrdr watch add {shlex.quote(symbol)} {timeframe}"
