"""Isolation: a failure affects only its own series; failures of the whole store are raised."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from ktrdr.assessment.series_state import SeriesState
from ktrdr.errors import (
    KtrdrError,
    NotConnected,
    PeerDown,
    PeerTimedOut,
    RequestFailed,
    WrongSource,
)
from ktrdr.sqlite_file import DatabaseError
from ktrdr.store.file_errors import is_of_the_disk, unwritable

log = logging.getLogger("gap-filler")

MISTAKE_HINT = "it is tried again; please report it with the log of gap-filler"
"""What a person can do about a bug in ktrdr."""


class Isolation:
    """Defers and reports the series that fail, while the others go on.

    `forget` is called with a series whose file is gone; `folder` is that of the store.
    """

    def __init__(
        self,
        folder: Path,
        clock: Callable[[], float],
        report: Callable[[str, KtrdrError], None],
        forget: Callable[[SeriesState], None],
    ) -> None:
        self._folder = folder
        self._clock = clock
        self._report = report
        self._forget = forget

    @contextlib.contextmanager
    def of(self, *series: SeriesState) -> Iterator[None]:
        """Handle a failure inside as one of this series, or of these of one contract.

        Only these are raised: a lost connection, a full disk, a ledger that refuses writes, and a
        missing folder.
        """
        try:
            yield
        except Exception as error:
            if isinstance(error, FileNotFoundError) and not self._folder.is_dir():
                raise
            gone = [one for one in series if isinstance(error, FileNotFoundError) and _is_gone(one)]
            for state in gone:
                self._forget(state)
            if gone:
                return
            if concerns_all(error):
                raise
            self._defer(series, _as_error(series[0], error))

    def _defer(self, series: Iterable[SeriesState], error: KtrdrError) -> None:
        for state in series:
            if not (state.is_blocked and state.error is error):  # otherwise it is recorded already
                state.failed(error, self._clock())
            self._report(str(state.series), error)


def _as_error(state: SeriesState, error: Exception) -> KtrdrError:
    if isinstance(error, KtrdrError):
        return error
    if isinstance(error, OSError):
        return unwritable(state.series.file_name, error)
    log.error("%s: a bug in ktrdr", state.series, exc_info=error)
    return RequestFailed(f"a bug in ktrdr: {error!r}", hint=MISTAKE_HINT)


def concerns_all(error: Exception) -> bool:
    """The error concerns the connection, or the store as a whole."""
    if isinstance(error, OSError):
        return is_of_the_disk(error)
    everybodys = isinstance(error, PeerDown | NotConnected | WrongSource | DatabaseError)
    return everybodys and not isinstance(error, PeerTimedOut)


def _is_gone(state: SeriesState) -> bool:
    """There is no such file any more."""
    try:
        return state.store.key(state.series) is None
    except FileNotFoundError:
        return True
    except Exception:  # noqa: BLE001  the first error is reported
        return False
