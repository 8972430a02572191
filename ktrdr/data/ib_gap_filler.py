"""PROGRAM gap-filler: finds the gaps in the store, and fills them. Does not talk to IB itself.

`python -m ktrdr.data.ib_gap_filler` scans every few minutes, and changed files at once.
"""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

from ktrdr.config.settings import Settings
from ktrdr.errors import Misconfigured
from ktrdr.gap_filler.gap_filler import GapFiller
from ktrdr.gap_filler.routes import routes
from ktrdr.ipc.client import LocalClient
from ktrdr.ipc.server import LocalServer, serving
from ktrdr.process import boot, run
from ktrdr.store.csv_store import CsvStore
from ktrdr.store.folder_watch import FolderWatch
from ktrdr.store.instruments_file import INSTRUMENTS

log = logging.getLogger("gap-filler")  # as a program it has another name


def serve(settings: Settings, stop: threading.Event) -> None:
    """The program: one step after another, until it is stopped."""
    connection = LocalClient(settings.connection_socket, "ib-connection")
    filler = GapFiller(settings, connection, monotonic=time.monotonic, boot=boot())

    def stop_filler() -> None:
        stop.wait()
        filler.live.stop()
        filler.stop()

    threading.Thread(target=stop_filler, name="stop", daemon=True).start()
    _prepare(settings.data_dir, settings.source)
    watch = FolderWatch(
        settings.data_dir,
        lambda names: filler.note_changed_files([INSTRUMENTS] if names is None else names),
    )
    watch.start()
    if settings.ktrdr_live_streams:
        filler.live.start()
    try:
        with serving(LocalServer(settings.gap_filler_socket, routes(filler))):
            while not stop.is_set():
                if not filler.step():
                    filler.wait()
    finally:
        watch.stop()
        filler.close()


def _prepare(folder: Path, source: str) -> None:
    """The store's folder, without remains of killed writers; another source's is left as it is."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        store = CsvStore(folder)
        left = store.clear_leftovers() if store.source() in (None, source) else 0
    except OSError as error:
        refused = f"KTRDR_DATA_DIR={folder}: {error.strerror}"
        raise Misconfigured(refused, hint="set it to a folder that may be written to") from error
    if left:
        log.info("removed %d half-written files of a killed writer", left)


if __name__ == "__main__":
    run("gap-filler", serve)
