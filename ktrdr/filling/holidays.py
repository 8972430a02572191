"""Holidays of exchanges by another calendar than IB's: a check on its SCHEDULE.

They come from exchange_calendars, which loads pandas and so runs in a short process of its own. If
that fails, no holidays are known.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from datetime import UTC, date, datetime
from functools import lru_cache

from ktrdr.market.sessions import utc_midnight

log = logging.getLogger("gap-filler")

_TIMEOUT_S = 30.0
_PROGRAM = "ktrdr.filling.print_closed_days"
_ONE_AT_A_TIME = threading.Lock()
_EXCHANGES = {
    "XNYS": "NYSE NASDAQ ISLAND ARCA AMEX BATS BYX IEX PINK",
    "XTSE": "TSE VENTURE",
    "XMEX": "MEXI",
    "BVMF": "B3 BOVESPA",
    "XLON": "LSE LSEETF",
    "XDUB": "ISED",
    "XLIS": "BVL",
    "XETR": "IBIS IBIS2",
    "XFRA": "FWB FWB2",
    "XPAR": "SBF",
    "XAMS": "AEB",
    "XBRU": "ENEXT.BE",
    "XSWX": "EBS VIRTX SWX",
    "XMIL": "BVME BVME.ETF",
    "XMAD": "BM",
    "XWBO": "VSE",
    "XSTO": "SFB",
    "XCSE": "CPH",
    "XHEL": "HEX",
    "XOSL": "OSE",
    "XWAR": "WSE",
    "XPRA": "PRA",
    "XBUD": "BUX",
    "XTAE": "TASE",
    "XSAU": "TADAWUL",
    "XBOM": "NSE BSE",
    "XHKG": "SEHK",
    "XTAI": "TWSE",
    "XTKS": "TSEJ",
    "XKRX": "KSE",
    "XSES": "SGX",
    "XKLS": "BURSAMY",
    "XBKK": "SET",
    "XASX": "ASX",
    "XNZE": "NZSE",
    "XJSE": "JSE",
    "CMES": "CME GLOBEX CBOT ECBOT NYMEX COMEX",
}
CALENDARS = {
    exchange: calendar for calendar, names in _EXCHANGES.items() for exchange in names.split()
}
"""IB's name of an exchange → the name of its calendar."""


def closed_days(exchange: str, start: int, end: int) -> frozenset[int]:
    """Days without trading in the years of `[start, end)`, as UTC midnights.

    None of them if the exchange is unknown, or its calendar cannot be read.
    """
    calendar = CALENDARS.get(exchange.upper())
    if calendar is None:
        return frozenset()
    first, last = (datetime.fromtimestamp(t, UTC).year for t in (start, end))
    try:
        return _requested(calendar, first, last)
    except (OSError, subprocess.SubprocessError, ValueError, TypeError) as error:
        log.info("no calendar of %s: %s", calendar, error)
        return frozenset()


def _requested(calendar: str, first: int, last: int) -> frozenset[int]:
    """As `_read`, one at a time: contracts of one exchange are assessed side by side."""
    with _ONE_AT_A_TIME:
        return _read(calendar, first, last)


@lru_cache(maxsize=64)
def _read(calendar: str, first: int, last: int) -> frozenset[int]:
    """The closed days of whole years, so that each calendar is read once; failures are retried."""
    command = [sys.executable, "-m", _PROGRAM, calendar, f"{first}-01-01", f"{last}-12-31"]
    done = subprocess.run(command, capture_output=True, timeout=_TIMEOUT_S, check=True)  # noqa: S603
    days = [date.fromisoformat(text) for text in json.loads(done.stdout)]
    return frozenset(utc_midnight(day) for day in days)
