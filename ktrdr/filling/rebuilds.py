"""Rebuilds of whole series in staging copies, as after a split. Sends no requests."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import numpy as np

from ktrdr.assessment.assessment import Assessor
from ktrdr.assessment.series_state import SeriesState
from ktrdr.completeness.gaps import Reason
from ktrdr.errors import KtrdrError, RequestFailed
from ktrdr.filling.tasks import Task
from ktrdr.market.bars import Answer
from ktrdr.market.instruments import Series
from ktrdr.market.timeframes import DAY_S, HOUR_S

log = logging.getLogger("gap-filler")

_AGAIN_S = (HOUR_S, 6 * HOUR_S, DAY_S, 3 * DAY_S, 7 * DAY_S)
"""How soon a series may be rebuilt again: it requests all of its bars each time."""


class Owner(Protocol):
    """Who tracks the series, compares the clocks, and receives reports of problems."""

    @property
    def clocks_agree(self) -> bool:
        """Neither this machine's clock nor the gateway's is known to be wrong."""

    def is_tracked(self, state: SeriesState) -> bool:
        """Whether the series is still there."""

    def forget(self, state: SeriesState) -> None:
        """Its file is gone."""

    def answered(self, task: Task, answer: Answer, revised: Sequence[int]) -> None:
        """Note IB's answer to a request for missing bars; `revised`: the starts of revised bars."""

    def report(self, what: str, error: KtrdrError) -> None:
        """Report a problem with one thing, such as a series."""


@dataclass(frozen=True)
class Rebuild:
    """One series that is being rebuilt."""

    state: SeriesState
    """The series with its old file, which is left alone until then."""
    staging: SeriesState
    """The staging copy, in a file of its own."""


class Rebuilds:
    """The rebuilds of one store. For one thread."""

    def __init__(
        self,
        assessor: Assessor,
        clock: Callable[[], float],
        owner: Owner,
        assess: Callable[[SeriesState], None],
        one: Callable[[SeriesState], AbstractContextManager[None]],
    ) -> None:
        """`assess`: assess a series again; what cannot be read is reported.

        `one`: attributes any failure inside to that series, and reports it.
        """
        self._assessor = assessor
        self._clock = clock
        self._owner = owner
        self._assess = assess
        self._one = one
        self._rebuilds: dict[Series, Rebuild] = {}

    @property
    def staging_copies(self) -> list[SeriesState]:
        """The staging copies of all series that are being rebuilt."""
        return [rebuild.staging for rebuild in self._rebuilds.values()]

    def is_staging(self, state: SeriesState) -> bool:
        """It is the staging copy of a series that is being rebuilt."""
        return any(state is staging for staging in self.staging_copies)

    def resume(self, known: Mapping[Series, SeriesState]) -> None:
        """Continue the rebuilds that the ledger names."""
        wanted = self._assessor.ledger.series.rebuilds() if self._assessor.ledger.exists else {}
        before, self._rebuilds = self._rebuilds, {}
        for series, state in list(known.items()):  # a series whose file is gone is forgotten
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
        """Rebuild a whole series from the start; an earlier attempt is discarded."""
        if state.first is None:
            return
        log.warning("%s: %s: rebuilding the series", state.series, why)
        self._assessor.ledger.series.keep_rebuild(state.series, state.first, why)
        self._remove_staging(state.series)
        state.is_rebuilding = True
        state.error_state = state.error_state.cleared()
        staging = self._make_staging(state, state.first)
        self._rebuilds[state.series] = Rebuild(state, staging)
        self._assess(staging)

    def finish(self, staging: SeriesState) -> None:
        """Replace the old file by the rebuilt series once it is complete, and keep the old one.

        StoreUnwritable: nothing has changed.
        """
        rebuild = self._rebuilds[staging.series]
        self._assess(rebuild.state)
        if rebuild.state.is_blocked or rebuild.state.error_state.retry_at > self._clock():
            return  # its file could not be assessed
        if not self._owner.is_tracked(rebuild.state) or not rebuild.state.is_owned:
            self._leave(staging, "the file was changed in the meantime")
            return
        if staging.coverage is None or staging.coverage.fillable or _is_missing_bars(rebuild):
            return
        kept = self._replace(rebuild.state)
        rebuild.state.succeeded()
        self._end(rebuild)
        log.warning("%s: rebuilt; the old file is %s", staging.series, kept)

    def _replace(self, state: SeriesState) -> Path:
        """Replace the old file, and record that; returns where the old one is kept."""
        store, records, now = self._assessor.main_store, self._assessor.ledger, self._clock()
        _, why = records.series.rebuilds().get(str(state.series), (None, ""))
        stamp = f"{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%SZ}"
        kept = store.take_staged(state.series, stamp, state.key)
        self._assessor.ownership.note_swapped(state)
        place = kept.relative_to(store.folder).as_posix()
        records.revisions.record_rebuild(state.series, why, place, int(now))
        return kept

    def give_up(self, staging: SeriesState, why: str) -> None:
        """Leave the series as it is, and request none of its bars for a growing time.

        The bars that IB returns now would not match its file.
        """
        state, left = self._leave(staging, why)
        state.failed(left, self._clock(), _AGAIN_S)

    def _leave(self, staging: SeriesState, why: str) -> tuple[SeriesState, RequestFailed]:
        """Leave the series as it is, and report why."""
        rebuild = self._rebuilds[staging.series]
        self._remove_staging(staging.series)
        self._end(rebuild)
        left = RequestFailed(
            f"the rebuild was given up: {why}; the file is left as it is",
            hint="nothing to do: it is compared again later",
        )
        self._owner.report(str(staging.series), left)
        return rebuild.state, left

    def _end(self, rebuild: Rebuild) -> None:
        """Fill the series in its own file again."""
        self._assessor.ledger.series.end_rebuild(rebuild.state.series)
        self._rebuilds.pop(rebuild.state.series, None)
        rebuild.state.is_rebuilding = False
        self._assess(rebuild.state)

    def _make_staging(self, state: SeriesState, since: int) -> SeriesState:
        """An empty staging copy of the series, with the layout of the old file."""
        store = self._assessor.main_store
        store.begin_staging(state.series)
        return SeriesState(state.series, state.instrument, store.staging, rebuilds_from=since)

    def _remove_staging(self, series: Series) -> None:
        (self._assessor.main_store.staging.folder / series.file_name).unlink(missing_ok=True)


def _is_missing_bars(rebuild: Rebuild) -> bool:
    """The staging copy is missing bars that the old file has, and IB may still return them."""
    old, staging = rebuild.state, rebuild.staging
    assert staging.coverage is not None
    unverified = staging.coverage.gaps.of(Reason.LATE, Reason.UNPROVEN)
    there = old.store.contents(old.series, min(old.first or 0, 0)).starts
    begin = np.searchsorted(there, unverified.first)
    end = np.searchsorted(there, unverified.last, side="right")
    return bool((begin < end).any())
