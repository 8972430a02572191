"""All that is told of the connection, as one value. Pure: the clocks are passed in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from ktrdr.ib.expected_outages import Expectation
from ktrdr.ib.states import State
from ktrdr.ipc.messages import ConnectionStatus


@dataclass(frozen=True)
class Snapshot:
    """What is known at one moment. `loop_time` is the clock of the connection's event loop."""

    state: State
    noted: ConnectionStatus
    """All that stays as it is until something happens."""
    expectation: Expectation
    state_since: float = float("-inf")
    """By the loop's clock."""
    fresh_until: float = 0.0
    """Until then, by the loop's clock, answers are lately enough."""
    gateway_time: tuple[datetime, float] | None = None
    """What the gateway's clock showed, and when that was by the loop's."""

    def is_connected(self, loop_time: float) -> bool:
        """Real requests are answered, data too as far as anybody waits for them."""
        return self.state.has_data and loop_time <= self.fresh_until

    def status(self, now: datetime, loop_time: float) -> ConnectionStatus:
        """What is told at that time."""
        away = None if self.state.is_linked else self.expectation.absence(now)
        return replace(
            self.noted,
            connected=self.is_connected(loop_time),
            state=self.state.value,
            expected=away.words if away else "",
            expected_kind=away.kind if away else "",
            reminder=self.expectation.reminder(now),
            clock_offset_s=self._clock_offset_s(now, loop_time),
        )

    def _clock_offset_s(self, now: datetime, loop_time: float) -> float | None:
        """The gateway's clock minus this machine's, which may have been set since it was asked."""
        if self.gateway_time is None or loop_time == float("inf"):
            return None
        answered, at = self.gateway_time
        return round((answered - now).total_seconds() + loop_time - at, 1)
