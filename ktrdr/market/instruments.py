"""Symbols and the contracts that they stand for at IB, with what to show and hours. No I/O."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple

from ktrdr.errors import Misconfigured
from ktrdr.market.timeframes import Timeframe

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

FUTURE_MONTHS = "FGHJKMNQUVXZ"
"""Month letters of dated futures, January first."""

_DATED_FUTURE = re.compile(rf"([A-Z0-9]{{1,4}}?)([{FUTURE_MONTHS}])(\d{{1,2}})")

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
    multiplier: str = ""
    trading_class: str = ""
    local_symbol: str = ""
    """As IB spells it, if that is not the symbol: `BRK B`, `CLF27`."""
    con_id: int = 0
    """IB's number of the contract, instead of all its names except the exchange; 0: none."""
    what_to_show: str = "TRADES"
    extended_hours: bool = False
    """False: regular hours (IB's `useRTH=1`)."""
    zone: str = ""
    """`UTC`: the times of its files are that, where they say no zone; empty: probably."""
    stamp: str = ""
    """`start`: the bars of its files are named by that; empty: probably."""
    since: Mapping[str, date] = field(default_factory=dict, compare=False)
    """Timeframe (`""`: all of them) → the day from which history is wanted."""
    watch: Mapping[str, bool] = field(default_factory=dict, compare=False)
    """Timeframe (`""`: all of them) → whether the series is kept; by default it is."""
    live: Mapping[str, bool] = field(default_factory=dict, compare=False)
    """Timeframe (`""`: all of them) → whether the series may be streamed; by default it may."""

    @property
    def ib_symbol(self) -> str:
        """IB's `symbol`: for forex the base currency; empty if the local symbol names it."""
        if self.ib_local_symbol:
            return ""
        return self.symbol[:3] if self.sec_type == "CASH" else self.symbol

    @property
    def ib_local_symbol(self) -> str:
        """IB's `localSymbol`: the entry's, or a dated future's own name, such as `ESZ6`."""
        if self.local_symbol or self.sec_type != "FUT":
            return self.local_symbol
        is_root = bool(self.expiry) or self.symbol in FUTURE_EXCHANGES
        return "" if is_root and not future_root(self.symbol) else self.symbol

    @property
    def can_be_paged(self) -> bool:
        """False for bars that IB returns only up to now: CONTFUT (error 10339), ADJUSTED_LAST."""
        return self.sec_type != "CONTFUT" and self.what_to_show != "ADJUSTED_LAST"

    def since_for(self, timeframe: Timeframe) -> date | None:
        """The day from which history of this timeframe is requested; None: the entry has none."""
        return self.since.get(timeframe.value, self.since.get(""))

    def is_watched(self, timeframe: Timeframe) -> bool:
        """Whether the series of this timeframe is kept complete."""
        return self.watch.get(timeframe.value, self.watch.get("", True))

    def is_live(self, timeframe: Timeframe) -> bool:
        """Whether the series of this timeframe may be kept new by a stream."""
        return self.live.get(timeframe.value, self.live.get("", True))


def check_symbol(symbol: str) -> str:
    """Returns `symbol` if it may be part of a file name. ValueError gives the rule."""
    if not _SYMBOL.fullmatch(symbol):
        raise ValueError(f"symbol {symbol!r}: expected {SYMBOL_RULE}")
    return symbol


@lru_cache(maxsize=10_000)
def parse_series(file_name: str) -> Series:
    """The series that a file name such as `BRK B_1d.csv` stands for.

    The timeframe follows the last `_`. ValueError names what is wrong.
    """
    stem, _, ending = file_name.rpartition(".")
    symbol, separator, timeframe = stem.rpartition("_")
    if ending != "csv" or not separator:
        raise ValueError(f"{file_name!r}: expected SYMBOL_TIMEFRAME.csv")
    return Series(check_symbol(symbol), Timeframe.parse(timeframe))


