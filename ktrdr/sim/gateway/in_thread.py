"""A simulated gateway in its own thread, for synchronous programs and tests. Adds no behaviour."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

from ktrdr.sim.gateway.fault_contexts import FaultContexts
from ktrdr.sim.gateway.faults import Value
from ktrdr.sim.gateway.options import GatewayOptions
from ktrdr.sim.gateway.server import SimulatedGateway

_WAIT_S = 30.0

T = TypeVar("T")


class ThreadedGateway(FaultContexts):
    """A running gateway, for use from another thread."""

    def __init__(self, gateway: SimulatedGateway, loop: asyncio.AbstractEventLoop) -> None:
        self._gateway = gateway
        self._loop = loop
        self.host = gateway.host
        self.market = gateway.market
        self.now = gateway.now

    @property
    def port(self) -> int:
        """The port on which it listens."""
        return self._gateway.port

    @property
    def record(self) -> list[dict[str, Any]]:
        """A copy of the requests and responses so far; `Record` documents the keys."""
        return list(self._gateway.record)

    @property
    def events(self) -> list[dict[str, Any]]:
        """A copy of the whole record, with connections and faults."""
        return list(self._gateway.events)

    def summary(self) -> dict[str, Any]:
        """The record in numbers, documented in `docs/simulator.md`."""
        return self._run(_call(self._gateway.summary))

    @property
    def client_ids(self) -> list[int]:
        """The ids of the clients that are connected."""
        return self._run(_call(lambda: self._gateway.client_ids))

    @property
    def streams(self) -> list[dict[str, Any]]:
        """The open streams."""
        return self._run(_call(lambda: self._gateway.streams))

    @property
    def faults(self) -> dict[str, dict[str, Value]]:
        """The faults that are in force, with their parameters."""
        return self._run(_call(lambda: self._gateway.faults))

    def begin_fault(self, name: str, /, **values: Value) -> None:  # noqa: D102  as in FaultContexts
        self._run(_call(lambda: self._gateway.begin_fault(name, **values)))

    def end_fault(self, name: str) -> bool:  # noqa: D102  as in FaultContexts
        return self._run(_call(lambda: self._gateway.end_fault(name)))

    def drop_connections(self) -> None:
        """Break every connection at once, and keep listening. Returns when all are gone."""
        self._run(self._gateway.drop_connections())

    def stop(self) -> None:
        """End all connections and stop listening; safe to call twice."""
        self._run(self._gateway.stop())

    def start(self) -> None:
        """Listen again on the same port, after `stop`."""
        self._run(self._gateway.start())

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_WAIT_S)


async def _call(function: Callable[[], T]) -> T:
    return function()


@contextlib.contextmanager
def running_gateway(
    options: GatewayOptions | None = None,
    /,
    *,
    new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
    **named: Any,
) -> Iterator[ThreadedGateway]:
    """A gateway that serves until the block ends, with the arguments of `SimulatedGateway`.

    `new_loop` makes its event loop, whose clock measures latency, limits and `for_s`.
    """
    gateway = SimulatedGateway(options, **named)
    loop = new_loop()
    thread = threading.Thread(target=loop.run_forever, name="simulated-gateway", daemon=True)
    thread.start()
    threaded = ThreadedGateway(gateway, loop)
    try:
        threaded.start()
        yield threaded
    finally:
        threaded.stop()
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_WAIT_S)
        loop.close()
