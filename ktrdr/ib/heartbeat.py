"""When to ask whether a gateway still answers, and when it counts as dead. Asks nobody.

An open socket proves nothing: what counts is when something was answered last. The time is
answered by the gateway itself, so that data have a heartbeat of their own.
"""

from __future__ import annotations


class Heartbeat:
    """One connection's. All times are seconds of one clock that only moves forward."""

    def __init__(self, heartbeat_s: float, now: float) -> None:
        self._heartbeat_s = heartbeat_s
        self.answered_at = now
        """When anything was answered last."""
        self._pending = 0
        self._data_pending_since: float | None = None

    def __repr__(self) -> str:
        return f"Heartbeat(answered at {self.answered_at:.1f}, {self._pending} data requests open)"

    def answered(self, now: float) -> None:
        """The gateway has answered something, such as the time."""
        self.answered_at = now

    def data_requested(self, now: float) -> None:
        """A request for data went out."""
        self._pending += 1
        if self._data_pending_since is None:
            self._data_pending_since = now

    def data_answered(self, now: float) -> None:
        """A request for data was answered, with whatever."""
        self.answered(now)
        if self._data_pending_since is not None:
            self._data_pending_since = now

    def data_ended(self) -> None:
        """A request for data was answered or given up."""
        self._pending -= 1
        if not self._pending:
            self._data_pending_since = None

    @property
    def request_at(self) -> float:
        """When a small request should show that the gateway still answers."""
        return self.answered_at + self._heartbeat_s

    @property
    def dead_at(self) -> float:
        """When it counts as dead, unless something is answered before."""
        return self.answered_at + 2 * self._heartbeat_s

    @property
    def probe_at(self) -> float | None:
        """When a small request for data should show that data still come; None: nobody waits."""
        since = self._data_pending_since
        return None if since is None else since + self._heartbeat_s

    @property
    def fresh_until(self) -> float:
        """Until then something was answered within two heartbeats, data too if anybody waits."""
        since = self._data_pending_since
        return self.dead_at if since is None else min(self.dead_at, since + 2 * self._heartbeat_s)
