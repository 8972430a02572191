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
from ktrdr.assessment.series_state import Watched
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

    def is_watched(self, watched: Watched) -> bool:
        """Whether the series is still there."""

    def forget(self, watched: Watched) -> None:
        """Its file is gone."""

    def report(self, what: str, error: KtrdrError) -> None:
        """Tell of a trouble with one thing, such as a series."""


@dataclass(frozen=True)
class Renewal:
    """A series that is pulled again."""

    watched: Watched
    """As it is, and left alone meanwhile."""
    shadow: Watched
    """As it will be: a file of its own, beside the old one."""


class Renewals:
    """Those of one store. For one thread."""

    def __init__(
        self,
        watch: Assessor,
        clock: Callable[[], float],
        owner: Owner,
        look_at: Callable[[Watched], None],
        one: Callable[[Watched], AbstractContextManager[None]],
    ) -> None:
        """`look_at`: judge a series anew; what cannot be read is reported.

        `one`: what goes wrong within is put to that series, and reported.
        """
        self._watch = watch
        self._clock = clock
        self._owner = owner
        self._look_at = look_at
        self._one = one
        self._renewals: dict[Series, Renewal] = {}

    @property
    def shadows(self) -> list[Watched]:
        """The series as they will be."""
        return [renewal.shadow for renewal in self._renewals.values()]

    def is_shadow(self, watched: Watched) -> bool:
        """It is one that is pulled again at present."""
        return any(watched is shadow for shadow in self.shadows)

    def resume(self, known: Mapping[Series, Watched]) -> None:
        """Go on with those that the ledger names."""
        wanted = self._watch.ledger.series.renewals() if self._watch.ledger.exists else {}
        before, self._renewals = self._renewals, {}
        for series, watched in list(known.items()):  # one whose file is gone is forgotten
            since, _ = wanted.get(str(series), (None, ""))
            watched.is_renewed = since is not None
            if since is not None:
                with self._one(watched):
                    self._resume(watched, since, before.get(series))

    def _resume(self, watched: Watched, since: int, before: Renewal | None) -> None:
        shadow = before.shadow if before is not None else self._shadow(watched, since)
        if shadow.instrument != watched.instrument:
            self._forget_shadow(watched.series)
            shadow = self._shadow(watched, since)
        self._renewals[watched.series] = Renewal(watched, shadow)
        self._look_at(shadow)

    def begin(self, watched: Watched, why: str) -> None:
        """Pull a whole series again; nothing is left of an earlier attempt."""
        if watched.first is None:
            return
        log.warning("%s: %s: the series is pulled again", watched.series, why)
        self._watch.ledger.series.keep_renewal(watched.series, watched.first, why)
        self._forget_shadow(watched.series)
        watched.is_renewed = True
        watched.error = None  # how often it has failed is kept until it is done
        shadow = self._shadow(watched, watched.first)
        self._renewals[watched.series] = Renewal(watched, shadow)
        self._look_at(shadow)

    def finish(self, shadow: Watched) -> None:
        """Put a series that is whole again into the place of the old one, and keep that.

        StoreUnwritable: nothing has changed.
        """
        renewal = self._renewals[shadow.series]
        self._look_at(renewal.watched)
        if renewal.watched.is_blocked or renewal.watched.retry_at > self._clock():
            return  # its file could not be looked at
        if not self._owner.is_watched(renewal.watched) or not renewal.watched.is_ours:
            self._leave(shadow, "somebody has changed the file meanwhile")
            return
        if shadow.coverage is None or shadow.coverage.closable or _lacks(renewal):
            return
        stamp = f"{datetime.fromtimestamp(self._clock(), UTC):%Y%m%dT%H%M%SZ}"
        kept = self._watch.main_store.take_renewed(shadow.series, stamp)
        self._watch.ownership.note_swapped(renewal.watched)
        renewal.watched.succeeded()
        self._end(renewal)
        log.warning("%s: pulled again; the old file is %s", shadow.series, kept)

    def give_up(self, shadow: Watched, why: str) -> None:
        """Leave the series as it is, and ask for nothing of it for a while that grows.

        What would be told now is not what its file has.
        """
        watched, left = self._leave(shadow, why)
        watched.failed(left, self._clock(), _AGAIN_S)

    def _leave(self, shadow: Watched, why: str) -> tuple[Watched, RequestFailed]:
        """Leave the series as it is, and say why."""
        renewal = self._renewals[shadow.series]
        self._forget_shadow(shadow.series)
        self._end(renewal)
        left = RequestFailed(
            f"it was to be pulled again, but {why}: it is left as it is",
            hint="nothing to do: it is compared again later",
        )
        self._owner.report(str(shadow.series), left)
        return renewal.watched, left

    def _end(self, renewal: Renewal) -> None:
        """The series is kept in its own file again."""
        self._watch.ledger.series.end_renewal(renewal.watched.series)
        self._renewals.pop(renewal.watched.series, None)
        renewal.watched.is_renewed = False
        self._look_at(renewal.watched)

    def _shadow(self, watched: Watched, since: int) -> Watched:
        """The series once more, in a file of its own that begins empty, in the old one's layout."""
        store = self._watch.main_store
        store.begin_renewed(watched.series)
        return Watched(watched.series, watched.instrument, store.renewals, renews_from=since)

    def _forget_shadow(self, series: Series) -> None:
        (self._watch.main_store.renewals.folder / series.file_name).unlink(missing_ok=True)


def _lacks(renewal: Renewal) -> bool:
    """Where the old file has bars the new one has none yet, though they may come."""
    old, shadow = renewal.watched, renewal.shadow
    assert shadow.coverage is not None
    doubted = shadow.coverage.gaps.of(Reason.LATE, Reason.UNPROVEN)
    there = old.store.look(old.series, min(old.first or 0, 0)).starts
    begin = np.searchsorted(there, doubted.first)
    end = np.searchsorted(there, doubted.last, side="right")
    return bool((begin < end).any())
