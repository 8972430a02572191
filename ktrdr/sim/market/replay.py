"""A market of the bars in a folder of files, shifted by whole weeks to end last week.

They are shifted by the exchange's wall clock, so that 10:31 in New York stays 10:31 in New York
over changes of daylight saving. The shift is fixed when the folder is read. A bar that is missing
in the files does not exist; each symbol's larger bars are aggregated from its smallest file.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from ktrdr.errors import MalformedFile, Misconfigured
from ktrdr.market.instruments import (
    Instrument,
    Series,
    instrument_for,
    parse_series,
    read_instruments,
)
from ktrdr.sim.market import contract_list
from ktrdr.sim.market.bar_files import read_rows, write_rows
from ktrdr.sim.market.bars import Bars
from ktrdr.sim.market.contracts import Contract, Query
from ktrdr.sim.market.market import Market
from ktrdr.sim.market.sessions import DAY_S, Int64Array, Sessions, to_utc, to_wall
from ktrdr.sim.market.shifted_calendar import ShiftedCalendar, weeks_to_last_week

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Replayed:
    """The bars of one symbol's smallest file, shifted."""

    symbol: str
    contract: Contract
    length_s: int
    bars: Bars
    """In UTC seconds; a daily bar spans its session."""


class ReplayMarket(Market):
    """The market that `read_replay` returns."""

    def __init__(self, name: str, replayed: Mapping[str, Replayed]) -> None:
        self.name = name
        self.replayed = dict(replayed)
        self._by_id = {r.contract.con_id: r for r in self.replayed.values()}

    def find(self, query: Query, today: date) -> list[Contract]:  # noqa: ARG002, D102  as in Market
        if query.con_id:
            known = self._by_id.get(query.con_id)
            return [known.contract] if known and known.contract.fits(query) else []
        if not query.sec_type or not (query.symbol or query.local_symbol):
            return []
        return [r.contract for r in self.replayed.values() if r.contract.fits(query)]

    def named(self, symbol: str, today: date) -> Contract | None:  # noqa: ARG002, D102  as in Market
        known = self.replayed.get(symbol)
        return known.contract if known else None

    def smallest_s(self, contract: Contract) -> int:  # noqa: D102  as in Market
        return self._by_id[contract.con_id].length_s

    def small(  # noqa: D102  as in Market
        self,
        contract: Contract,
        what_to_show: str,  # noqa: ARG002
        sessions: Sessions,
        start_s: int,
        end_s: int,
    ) -> Bars:
        bars = self._by_id[contract.con_id].bars
        near = bars.only((bars.end > start_s) & (bars.start < end_s))
        return near.only(sessions.index_of(near.start) >= 0)


def read_replay(folder: Path, now: datetime) -> ReplayMarket:
    """The market of a folder. A file that cannot be served is logged and left out.

    Misconfigured: there is no such folder, or no file in it can be served.
    """
    if not folder.is_dir():
        raise Misconfigured(f"{folder}: no such folder to replay")
    entries = _entries(folder)
    replayed: dict[str, Replayed] = {}
    for series in _smallest(series_in(folder)):
        try:
            instrument = instrument_for(series.symbol, entries.get(series.symbol))
            replayed[series.symbol] = _replay(folder, series, instrument, now)
        except MalformedFile as error:
            log.warning("%s is left out: %s", series.file_name, error)
    if not replayed:
        raise Misconfigured(f"{folder}: no bar file that can be replayed")
    return ReplayMarket(f"{len(replayed)} symbols from {folder}", replayed)


def export(market: ReplayMarket, source: Path, target: Path) -> list[Path]:
    """Write, for each file in `source`, the bars that the gateway serves; returns the paths.

    The smallest file of a symbol is the original, shifted, with volume -1 for MIDPOINT.
    """
    target.mkdir(parents=True, exist_ok=True)
    written = []
    for series in series_in(source):
        known = market.replayed.get(series.symbol)
        if known and len(known.bars):
            first, last = int(known.bars.start[0]), int(known.bars.end[-1])
            rows = market.truth(
                known.contract, series.timeframe, first - 4 * DAY_S, last + 4 * DAY_S
            )
            write_rows(target / series.file_name, rows)
            written.append(target / series.file_name)
    toml = source / "instruments.toml"
    if toml.exists():
        (target / toml.name).write_bytes(toml.read_bytes())
    return written


