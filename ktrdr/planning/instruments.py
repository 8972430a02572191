"""Symbols and what they stand for at IB: contract fields, what to show, which hours."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import date, datetime
from functools import lru_cache
from typing import Any

from ktrdr.errors import Misconfigured
from ktrdr.planning.timeframes import Timeframe

SYMBOL_RULE = "letters, digits, '.', '-', '_' and single spaces, beginning with a letter or digit"
_SYMBOL = re.compile(r"(?=.{1,40}$)[A-Za-z0-9](?:[A-Za-z0-9._-]| (?! |$))*")

CURRENCIES = frozenset(
    "AED AUD CAD CHF CNH CNY CZK DKK EUR GBP HKD HUF ILS INR JPY KRW MXN NOK NZD PLN "
    "RON RUB SAR SEK SGD THB TRY TWD USD ZAR".split()
)
"""Currency codes that make a six-letter symbol a forex pair."""

_FUTURE_ROOTS = {
    "CME": "ES NQ RTY MES MNQ M2K 6A 6B 6C 6E 6J 6M 6N 6S M6A M6B M6E SR3 HE LE GF BTC ETH MBT MET",
    "CBOT": "YM MYM ZB ZN ZF ZT UB TN ZC ZS ZW ZM ZL",
    "NYMEX": "CL QM MCL NG QG RB HO PL PA",
    "COMEX": "GC MGC SI SIL HG",
}
FUTURE_EXCHANGES = {
    root: exchange for exchange, roots in _FUTURE_ROOTS.items() for root in roots.split()
}
"""Root of a future's local symbol → exchange (CME Group's product codes)."""

_DATED_FUTURE = re.compile(r"([A-Z0-9]{1,4}?)([FGHJKMNQUVXZ])(\d{1,2})")

SEC_TYPES = ("STK", "CASH", "FUT", "CONTFUT", "CRYPTO", "IND", "CFD", "CMDTY")

_DEFAULT_WHAT_TO_SHOW = {
    "CASH": "MIDPOINT",  # IB has no TRADES for forex
    "CFD": "MIDPOINT",
    "CMDTY": "MIDPOINT",
    "CRYPTO": "AGGTRADES",  # TRADES answers error 10299
}
WHAT_TO_SHOW = ("TRADES", "MIDPOINT", "BID", "ASK", "AGGTRADES", "ADJUSTED_LAST")


@dataclass(frozen=True)
class Series:
    """One file of the store: a symbol in a timeframe."""

    symbol: str
    timeframe: Timeframe

    @property
    def file_name(self) -> str:
        """`AAPL_1m.csv`."""
        return f"{self.symbol}_{self.timeframe.value}.csv"

    def __str__(self) -> str:
        return f"{self.symbol}_{self.timeframe.value}"


@dataclass(frozen=True)
class Instrument:
    """What a symbol is at IB, and which bars of it the store keeps."""

    symbol: str
    """As in the file name, and as IB spells it."""
    sec_type: str = "STK"
    exchange: str = "SMART"
    primary_exchange: str = ""
    currency: str = "USD"
    expiry: str = ""
    """`YYYYMM` or `YYYYMMDD`, for a future that is named by its root."""
    what_to_show: str = "TRADES"
    extended_hours: bool = False
    """False: regular hours (IB's `useRTH=1`)."""
    since: Mapping[str, date] = field(default_factory=dict, compare=False)
    """Timeframe (`""`: all of them) → the day from which history is wanted."""

    @property
    def ib_symbol(self) -> str:
        """IB's `symbol`: for forex the base currency, for a dated future its root or nothing."""
        if self.sec_type == "CASH":
            return self.symbol[:3]
        return "" if self.local_symbol else self.symbol

    @property
    def local_symbol(self) -> str:
        """IB's `localSymbol`: a dated future's own name, such as `ESZ6`; else empty."""
        names_a_month = not self.expiry or future_root(self.symbol)
        return self.symbol if self.sec_type == "FUT" and names_a_month else ""

    @property
    def can_be_paged(self) -> bool:
        """False for what IB tells up to now only: CONTFUT (error 10339) and ADJUSTED_LAST."""
        return self.sec_type != "CONTFUT" and self.what_to_show != "ADJUSTED_LAST"

    def since_for(self, timeframe: Timeframe) -> date | None:
        """The day from which history of this timeframe is asked for; None: nothing special."""
        return self.since.get(timeframe.value, self.since.get(""))


def check_symbol(symbol: str) -> str:
    """`symbol` itself when it may be part of a file name; ValueError says the rule."""
    if not _SYMBOL.fullmatch(symbol):
        raise ValueError(f"symbol {symbol!r}: expected {SYMBOL_RULE}")
    return symbol


@lru_cache(maxsize=10_000)
def parse_series(file_name: str) -> Series:
    """The series that a file name such as `BRK B_1d.csv` stands for.

    What follows the last `_` is the timeframe. ValueError says what is wrong with the name.
    """
    stem, _, ending = file_name.rpartition(".")
    symbol, separator, timeframe = stem.rpartition("_")
    if ending != "csv" or not separator:
        raise ValueError(f"{file_name!r}: expected SYMBOL_TIMEFRAME.csv")
    return Series(check_symbol(symbol), Timeframe.parse(timeframe))


def future_root(symbol: str) -> str:
    """The root of a dated future's local symbol (`6EH4` → `6E`); empty for anything else."""
    match = _DATED_FUTURE.fullmatch(symbol)
    return match[1] if match and match[1] in FUTURE_EXCHANGES else ""


def instrument_for(symbol: str, entry: Mapping[str, Any] | None = None) -> Instrument:
    """The instrument that `symbol` stands for, with the fields of its `instruments.toml` entry.

    Without an entry: six letters of two currency codes are forex, a known futures root with
    month and year is that future, anything else is a stock on SMART in USD.
    """
    entry = dict(entry or {})
    guessed = _guess(check_symbol(symbol), entry.get("sec_type"))
    known = {f.name for f in fields(Instrument)}
    chosen = replace(guessed, **{k: v for k, v in entry.items() if k in known})
    if "what_to_show" not in entry:
        chosen = replace(chosen, what_to_show=_DEFAULT_WHAT_TO_SHOW.get(chosen.sec_type, "TRADES"))
    if "extended_hours" not in entry:
        chosen = replace(chosen, extended_hours=chosen.sec_type in ("FUT", "CONTFUT", "CRYPTO"))
    return chosen


def _guess(symbol: str, sec_type: str | None) -> Instrument:
    """Contract fields from the symbol and, where it is given, the security type alone."""
    base, quote = symbol[:3], symbol[3:]
    pair = base in CURRENCIES and quote in CURRENCIES and base != quote
    if sec_type == "CASH" or (sec_type is None and pair):
        return Instrument(symbol, "CASH", "IDEALPRO", currency=quote or "USD")
    root = future_root(symbol)
    if sec_type == "FUT" or (sec_type is None and root):
        return Instrument(symbol, "FUT", FUTURE_EXCHANGES.get(root or symbol, "CME"))
    if sec_type == "CONTFUT":
        return Instrument(symbol, "CONTFUT", FUTURE_EXCHANGES.get(symbol, "CME"))
    if sec_type == "CRYPTO":
        return Instrument(symbol, "CRYPTO", "PAXOS")
    return Instrument(symbol, sec_type or "STK")


def instrument_of_entry(symbol: str, entry: object) -> Instrument:
    """The instrument that `symbol` stands for, with its entry checked. None: there is none.

    Misconfigured names the field, the value and what was expected.
    """
    where = f"instruments.toml: [{symbol}]"
    return instrument_for(symbol, None if entry is None else check_entry(where, symbol, entry))


def read_tables(text: str, name: str = "instruments.toml") -> dict[str, object]:
    """What an `instruments.toml` has for each symbol, unchecked. Misconfigured: it is no TOML."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Misconfigured(f"{name}: {error}") from error


def read_instruments(text: str, name: str = "instruments.toml") -> dict[str, dict[str, Any]]:
    """The checked entries of an `instruments.toml`, by symbol.

    ```toml
    [BTC]
    sec_type = "CRYPTO"
    [AAPL]
    extended_hours = true
    since = { "1d" = 2005-01-01, "1m" = 2026-01-01 }   # or one date for all timeframes
    ```
    Misconfigured names the entry, the value and what was expected.
    """
    return {
        symbol: check_entry(f"{name}: [{symbol}]", symbol, entry)
        for symbol, entry in read_tables(text, name).items()
    }


def check_entry(where: str, symbol: str, entry: object) -> dict[str, Any]:
    """The fields of one instrument, checked one by one; `where` is named in the error.

    Misconfigured says the field, the value and what was expected.
    """
    try:
        check_symbol(symbol)
    except ValueError as error:
        raise Misconfigured(f"{where}: {error}") from error
    if not isinstance(entry, dict):
        raise Misconfigured(f"{where}: expected a table, not {entry!r}")
    checked: dict[str, Any] = {}
    for key, value in entry.items():
        if key == "since":
            checked[key] = _read_since(where, value)
        elif key not in _FIELDS:
            raise Misconfigured(f"{where} {key}: expected one of {', '.join([*_FIELDS, 'since'])}")
        else:
            accepted, expected = _FIELDS[key]
            if not accepted(value):
                raise Misconfigured(f"{where} {key} = {value!r}: expected {expected}")
            checked[key] = value
    return checked


def _read_since(where: str, value: object) -> dict[str, date]:
    """`since`: a date for all timeframes, or a table timeframe → date."""
    table = value if isinstance(value, dict) else {"": value}
    since: dict[str, date] = {}
    for timeframe, day in table.items():
        if timeframe and timeframe not in {t.value for t in Timeframe}:
            raise Misconfigured(f"{where} since.{timeframe}: expected a timeframe")
        if not isinstance(day, date):
            raise Misconfigured(f"{where} since = {day!r}: expected a date such as 2020-01-01")
        since[timeframe] = day.date() if isinstance(day, datetime) else day
    return since


def _is_word(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9.]{1,20}", value) is not None


_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "sec_type": (lambda v: v in SEC_TYPES, "one of " + " ".join(SEC_TYPES)),
    "exchange": (_is_word, "an exchange such as SMART, CME or IDEALPRO"),
    "primary_exchange": (_is_word, "an exchange such as NASDAQ"),
    "currency": (_is_word, "a currency code such as USD"),
    "expiry": (
        lambda v: isinstance(v, str) and re.fullmatch(r"\d{6}(\d{2})?", v) is not None,
        'a text "YYYYMM" or "YYYYMMDD"',
    ),
    "what_to_show": (lambda v: v in WHAT_TO_SHOW, "one of " + " ".join(WHAT_TO_SHOW)),
    "extended_hours": (lambda v: isinstance(v, bool), "true or false"),
}
