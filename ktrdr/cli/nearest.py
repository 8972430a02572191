"""Wrong symbols and timeframes: which there are, and which comes nearest."""

from __future__ import annotations

import difflib
from collections.abc import Collection

from ktrdr.errors import InvalidRequest, UnknownSeries
from ktrdr.market.instruments import Series
from ktrdr.market.nearest_series import adding, similar, timeframes_of
from ktrdr.market.series_words import timeframe_of_word


def checked_timeframe(text: str | None) -> str | None:
    """The timeframe's name. InvalidRequest lists the possible ones, and names the nearest."""
    return None if text is None else timeframe_of_word(text).value


def chosen_of(
    known: Collection[Series], where: str, symbol: str | None, timeframe: str | None
) -> set[Series]:
    """Those with this symbol and timeframe. UnknownSeries: there are none, and what there is.

    `where`: what has them, in words. InvalidRequest: no timeframe has this name.
    """
    timeframe = checked_timeframe(timeframe)
    of_symbol = [one for one in known if symbol in (None, one.symbol)]
    chosen = {one for one in of_symbol if timeframe in (None, one.timeframe.value)}
    if symbol is not None and not of_symbol:
        hint = similar(symbol, known) or "ktrdr watch list shows all series"
        raise UnknownSeries(f"{where} has no series of {symbol!r}", hint=hint)
    if timeframe is not None and not chosen:
        what = f"{where} has {symbol} in {timeframes_of(of_symbol)}, and not in {timeframe}"
        if symbol is None:
            what = f"{where} has no series in {timeframe}"
        raise UnknownSeries(what, hint=adding(symbol or "SYMBOL", timeframe))
    return chosen


def nearest_word(text: str, possible: Collection[str], what: str) -> str:
    """The text, which is one of the possible ones. InvalidRequest lists them, and the nearest."""
    if text in possible:
        return text
    near = difflib.get_close_matches(text.lower(), possible, 1)
    raise InvalidRequest(
        f"{what} {text!r}: expected one of {' '.join(possible)}",
        hint=f"did you mean {near[0]}?" if near else "",
    )
