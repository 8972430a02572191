"""Series that are pulled again beside their own files, as after a split. Asks for nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import numpy as np

from ktrdr.assessment.assessment import Assessor
from ktrdr.assessment.series_state import SeriesState
from ktrdr.completeness.gaps import Reason
from ktrdr.errors import KtrdrError, RequestFailed
from ktrdr.market.instruments import Series
from ktrdr.market.timeframes import DAY_S, HOUR_S

log = logging.getLogger("gap-filler")

_AGAIN_S = (HOUR_S, 6 * HOUR_S, DAY_S, 3 * DAY_S, 7 * DAY_S)
"""When a series is pulled again once more: it is all of its bars, each time."""


class Owner(Protocol):
    """Who knows which series there are and what time it is, and hears of troubles."""

    @property
    def clocks_agree(self) -> bool:
        """Neither this machine's clock nor the gateway's is known to be wrong."""

    def is_tracked(self, state: SeriesState) -> bool:
        """Whether the series is still there."""

    def forget(self, state: SeriesState) -> None:
        """Its file is gone."""

    def report(self, what: str, error: KtrdrError) -> None:
        """Tell of a trouble with one thing, such as a series."""


@dataclass(frozen=True)
class Rebuild:
    """A series that is pulled again."""

    state: SeriesState
    """As it is, and left alone meanwhile."""
    staging: SeriesState
    """As it will be: a file of its own, beside the old one."""


class Rebuilds:
    """Those of one store. For one thread."""

    def __init__(
        self,
        assessor: Assessor,
        clock: Callable[[], float],
        owner: Owner,
        assess: Callable[[SeriesState], None],
        one: Callable[[SeriesState], AbstractContextManager[None]],
    ) -> None:
        """`assess`: judge a series anew; what cannot be read is reported.

        `one`: what goes wrong within is put to that series, and reported.
        """
        self._assessor = assessor
        self._clock = clock
        self._owner = owner
        self._assess = assess
        self._one = one
        self._rebuilds: dict[Series, Rebuild] = {}

    @property
    def staging_copies(self) -> list[SeriesState]:
        """The series as they will be."""
        return [rebuild.staging for rebuild in self._rebuilds.values()]

    def is_staging(self, state: SeriesState) -> bool:
        """It is one that is pulled again at present."""
        return any(state is staging for staging in self.staging_copies)

    def resume(self, known: Mapping[Series, SeriesState]) -> None:
        """Go on with those that the ledger names."""
        wanted = self._assessor.ledger.series.rebuilds() if self._assessor.ledger.exists else {}
        before, self._rebuilds = self._rebuilds, {}
        for series, state in list(known.items()):  # one whose file is gone is forgotten
            since, _ = wanted.get(str(series), (None, ""))
            state.is_rebuilding = since is not None
            if since is not None:
                with self._one(state):
                    self._resume(state, since, before.get(series))

    def _resume(self, state: SeriesState, since: int, before: Rebuild | None) -> None:
        staging = before.staging if before is not None else self._make_staging(state, since)
        if staging.instrument != state.instrument:
            self._remove_staging(state.series)
            staging = self._make_staging(state, since)
        self._rebuilds[state.series] = Rebuild(state, staging)
        self._assess(staging)

    def begin(self, state: SeriesState, why: str) -> None:
        """Pull a whole series again; nothing is left of an earlier attempt."""
        if state.first is None:
            return
        log.warning("%s: %s: the series is pulled again", state.series, why)
        self._assessor.ledger.series.keep_rebuild(state.series, state.first, why)
        self._remove_staging(state.series)
        state.is_rebuilding = True
        state.standing = state.standing.set_aside()
        staging = self._make_staging(state, state.first)
        self._rebuilds[state.series] = Rebuild(state, staging)
        self._assess(staging)

    def finish(self, staging: SeriesState) -> None:
        """Put a series that is whole again into the place of the old one, and keep that.

        StoreUnwritable: nothing has changed.
        """
        rebuild = self._rebuilds[staging.series]
        self._assess(rebuild.state)
        if rebuild.state.is_blocked or rebuild.state.standing.retry_at > self._clock():
            return  # its file could not be looked at
        if not self._owner.is_tracked(rebuild.state) or not rebuild.state.is_owned:
            self._leave(staging, "somebody has changed the file meanwhile")
            return
        if staging.coverage is None or staging.coverage.fillable or _lacks(rebuild):
            return
        stamp = f"{datetime.fromtimestamp(self._clock(), UTC):%Y%m%dT%H%M%SZ}"
        kept = self._assessor.main_store.take_staged(staging.series, stamp)
        self._assessor.ownership.note_swapped(rebuild.state)
        rebuild.state.succeeded()
        self._end(rebuild)
        log.warning("%s: pulled again; the old file is %s", staging.series, kept)

    def give_up(self, staging: SeriesState, why: str) -> None:
        """Leave the series as it is, and ask for nothing of it for a while that grows.

        What would be told now is not what its file has.
        """
        state, left = self._leave(staging, why)
        state.failed(left, self._clock(), _AGAIN_S)

    def _leave(self, staging: SeriesState, why: str) -> tuple[SeriesState, RequestFailed]:
        """Leave the series as it is, and say why."""
        rebuild = self._rebuilds[staging.series]
        self._remove_staging(staging.series)
        self._end(rebuild)
        left = RequestFailed(
            f"it was to be pulled again, but {why}: it is left as it is",
            hint="nothing to do: it is compared again later",
        )
        self._owner.report(str(staging.series), left)
        return rebuild.state, left

    def _end(self, rebuild: Rebuild) -> None:
        """The series is kept in its own file again."""
        self._assessor.ledger.series.end_rebuild(rebuild.state.series)
        self._rebuilds.pop(rebuild.state.series, None)
        rebuild.state.is_rebuilding = False
        self._assess(rebuild.state)

    def _make_staging(self, state: SeriesState, since: int) -> SeriesState:
        """The series once more, in a file of its own that begins empty, in the old one's layout."""
        store = self._assessor.main_store
        store.begin_staging(state.series)
        return SeriesState(state.series, state.instrument, store.staging, rebuilds_from=since)

    def _remove_staging(self, series: Series) -> None:
        (self._assessor.main_store.staging.folder / series.file_name).unlink(missing_ok=True)


def _lacks(rebuild: Rebuild) -> bool:
    """Where the old file has bars the new one has none yet, though they may come."""
    old, staging = rebuild.state, rebuild.staging
    assert staging.coverage is not None
    doubted = staging.coverage.gaps.of(Reason.LATE, Reason.UNPROVEN)
    there = old.store.contents(old.series, min(old.first or 0, 0)).starts
    begin = np.searchsorted(there, doubted.first)
    end = np.searchsorted(there, doubted.last, side="right")
    return bool((begin < end).any())