def series_in(folder: Path) -> list[Series]:
    """The series of the folder's files, by name; other files are logged and left out."""
    found = []
    for path in sorted(folder.glob("*.csv")):
        try:
            found.append(parse_series(path.name))
        except ValueError as error:
            log.warning("%s is left out: %s", path.name, error)
    return found


def _entries(folder: Path) -> dict[str, dict[str, Any]]:
    toml = folder / "instruments.toml"
    return read_instruments(toml.read_text(encoding="utf-8")) if toml.exists() else {}


def _smallest(found: list[Series]) -> list[Series]:
    smallest: dict[str, Series] = {}
    for series in sorted(found, key=lambda s: -s.timeframe.length_s):
        smallest[series.symbol] = series
    return [smallest[symbol] for symbol in sorted(smallest)]


def _replay(folder: Path, series: Series, instrument: Instrument, now: datetime) -> Replayed:
    """Read one file and shift it. MalformedFile: it cannot be served."""
    rows = read_rows(folder / series.file_name)
    if not len(rows):
        raise MalformedFile("it has no bars")
    contract = _contract(instrument, datetime.fromtimestamp(int(rows.start[-1]), UTC).date())
    zone, daily = contract.calendar.zone, series.timeframe.is_daily
    wall = rows.start if daily else to_wall(rows.start, zone)
    weeks = weeks_to_last_week(int(wall[-1]), int(to_wall(np.array([_seconds(now)]), zone)[0]))
    wall = wall + weeks * 7 * DAY_S
    calendar = ShiftedCalendar(contract.calendar, weeks, regular=not contract.extended_hours)
    if daily:
        start, end = calendar.cover_days(wall // DAY_S)
    else:
        length_s = series.timeframe.length_s
        end = wall - wall % length_s + length_s
        calendar.cover_bars(wall, end)
        start, end = to_utc(wall, zone), to_utc(end, zone)
    index = calendar.between(int(start[0]), int(end[-1]), regular=not contract.extended_hours)
    moved = replace(
        contract,
        calendar=calendar,
        expiry=contract.expiry and contract.expiry + timedelta(weeks=weeks),
        listed=date(1970, 1, 1) + timedelta(days=int(index.day[0])),
    )
    bars = replace(rows, start=start, end=_within(start, end, index))
    return Replayed(series.symbol, moved, series.timeframe.length_s, bars)


def _within(start: Int64Array, end: Int64Array, sessions: Sessions) -> Int64Array:
    """The bars' ends, limited to their sessions' closes."""
    return np.minimum(end, sessions.close[sessions.index_of(start)])


def _seconds(now: datetime) -> int:
    return int(now.timestamp())


def _contract(instrument: Instrument, last_day: date) -> Contract:
    """The contract behind a replayed symbol, as of the file's last day."""
    found = _known(instrument, last_day)
    if not found:
        raise MalformedFile(f"{instrument.sec_type} {instrument.symbol} cannot be replayed")
    what = (instrument.what_to_show, *found.what_to_show)
    return replace(
        found,
        local_symbol=instrument.local_symbol or found.local_symbol,
        trading_class=instrument.trading_class or found.trading_class,
        multiplier=instrument.multiplier or found.multiplier,
        con_id_given=instrument.con_id,
        extended_hours=instrument.extended_hours,
        what_to_show=tuple(dict.fromkeys(what)),
    )


def _known(instrument: Instrument, last_day: date) -> Contract | None:
    symbol = instrument.symbol
    match instrument.sec_type:
        case "STK":
            listed = contract_list.find(Query(symbol=symbol, sec_type="STK"), last_day)
            exchange = instrument.primary_exchange or (
                listed[0].primary_exchange if listed else "NASDAQ"
            )
            return contract_list.stock(symbol, exchange, currency=instrument.currency)
        case "CASH":
            return contract_list.forex_pair(symbol[:3], instrument.currency)
        case "FUT" if instrument.ib_local_symbol:
            return contract_list.future_named(instrument.ib_local_symbol, last_day)
        case "FUT" if instrument.expiry:
            year, month = int(instrument.expiry[:4]), int(instrument.expiry[4:6])
            return contract_list.future(symbol, year, month)
        case "CRYPTO":
            return contract_list.crypto(symbol)
    return None
