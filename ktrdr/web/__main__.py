"""PROGRAM status-app: serves the page and the status API until it is stopped."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path
from typing import Any

from waitress.wasyncore import close_all, loop  # type: ignore[import-untyped]

from ktrdr import process
from ktrdr.config.settings import Settings
from ktrdr.web import RECORDER, create_app
from ktrdr.web.listener import listen
from ktrdr.web.page_access import page_is_for, page_url

_NOTICE_STOP_S = 0.5
_LAST_ANSWERS_S = 5

log = logging.getLogger("ktrdr.web")


def serve(settings: Settings, stop: threading.Event) -> None:
    """Serve until `stop` is set. Misconfigured as `listen`."""
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # that requests wait is normal
    sockets: dict[int, Any] = {}
    app = create_app(settings, supervisor_socket=_supervisor_socket())
    dispatcher = listen(app, settings, sockets)
    log.info("status page at %s, for %s", page_url(settings), page_is_for(settings))
    recording = threading.Thread(
        target=app.extensions[RECORDER].run, args=(stop,), name="recorder", daemon=True
    )
    recording.start()
    while not stop.is_set():
        loop(timeout=_NOTICE_STOP_S, use_poll=True, map=sockets, count=1)
    dispatcher.shutdown(timeout=_LAST_ANSWERS_S)
    close_all(sockets)
    recording.join(_LAST_ANSWERS_S)


def _supervisor_socket() -> Path | None:
    """The supervisord that started us, if one did."""
    url = os.environ.get("SUPERVISOR_SERVER_URL", "")
    return Path(url.removeprefix("unix://")) if url.startswith("unix://") else None


if __name__ == "__main__":
    process.run("status-app", serve)
