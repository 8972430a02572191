"""The completion of symbols and timeframes with those of the store. It never fails, or prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from ktrdr.errors import KtrdrError

if TYPE_CHECKING:
    from ktrdr.market.instruments import Series

TIMEFRAMES = ("1m", "5m", "15m", "30m", "1h", "4h", "1d")


def complete_symbol(incomplete: str) -> list[tuple[str, str]]:
    """The store's symbols that begin so, with their timeframes."""
    by_symbol: dict[str, list[str]] = {}
    for one in _stored():
        by_symbol.setdefault(one.symbol, []).append(one.timeframe.value)
    return [
        (symbol, " ".join(sorted(timeframes, key=TIMEFRAMES.index)))
        for symbol, timeframes in sorted(by_symbol.items())
        if symbol.startswith(incomplete)
    ]


def complete_timeframe(ctx: typer.Context, incomplete: str) -> list[str]:
    """The timeframes in which the store has the symbol that was typed before, or all."""
    symbol = str(ctx.params.get("symbol") or "")
    stored = {one.timeframe.value for one in _stored() if one.symbol == symbol}
    chosen = [one for one in TIMEFRAMES if one in stored] or list(TIMEFRAMES)
    return [one for one in chosen if one.startswith(incomplete)]


def complete_series_word(incomplete: str) -> list[tuple[str, str]]:
    """A word of several that name series: a symbol of the store, or a timeframe."""
    timeframes = [(one, "timeframe") for one in TIMEFRAMES if one.startswith(incomplete)]
    return [*complete_symbol(incomplete), *timeframes]


def complete_series_name(incomplete: str) -> list[str]:
    """The store's series that begin so, such as AAPL_1m."""
    return [name for name in sorted(map(str, _stored())) if name.startswith(incomplete)]


def _stored() -> list[Series]:
    from ktrdr.cli.group import settings_of_group  # noqa: PLC0415  # needed for completion alone
    from ktrdr.store.entries import read_entries  # noqa: PLC0415  # as above

    try:
        return list(read_entries(settings_of_group().data_dir).found)
    except (KtrdrError, OSError):
        return []
