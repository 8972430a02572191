"""The market behind the gateway: its contracts, sessions and bars. Knows no protocol.

Bars are a pure function of the seed and the request; `truth` returns the bars that a complete store
must have.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import NamedTuple

import numpy as np

from ktrdr.market.instruments import Instrument, instrument_for
from ktrdr.market.timeframes import Timeframe
from ktrdr.sim.market import contract_list
from ktrdr.sim.market.bars import (
    BAR_SIZES,
    ONE_DAY,
    Alignment,
    Bars,
    BarSize,
    aggregate,
    first_day,
    floor,
    period_of,
    periods,
)
from ktrdr.sim.market.contracts import Contract, Query, Split
from ktrdr.sim.market.prices import forming, generate, key_of, minutes_of, with_a_trade
from ktrdr.sim.market.second_bars import seconds, so_far
from ktrdr.sim.market.sessions import DAY_S, MINUTE_S, Sessions
from ktrdr.sim.market.what_to_show import TRADED, bars_to_show


class Row(NamedTuple):
    """A finished bar as in a store: `start` in UTC seconds, for a trading day 00:00 UTC."""

    start: int
    open: float
    high: float
    low: float
    close: float
    volume: int


class Market(ABC):
    """The data that a gateway serves. Times are UTC seconds, intervals `[start, end)`."""

    name: str
    """A description for the log."""
    alignment: Alignment = Alignment.WALL_CLOCK
    """Where bars of several hours begin."""

    @abstractmethod
    def find(self, query: Query, today: date) -> list[Contract]:
        """Every contract that matches; empty: error 200."""

    @abstractmethod
    def named(self, symbol: str, today: date) -> Contract | None:
        """The contract for the symbol of a store's file; None: there is none."""

    @abstractmethod
    def smallest_s(self, contract: Contract) -> int:
        """The length of the contract's smallest bars, in seconds."""

    @abstractmethod
    def small(
        self, contract: Contract, what_to_show: str, sessions: Sessions, start_s: int, end_s: int
    ) -> Bars:
        """The smallest bars inside `sessions` that end after `start_s` and begin before `end_s`."""

    def within_minutes(self, contract: Contract, minutes: Bars) -> Bars | None:  # noqa: ARG002
        """One-second bars made from one-minute bars; None: this market has none."""
        return None

    def sessions(self, contract: Contract, start_s: int, end_s: int, *, regular: bool) -> Sessions:
        """The contract's sessions that overlap `[start_s, end_s)`."""
        return _while_listed(contract, contract.calendar.between(start_s, end_s, regular=regular))

    def last_sessions(
        self, contract: Contract, count: int, before_s: int, *, regular: bool
    ) -> Sessions:
        """The contract's last `count` sessions that opened before `before_s`."""
        before_s = min(before_s, (contract.last_day + 1) * DAY_S)
        return _while_listed(contract, contract.calendar.last(count, before_s, regular=regular))

    def head_s(self, contract: Contract, *, regular: bool) -> int | None:
        """The open of the first session with bars; None when there is none."""
        first = contract.calendar.on_days(
            contract.head_day, contract.head_day + 14, regular=regular
        )
        return int(first.open[0]) if len(first) else None

    def bars(
        self,
        contract: Contract,
        size: BarSize,
        what_to_show: str,
        start_s: int,
        end_s: int,
        *,
        regular: bool,
        as_of: date | None = None,
        shift_s: int = 0,
    ) -> Bars:
        """Bars that overlap `[start_s, end_s)`; the last one as it was at `end_s`.

        `as_of`: the day of the request, which decides about splits and dividends; by default that
        of `end_s`. `shift_s`: seconds by which longer intraday bars begin later than usual.
        """
        as_of = as_of or datetime.fromtimestamp(end_s, UTC).date()
        if size.is_longer_than_a_day:
            return self._periods(contract, size, what_to_show, start_s, end_s, regular, as_of)
        found = _EMPTY
        sessions = self.sessions(contract, start_s, end_s, regular=regular)
        for part in sessions.parts(_SESSIONS_AT_ONCE):
            small = self._small(contract, size, what_to_show, part, start_s, end_s, shift_s)
            small = bars_to_show(small, what_to_show, contract, as_of)
            if size.is_daily or size.length_s not in (1, self.smallest_s(contract)):
                averaged = what_to_show == "BID_ASK"
                small = aggregate(
                    small, part, size, self.alignment, averaged=averaged, shift_s=shift_s
                )
            found = found.followed_by(small)
        return found

    def _small(
        self,
        contract: Contract,
        size: BarSize,
        what_to_show: str,
        sessions: Sessions,
        start_s: int,
        end_s: int,
        shift_s: int,
    ) -> Bars:
        """The bars from which those of a size are aggregated: seconds or the smallest ones."""
        if size.length_s < self.smallest_s(contract) and size.length_s >= MINUTE_S:
            return _EMPTY
        begin_s = _begin(sessions, size, start_s, self.alignment, shift_s)
        small = self.small(contract, what_to_show, sessions, begin_s, end_s)
        if size.length_s < MINUTE_S:
            found = self.within_minutes(contract, small)
            if found is None:
                return _EMPTY
            return found.only((found.end > begin_s) & (found.start < end_s))
        if len(small) and small.end[-1] > end_s:
            return self._with_last_forming(small, end_s, contract)
        return small

    def _with_last_forming(self, small: Bars, end_s: int, contract: Contract) -> Bars:
        """The bars, with the last one as it is at `end_s`."""
        is_last = np.arange(len(small)) == len(small) - 1
        cut = self.forming_bar(small.only(is_last), end_s, contract)
        return small.only(~is_last).followed_by(cut)

    def forming_bar(self, last: Bars, end_s: int, contract: Contract) -> Bars:
        """A single bar as it was at `end_s`, before its end."""
        return forming(last, end_s, contract.tick)

    def _periods(
        self,
        contract: Contract,
        size: BarSize,
        what_to_show: str,
        start_s: int,
        end_s: int,
        regular: bool,
        as_of: date,
    ) -> Bars:
        """Whole weeks or months, each dated by its last trading day."""
        around = np.array([start_s, end_s]) // DAY_S + np.array([0, 1])
        first, last = (int(p) for p in period_of(around, size))
        start_s, until = first_day(first, size) * DAY_S, first_day(last + 1, size)
        days = self.bars(
            contract, ONE_DAY, what_to_show, start_s, end_s, regular=regular, as_of=as_of
        )
        days = days.only(days.start >= start_s)
        trading = self.sessions(contract, start_s, (until + 1) * DAY_S, regular=regular)
        return periods(days, trading.day, size, averaged=what_to_show == "BID_ASK")

    def truth(
        self,
        contract: Contract,
        timeframe: Timeframe,
        start_s: int,
        end_s: int,
        as_of: date | None = None,
        shift_s: int = 0,
    ) -> list[Row]:
        """The finished bars that a store must have in `[start_s, end_s)`, in the store's hours.

        `shift_s`: as in `bars`.
        """
        found = self.bars(
            contract,
            BAR_SIZES[timeframe.ib_bar_size],
            contract.what_to_show[0],
            start_s - 4 * DAY_S,
            end_s + 4 * DAY_S,
            regular=not contract.extended_hours,
            as_of=as_of,
            shift_s=shift_s,
        )
        return rows(found.only((found.start >= start_s) & (found.start < end_s)))


