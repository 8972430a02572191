"""Holidays of exchanges by another calendar than IB's: a check on its SCHEDULE.

They come from exchange_calendars, which loads pandas and so runs in a short process of its own: one
for all calendars that are wanted at the same time. If that fails, no holidays are known.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import time
from datetime import UTC, date, datetime
from typing import NamedTuple

from ktrdr.market.instruments import Instrument
from ktrdr.market.sessions import utc_midnight

log = logging.getLogger("gap-filler")

_TIMEOUT_S = 90.0
_PROGRAM = "ktrdr.filling.print_closed_days"
_GATHER_S = 0.05
"""How long to wait for others that want a calendar, since each process takes a second."""
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


class _Wanted(NamedTuple):
    """A calendar in whole years, so that each is read once."""

    calendar: str
    first: int
    last: int


class _Calendars:
    """The calendars read so far. For any thread."""

    def __init__(self) -> None:
        self._closed: dict[_Wanted, frozenset[int]] = {}
        self._wanted: set[_Wanted] = set()
        self._changing, self._reading = threading.Lock(), threading.Lock()

    def want(self, one: _Wanted) -> bool:
        """Note that a calendar is wanted. False: it is known, or noted already."""
        with self._changing:
            is_new = one not in self._wanted and one not in self._closed
            if is_new:
                self._wanted.add(one)
        return is_new

    def of(self, one: _Wanted) -> frozenset[int]:
        """The closed days as UTC midnights; contracts of one exchange are assessed side by side.

        Raises as `_read`.
        """
        self.want(one)
        with self._reading:
            if one not in self._closed:
                time.sleep(_GATHER_S)
                with self._changing:
                    wanted, self._wanted = self._wanted | {one}, set()
                self._closed.update(_read(wanted - self._closed.keys()))
        return self._closed[one]


_CALENDARS = _Calendars()


def closed_days(exchange: str, start: int, end: int) -> frozenset[int]:
    """Days without trading in the years of `[start, end)`, as UTC midnights.

    None of them if the exchange is unknown, or its calendar cannot be read.
    """
    one = _wanted(exchange, start, end)
    if one is None:
        return frozenset()
    try:
        return _CALENDARS.of(one)
    except (OSError, subprocess.SubprocessError, ValueError, TypeError) as error:
        log.info("no calendar of %s: %s", one.calendar, error)
        return frozenset()


def read_ahead(instrument: Instrument, start: int, end: int) -> None:
    """Begin to read the calendar that an instrument will likely need; others are read later."""
    exchange = instrument.primary_exchange or instrument.exchange
    if exchange == "SMART" and (instrument.sec_type, instrument.currency) == ("STK", "USD"):
        exchange = "NYSE"
    one = _wanted(exchange, start, end)
    if one is not None and _CALENDARS.want(one):
        args = (exchange, start, end)
        threading.Thread(target=closed_days, args=args, name="calendar", daemon=True).start()


def _wanted(exchange: str, start: int, end: int) -> _Wanted | None:
    calendar = CALENDARS.get(exchange.upper())
    years = [datetime.fromtimestamp(t, UTC).year for t in (start, end)]
    return None if calendar is None else _Wanted(calendar, *years)


def _read(wanted: set[_Wanted]) -> dict[_Wanted, frozenset[int]]:
    """The closed days as UTC midnights; none of a calendar that does not reach so far."""
    arguments = [argument for one in wanted for argument in map(str, one)]
    command = [sys.executable, "-m", _PROGRAM, *arguments]
    done = subprocess.run(command, capture_output=True, timeout=_TIMEOUT_S, check=True)  # noqa: S603
    found: dict[_Wanted, frozenset[int]] = {}
    for one, days in zip(wanted, json.loads(done.stdout), strict=True):
        if days is None:
            log.info("no calendar of %s from %d to %d", *one)
        found[one] = frozenset(utc_midnight(date.fromisoformat(day)) for day in days or ())
    return found
