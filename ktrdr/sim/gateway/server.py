"""The simulated gateway as a server: starts, serves clients, and stops. Answers no requests."""

from __future__ import annotations

import asyncio
import logging
import socket
from dataclasses import replace
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from ktrdr.sim.gateway.clients import Clients
from ktrdr.sim.gateway.clock import Clock
from ktrdr.sim.gateway.connection import Connection
from ktrdr.sim.gateway.fault_contexts import FaultContexts
from ktrdr.sim.gateway.fault_injector import FaultInjector, Period
from ktrdr.sim.gateway.faults import Faults, Value
from ktrdr.sim.gateway.limits import HistoryPace
from ktrdr.sim.gateway.listener import Listener
from ktrdr.sim.gateway.open_requests import Latency, Shared
from ktrdr.sim.gateway.options import GatewayOptions
from ktrdr.sim.gateway.record import Record
from ktrdr.sim.gateway.request_handlers import RequestHandlers
from ktrdr.sim.gateway.restarts import Restarts
from ktrdr.sim.gateway.wire import WireError
from ktrdr.sim.market.market import GeneratedMarket, Market
from ktrdr.sim.market.replay import read_replay

log = logging.getLogger(__name__)


class SimulatedGateway(FaultContexts):
    """A gateway for any client of the TWS API. Read-only: every order is refused.

    ```python
    async with SimulatedGateway(seed=7) as gateway:
        await IB().connectAsync("127.0.0.1", gateway.port)
    ```
    Its arguments are the fields of `GatewayOptions`, or one such object.
    """

    def __init__(self, options: GatewayOptions | None = None, /, **named: Any) -> None:
        options = replace(options or GatewayOptions(), **named)
        clock = Clock(options.start, options.speed)
        self.now = options.now or clock
        self.host = options.host
        self.market = _market(options, self.now())
        self._record = Record(options.record_to, keep=options.keep_record)
        self._faults = Faults(options.seed)
        self._clients: Clients[object] = Clients(options.limits)
        self._shared = Shared(
            RequestHandlers(self.market, options.account, self.now, self._faults.meant),
            self._record,
            Latency(options.latency_s, options.bars_per_s),
            options.version,
            options.limits,
            HistoryPace(options.limits),
            self._faults,
            self._clients,
        )
        self._connections: dict[Connection, asyncio.Task[Any]] = {}
        self._listener = Listener(options.host, options.port, self._accepted)
        self._fault_injector = FaultInjector(
            self._faults, self._listener, lambda: list(self._connections), self._record, self.now
        )
        self._restarts = Restarts(options.nights, clock, self.now, self._fault_injector)

    @property
    def port(self) -> int:
        """The port on which it listens or last listened."""
        return self._listener.port

    @property
    def record(self) -> list[dict[str, Any]]:
        """The requests and responses so far; `Record` documents the keys."""
        return self._record.entries

    @property
    def events(self) -> list[dict[str, Any]]:
        """The whole record, with connections and faults."""
        return self._record.events

    def summary(self) -> dict[str, Any]:
        """The record in numbers, documented in `docs/simulator.md`."""
        return self._record.summary

    @property
    def client_ids(self) -> list[int]:
        """The ids of the clients that are connected, in ascending order."""
        return self._clients.ids

    @property
    def faults(self) -> dict[str, dict[str, Value]]:
        """The faults that are in force, with their parameters."""
        return self._faults.active

    @property
    def fault_periods(self) -> dict[str, Period]:
        """When each fault in force began, and when it will end by itself."""
        return self._fault_injector.periods

    @property
    def streams(self) -> list[dict[str, Any]]:
        """The open streams, documented in `docs/simulator.md` ("Controls")."""
        return [
            {
                "client_id": connection.client_id,
                "request_id": request_id,
                "symbol": stream.subscription.contract.local_symbol,
                "bar_size": stream.subscription.size.name,
                "what_to_show": stream.subscription.request.what_to_show,
                "is_lost": stream.is_lost,
                "until_s": stream.mark_s,
            }
            for connection in self._connections
            for request_id, stream in connection.streams.items()
        ]

    @property
    def is_listening(self) -> bool:
        """Whether a client can connect."""
        return self._listener.is_open

    def begin_fault(self, name: str, /, **values: Value) -> None:  # noqa: D102  as in FaultContexts
        self._fault_injector.begin(name, values)

    def end_fault(self, name: str) -> bool:  # noqa: D102  as in FaultContexts
        return self._fault_injector.end(name)

    async def start(self) -> None:
        """Listen. Misconfigured: the address is not available."""
        self._listener.open()
        self._record.open()
        self._restarts.start()
        log.info("listens on %s:%d, serves %s", self.host, self.port, self.market.name)

    async def stop(self) -> None:
        """Stop listening and end every connection. Safe to call twice."""
        await self._restarts.stop()
        self._fault_injector.forget_ends()
        self._listener.close()
        await self.drop_connections()
        self._record.close()

    async def drop_connections(self) -> None:
        """Break every connection at once, without notice; returns when all are gone.

        It keeps listening.
        """
        for connection in self._connections:
            connection.abort()
        await asyncio.gather(*self._connections.values())

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    def _accepted(self, accepted: socket.socket) -> None:
        """Register a new connection, so that it will be closed in any case."""
        connection = Connection(accepted, self._shared)
        self._connections[connection] = asyncio.create_task(self._serve(connection))

    async def _serve(self, connection: Connection) -> None:
        """Serve one client until it is gone. Its errors do not affect the others."""
        try:
            await connection.run()
        except (WireError, OSError) as error:
            log.warning("%r: %s", connection, error)
        except Exception:
            log.exception("%r: its connection ends", connection)
        finally:
            self._forget(connection)

    def _forget(self, connection: Connection) -> None:
        del self._connections[connection]
        if connection.client_id is not None:
            now_s = asyncio.get_running_loop().time()
            self._clients.leave(connection.client_id, now_s, was_dropped=connection.was_dropped)
            self._record.disconnected(self.now(), connection.client_id)
            log.info("%r disconnected", connection)


def _market(options: GatewayOptions, now: datetime) -> Market:
    market = options.market
    if market is None:
        replay = options.replay
        market = read_replay(replay, now) if replay else GeneratedMarket(options.seed)
    market.alignment = options.alignment or market.alignment
    return market
