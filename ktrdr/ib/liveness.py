"""Liveness of the gateway: the heartbeat of the connection. Does not know what is requested."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from datetime import datetime

from ktrdr.errors import TimedOut
from ktrdr.ib.backoff import Backoff
from ktrdr.ib.client import IbClient
from ktrdr.ib.heartbeat import Heartbeat
from ktrdr.ib.status_record import StatusRecord

LEAST_S = 1.0
"""Minimum seconds for an answer: after this machine's sleep the gateway must not count as dead."""


class Liveness:
    """The liveness over successive connections, on one event loop."""

    def __init__(self, heartbeat_s: float, status: StatusRecord, backoff: Backoff) -> None:
        self._heartbeat_s = heartbeat_s
        self._heartbeat = Heartbeat(heartbeat_s, 0)
        self._status = status
        self._backoff = backoff

    def __repr__(self) -> str:
        return f"<Liveness {self._heartbeat!r}>"

    @property
    def probe_at(self) -> float | None:
        """When to test with a small data request that data still come; None: none are pending."""
        return self._heartbeat.probe_at

    def begin(self, gateway_time: datetime) -> None:
        """A new connection has just answered with the gateway's time."""
        self._heartbeat = Heartbeat(self._heartbeat_s, _now())
        self._note_gateway_time(gateway_time)
        self.note_answer()

    async def silence(self, client: IbClient) -> str:
        """Request the time when no answer came recently, until the gateway counts as dead.

        Returns the message for that case: two heartbeats have passed without an answer.
        """
        while True:
            if (left_s := self._heartbeat.request_at - _now()) > 0:
                await asyncio.sleep(left_s)
                continue
            try:
                left_s = self._heartbeat.dead_at - _now()
                self._note_gateway_time(await client.current_time(max(left_s, LEAST_S)))
            except TimedOut:
                if (now := _now()) >= self._heartbeat.dead_at:
                    silent_s = now - self._heartbeat.answered_at
                    return f"the gateway has answered nothing for {silent_s:.0f} s"
            else:
                self.note_answer()

    async def measure_clock(self, client: IbClient, timeout_s: float) -> None:
        """Request the gateway's time. NotConnected, TimedOut."""
        self._note_gateway_time(await client.current_time(timeout_s))

    @contextlib.contextmanager
    def waiting_for_data(self) -> Iterator[None]:
        """A request for data is pending while the block lasts."""
        heartbeat = self._heartbeat
        heartbeat.data_requested(_now())
        self._publish()
        try:
            yield
        finally:
            heartbeat.data_ended()
            self._publish()

    def note_answer(self) -> None:
        """The gateway has answered with its time, which proves nothing about data."""
        self._heartbeat.answered(_now())
        self._publish()
        self._status.note_answer()

    def note_data(self) -> None:
        """A request for data was answered: the connection works, and the backoff is reset."""
        self.note_no_farm()
        self._backoff.reset()
        self._status.note_answer()

    def note_no_farm(self) -> None:
        """A request for data was refused for a broken farm: the gateway is alive."""
        self._heartbeat.data_answered(_now())
        self._publish()

    def _note_gateway_time(self, gateway_time: datetime) -> None:
        self._status.note_gateway_time(gateway_time, _now())

    def _publish(self) -> None:
        self._status.note_fresh_until(self._heartbeat.fresh_until)


def _now() -> float:
    """The current time of the loop's clock, in seconds."""
    return asyncio.get_running_loop().time()
