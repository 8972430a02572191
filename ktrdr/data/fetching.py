"""Asks ib-connection for what a series lacks in a span of time. Writes nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np

from ktrdr.config import Settings
from ktrdr.data.bar_store import BarStore
from ktrdr.data.local_api import (
    LocalClient,
    answer_from_json,
    request_to_query,
    schedule_from_json,
)
from ktrdr.errors import KtrdrError, WrongSource
from ktrdr.planning.bars import Answer, Bar
from ktrdr.planning.gaps import Gap, missing
from ktrdr.planning.instruments import Instrument, Series
from ktrdr.planning.pacing import Priority
from ktrdr.planning.requests import BarsRequest, plan
from ktrdr.planning.sessions import Int64Array, expected, finished, learnt_alignment
from ktrdr.planning.timeframes import DAY_S, Timeframe

Progress = Callable[[int, int], None]
"""Hears how many requests are answered, and how many there are."""

_PATIENCE_S = 10.0
"""Somebody sits before the screen: no waiting for a gateway that restarts."""
ALWAYS = (-(2**62), 2**62)
"""A span of all times (UTC seconds)."""
_NO_STARTS = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class Found:
    """Bars that were fetched, and whether that was all that is missing."""

    bars: list[Bar] = field(default_factory=list)
    complete: bool = True
    why: str = ""
    until: float = math.inf
    """Of what was due later nothing is known (UTC seconds)."""


class Fetching:
    """Through the one connection that there is."""

    def __init__(self, settings: Settings, store: BarStore) -> None:
        self._settings = settings
        self._store = store
        self._connection = LocalClient(settings.connection_socket, "ib-connection")

    def fetch(
        self,
        series: Series,
        instrument: Instrument,
        present: Int64Array | None,
        span: tuple[int, int],
        progress: Progress | None = None,
    ) -> Found:
        """The finished bars of a span that are not `present`; None: there is no such file.

        A failure is no error: it says why not all was found.
        """
        now = int(datetime.now(UTC).timestamp())
        there = _NO_STARTS if present is None else present
        first = span[0] if span[0] > ALWAYS[0] else self._default_start(there, now)
        until = min(span[1], now)
        bars: list[Bar] = []
        unsound = 0
        try:
            due, requests = _NO_STARTS, list[BarsRequest]()
            if first < until:
                due, requests = self._lacking(series, instrument, there, (first, until), now)
            for count, request in enumerate(requests):
                if progress is not None:
                    progress(count, len(requests))
                answer = self._ask(request)
                bars += finished(answer.bars, due, series.timeframe, now)
                unsound += len(answer.unsound)
            if progress is not None:
                progress(len(requests), len(requests))
        except KtrdrError as error:
            return Found(bars, complete=False, why=error.message)
        if unsound:
            return Found(bars, complete=False, why=f"IB sent {unsound} bars that cannot be true")
        return Found(bars)

    def _default_start(self, present: Int64Array, now: int) -> int:
        """From the file's first bar on, or for as many days as the gap filler keeps complete."""
        kept = now - self._settings.ktrdr_gap_max_age_days * DAY_S
        return min(kept, int(present[0])) if len(present) else kept

    def _lacking(
        self,
        series: Series,
        instrument: Instrument,
        present: Int64Array,
        span: tuple[int, int],
        now: int,
    ) -> tuple[Int64Array, list[BarsRequest]]:
        """The bars that should be there by now, and the requests for those that are not."""
        start, end = span
        query = request_to_query(instrument, None, start, end)
        schedule = schedule_from_json(self._connection.get("/sessions", 120.0, **query))
        in_fours = series.timeframe is Timeframe.H4
        alignment = learnt_alignment(schedule, present.tolist() if in_fours else [])
        due = expected(schedule, series.timeframe, start, end, now, alignment=alignment).starts
        gaps = missing(due, present, _NO_STARTS)
        if in_fours and not alignment:
            gaps = [Gap(start, end - 1, 0)]  # where they begin is not known before IB says so
        return due, plan(gaps, instrument, series.timeframe)

    def _ask(self, request: BarsRequest) -> Answer:
        query = request_to_query(request.instrument, request.timeframe, request.start, request.end)
        patience_s = request.timeout_s + _PATIENCE_S
        said = self._connection.get(
            "/bars",
            patience_s + 10,
            patience_s=f"{patience_s:g}",
            priority=Priority.INTERACTIVE.name.lower(),
            **query,
        )
        owner = self._store.source()
        if owner is not None and said.get("gateway") != owner:
            raise WrongSource(f"the store holds {owner} bars, the gateway is {said.get('gateway')}")
        return answer_from_json(said)
