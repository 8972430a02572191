"""The outgoing data of one connection, in order, delayed or cut by the network's faults."""

from __future__ import annotations

import asyncio

from ktrdr.sim.gateway import answer_damage
from ktrdr.sim.gateway.faults import Faults

_DRIP_S = 0.05
"""Seconds between two writes of the fault `slow_drip`."""

_ROOM_BYTES = 1 << 20
"""Bytes that may wait for a client to read them before a flood pauses."""


class Outbox:
    """Writes data at once, unless a fault delays them, and always in order."""

    def __init__(self, writer: asyncio.StreamWriter, faults: Faults) -> None:
        self._writer = writer
        self._faults = faults
        self._held = bytearray()
        self._pump: asyncio.Task[None] | None = None
        self.is_unresponsive = False
        """While True, all data are discarded."""

    def send(self, data: bytes) -> str:
        """Send, or discard if closed; returns the fault that swallowed the data, or empty."""
        if self.is_unresponsive:
            return "half_open"
        if not data or self._writer.is_closing():
            return ""
        if self._faults.has("truncated"):
            self._writer.write(answer_damage.first_half(data))
            self._writer.close()
            return "truncated"
        if not self._held and not self._is_slow():
            self._writer.write(data)
            return ""
        self._held += data
        if self._pump is None or self._pump.done():
            self._pump = asyncio.create_task(self._let_out())
        return ""

    @property
    def has_room(self) -> bool:
        """Whether the client has read most of what was sent."""
        waiting = self._writer.transport.get_write_buffer_size() + len(self._held)
        return waiting < _ROOM_BYTES

    async def drain(self) -> None:
        """Wait until the client has read enough. ConnectionError: it is gone."""
        await self._writer.drain()

    async def close(self) -> None:
        """Close the connection; delayed data are lost."""
        if self._pump:
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except OSError:
            return  # the other end was already gone

    def _is_slow(self) -> bool:
        return self._faults.has("stall") or self._faults.has("slow_drip")

    async def _let_out(self) -> None:
        """Write the delayed data as the faults allow."""
        while self._held and not self._writer.is_closing():
            if self._faults.has("stall"):
                await self._faults.change()
                continue
            bytes_per_s = self._faults.number("slow_drip", "bytes_per_s")
            size = max(int(bytes_per_s * _DRIP_S), 1) if bytes_per_s else len(self._held)
            self._writer.write(bytes(self._held[:size]))
            del self._held[:size]
            if bytes_per_s:
                await asyncio.sleep(_DRIP_S)