class GeneratedMarket(Market):
    """Bars generated from a seed: always the same.

    Every minute of every session has one, except for the instruments in `special_stocks.py`.
    """

    def __init__(
        self,
        seed: int = 1,
        *,
        alignment: Alignment = Alignment.WALL_CLOCK,
        splits: Mapping[str, Split] | None = None,
        listed: Mapping[str, date] | None = None,
    ) -> None:
        """`splits`, `listed`: by the symbols of stocks, instead of those in the contract list."""
        self.seed = seed
        self.alignment = alignment
        self.name = f"generated bars, seed {seed}"
        self._splits = dict(splits or {})
        self._listed = dict(listed or {})

    def split(self, symbol: str, day: date, ratio: int) -> None:
        """Split a stock; from that day on, earlier prices are divided by the ratio."""
        self._splits[symbol] = Split(day, ratio)

    def find(self, query: Query, today: date) -> list[Contract]:  # noqa: D102  as in Market
        return [self._with_changes(found) for found in contract_list.find(query, today)]

    def _with_changes(self, found: Contract) -> Contract:
        if found.sec_type != "STK":
            return found
        split = self._splits.get(found.symbol, found.split)
        return replace(found, split=split, listed=self._listed.get(found.symbol, found.listed))

    def named(self, symbol: str, today: date) -> Contract | None:  # noqa: D102  as in Market
        for instrument in (instrument_for(symbol), instrument_for(symbol, {"sec_type": "CRYPTO"})):
            found = self.find(query_for(instrument), today)
            if found:
                return found[0]
        return None

    def smallest_s(self, contract: Contract) -> int:  # noqa: ARG002, D102  as in Market
        return MINUTE_S

    def small(  # noqa: D102  as in Market
        self, contract: Contract, what_to_show: str, sessions: Sessions, start_s: int, end_s: int
    ) -> Bars:
        minutes = generate(self.seed, contract, *minutes_of(sessions, start_s, end_s))
        if contract.is_illiquid and what_to_show in TRADED:
            return minutes.only(with_a_trade(self.seed, contract, minutes))
        return minutes

    def within_minutes(self, contract: Contract, minutes: Bars) -> Bars | None:  # noqa: D102
        return seconds(key_of(self.seed, contract.price_key), minutes, contract.tick)

    def forming_bar(self, last: Bars, end_s: int, contract: Contract) -> Bars:  # noqa: D102
        return so_far(key_of(self.seed, contract.price_key), last, end_s, contract.tick)


