"""Recent problems: logged once, and kept for the status. Repairs nothing."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from ktrdr.errors import KtrdrError, StoreUnwritable
from ktrdr.ipc.messages import Problem
from ktrdr.process import HINT

log = logging.getLogger("gap-filler")

_KEPT = 50


class Problems:
    """The newest problems. For the stepping thread."""

    def __init__(
        self, clock: Callable[[], float], on_unwritable: Callable[[StoreUnwritable], None]
    ) -> None:
        """`on_unwritable` receives each error with which the store has refused a write."""
        self._clock = clock
        self._on_unwritable = on_unwritable
        self._kept: deque[Problem] = deque(maxlen=_KEPT)

    def report(self, what: str, error: KtrdrError) -> None:
        """One line in the log and in the status; not repeated while it is the same."""
        if isinstance(error, StoreUnwritable):
            self._on_unwritable(error)
        for problem in self._kept:
            if (problem.what, problem.message) == (what, error.message):
                self._kept.remove(problem)
                break
        else:
            log.warning("%s: %s", what, error.message, extra={HINT: error.hint})
        now = datetime.fromtimestamp(self._clock(), UTC)
        self._kept.append(Problem(now, what, error.message, error.hint))

    def newest_first(self, is_over: Callable[[Problem], bool]) -> tuple[Problem, ...]:
        """All recent problems; those that are over are marked."""
        return tuple(
            replace(one, is_over=True) if is_over(one) else one for one in reversed(self._kept)
        )
