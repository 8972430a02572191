"""Reports which files of a folder have changed, as soon as the system does. Reads none of them.

By inotify or FSEvents, through watchfiles: nothing is polled on the disk. Network file systems
do not report what other machines do, so that scans are needed now and then too.
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
"""How often to check whether the folder is still the one that is watched."""
_END_S = 2.0
_AGAIN_S = 10.0
"""How soon to retry a folder that cannot be watched, or is missing."""


class FolderWatch:
    """A thread from `start` to `stop`, which calls `changed` with the names of files.

    With None once after each beginning: earlier changes were not reported. If the folder cannot be
    watched, or is missing, that is one line in the log; retried after `again_s`.
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
        self._said = ""

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, which takes less than a second, unless the file system hangs."""
        self._stop.set()
        self._thread.join(_END_S)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._follow(_identity(self._folder))
            except FileNotFoundError:
                self._say(f"{self._folder} is not there")
            except (OSError, RuntimeError) as error:  # the limit of inotify; no such system call
                self._say(f"{self._folder} cannot be watched ({error})")
            else:
                continue  # it is another folder by now
            self._stop.wait(self._again_s)

    def _follow(self, identity: tuple[int, int]) -> None:
        """Runs until it is another folder, or the thread is to end."""
        with RustNotify(
            [str(self._folder)],
            debug=False,
            force_polling=False,
            poll_delay_ms=0,
            recursive=False,
            ignore_permission_denied=False,
        ) as watcher:
            self._said = ""
            self._changed(None)
            while not self._stop.is_set() and _identity(self._folder) == identity:
                received = watcher.watch(_MOST_MS, _STEP_MS, _IS_IT_MS, self._stop)
                if isinstance(received, set):
                    self._changed({Path(path).name for _, path in received})

    def _say(self, trouble: str) -> None:
        if trouble != self._said:
            log.warning("%s: new files are noticed only at scans", trouble)
        self._said = trouble


def _identity(folder: Path) -> tuple[int, int]:
    """Another number for another folder of that name. FileNotFoundError: there is none."""
    found = folder.stat()
    return found.st_dev, found.st_ino
