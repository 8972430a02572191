"""Reports changed files of a folder as soon as the system does. Reads none of them.

It uses inotify or FSEvents, through watchfiles, and polls nothing on the disk. Network file
systems do not report what other machines change, so that regular scans are needed too.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from watchfiles._rust_notify import RustNotify  # `watch` does not report when it has begun

log = logging.getLogger(__name__)

_STEP_MS, _MOST_MS = 400, 800
"""Changes are reported after a pause this long, and after this time at the latest."""
_IS_IT_MS = 10_000
"""How often to check whether the path still leads to the watched folder."""
_END_S = 2.0
_AGAIN_S = 10.0
"""How soon to retry a folder that cannot be watched, or is missing."""


class FolderWatch:
    """A thread from `start` to `stop` that calls `changed` with the names of changed files.

    With None when it begins to watch: earlier changes were not reported. If the folder cannot be
    watched, or is missing, it logs that once, and tries again after `again_s`.
    """

    def __init__(
        self,
        folder: Path,
        changed: Callable[[set[str] | None], None],
        again_s: float = _AGAIN_S,
    ) -> None:
        self._folder = folder
        self._changed = changed
        self._again_s = again_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="folder-watch", daemon=True)
        self._last_problem = ""

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread. It takes less than a second, unless the file system does not respond."""
        self.stop_soon()
        self._thread.join(_END_S)

    def stop_soon(self) -> None:
        """Have the thread end, without waiting for that."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._watch(_identity(self._folder))
            except FileNotFoundError:
                self._log_once(f"{self._folder} is missing")
            except (OSError, RuntimeError) as error:  # the limit of inotify; no such system call
                self._log_once(f"{self._folder} cannot be watched ({error})")
            else:
                continue  # the path leads to another folder now
            self._stop.wait(self._again_s)

    def _watch(self, identity: tuple[int, int]) -> None:
        """Report changes until the path leads to another folder, or the thread is to end."""
        with RustNotify(
            [str(self._folder)],
            debug=False,
            force_polling=False,
            poll_delay_ms=0,
            recursive=False,
            ignore_permission_denied=False,
        ) as watcher:
            self._last_problem = ""
            self._changed(None)
            while not self._stop.is_set() and _identity(self._folder) == identity:
                received = watcher.watch(_MOST_MS, _STEP_MS, _IS_IT_MS, self._stop)
                if isinstance(received, set):
                    self._changed({Path(path).name for _, path in received})

    def _log_once(self, problem: str) -> None:
        if problem != self._last_problem:
            log.warning("%s: new files are noticed only at scans", problem)
        self._last_problem = problem


def _identity(folder: Path) -> tuple[int, int]:
    """Differs for another folder of the same name. FileNotFoundError: there is none."""
    found = folder.stat()
    return found.st_dev, found.st_ino
