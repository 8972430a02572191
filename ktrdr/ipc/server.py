"""The server of a program's local API: HTTP over a Unix socket. Its handlers are elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import Future
from pathlib import Path

from aiohttp import web

from ktrdr import errors
from ktrdr.ipc.codec import to_json
from ktrdr.ipc.error_codec import error_message
from ktrdr.ipc.messages import ACCEPTED, Json
from ktrdr.ipc.text import expect_text
from ktrdr.run_folder import prepare_folder
from ktrdr.unix_socket import clear_place

log = logging.getLogger(__name__)

Handler = Callable[[Mapping[str, str]], Awaitable[Json | bytes]]
"""Receives the query's parameters; a KtrdrError becomes an error response.

The answer is JSON-able values, or JSON text such as that of `to_text`.
"""


class LocalServer:
    """Serves handlers at a Unix socket, on the event loop that starts it.

    The socket has mode 0600, in a folder of mode 0700.
    """

    def __init__(self, path: Path, routes: Mapping[tuple[str, str], Handler]) -> None:
        self._path = path
        self._routes = routes
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Begin to serve. Misconfigured: something else is in the socket's place."""
        prepare_folder(self._path.parent)
        clear_place(self._path)
        app = web.Application()
        for (method, path), handler in self._routes.items():
            app.router.add_route(method, path, _serve(handler))
        # A request whose client has gone is cancelled, and so need not go to IB.
        self._runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=1.0, handler_cancellation=True
        )
        await self._runner.setup()
        try:
            await web.UnixSite(self._runner, str(self._path)).start()
            self._path.chmod(0o600)
        except OSError as error:
            await self._runner.cleanup()
            raise errors.Misconfigured(f"cannot serve {self._path}: {error}") from error

    async def stop(self) -> None:
        """Close the socket and remove it."""
        if self._runner is not None:
            await self._runner.cleanup()
            await asyncio.sleep(0)  # transports close on the loop's next round
            self._runner = None
            self._path.unlink(missing_ok=True)  # Python before 3.13 leaves it


@contextlib.contextmanager
def serving(server: LocalServer) -> Iterator[None]:
    """The server on an event loop in a thread of its own, for a program without an event loop.

    Raises what `LocalServer.start` raises.
    """
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        stop = asyncio.Event()
        try:
            await server.start()
        except Exception as error:  # noqa: BLE001  # raised where the start is awaited
            started.set_exception(error)
            return
        started.set_result((asyncio.get_running_loop(), stop))
        await stop.wait()
        await server.stop()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="local-api", daemon=True)
    thread.start()
    loop, stop = started.result()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


def _serve(handler: Handler) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def respond(request: web.Request) -> web.Response:
        try:
            expect_text(request.query)
            answer = await handler(request.query)
        except errors.KtrdrError as error:
            return web.json_response(to_json(error_message(error)), status=error.http_status)
        except Exception:  # a request must not end the program that serves it
            log.exception("%s %s failed", request.method, request.path)
            mistake = errors.RequestFailed("internal error", hint="the program's log says more")
            return web.json_response(to_json(error_message(mistake)), status=500)
        if isinstance(answer, bytes):
            return web.Response(body=answer, content_type="application/json", charset="utf-8")
        return web.json_response(answer, status=202 if answer.get(ACCEPTED) else 200)

    return respond