def query_for(instrument: Instrument) -> Query:
    """A client's query for the contract behind a store's symbol."""
    if instrument.con_id:
        return Query(instrument.con_id, exchange=instrument.exchange, include_expired=True)
    return Query(
        symbol=instrument.ib_symbol,
        sec_type=instrument.sec_type,
        expiry=instrument.expiry,
        exchange=instrument.exchange,
        primary_exchange=instrument.primary_exchange,
        currency=instrument.currency,
        local_symbol=instrument.ib_local_symbol,
        trading_class=instrument.trading_class,
        multiplier=instrument.multiplier,
        include_expired=True,
    )


def truth(
    symbol: str,
    timeframe: Timeframe | str,
    start_s: int,
    end_s: int,
    *,
    seed: int = 1,
    today: date | None = None,
    market: Market | None = None,
) -> list[Row]:
    """The finished bars in `[start_s, end_s)` that the gateway serves for a store's symbol.

    What to show and the hours are the store's defaults (`contract.md`). `today` decides the
    decade of a future's name and whether a stock has split; by default the day of `end_s`.
    ValueError: there is no such symbol.
    """
    market = market or GeneratedMarket(seed)
    today = today or contract_list.today(datetime.fromtimestamp(end_s).astimezone())
    found = market.named(symbol, today)
    if not found:
        raise ValueError(f"symbol {symbol!r}: not in this market")
    named = timeframe if isinstance(timeframe, Timeframe) else Timeframe.parse(timeframe)
    return market.truth(found, named, start_s, end_s, today)


def rows(bars: Bars) -> list[Row]:
    """The columns as rows of plain numbers."""
    columns = (bars.start, bars.open, bars.high, bars.low, bars.close, bars.volume)
    return [Row(*row) for row in zip(*(c.tolist() for c in columns), strict=True)]


_SESSIONS_AT_ONCE = 128
"""Minutes are made in parts of this many sessions, so that memory stays small."""


def _while_listed(contract: Contract, sessions: Sessions) -> Sessions:
    """The sessions from the contract's first day with bars to its last trading day."""
    return sessions.only((sessions.day >= contract.head_day) & (sessions.day <= contract.last_day))


def _begin(
    sessions: Sessions, size: BarSize, start_s: int, alignment: Alignment, shift_s: int
) -> int:
    """The start of the bar that contains `start_s`, or `start_s` before the first open."""
    first = np.zeros(1, np.int64)
    if start_s <= sessions.open[0] or size.is_daily:
        return min(start_s, int(sessions.open[0]))
    return int(floor(np.array([start_s]), first, sessions, size, alignment, shift_s)[0])


_NO_INT, _NO_FLOAT = np.empty(0, np.int64), np.empty(0, np.float64)
_EMPTY = Bars(_NO_INT, _NO_INT, _NO_FLOAT, _NO_FLOAT, _NO_FLOAT, _NO_FLOAT, _NO_INT)
