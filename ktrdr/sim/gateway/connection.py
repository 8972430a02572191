"""The connection of one client: handshake, log-in, messages, end. Answers no request itself."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from datetime import datetime, timedelta

from ktrdr.sim.gateway import answers, notices, refusals, wire
from ktrdr.sim.gateway.limits import MessageRate, Violation
from ktrdr.sim.gateway.open_requests import OpenRequests, Shared
from ktrdr.sim.gateway.outbox import Outbox
from ktrdr.sim.gateway.refusals import Refusal
from ktrdr.sim.gateway.stream_losses import Loss
from ktrdr.sim.gateway.streams import Stream
from ktrdr.sim.gateway.wire import Framer, Request, WireError

_READ_BYTES = 65536
_NO_LINGER = struct.pack("ii", 1, 0)

log = logging.getLogger(__name__)


class Connection:
    """Reads the messages of one client, from the accepted socket on, and passes requests on."""

    def __init__(self, accepted: socket.socket, shared: Shared) -> None:
        self.client_id: int | None = None
        self.was_dropped = False
        """Whether it broke; False: the client closed it."""
        self._socket = accepted
        self._shared = shared
        self._version = shared.version
        self._writer: asyncio.StreamWriter | None = None
        self._outbox: Outbox | None = None
        self._open_requests: OpenRequests | None = None
        self._framer = Framer()
        self._rate = MessageRate(shared.limits)
        self._is_greeted = False

    def __repr__(self) -> str:
        return f"client {'?' if self.client_id is None else self.client_id}"

    async def run(self) -> None:
        """Serve until the client disconnects or is disconnected, and close.

        WireError: the client does not speak the API's protocol. OSError: the connection broke.
        """
        try:
            reader, self._writer = await asyncio.open_connection(sock=self._socket)
        except OSError:
            self._socket.close()
            raise
        self._outbox = Outbox(self._writer, self._shared.faults)
        try:
            if self.was_dropped:
                self.abort()
            await self._stay_silent(reader)
            await self._read_messages(reader, self._outbox)
        except OSError:
            self.was_dropped = True
            raise
        finally:
            if self._open_requests:
                await self._open_requests.end()
            await self._outbox.close()

    def abort(self, *, is_reset: bool = False) -> None:
        """Break the connection now; `is_reset`: with an RST."""
        self.was_dropped = True
        if self._writer:
            raw = self._writer.get_extra_info("socket")
            if is_reset and raw.fileno() != -1:  # else it is already closed
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            self._writer.transport.abort()
        self._shared.faults.wake()

    def set_unresponsive(self, is_unresponsive: bool) -> None:
        """Stop responding, or respond again; the connection stays open."""
        if self._outbox:
            self._outbox.is_unresponsive = is_unresponsive

    def send_notice(self, notice: Refusal) -> None:
        """Send a notice, which has no request id, if the client has logged in."""
        if self.client_id is not None:
            self._send(answers.refusal(self._version, -1, notice))

    @property
    def streams(self) -> dict[int, Stream]:
        """The client's open streams by the ids of their requests, also those that are lost."""
        return self._open_requests.streams if self._open_requests else {}

    def lose_streams(self, loss: Loss) -> None:
        """Lose the streams that a fault takes away."""
        if self._open_requests:
            self._open_requests.lose_streams(loss)

    def send_raw(self, data: bytes) -> None:
        """Send any bytes, valid messages or not."""
        self._send(data)

    async def _stay_silent(self, reader: asyncio.StreamReader) -> None:
        """Neither read nor send while a fault requires this."""
        faults = self._shared.faults
        if faults.take("too_early"):
            while await reader.read(_READ_BYTES):
                pass
        while faults.has("wedged") and not self.was_dropped:
            await faults.change()

    async def _read_messages(self, reader: asyncio.StreamReader, outbox: Outbox) -> None:
        """Read messages, but none while the client does not read its responses."""
        while data := await reader.read(_READ_BYTES):
            for fields in self._framer.feed(data):
                if not self._process(fields):
                    return
            await outbox.drain()

    def _process(self, fields: list[str]) -> bool:
        """Process one message; False: the connection ends."""
        if not self._is_greeted:
            return self._greet(fields)
        now_s = asyncio.get_running_loop().time()
        self._shared.record.came_in_a_second(self._rate.count(now_s))
        if violation := self._rate.check(now_s):
            return self._reject(violation)
        try:
            request = wire.parse(fields)
        except WireError as error:
            log.warning("%r: %s", self, error)
            self._send(answers.refusal(self._version, -1, refusals.unreadable()))
            return True
        if request.kind == "start_api":
            return self._start(request)
        if self._open_requests is None:
            log.warning("%r: %s before it has started the API; ignored", self, request.kind)
            return True
        return self._dispatch(request, self._open_requests)

    def _dispatch(self, request: Request, open_requests: OpenRequests) -> bool:
        if self._outbox and self._outbox.is_unresponsive:
            open_requests.swallow(request, "half_open")
        elif request.kind == "unknown":
            log.info("%r: message %d is not supported; ignored", self, request.request_id)
        elif request.kind == "cancel_historical_data":
            open_requests.cancel(request)
        elif request.kind == "cancel_head_timestamp":
            open_requests.cancel_head_timestamp(request)
        else:
            return open_requests.begin(request)
        return True

    def _greet(self, fields: list[str]) -> bool:
        """Negotiate the protocol; False: a fault rejects the client."""
        faults = self._shared.faults
        if faults.has("untrusted"):
            return False
        self._version = wire.negotiate(fields, self._version)
        self._is_greeted = True
        error_s = faults.number("wrong_clock", "seconds")
        offered = int(faults.number("old_version", "version")) or self._version
        self._send(answers.greeting(offered, self._now() + timedelta(seconds=error_s)))
        return True

    def _start(self, request: Request) -> bool:
        """Log the client in, unless its id is in use (326, and the connection ends)."""
        if self.client_id is not None:
            return True
        now_s, faults = asyncio.get_running_loop().time(), self._shared.faults
        violation = self._shared.clients.admit(request.client_id, self, now_s)
        if violation:
            return self._reject(violation, request.client_id)
        self.client_id = request.client_id
        self._open_requests = OpenRequests(
            self._shared, self.client_id, self._version, self._send, self.abort, self._has_room
        )
        log.info("%r connected, protocol %d", self, self._version)
        self._shared.record.connected(self._now(), self.client_id, self._version)
        self._send(
            answers.managed_accounts(self._shared.handlers.account)
            + answers.next_valid_id()
            + answers.farm_notices(self._version, broken := faults.text("farm_broken", "farm"))
        )
        if broken and faults.text("farm_broken", "told") != "no":
            self.send_notice(notices.farm_broken(broken))
        return True

    def _reject(self, violation: Violation, client_id: int | None = None) -> bool:
        """Report a limit that was exceeded; False: the connection ends."""
        requested = self.client_id if client_id is None else client_id
        log.info(
            "client %s exceeds a limit: %s",
            "?" if requested is None else requested,
            violation.limit,
        )
        self._shared.record.violation(
            self._now(), -1 if requested is None else requested, violation
        )
        if violation.refused:
            self._send(answers.refusal(self._version, -1, violation.refused))
        return not violation.is_end

    def _now(self) -> datetime:
        return self._shared.handlers.now()

    def _has_room(self) -> bool:
        return self._outbox is not None and self._outbox.has_room

    def _send(self, message: bytes) -> str:
        """Send a message; returns the fault that swallowed it, or empty."""
        return self._outbox.send(message) if self._outbox else ""
