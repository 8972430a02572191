"""Files of the store that are not read: reported once for each kind. Moves none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ktrdr.errors import InvalidRequest, KtrdrError
from ktrdr.ipc.messages import Problem, UnreadKind
from ktrdr.store.interface import Scan
from ktrdr.store.subfolders import Subfolders
from ktrdr.store.unread_files import UnreadFiles

WHAT = "other files"
"""What the problems with them are about, in the log and among the recent errors."""


class OtherFiles:
    """The files that are not read, as of the last listing. For the stepping thread."""

    def __init__(self, folder: Path, report: Callable[[str, KtrdrError], None]) -> None:
        self._subfolders = Subfolders(folder)
        self._report = report
        self._kinds: tuple[UnreadFiles, ...] = ()

    def take(self, listed: Scan) -> None:
        """Report what the store's listing has besides series."""
        self._kinds = self._subfolders.unread(listed)
        for one in self._kinds:
            self._report(WHAT, InvalidRequest(one.message, hint=one.hint))

    def is_over(self, problem: Problem) -> bool:
        """There are no such files any more, or there are others."""
        return problem.message not in [one.message for one in self._kinds]

    @property
    def kinds(self) -> tuple[UnreadKind, ...]:
        """Them for the status."""
        return tuple(_message(one) for one in self._kinds)


def _message(one: UnreadFiles) -> UnreadKind:
    files = {file.name: file.free_name for file in one.examples}
    kind = one.kind.value
    return UnreadKind(kind, one.count, one.cause, one.hint, files, is_limited=one.is_limited)