class DatedFuture(NamedTuple):
    """The parts of a dated future's local symbol: `CLF27` is `CL`, `F` and `27`."""

    root: str
    month: str
    year: str
    """Its last digit or its last two."""


def dated_future(symbol: str) -> DatedFuture | None:
    """The parts of a symbol that is spelled like a dated future of any root; else None."""
    match = _DATED_FUTURE.fullmatch(symbol)
    return DatedFuture(*match.groups()) if match else None


def future_root(symbol: str) -> str:
    """The known root of a dated future's local symbol (`6EH4` → `6E`); empty for anything else."""
    dated = dated_future(symbol)
    return dated.root if dated and dated.root in FUTURE_EXCHANGES else ""


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
    """The contract by its symbol and, if given, its security type alone."""
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

    Misconfigured names the field, the value, what was expected, and where to correct it.
    """
    if entry is None:
        return instrument_for(symbol)
    try:
        return instrument_for(symbol, check_entry(f"instruments.toml: [{symbol}]", symbol, entry))
    except Misconfigured as error:
        hint = error.hint or f"correct [{symbol}] in instruments.toml"
        raise Misconfigured(error.message, hint=hint) from None


def read_tables(text: str, name: str = "instruments.toml") -> dict[str, object]:
    """The tables of an `instruments.toml` by symbol, unchecked. Misconfigured: it is not TOML."""
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        hint = f"correct {name}, or move it away"
        raise Misconfigured(f"{name}: {error}", hint=hint) from None


def read_instruments(text: str, name: str = "instruments.toml") -> dict[str, dict[str, Any]]:
    """The checked entries of an `instruments.toml`, by symbol.

    ```toml
    [BTC]
    sec_type = "CRYPTO"
    [AAPL]
    extended_hours = true
    since = { "1d" = 2005-01-01, "1m" = 2026-01-01 }   # or one date for all timeframes
    ["BRK.B"]
    local_symbol = "BRK B"
    [TSLA]
    watch = { "1m" = false }   # its file is left alone; false: all of its files
    live = false               # no stream; or a table of timeframes, as above
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
        raise Misconfigured(f"{where}: expected a table, not a single value")
    checked: dict[str, Any] = {}
    for key, value in entry.items():
        if key == "since":
            checked[key] = _read_since(where, value)
        elif key in ("watch", "live"):
            checked[key] = _read_switch(where, key, value)
        elif key not in _FIELDS:
            known = ", ".join([*_FIELDS, "since", "watch", "live"])
            raise Misconfigured(f"{where} {key}: expected one of {known}")
        else:
            if not accepts(key, value):
                raise Misconfigured(f"{where} {key} = {value!r}: expected {_FIELDS[key][1]}")
            checked[key] = _number_as_text(value) if key == "multiplier" else value
    return checked


def _by_timeframe(where: str, name: str, value: object) -> dict[str, object]:
    """A value for all timeframes, or a table timeframe → value."""
    table = value if isinstance(value, dict) else {"": value}
    for timeframe in table:
        if timeframe and timeframe not in {t.value for t in Timeframe}:
            raise Misconfigured(f"{where} {name}.{timeframe}: expected a timeframe")
    return table


def _read_switch(where: str, name: str, value: object) -> dict[str, bool]:
    """`watch` or `live`: true or false for all timeframes, or a table timeframe → true or false."""
    switch: dict[str, bool] = {}
    for timeframe, is_on in _by_timeframe(where, name, value).items():
        if not isinstance(is_on, bool):
            raise Misconfigured(f"{where} {name} = {is_on!r}: expected true or false")
        switch[timeframe] = is_on
    return switch


def _read_since(where: str, value: object) -> dict[str, date]:
    """`since`: a date for all timeframes, or a table timeframe → date."""
    since: dict[str, date] = {}
    for timeframe, day in _by_timeframe(where, "since", value).items():
        if not isinstance(day, date):
            raise Misconfigured(f"{where} since = {day!r}: expected a date such as 2020-01-01")
        since[timeframe] = day.date() if isinstance(day, datetime) else day
    return since


def accepts(name: str, value: object) -> bool:
    """Whether a field of an entry, other than `since`, may have this value."""
    return _FIELDS[name][0](value)


def _is_word(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9.]{1,20}", value) is not None


def _is_name(value: object) -> bool:
    """A name of a contract at IB: printable ASCII, with spaces inside, such as `FESX JUN 21`."""
    return isinstance(value, str) and re.fullmatch(r"[!-~](?:[ -~]{0,38}[!-~])?", value) is not None


def _is_multiplier(value: object) -> bool:
    text = _number_as_text(value)
    return bool(re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text)) and float(text) > 0


def _number_as_text(value: object) -> str:
    """A number in the fewest digits, as IB spells multipliers; text unchanged; else empty."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    return f"{Decimal(str(value)).normalize():f}"


def _is_con_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31


_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "sec_type": (lambda v: v in SEC_TYPES, "one of " + " ".join(SEC_TYPES)),
    "exchange": (_is_word, "an exchange such as SMART, CME or IDEALPRO"),
    "primary_exchange": (_is_word, "an exchange such as NASDAQ"),
    "currency": (_is_word, "a currency code such as USD"),
    "expiry": (
        lambda v: isinstance(v, str) and re.fullmatch(r"\d{6}(\d{2})?", v) is not None,
        'a text "YYYYMM" or "YYYYMMDD"',
    ),
    "multiplier": (_is_multiplier, 'a number above 0, such as 50 or "0.1"'),
    "trading_class": (_is_name, "IB's trading class, such as NMS or ES"),
    "local_symbol": (_is_name, 'a local symbol as IB spells it, such as "BRK B" or "CLF27"'),
    "con_id": (_is_con_id, "IB's number of the contract, a whole number such as 265598"),
    "what_to_show": (lambda v: v in WHAT_TO_SHOW, "one of " + " ".join(WHAT_TO_SHOW)),
    "extended_hours": (lambda v: isinstance(v, bool), "true or false"),
    "zone": (lambda v: v == "UTC", '"UTC": times of another zone need their offset in the file'),
    "stamp": (lambda v: v == "start", '"start": bars that are named by their end cannot be read'),
}


def contract_name(instrument: Instrument) -> str:
    """A contract with its hours and kind of bars, as a key of the ledger.

    Fields that early ledgers did not have are at the end, if given.
    """
    more = {
        "multiplier": instrument.multiplier,
        "trading_class": instrument.trading_class,
        "local_symbol": instrument.local_symbol,
        "con_id": instrument.con_id,
    }
    return "/".join(
        [
            instrument.symbol,
            instrument.sec_type,
            instrument.exchange,
            instrument.primary_exchange,
            instrument.currency,
            instrument.expiry,
            instrument.what_to_show,
            "extended" if instrument.extended_hours else "regular",
            *(f"{name}={value}" for name, value in more.items() if value),
        ]
    )


def hours_group(instrument: Instrument) -> tuple[str, ...] | None:
    """A key that contracts with the same sessions share, as far as their names tell; None: unknown.

    Forex pairs of one venue, coins of one exchange, the months of one future, and stocks of one
    exchange; on SMART only those in USD, since other currencies stand for several exchanges.
    """
    kind, exchange = instrument.sec_type, instrument.exchange
    hours = "extended" if instrument.extended_hours else "regular"
    if kind in ("CASH", "CRYPTO"):
        return kind, exchange, hours
    if kind == "FUT":
        return kind, exchange, hours, future_root(instrument.symbol) or instrument.symbol
    is_of_one_place = exchange != "SMART" or instrument.primary_exchange
    if kind == "STK" and (is_of_one_place or instrument.currency == "USD"):
        return kind, exchange, hours, instrument.primary_exchange, instrument.currency
    return None
