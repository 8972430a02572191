"""PROGRAM status-app: serves the page and the status API until it is told to stop."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path
from typing import Any

from waitress.wasyncore import close_all, loop  # type: ignore[import-untyped]

from ktrdr import process
from ktrdr.addresses import as_host_and_port
from ktrdr.config.settings import Settings
from ktrdr.web import create_app
from ktrdr.web.listener import listen
from ktrdr.web.page_access import page_is_for

_NOTICE_STOP_S = 0.5
_LAST_ANSWERS_S = 5

log = logging.getLogger("ktrdr.web")


def serve(settings: Settings, stop: threading.Event) -> None:
    """Serve until `stop` is set. Misconfigured as `listen`."""
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a queue of pages is no trouble
    sockets: dict[int, Any] = {}
    app = create_app(settings, supervisor_socket=_supervisor_socket())
    dispatcher = listen(app, settings, sockets)
    places = " or ".join([address(settings), *settings.status_urls[:1]])
    log.info("status page at %s, for %s", places, page_is_for(settings))
    while not stop.is_set():
        loop(timeout=_NOTICE_STOP_S, use_poll=True, map=sockets, count=1)
    dispatcher.shutdown(timeout=_LAST_ANSWERS_S)
    close_all(sockets)


def address(settings: Settings) -> str:
    """What to type into a browser on this machine."""
    host = settings.ktrdr_status_host
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared
    return f"http://{as_host_and_port(host, settings.ktrdr_status_port)}/"


def _supervisor_socket() -> Path | None:
    """The supervisord that started us, if one did."""
    url = os.environ.get("SUPERVISOR_SERVER_URL", "")
    return Path(url.removeprefix("unix://")) if url.startswith("unix://") else None


if __name__ == "__main__":
    process.run("status-app", serve)
