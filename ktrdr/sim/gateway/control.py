"""The gateway's controls: status, summary and faults, as HTTP over a Unix socket.

`curl --unix-socket PATH http://sim/status` · `curl --unix-socket PATH -X POST
'http://sim/fault/restart?for_s=30'` · `-X DELETE http://sim/fault/logged_out` logs in again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from aiohttp import web

from ktrdr.errors import KtrdrError, Misconfigured
from ktrdr.sim.gateway.faults import FAULTS
from ktrdr.sim.gateway.server import SimulatedGateway
from ktrdr.unix_socket import clear_place

Json = dict[str, Any]

log = logging.getLogger(__name__)


@contextlib.asynccontextmanager
async def control_of(gateway: SimulatedGateway, path: Path) -> AsyncIterator[None]:
    """Serve the controls at `path`, for the owner only, while the block lasts.

    AlreadyRunning: another program serves there. Misconfigured: the path cannot be used.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    clear_place(path, hint="--control PATH")
    runner = web.AppRunner(_application(gateway), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await _serve_at(runner, path)
        yield
    finally:
        await runner.cleanup()
        await asyncio.sleep(0)  # transports close in the loop's next iteration
        _remove(path)


async def _serve_at(runner: web.AppRunner, path: Path) -> None:
    try:
        await web.UnixSite(runner, str(path)).start()
        os.chmod(path, 0o600)  # noqa: PTH101  brief, before any client is served
    except OSError as error:
        raise Misconfigured(f"no controls at {path}: {error}") from error
    log.info("controls at %s", path)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)  # Python before 3.13 leaves the socket file


def status(gateway: SimulatedGateway) -> Json:
    """The status of the gateway."""
    return {
        "host": gateway.host,
        "port": gateway.port,
        "listening": gateway.is_listening,
        "serves": gateway.market.name,
        "now": gateway.now().isoformat(timespec="seconds"),
        "client_ids": gateway.client_ids,
        "streams": gateway.streams,
        "faults": gateway.faults,
        "periods": {
            name: {
                "since": one.since.isoformat(timespec="seconds"),
                "until": one.until and one.until.isoformat(timespec="seconds"),
            }
            for name, one in gateway.fault_periods.items()
        },
    }


def fault_list() -> Json:
    """Every fault: its description, its parameters with defaults, and the values they may have."""
    return {
        fault.name: {
            "says": fault.description,
            "values": dict(fault.values),
            "choices": {name: list(fault.choices_of(name)) for name in fault.values},
            "momentary": fault.is_momentary,
        }
        for fault in FAULTS.values()
    }


def _application(gateway: SimulatedGateway) -> web.Application:
    async def get_status(_: web.Request) -> web.Response:
        return web.json_response(status(gateway))

    async def get_summary(_: web.Request) -> web.Response:
        return web.json_response(gateway.summary())

    async def get_faults(_: web.Request) -> web.Response:
        return web.json_response(fault_list())

    async def begin(request: web.Request) -> web.Response:
        gateway.begin_fault(request.match_info["name"], **request.query)
        return web.json_response(status(gateway))

    async def end(request: web.Request) -> web.Response:
        was_in_force = gateway.end_fault(request.match_info["name"])
        return web.json_response({"was_in_force": was_in_force, **status(gateway)})

    app = web.Application(middlewares=[_explained])
    app.router.add_get("/status", get_status)
    app.router.add_get("/record/summary", get_summary)
    app.router.add_get("/faults", get_faults)
    app.router.add_post("/fault/{name}", begin)
    app.router.add_delete("/fault/{name}", end)
    return app


@web.middleware
async def _explained(request: web.Request, handler: Any) -> web.StreamResponse:
    """Answer an error with JSON, in the format of the group's other local APIs."""
    try:
        response: web.StreamResponse = await handler(request)
    except KtrdrError as error:
        body = {"outcome": error.outcome, "message": error.message, "hint": error.hint}
        return web.json_response(body, status=error.http_status)
    return response
