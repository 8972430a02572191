"""What the numbers of a series' bars mean: its time, its currency, what is counted. Pure."""

from __future__ import annotations

from ktrdr.market.instruments import Instrument
from ktrdr.market.timeframes import Timeframe

_COUNTED = {"FUT": "contracts", "CONTFUT": "contracts", "CRYPTO": "coins", "STK": "shares"}
_WITH_VOLUME = ("TRADES", "AGGTRADES", "ADJUSTED_LAST")
NO_VOLUME = -1
"""The volume of a bar for which IB has none."""


def units_of(instrument: Instrument, timeframe: Timeframe) -> dict[str, str | int | None]:
    """The units of a contract's bars, as JSON values.

    `currency` is None for a contract that is known by its number alone. `volume` is None where IB
    reports none (MIDPOINT, BID, ASK), or where it is not known what is counted.
    """
    has_volume = instrument.what_to_show in _WITH_VOLUME
    return {
        "timezone": "UTC",
        "timestamp": "trading day, at 00:00" if timeframe.is_daily else "start of the bar",
        "prices": "currency of the contract",
        "currency": None if instrument.con_id else instrument.currency,
        "volume": _COUNTED.get(instrument.sec_type) if has_volume else None,
        "no_volume": NO_VOLUME,
    }
