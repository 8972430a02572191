"""The options of a simulated gateway. Does not check whether their values are possible."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from ktrdr.sim.gateway import wire
from ktrdr.sim.gateway.limits import Limits
from ktrdr.sim.gateway.restart_plan import Nights
from ktrdr.sim.market.bars import Alignment
from ktrdr.sim.market.market import Market


@dataclass(frozen=True, kw_only=True)
class GatewayOptions:
    """The arguments of `SimulatedGateway` and `running_gateway`."""

    market: Market | None = None
    """The market to serve; None: `replay`, or bars generated from `seed`."""
    replay: Path | None = None
    """A folder of bar files."""
    seed: int = 1
    host: str = "127.0.0.1"
    port: int = 0
    """0: any free one."""
    account: str = "DU1000000"
    latency_s: float = 0.0
    """Seconds until each response."""
    bars_per_s: float | None = None
    """Throughput in bars per second; None: unlimited."""
    now: Callable[[], datetime] | None = None
    """A clock of the caller's, UTC-aware; None: one with `start` and `speed`."""
    start: datetime | None = None
    """The start time of its clock; None: now."""
    speed: float = 1.0
    """Speed of its clock, as a multiple of real time."""
    limits: Limits = field(default_factory=Limits)
    nights: Nights = field(default_factory=Nights)
    """Its nightly restarts and Sunday log-outs."""
    version: int = wire.MAX_VERSION
    """The highest protocol version to offer, 157 to 178."""
    alignment: Alignment | None = None
    """Where bars of several hours begin; None: the market's own alignment."""
    record_to: Path | None = None
    """Append every request to this file."""
    keep_record: bool = True
    """Keep the entries in `record`, too."""
