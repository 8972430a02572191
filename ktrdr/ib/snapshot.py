"""The published facts about the connection, as one value. Pure: the clocks are passed in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from ktrdr.ib.expected_outages import Expectation
from ktrdr.ib.states import State
from ktrdr.ipc.messages import ConnectionStatus


@dataclass(frozen=True)
class Snapshot:
    """The facts at one moment. `loop_time` is the clock of the connection's event loop."""

    state: State
    noted: ConnectionStatus
    """The facts that change with events only, not with time."""
    expectation: Expectation
    state_since: float = float("-inf")
    """When the state began, by the loop's clock."""
    fresh_until: float = 0.0
    """Until when the last answers are recent enough, by the loop's clock."""
    gateway_time: tuple[datetime, float] | None = None
    """The gateway's time, and when it was received by the loop's clock."""

    def is_connected(self, loop_time: float) -> bool:
        """Whether requests are answered, including those for data if any are waiting."""
        return self.state.has_data and loop_time <= self.fresh_until

    def status(self, now: datetime, loop_time: float) -> ConnectionStatus:
        """The status at that time."""
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
        """The gateway's clock minus this machine's, which may have been set since the answer."""
        if self.gateway_time is None or loop_time == float("inf"):
            return None
        answered, at = self.gateway_time
        return round((answered - now).total_seconds() + loop_time - at, 1)
