"""When to ask whether a gateway still answers, and when it counts as dead. Asks nobody.

An open socket proves nothing: what counts is when something was answered last. The time is
answered by the gateway itself, so that data have a pulse of their own.
"""

from __future__ import annotations


class Pulse:
    """One connection's. All times are seconds of one clock that only moves forward."""

    def __init__(self, heartbeat_s: float, now: float) -> None:
        self._heartbeat_s = heartbeat_s
        self.answered_at = now
        """When anything was answered last."""
        self._open = 0
        self._hungry_since: float | None = None

    def __repr__(self) -> str:
        return f"Pulse(answered at {self.answered_at:.1f}, {self._open} data requests open)"

    def answered(self, now: float) -> None:
        """The gateway has answered something, such as the time."""
        self.answered_at = now

    def data_asked(self, now: float) -> None:
        """A request for data went out."""
        self._open += 1
        if self._hungry_since is None:
            self._hungry_since = now

    def data_answered(self, now: float) -> None:
        """A request for data was answered, with whatever."""
        self.answered(now)
        if self._hungry_since is not None:
            self._hungry_since = now

    def data_ended(self) -> None:
        """A request for data was answered or given up."""
        self._open -= 1
        if not self._open:
            self._hungry_since = None

    @property
    def ask_at(self) -> float:
        """When a small request should show that the gateway still answers."""
        return self.answered_at + self._heartbeat_s

    @property
    def dead_at(self) -> float:
        """When it counts as dead, unless something is answered before."""
        return self.answered_at + 2 * self._heartbeat_s

    @property
    def probe_at(self) -> float | None:
        """When a small request for data should show that data still come; None: nobody waits."""
        return None if self._hungry_since is None else self._hungry_since + self._heartbeat_s

    def is_fresh(self, now: float) -> bool:
        """Something was answered within two heartbeats, and data where somebody waits for them."""
        if now > self.dead_at:
            return False
        return self._hungry_since is None or now <= self._hungry_since + 2 * self._heartbeat_s
