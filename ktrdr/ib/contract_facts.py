"""Facts that IB tells of one contract."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ContractFacts:
    """What IB says of a contract."""

    con_id: int
    local_symbol: str
    exchange: str
    currency: str
    zone: str
    """As IB names it; may be empty, or none that anybody knows."""
    last_trade_date: str
    long_name: str
    hours: str
    """The sessions of today and the days to come, in IB's form, as the instrument asks for."""


def facts_of(details: Any, *, extended_hours: bool) -> ContractFacts:
    """Out of IB's details of the contract (TWS API, `ContractDetails`)."""
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
