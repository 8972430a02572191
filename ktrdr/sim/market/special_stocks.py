"""Special contracts under fixed symbols: illiquid, newly listed, delisted, split. None is real.

| symbol | difficulty |
|---|---|
| `ILLIQ` | trades in about every fifth minute, and on every seventh day not at all: no bars |
| `FLATV` | trades in every tenth minute; the minutes between have flat bars of volume 0 |
| `FRESH` | listed on the first weekday of last month; no bars before |
| `GONE` | delisted: error 200, as for an unknown symbol |
| `TWIN` | two contracts, on NASDAQ and on NYSE; error 200 until one of them is named |
| `NOPERM` | details, but no history: 162, "No market data permissions" |
| `SPLT` | four for one on 2026-11-30; `GeneratedMarket.split` sets another day or ratio |
| `TWOF` | a future, each month in two classes: `TWOF`, 50, `TWOFZ26` and `TWOM`, 5, `TWOMZ26` |

Other difficulties need no symbol: every dated future expires on its third Friday.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from typing import Any

from ktrdr.sim.market.contracts import Contract, Split

SYMBOLS = ("ILLIQ", "FLATV", "FRESH", "GONE", "TWIN", "NOPERM", "SPLT")
"""The symbols of the special stocks."""

FUTURE = "TWOF"
_CLASSES = {"TWOF": "50", "TWOM": "5"}


def stocks(symbol: str, plain: Contract, today: date) -> list[Contract]:
    """The contracts of a special `symbol`; `plain`: an ordinary stock of that name."""
    special: dict[str, dict[str, Any]] = {
        "ILLIQ": {"trade_share": 0.2, "quiet_day_share": 1 / 7, "base_volume": 300},
        "FLATV": {"has_flat_bars": True},
        "FRESH": {"listed": _first_weekday_of_last_month(today)},
        "TWIN": {},
        "NOPERM": {"is_entitled": False},
        "SPLT": {"split": Split(date(2026, 11, 30), 4)},
    }
    if symbol not in special:
        return []
    found = [replace(plain, **special[symbol])]
    if symbol == "TWIN":
        found.append(replace(plain, primary_exchange="NYSE", con_id_name="NYSE", base_price=55.0))
    return found


def futures(plain: Contract) -> list[Contract]:
    """The special contracts of a month; `plain`: an ordinary future of that month."""
    if plain.expiry is None:
        return []
    month = plain.local_symbol.removeprefix(FUTURE)[0]
    return [
        replace(
            plain,
            local_symbol=f"{name}{month}{plain.expiry:%y}",
            trading_class=name,
            multiplier=multiplier,
            long_name=f"{FUTURE} future, multiplier {multiplier}",
        )
        for name, multiplier in _CLASSES.items()
    ]


def is_future(name: str) -> bool:
    """Whether a symbol, a class or a local symbol is that of a special future."""
    return name in (FUTURE, *_CLASSES) or name[:-3] in _CLASSES


def _first_weekday_of_last_month(today: date) -> date:
    first = (today.replace(day=1) - timedelta(days=1)).replace(day=1)
    return first + timedelta(days=7 - first.weekday() if first.weekday() > 4 else 0)
