"""Contracts as IB describes them, and queries as clients send them. Contains none."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import date

from ktrdr.sim.market.sessions import Calendar


@dataclass(frozen=True)
class Tick:
    """The minimum price step as a fraction, so that prices are rounded exactly."""

    numerator: int
    denominator: int

    @property
    def size(self) -> float:
        """The step in units of price."""
        return self.numerator / self.denominator


CENT = Tick(1, 100)


@dataclass(frozen=True)
class Split:
    """One share becomes `ratio` shares before the market opens on `day`."""

    day: date
    ratio: int


@dataclass(frozen=True)
class Query:
    """A contract as a client requests it: every field that is not empty must match."""

    con_id: int = 0
    symbol: str = ""
    sec_type: str = ""
    expiry: str = ""
    exchange: str = ""
    primary_exchange: str = ""
    currency: str = ""
    local_symbol: str = ""
    trading_class: str = ""
    multiplier: str = ""
    include_expired: bool = False


@dataclass(frozen=True)
class Contract:
    """One instrument with all of IB's names (TWS API, `ContractDetails`)."""

    symbol: str
    sec_type: str
    exchange: str
    currency: str
    local_symbol: str
    trading_class: str
    long_name: str
    tick: Tick
    calendar: Calendar
    base_price: float
    base_volume: int
    """The typical volume of a minute in regular hours; 0 where trades have none."""
    primary_exchange: str = ""
    valid_exchanges: tuple[str, ...] = ()
    multiplier: str = ""
    expiry: date | None = None
    listed: date = date(2000, 1, 3)
    con_id_name: str = ""
    """Distinguishes it from another contract of the same name."""
    con_id_given: int = 0
    """A given id, used instead of one made from its name; 0: none."""
    price_key: str = ""
    """The key of the price path: for a future its root, so that its months move together."""
    extended_hours: bool = False
    """The store's default hours for it are all hours (`contract.md`)."""
    what_to_show: tuple[str, ...] = ("TRADES", "MIDPOINT", "BID", "ASK", "BID_ASK")
    """The kinds of history available, the store's default first."""
    split: Split | None = None
    trade_share: float = 1.0
    """The share of its minutes with a trade; the others have no bar of trades."""
    quiet_day_share: float = 0.0
    """The share of its days without any trade."""
    has_flat_bars: bool = False
    """A minute without a trade has a flat bar, with volume 0."""
    is_entitled: bool = True
    """The account may request its history."""

    @property
    def con_id(self) -> int:
        """The contract id: stable, made from the contract's full name."""
        if self.con_id_given:
            return self.con_id_given
        name = f"{self.sec_type}:{self.local_symbol}:{self.currency}:{self.expiry_text[:6]}"
        if self.sec_type == "CONTFUT":  # one id, whichever month is the front month
            name = f"CONTFUT:{self.trading_class}"
        elif self.con_id_name:
            name += f":{self.con_id_name}"
        digest = hashlib.blake2b(name.encode(), digest_size=4).digest()
        return int.from_bytes(digest, "big") % 1_900_000_000 + 100_000_000

    @property
    def expiry_text(self) -> str:
        """`yyyymmdd`; empty for a contract that never expires."""
        return self.expiry.strftime("%Y%m%d") if self.expiry else ""

    @property
    def is_illiquid(self) -> bool:
        """Whether there are minutes without a trade, and without a bar."""
        return self.trade_share < 1 or self.quiet_day_share > 0

    @property
    def head_day(self) -> int:
        """The first trading day with bars, as days since 1970."""
        return (self.listed - date(1970, 1, 1)).days

    @property
    def last_day(self) -> int:
        """The last trading day, as days since 1970; far in the future if it never expires."""
        if self.expiry is None or self.sec_type == "CONTFUT":
            return 1 << 30
        return (self.expiry - date(1970, 1, 1)).days

    @property
    def _symbols(self) -> tuple[str, ...]:
        """Its symbols; a future has IB's symbol and its root, such as `EUR` and `6E`."""
        is_future = self.sec_type in ("FUT", "CONTFUT")
        return (self.symbol, self.trading_class) if is_future else (self.symbol,)

    def fits(self, query: Query) -> bool:
        """True when every field of `query` that is not empty matches."""
        return all(
            not requested or requested in offered
            for requested, offered in (
                (query.sec_type, (self.sec_type,)),
                (query.currency, (self.currency,)),
                (query.local_symbol, (self.local_symbol,)),
                (query.trading_class, (self.trading_class,)),
                (query.multiplier, (self.multiplier,)),
                (query.primary_exchange, (self.primary_exchange, self.exchange)),
                (query.exchange, (self.exchange, self.primary_exchange, *self.valid_exchanges)),
                (query.symbol, self._symbols),
            )
        ) and self.expiry_text.startswith(query.expiry[:8])
