"""Hints for a symbol for which IB knows several contracts or none. Sends no requests.

A hint of several lines is a sentence followed by lines for `instruments.toml`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from ktrdr.errors import UnknownContract
from ktrdr.ipc.series_messages import CandidateContract
from ktrdr.market.file_names import proper_symbol
from ktrdr.market.instruments import (
    FUTURE_MONTHS,
    DatedFuture,
    Instrument,
    accepts,
    dated_future,
    instrument_for,
)

CHECK_THE_SYMBOL = "check the symbol; say in instruments.toml what it is"

_MOST = 6
_WORDS_MAX = 120
_PLAINEST_FIRST = (
    "primary_exchange",
    "currency",
    "multiplier",
    "trading_class",
    "expiry",
    "local_symbol",
)
_SHARE_CLASS = re.compile(r"([A-Za-z]+)[.-]([A-Za-z]{1,2})")
_OTHER_NAMES_AT_IB = frozenset("6A 6B 6C 6E 6J 6M 6N 6S BTC ETH SIL".split())
"""Roots that are not IB symbols: for 6E it has EUR, for BTC it has BRR (IB's contract search)."""


@dataclass(frozen=True)
class Candidate:
    """IB's fields of a contract that may be meant (TWS API, `Contract`); empty: not given."""

    con_id: int
    local_symbol: str = ""
    exchange: str = ""
    primary_exchange: str = ""
    currency: str = ""
    multiplier: str = ""
    trading_class: str = ""
    expiry: str = ""
    """`YYYYMMDD`."""
    long_name: str = ""


class AmbiguousContract(UnknownContract):
    """IB knows several contracts for a symbol, or none."""

    def __init__(self, message: str, *, hint: str, candidates: Sequence[Candidate]) -> None:
        super().__init__(message, hint=hint)
        self.candidates = candidates


def candidate_of(details: Any) -> Candidate:
    """One of several contracts, from its details (TWS API, `ContractDetails`)."""
    contract = details.contract
    return Candidate(
        con_id=contract.conId,
        local_symbol=contract.localSymbol,
        exchange=contract.exchange,
        primary_exchange=contract.primaryExchange,
        currency=contract.currency,
        multiplier=contract.multiplier,
        trading_class=contract.tradingClass,
        expiry=contract.lastTradeDateOrContractMonth,
        long_name=details.longName,
    )


def candidate_messages(
    symbol: str, candidates: Sequence[Candidate], today: date
) -> list[CandidateContract]:
    """The contracts named `symbol`, each with the line for `instruments.toml` that identifies it.

    Those that expire next come first, and those that have expired last.
    """
    ordered = sorted(candidates, key=lambda one: (_has_expired(one, today), one.expiry))
    found = []
    for one in ordered:
        name, value = singled_out(one, candidates)
        lines = "\n".join([_table(symbol), _line(name, value)])
        described = (one.local_symbol, one.primary_exchange or one.exchange, one.currency)
        found.append(
            CandidateContract(
                one.con_id, *described, one.long_name, one.expiry, {name: value}, lines
            )
        )
    return found


def which_is_meant(symbol: str, candidates: Sequence[Candidate], today: date) -> str:
    """A hint: for each of the contracts named `symbol` the line that identifies it.

    Those that expire next come first, and those that have expired last; at most six are shown,
    followed by the number of the others.
    """
    if not candidates:
        return CHECK_THE_SYMBOL
    shown = sorted(candidates, key=lambda one: (_has_expired(one, today), one.expiry))[:_MOST]
    lines = [_line(*singled_out(one, candidates)) for one in shown]
    width = max(map(len, lines))
    left = len(candidates) - len(shown)
    return "\n".join(
        [
            "say in instruments.toml which one is meant, by one of these lines:",
            _table(symbol),
            *(f"{line:{width}}   # {_words(one)}" for line, one in zip(lines, shown, strict=True)),
            *([f"# and {left} more"] if left else []),
        ]
    )


def singled_out(one: Candidate, candidates: Sequence[Candidate]) -> tuple[str, str | int]:
    """The simplest field that only `one` has this value of, and the value; else its `con_id`."""
    for name in _PLAINEST_FIRST:
        value = getattr(one, name)
        if accepts(name, value) and sum(getattr(c, name) == value for c in candidates) == 1:
            return name, value
    return "con_id", one.con_id


def how_else_spelt(instrument: Instrument, today: date) -> str:
    """A hint for a contract that IB does not know (error 200): how IB may spell it.

    Where the entry has fields beyond the symbol, the hint is to check these.
    """
    if instrument.con_id:
        words = f"con_id = {instrument.con_id} on the exchange {instrument.exchange}"
        return _check(instrument, words)
    closer = {name: getattr(instrument, name) for name in _PLAINEST_FIRST[2:]}
    if words := ", ".join(_line(name, value) for name, value in closer.items() if value):
        return _check(instrument, words)
    if instrument.sec_type == "STK" and (hint := _other_spelling(instrument.symbol)):
        return hint
    dated = dated_future(instrument.symbol) if instrument.sec_type == "FUT" else None
    return _other_year(instrument, dated, today) if dated else CHECK_THE_SYMBOL


def _other_spelling(symbol: str) -> str:
    """The symbol of a stock, pair or coin as IB spells it; empty: it is not known to be another.

    An entry can give IB's name of a class of shares; any other symbol is the name of the file.
    """
    proper = proper_symbol(symbol)
    if proper is not None and proper.is_coin:
        words = f"IB has this coin as {proper.symbol}: name the file {proper.symbol}_….csv, and say"
        entry = [_table(proper.symbol), _line("sec_type", "CRYPTO")]
        return "\n".join([f"{words} in instruments.toml:", *entry])
    if share := _SHARE_CLASS.fullmatch(symbol):
        meant = f"{share[1]} {share[2]}".upper()
        if proper is None or proper.symbol == meant:
            words = "IB writes a space before a class of shares; say so in instruments.toml:"
            or_rename = f"# or name the file {meant}_….csv"
            return "\n".join([words, _table(symbol), _line("local_symbol", meant), or_rename])
    if proper is None or proper.symbol == symbol:
        return ""
    then = f"Then name the file {proper.symbol}_….csv, else"
    return f"did you mean {proper.symbol}? {then} {CHECK_THE_SYMBOL}"


def _check(instrument: Instrument, words: str) -> str:
    return f"IB knows none with {words}: check {_table(instrument.symbol)} in instruments.toml"


def _other_year(instrument: Instrument, dated: DatedFuture, today: date) -> str:
    """The same month with the year in two digits instead of one or vice versa, and by its root.

    IB's local symbols have two digits at some exchanges, such as NYMEX.
    """
    month = FUTURE_MONTHS.index(dated.month) + 1
    year = _year(dated.year, month, today)
    digits = f"{year % 100:02}" if len(dated.year) == 1 else f"{year % 10}"
    lines = [
        "IB may spell the year otherwise; say so in instruments.toml:",
        _table(instrument.symbol),
        _line("local_symbol", f"{dated.root}{dated.month}{digits}"),
    ]
    if dated.root not in _OTHER_NAMES_AT_IB:
        by_root = instrument_for(dated.root, {"sec_type": "FUT"})
        lines += [
            f"# or name the file after the root, {dated.root}_….csv, and say:",
            _table(dated.root),
            _line("sec_type", "FUT"),
            *(
                _line(name, getattr(instrument, name))
                for name in ("exchange", "currency")
                if getattr(instrument, name) != getattr(by_root, name)
            ),
            _line("expiry", f"{year}{month:02}"),
        ]
    return "\n".join(lines)


def _year(digits: str, month: int, today: date) -> int:
    """The full year: one digit means the next year in which that month has not passed."""
    if len(digits) == 2:
        return 2000 + int(digits)
    first = today.year + (month < today.month)
    return first + (int(digits) - first) % 10


def _has_expired(one: Candidate, today: date) -> bool:
    return bool(one.expiry) and one.expiry < f"{today:%Y%m%d}"


def _table(symbol: str) -> str:
    """The first line of a symbol's entry; TOML requires quotes around a dot or a space."""
    return f"[{symbol}]" if re.fullmatch(r"[A-Za-z0-9_-]+", symbol) else f'["{symbol}"]'


def _line(name: str, value: str | int) -> str:
    """A field as a TOML line; printable ASCII text is written as in JSON."""
    return f"{name} = {json.dumps(value)}"


def _words(one: Candidate) -> str:
    """A contract described in one line, without characters that a TOML comment may not hold."""
    facts = (
        one.primary_exchange or one.exchange,
        one.trading_class and f"class {one.trading_class}",
        one.multiplier and f"multiplier {one.multiplier}",
        one.currency,
        one.expiry,
        one.long_name,
    )
    words = f"{one.local_symbol or one.con_id}: {', '.join(fact for fact in facts if fact)}"
    printable = "".join(c if c.isprintable() else " " for c in words)
    return " ".join(printable.split())[:_WORDS_MAX]
