"""Probes of the gateway's port: one handshake, or a wait for a change. They use no client id.

An open port is not yet a gateway: socat in between accepts every connection, and closes it when
no gateway is behind it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator

from ktrdr.ib.framing import Frames, NoMessageError
from ktrdr.ib.port_state import OLDEST_VERSION, RESET, PortProbe, PortState
from ktrdr.ib.raw_messages import greeted_version

_HELLO = f"v{OLDEST_VERSION}..178".encode()
_FIRST_PROBE_S, _SLOWEST_PROBE_S = 0.5, 2.0
_PROBES_A_WAIT = 90
"""The wait between probes is a ninetieth of the time so far: short at first, longer later."""
_CONNECT_S = 3.0
_GREETS_WITHIN_S = 3.0
_HELD_S = 60.0
"""Seconds between two handshakes with a gateway that does not greet."""
_REFUSED_AGAIN_S = 8.0
"""Seconds between two handshakes with a port that answers, but not as a usable gateway does."""
_CLOSES_WITHIN_S = 0.25
"""Seconds in which a port that does not keep a new connection closes it."""


async def opens(host: str, port: int, before: PortState) -> None:
    """Wait until the port, having been closed, accepts a connection and keeps it.

    `before` is the state in which the last attempt found it. If it greeted then and is still open,
    nothing will change by itself: this then never returns. If it answered otherwise, this waits
    until it greets.
    """
    if before is not PortState.CLOSED and await _keeps_connections(host, port):
        if before is not PortState.GREETED:
            await _greets_again(host, port)
            return
        await asyncio.Event().wait()
    loop = asyncio.get_running_loop()
    began = loop.time()
    while not await _keeps_connections(host, port):
        waited_s = loop.time() - began
        await asyncio.sleep(min(max(_FIRST_PROBE_S, waited_s / _PROBES_A_WAIT), _SLOWEST_PROBE_S))


async def greets(host: str, port: int) -> PortState:
    """Wait until a port that accepts connections in silence greets, or is closed; which of them.

    One handshake is held open at a time, and begun anew every minute: a gateway that was stuck may
    have forgotten it. No client logs in meanwhile.
    """
    while True:
        found = (await probe(host, port, _HELD_S)).state
        if found in (PortState.GREETED, PortState.CLOSED, PortState.CLOSES):
            return found
        if found is not PortState.UNRESPONSIVE:
            await asyncio.sleep(_HELD_S)


async def closes(host: str, port: int) -> None:
    """Hold one connection without sending, and wait until the other end closes it.

    This detects the restart of an unresponsive gateway without repeated attempts.
    """
    with contextlib.suppress(OSError):
        async with _connected(host, port) as (reader, _):
            while await reader.read(1024):
                pass


async def probe(host: str, port: int, timeout_s: float) -> PortProbe:
    """Connect, begin the handshake, and read the response; then close, before any log-in."""
    greeting = b""
    try:
        async with _connected(host, port) as (reader, writer):
            writer.write(b"API\0" + len(_HELLO).to_bytes(4) + _HELLO)
            try:
                async with asyncio.timeout(timeout_s):
                    greeting = await _first_message(reader)
            except TimeoutError:
                return PortProbe(PortState.UNRESPONSIVE)
            except ConnectionResetError:
                raise
            except OSError:
                return PortProbe(PortState.CLOSES)
    except TimeoutError:
        return PortProbe(PortState.UNREACHABLE)
    except ConnectionResetError:  # accepted, and reset during the connect
        return PortProbe(PortState.CLOSES, RESET)
    except OSError as error:
        number = error.errno or 0
        return PortProbe(PortState.CLOSED, os.strerror(number) if number > 0 else str(error))
    return _read(greeting)


async def _greets_again(host: str, port: int) -> None:
    """Wait until the port greets as a usable gateway: one has come up, or trusts us now."""
    while True:
        if (await probe(host, port, _GREETS_WITHIN_S)).state is PortState.GREETED:
            return
        await asyncio.sleep(_REFUSED_AGAIN_S)


async def _first_message(reader: asyncio.StreamReader) -> bytes:
    """The first message, or the bytes received that are not a message."""
    frames = Frames()
    received = b""
    while data := await reader.read(1024):
        received += data
        try:
            if messages := frames.feed(data):
                return messages[0]
        except NoMessageError:
            break
    return received


def _read(received: bytes) -> PortProbe:
    if not received:
        return PortProbe(PortState.CLOSES)
    version = greeted_version(received)
    if version is None:
        return PortProbe(PortState.FOREIGN, repr(received[:40]))
    if version < OLDEST_VERSION:
        return PortProbe(PortState.OUTDATED, version=version)
    return PortProbe(PortState.GREETED, version=version)


async def _keeps_connections(host: str, port: int) -> bool:
    """Whether the port accepts a connection and does not close it at once. Sends nothing."""
    try:
        async with _connected(host, port) as (reader, _):
            try:
                async with asyncio.timeout(_CLOSES_WITHIN_S):
                    return bool(await reader.read(1))
            except TimeoutError:
                return True
    except OSError:
        return False


@contextlib.asynccontextmanager
async def _connected(
    host: str, port: int
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection, aborted at the end. OSError (such as TimeoutError): there is none."""
    try:
        async with asyncio.timeout(_CONNECT_S):
            reader, writer = await asyncio.open_connection(host, port)
    except UnicodeError as error:
        raise OSError(f"{host!r} is not a valid host name") from error
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
