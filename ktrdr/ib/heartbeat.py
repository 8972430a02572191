"""When to test whether a gateway still answers, and when it counts as dead. Sends no requests.

An open socket proves nothing; only the time of the last answer counts. The gateway answers a
request for the time without IB's servers, so data have a heartbeat of their own.
"""

from __future__ import annotations


class Heartbeat:
    """The heartbeat of one connection. All times are seconds of one monotonic clock."""

    def __init__(self, heartbeat_s: float, now: float) -> None:
        self._heartbeat_s = heartbeat_s
        self.answered_at = now
        """When any request was last answered."""
        self._pending = 0
        self._data_pending_since: float | None = None

    def __repr__(self) -> str:
        return f"Heartbeat(answered at {self.answered_at:.1f}, {self._pending} data requests open)"

    def answered(self, now: float) -> None:
        """The gateway has answered a request, such as one for the time."""
        self.answered_at = now

    def data_requested(self, now: float) -> None:
        """A request for data was sent."""
        self._pending += 1
        if self._data_pending_since is None:
            self._data_pending_since = now

    def data_answered(self, now: float) -> None:
        """A request for data got a response of any kind."""
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
        """When to test with a small request that the gateway still answers."""
        return self.answered_at + self._heartbeat_s

    @property
    def dead_at(self) -> float:
        """When the gateway counts as dead, unless it answers before."""
        return self.answered_at + 2 * self._heartbeat_s

    @property
    def probe_at(self) -> float | None:
        """When to test with a small data request that data still come; None: none are pending."""
        since = self._data_pending_since
        return None if since is None else since + self._heartbeat_s

    @property
    def fresh_until(self) -> float:
        """Until when the last answer is recent (two heartbeats), of data too if any are pending."""
        since = self._data_pending_since
        return self.dead_at if since is None else min(self.dead_at, since + 2 * self._heartbeat_s)
