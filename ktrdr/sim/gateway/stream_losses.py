"""Which faults take streams away, and what the client is told. Decides, and sends nothing.

A stream is a history request that is kept up to date. Sources: with a broken data farm, of market
data or of history, streams die and stay dead when it is back, with 10182 (erdewit/ib_insync 670,
nautechsystems/nautilus_trader 4412) or without a word (nautilus_trader 3968; the thread "IB data
subscriptions stop working upon 2105/2106 errors" at community.backtrader.com, where a competing
session was the cause). With 1101, and not with 1102, the gateway has no subscriptions any more (TWS
API, "System Message Codes").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ktrdr.sim.gateway import refusals
from ktrdr.sim.gateway.faults import Values
from ktrdr.sim.gateway.live_updates import Subscription
from ktrdr.sim.gateway.refusals import Refusal


@dataclass(frozen=True)
class Loss:
    """The loss of streams."""

    fault: str
    symbol: str = ""
    """Of these alone; empty: of all."""
    refused: Callable[[int], Refusal] | None = None
    """From the request's id to the error that its client gets; None: nothing."""
    is_forgotten: bool = False
    """The gateway knows the request no more: its id is free, and 366 answers its cancellation."""


_ERRORS: dict[int, Callable[[int], Refusal]] = {
    10182: lambda _: refusals.no_live_updates(),
    10225: lambda _: refusals.bust(),
    10197: lambda _: refusals.competing_session(),
    162: refusals.cancelled,
}


def loss_of(name: str, values: Values) -> Loss | None:
    """The streams that a fault takes away when it begins; None: none."""
    match name:
        case "connectivity_lost" if values["back"] == 1101:
            return Loss(name, is_forgotten=True)
        case "competing_session":
            return Loss(name, refused=_ERRORS[10197] if values["code"] == 10197 else None)
        case "farm_broken" if _is_of_bars(values) and values["streams"] != "kept":
            return Loss(name, refused=_ERRORS[10182] if values["streams"] == "refused" else None)
        case "silent_streams":
            return Loss(name, str(values["symbol"]))
        case "ended_streams":
            return Loss(name, str(values["symbol"]), _ERRORS[int(values["code"])])
    return None


def loss_at_start(subscription: Subscription, active: Mapping[str, Values]) -> Loss | None:
    """The loss of a stream that begins while these faults are in force; None: it lives."""
    if "silent_streams" in active and subscription.is_of(str(active["silent_streams"]["symbol"])):
        return Loss("silent_streams")
    farm = active.get("farm_broken")
    if farm and _is_of_bars(farm) and farm["streams"] != "kept":
        return Loss("farm_broken", refused=_ERRORS[10182])
    return None


def _is_of_bars(values: Values) -> bool:
    """Whether a farm sends bars; that of contract details does not."""
    return "secdef" not in str(values["farm"])
