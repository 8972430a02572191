"""The contract of an imported series: its entry, and the sessions that its rows are held against.

IB's sessions of the contract itself are in the store's ledger, once they were requested. Before
that, and for earlier years, its usual week counts, if that is known.
"""

from __future__ import annotations

from pathlib import Path

from ktrdr.completeness.file_fit import Hours
from ktrdr.errors import MalformedFile
from ktrdr.importing.series_names import Named
from ktrdr.ledger.reader import sessions_of
from ktrdr.market.instruments import (
    Instrument,
    Series,
    contract_name,
    instrument_of_entry,
)
from ktrdr.market.sessions import Schedule
from ktrdr.market.timeframes import DAY_S
from ktrdr.market.usual_sessions import by_rules, every_week
from ktrdr.market.zones import EXCHANGE_ZONES
from ktrdr.store.instruments_file import tables_of
from ktrdr.store.source import ledger_path

_BY_RULES = {"STK": "America/New_York", "CASH": "America/New_York", "CRYPTO": ""}
_FUTURES = ("FUT", "CONTFUT")
_FUTURE_EXCHANGES = ("CME", "CBOT", "NYMEX", "COMEX")
_NO_VOLUME = ("MIDPOINT", "BID", "ASK")


class ImportContracts:
    """The contracts of one store. For one thread."""

    def __init__(self, folder: Path, now: int) -> None:
        self._folder = folder
        self._now = now
        self._tables = tables_of(folder)

    def instrument(self, name: str, named: Named) -> Instrument:
        """The instrument of a file. MalformedFile: its symbol needs an entry. Misconfigured."""
        found = instrument_of_entry(named.symbol, self._tables.get(named.symbol))
        if named.is_coin and found.sec_type == "STK":
            hint = f'say in instruments.toml: [{named.symbol}] sec_type = "CRYPTO"'
            raise MalformedFile(f"{name}: {named.symbol} is a stock in this store", hint=hint)
        return found

    def hours(self, series: Series, instrument: Instrument, start: int, end: int) -> Hours | None:
        """The sessions of a series for `[start, end)`, UTC seconds; None: they are not known."""
        path, name = ledger_path(self._folder), contract_name(instrument)
        known, alignment = sessions_of(path, name, series.timeframe)
        schedule = self._schedule(instrument, known, start - DAY_S, end + DAY_S)
        if schedule is None:
            return None
        return Hours(
            series.timeframe,
            schedule,
            alignment,
            self._now,
            has_zone=False,
            has_extended_hours=instrument.extended_hours,
            trusts_usual=True,
        )

    def _schedule(
        self, instrument: Instrument, known: Schedule | None, start: int, end: int
    ) -> Schedule | None:
        if known is not None and known.sessions:
            return (
                known if known.covers(start, end) else self._repeated(known, instrument, start, end)
            )
        is_usual = instrument.sec_type in _FUTURES and instrument.exchange in _FUTURE_EXCHANGES
        is_usual |= _has_usual_zone(instrument)
        return by_rules(instrument.sec_type, start, end) if is_usual else None

    def _repeated(self, known: Schedule, instrument: Instrument, start: int, end: int) -> Schedule:
        usual = every_week(known, instrument.sec_type, start, end)
        return usual.joined(known)


def has_volume(instrument: Instrument) -> bool:
    """Whether IB's bars of this kind have one."""
    return instrument.what_to_show not in _NO_VOLUME


def _has_usual_zone(instrument: Instrument) -> bool:
    """Its usual sessions are known without IB: those of US stocks, of forex and of coins."""
    if instrument.sec_type not in _BY_RULES:
        return False
    zone = _BY_RULES[instrument.sec_type]
    named = instrument.primary_exchange or instrument.exchange
    there = EXCHANGE_ZONES.get(named.upper(), zone)
    return not zone or (
        there == zone
        and (instrument.currency == "USD" or zone == "" or instrument.sec_type == "CASH")
    )
