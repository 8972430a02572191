"""PROGRAM `port-forward` where there is no socat: a TCP forwarder that knows nothing of IB.

Containers reach the host, but not the host's 127.0.0.1, where IB Gateway listens. So this listens
where containers, and nobody else, can call, and passes the bytes on. `scripts/ib_port_forward.sh`
does the same with socat and starts this when there is none; both follow the same rules, and have
their settings from here (`--settings`).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import logging
import os
import socket
import sys
import threading
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass

import psutil

from ktrdr import process
from ktrdr.config import Settings, as_host_and_port
from ktrdr.errors import Misconfigured
from ktrdr.run_folder import prepare_run_folder
from ktrdr.running_group import settings_to_run_with

MAX_CONNECTIONS = 32  # IB's limit of clients for one gateway
DOCKER_BRIDGE = "docker0"
DOCKER_NETWORKS = ipaddress.IPv4Network("172.16.0.0/12")
"""Where Docker takes its networks from at first; ours is pinned inside."""

_CHUNK = 65536
_CONNECT_TIMEOUT_S = 10
_LINGER_S = 0.5  # as socat does
_KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPALIVE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
_EXIT_FAILED = 1

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bind:
    """Where to listen, whose calls to take (None: whoever can reach it), and why there."""

    address: str
    callers: ipaddress.IPv4Network | None
    reason: str


def choose_bind(settings: Settings) -> Bind:
    """`KTRDR_FORWARD_BIND`, or else where containers can call on this machine."""
    bridges = {
        name: [(found.address, found.netmask) for found in addresses]
        for name, addresses in psutil.net_if_addrs().items()
        if name == DOCKER_BRIDGE
    }
    return bind_for(settings.ktrdr_forward_bind, bridges if sys.platform == "linux" else {})


def bind_for(given: str | None, interfaces: Mapping[str, Sequence[tuple[str, str | None]]]) -> Bind:
    """The rule, for a given address or none, and (address, netmask) pairs by interface.

    An address that others than this machine can reach takes calls from Docker's networks only:
    who reaches the gateway can trade. Misconfigured when `given` is no IPv4 address.
    """
    if given is not None:
        return _given(given)
    for address, netmask in interfaces.get(DOCKER_BRIDGE, ()):
        with contextlib.suppress(ValueError):
            own = ipaddress.IPv4Interface(f"{address}/{netmask or 32}")
            callers = DOCKER_NETWORKS if own.ip in DOCKER_NETWORKS else own.network
            return Bind(address, callers, f"the address of {DOCKER_BRIDGE}")
    return Bind("127.0.0.1", None, f"there is no {DOCKER_BRIDGE} here")


def _given(address: str) -> Bind:
    try:
        found = ipaddress.IPv4Address(address)
    except ValueError:
        raise Misconfigured(
            f"KTRDR_FORWARD_BIND={address}: expected an IPv4 address of this machine"
        ) from None
    return Bind(address, None if found.is_loopback else DOCKER_NETWORKS, "as KTRDR_FORWARD_BIND")


def target_of(settings: Settings, *, is_alone: bool = False) -> tuple[str, int]:
    """Host and port of the gateway that calls are passed on to.

    `is_alone`: this is not part of a group. Who then says nothing of the simulator means a real
    gateway on this machine. Misconfigured when it is the forwarder itself.
    """
    host, port = settings.forward_target or (settings.gateway_host, settings.gateway_port)
    says_nothing = settings.model_fields_set.isdisjoint({"ktrdr_sim_port", "ktrdr_forward_target"})
    if is_alone and settings.is_simulated and says_nothing:
        port = settings.ib_port
    local = {"127.0.0.1", "localhost", "::1", "0.0.0.0"}  # noqa: S104 - compared, not bound
    if port == settings.ktrdr_forward_port and host in local:
        raise Misconfigured(
            f"KTRDR_FORWARD_PORT={port}: expected another port than that of the gateway,"
            f" which is {as_host_and_port(host, port)}"
        )
    return host, port


class Forwarder:
    """Passes bytes between callers and one target, both ways, until it is cancelled."""

    def __init__(self, bind: Bind, port: int, target: tuple[str, int]) -> None:
        self.bind = bind
        self.port = port
        self.target = target
        self._open = 0

    async def listen(self) -> asyncio.Server:
        """Start to take calls. OSError when the address cannot be had."""
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            _allow_absent_address(listener)
            listener.bind((self.bind.address, self.port))
            return await asyncio.start_server(self._serve, sock=listener, limit=_CHUNK)
        except BaseException:
            listener.close()
            raise

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One caller, from its call to its end."""
        caller = writer.get_extra_info("peername")[0]
        refusal = self._refusal(caller)
        if refusal:
            log.warning("refused a call from %s: %s", caller, refusal)
            await _close(writer)
            return
        self._open += 1
        try:
            await self._connect_and_pass(caller, reader, writer)
        finally:
            self._open -= 1
            await _close(writer)

    def _refusal(self, caller: str) -> str:
        """Why this caller is not served; empty when it is."""
        callers = self.bind.callers
        if callers is not None and ipaddress.IPv4Address(caller) not in callers:
            return f"it is not in {callers}"
        if self._open >= MAX_CONNECTIONS:
            return f"{self._open} connections are open, and no more are allowed"
        return ""

    async def _connect_and_pass(
        self, caller: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        host, port = self.target
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                far_reader, far_writer = await asyncio.open_connection(host, port, limit=_CHUNK)
        except OSError as error:
            why = str(error) or f"no answer within {_CONNECT_TIMEOUT_S} s"
            log.warning("%s called, but %s:%d cannot be reached: %s", caller, host, port, why)
            return
        log.info("%s is connected to %s:%d", caller, host, port)
        try:
            _keep_alive(writer)
            _keep_alive(far_writer)
            await _pass_both_ways(_copy(reader, far_writer), _copy(far_reader, writer))
        finally:
            await _close(far_writer)
            log.info("%s is disconnected", caller)


async def _pass_both_ways(*copies: Coroutine[None, None, None]) -> None:
    """Until one side has finished; the other has a moment more for what is on its way."""
    tasks = [asyncio.create_task(copy) for copy in copies]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait(tasks, timeout=_LINGER_S)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on what comes until it ends, then say so to the other side."""
    with contextlib.suppress(OSError):  # one side broke: the same as its end
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


def _keep_alive(writer: asyncio.StreamWriter) -> None:
    """Notice a peer that vanished without a word; asyncio has set TCP_NODELAY already."""
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):  # each system has some of them
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _allow_absent_address(listener: socket.socket) -> None:
    """Linux: bind although the Docker bridge may be down for now (IP_FREEBIND)."""
    if sys.platform == "linux":
        listener.setsockopt(socket.IPPROTO_IP, 15, 1)  # IP_FREEBIND has no name before 3.14


def holder_of(port: int) -> str:
    """The program that listens on a TCP port, as far as this user may know."""
    for running in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if port in listening_ports(running):
                command = " ".join(" ".join(running.cmdline()).split()) or running.name()
                return f"{command[:80]} (pid {running.pid})"
    return "a program that this user may not see"


def listening_ports(running: psutil.Process) -> set[int]:
    """The TCP ports that a process listens on; none when we may not know."""
    with contextlib.suppress(psutil.Error):
        connections = running.net_connections("tcp")
        return {c.laddr.port for c in connections if c.status == psutil.CONN_LISTEN}
    return set()


async def forward(settings: Settings, stop: threading.Event) -> None:
    """Forward until told to stop. SystemExit when the address cannot be had."""
    forwarder = Forwarder(choose_bind(settings), settings.ktrdr_forward_port, target_of(settings))
    bind, (host, port) = forwarder.bind, forwarder.target
    try:
        server = await forwarder.listen()
    except OSError as error:
        log.error("cannot listen: %s", _explain(error, bind.address, forwarder.port))
        sys.exit(_EXIT_FAILED)
    callers = "this machine" if bind.callers is None else str(bind.callers)
    log.info("%s:%d -> %s", bind.address, forwarder.port, as_host_and_port(host, port))
    log.info("listens on %s (%s), takes calls from %s", bind.address, bind.reason, callers)
    await asyncio.to_thread(stop.wait)
    server.close()


def _explain(error: OSError, address: str, port: int) -> str:
    """Why the address cannot be had, and what to do."""
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} of {address} is taken by {holder_of(port)}; stop that program, or choose"
            " another port with KTRDR_FORWARD_PORT"
        )
    return (
        f"port {port} of {address}: {error.strerror} (see KTRDR_FORWARD_BIND, KTRDR_FORWARD_PORT)"
    )


def main(settings: Settings, stop: threading.Event) -> None:
    """The program: see `ktrdr.process.run`."""
    asyncio.run(forward(settings, stop))


def tell_settings() -> int:
    """Print what the script goes by, a line each, after looking at the run folder; the exit code.

    Port, address, callers (empty: whoever can reach it), why there, target, run folder. For
    settings that are wrong: one line that says so, and 78.
    """
    try:
        settings = settings_to_run_with()
        bind = choose_bind(settings)
        target = target_of(settings, is_alone="SUPERVISOR_ENABLED" not in os.environ)
        prepare_run_folder(settings.run_dir)
    except Misconfigured as error:
        lines, code = [str(error)], process.EXIT_MISCONFIGURED
    else:
        callers = "" if bind.callers is None else str(bind.callers)
        lines = [str(settings.ktrdr_forward_port), bind.address, callers, bind.reason]
        lines += [as_host_and_port(*target), str(settings.run_dir)]
        code = 0
    sys.stdout.buffer.write(os.fsencode("\n".join(lines) + "\n"))
    return code


if __name__ == "__main__":
    if sys.argv[1:] == ["--settings"]:
        sys.exit(tell_settings())
    process.run("port-forward", main)
