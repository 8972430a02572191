"""What a simulated gateway may be told when it is made. What of it is possible, others say."""

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
    """What it serves; None: `replay`, or bars out of `seed`."""
    replay: Path | None = None
    """A folder of bar files."""
    seed: int = 1
    host: str = "127.0.0.1"
    port: int = 0
    """0: any free one."""
    account: str = "DU1000000"
    latency_s: float = 0.0
    """How long each answer takes."""
    bars_per_s: float | None = None
    """Throughput in bars per second; None: unlimited."""
    now: Callable[[], datetime] | None = None
    """A clock of yours, UTC-aware; None: one that goes by `start` and `speed`."""
    start: datetime | None = None
    """When its clock begins; None: now."""
    speed: float = 1.0
    """Speed of its clock, as a multiple of real time."""
    limits: Limits = field(default_factory=Limits)
    nights: Nights = field(default_factory=Nights)
    """When it restarts and logs out."""
    version: int = wire.MAX_VERSION
    """The highest protocol to offer, 157 to 178."""
    alignment: Alignment | None = None
    """Where bars of several hours begin; None: as the market has it."""
    record_to: Path | None = None
    """Append every request to this file."""
    keep_record: bool = True
    """Hold them in `record`, too."""
