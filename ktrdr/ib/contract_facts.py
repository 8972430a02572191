"""Facts about one contract, as IB reports them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ContractFacts:
    """IB's facts about a contract."""

    con_id: int
    local_symbol: str
    exchange: str
    currency: str
    zone: str
    """As IB names it; may be empty or unknown."""
    last_trade_date: str
    long_name: str
    hours: str
    """The sessions of today and the coming days in IB's format; regular or all hours."""


def facts_of(details: Any, *, extended_hours: bool) -> ContractFacts:
    """Facts from IB's contract details (TWS API, `ContractDetails`)."""
    contract = details.contract
    return ContractFacts(
        con_id=contract.conId,
        local_symbol=contract.localSymbol,
        exchange=contract.primaryExchange or contract.exchange,
        currency=contract.currency,
        zone=details.timeZoneId,
        last_trade_date=contract.lastTradeDateOrContractMonth,
        long_name=details.longName,
        hours=details.tradingHours if extended_hours else details.liquidHours,
    )
