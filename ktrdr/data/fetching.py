"""Requests a series' missing bars in an interval from ib-connection. Writes nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

import numpy as np

from ktrdr.completeness.evidence import Answered, Density, UnprovenAbsences, settle, weigh
from ktrdr.completeness.gaps import Gap, among, missing
from ktrdr.completeness.grids import find_grid, shown
from ktrdr.completeness.lifetime import in_lifetime
from ktrdr.completeness.request_plan import plan
from ktrdr.config.settings import Settings
from ktrdr.errors import KtrdrError, WrongSource
from ktrdr.ipc.bars_message import BarsMessage
from ktrdr.ipc.client import LocalClient
from ktrdr.ipc.query import request_to_query
from ktrdr.ipc.sessions_codec import schedule_from_json
from ktrdr.ledger.reader import absent_of, lifetime_of, sessions_of
from ktrdr.market.bars import Answer, Bar
from ktrdr.market.bars_request import BarsRequest, Priority
from ktrdr.market.instruments import Instrument, Series, contract_name
from ktrdr.market.sessions import (
    Expected,
    Int64Array,
    Schedule,
    Session,
    expected,
    finished,
    learnt_alignment,
)
from ktrdr.market.timeframes import DAY_S, Timeframe
from ktrdr.market.usual_sessions import usual_week
from ktrdr.store.interface import BarStore
from ktrdr.store.source import ledger_path

Progress = Callable[[int, int], None]
"""Called with the number of requests answered, and their total."""

_PATIENCE_S = 10.0
"""Short, since a person is waiting: it does not cover the restart of a gateway."""
ALWAYS = (-(2**62), 2**62)
"""The interval of all times (UTC seconds)."""
_NO_STARTS = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class FetchResult:
    """Fetched bars, and whether nothing is missing now."""

    bars: list[Bar] = field(default_factory=list)
    complete: bool = True
    why: str = ""
    source: str | None = None
    """`live` or `simulated`, as reported by the gateway; None: nothing was fetched."""
    until: float = math.inf
    """Nothing is known of what was due later (UTC seconds)."""


@dataclass(frozen=True)
class _Due:
    """The bars that should exist in an interval, by the accepted sessions."""

    span: tuple[int, int]
    schedule: Schedule
    is_in_doubt: bool
    """IB's sessions miss days that they should have."""
    alignment: frozenset[int]
    bars: Expected
    everything: bool
    """Where bars begin is not known: the whole interval is requested."""


@dataclass
class _Work:
    """The missing bars of one series in an interval, and what was fetched of them."""

    series: Series
    instrument: Instrument
    present: Int64Array
    now: int
    due: _Due
    absent: Int64Array
    """The due bars that IB is known not to have."""
    bars: list[Bar] = field(default_factory=list)
    source: str | None = None
    invalid: int = 0
    odd: str = ""
    """The problem with bars that begin off the grid; empty: there were none."""

    def requests(self) -> list[BarsRequest]:
        """The fewest requests that cover the missing bars."""
        gaps = missing(self.due.bars.starts, self.present, self.absent)
        if self.due.everything:
            gaps = [Gap(self.due.span[0], self.due.span[1] - 1, 0)]
        return plan(gaps, self.instrument, self.series.timeframe)

    def take(self, request: BarsRequest, answer: Answer, source: str) -> None:
        """Process an answer, and note the bars that it alone proves absent."""
        self.source = source
        self.invalid += len(answer.invalid)
        answer, is_odd = self._without_odd(answer)
        done = finished(answer.bars, self.due.bars.starts, self.series.timeframe, self.now)
        self.bars += done
        starts, days = self.due.bars
        requested = (starts >= request.start) & (starts < request.end)
        there = among(starts, np.union1d(self.present, [bar.start for bar in self.bars]))
        verified = among(starts, self.absent)
        received = [bar.start for bar in (*answer.bars, *answer.neighbours)]
        judgement = weigh(
            starts,
            days,
            ~there & ~verified,
            Answered(requested, (min(received), max(received)) if received else None, self.now),
            UnprovenAbsences.none(len(starts)),
            Density(int((there & ~requested).sum()), int((verified & ~requested).sum())),
            agreed=np.isin(days, self.due.schedule.denied),
        )
        if not answer.invalid and not is_odd:
            self.absent = np.union1d(self.absent, starts[judgement.absent])

    def _without_odd(self, answer: Answer) -> tuple[Answer, bool]:
        """The answer without bars that begin off the grid, and whether there were any."""
        schedule, timeframe = self.due.schedule, self.series.timeframe
        received = np.array(
            sorted(bar.start for bar in (*answer.bars, *answer.neighbours)), np.int64
        )
        finding = find_grid(received, schedule, timeframe, self.due.alignment)
        if not finding.odd.any():
            return answer, False
        unlikely = set(received[finding.unlikely(self.present)].tolist())
        kept = [bar for bar in answer.bars if bar.start not in unlikely]
        if finding.minute is not None:
            other = frozenset({finding.minute} - {0})
            seen, usual = (shown(schedule, timeframe, one) for one in (other, self.due.alignment))
            self.odd = f"IB's bars begin at other minutes than expected ({seen}, expected {usual})"
        elif unlikely:
            self.odd = f"IB sent {len(unlikely)} bars that begin at other minutes than the rest"
        return answer._replace(bars=kept), bool(unlikely)

    def why_incomplete(self) -> str:
        """Why it cannot be proven that nothing is missing; empty: it can."""
        if self.odd:
            return self.odd
        if self.invalid:
            return f"IB sent {self.invalid} invalid bars"
        present = np.union1d(self.present, np.array([bar.start for bar in self.bars], np.int64))
        gaps = missing(self.due.bars.starts, present, self.absent)
        if gaps:
            return f"up to {sum(gap.bars for gap in gaps)} bars are missing: IB has not sent them"
        if self.due.is_in_doubt:
            return "IB's sessions miss days on which such contracts are usually traded"
        return ""


class Fetching:
    """Fetches missing bars through the one connection to IB."""

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
    ) -> FetchResult:
        """The finished bars of an interval that are not `present`; None: there is no such file.

        A failure is not raised: the result says why bars are missing.
        """
        now = int(datetime.now(UTC).timestamp())
        there = _NO_STARTS if present is None else present
        first = span[0] if span[0] > ALWAYS[0] else self._default_start(there, now)
        until = min(span[1], now)
        if first >= until:
            return FetchResult()
        try:
            work = self._work(series, instrument, there, (first, until), now)
        except KtrdrError as error:
            return FetchResult(complete=False, why=error.message)
        try:
            requests = work.requests()
            for count, request in enumerate(requests):
                if progress is not None:
                    progress(count, len(requests))
                work.take(request, *self._bars(request))
            if progress is not None:
                progress(len(requests), len(requests))
        except KtrdrError as error:
            return FetchResult(work.bars, complete=False, why=error.message, source=work.source)
        why = work.why_incomplete()
        return FetchResult(work.bars, complete=not why, why=why, source=work.source)

    def _default_start(self, present: Int64Array, now: int) -> int:
        """From the file's first bar on, or for as many days as the gap filler keeps complete."""
        kept = now - self._settings.ktrdr_gap_max_age_days * DAY_S
        return min(kept, int(present[0])) if len(present) else kept

    def _work(
        self,
        series: Series,
        instrument: Instrument,
        present: Int64Array,
        span: tuple[int, int],
        now: int,
    ) -> _Work:
        """From IB's sessions, and from what the gap filler has learnt of them."""
        query = request_to_query(instrument, None, *span)
        received = schedule_from_json(self._connection.get("/sessions", 120.0, **query))
        name = contract_name(instrument)
        path = ledger_path(self._store.folder)
        known, alignment = sessions_of(path, name, series.timeframe)
        if known is not None and (known.start > received.end or received.start > known.end):
            known = None
        usual = usual_week(known, received, instrument.sec_type, now)
        has_bars = partial(_has_bars, present, is_daily=series.timeframe.is_daily)
        settled = settle(known, received, usual, {}, has_bars, now)
        if series.timeframe is Timeframe.H4:
            alignment |= learnt_alignment(settled.schedule, present.tolist())
        found = expected(settled.schedule, series.timeframe, *span, now, alignment=alignment)
        bars = in_lifetime(found, lifetime_of(path, name), series.timeframe)
        due = _Due(
            span,
            settled.schedule,
            settled.is_suspect,
            alignment,
            bars,
            everything=series.timeframe is Timeframe.H4 and not alignment,
        )
        absent = absent_of(path, f"{series} {name}", bars.starts, now)
        return _Work(series, instrument, present, now, due, absent)

    def _bars(self, request: BarsRequest) -> tuple[Answer, str]:
        query = request_to_query(request.instrument, request.timeframe, request.start, request.end)
        patience_s = request.timeout_s + _PATIENCE_S
        message = self._connection.request(
            BarsMessage,
            "GET",
            "/bars",
            patience_s + 10,
            patience_s=f"{patience_s:g}",
            priority=Priority.INTERACTIVE.name.lower(),
            **query,
        )
        owner = self._store.source()
        if owner is not None and message.gateway != owner:
            raise WrongSource(f"the store holds {owner} bars, the gateway is {message.gateway}")
        return message.answer(), str(message.gateway)


def _has_bars(present: Int64Array, session: Session, *, is_daily: bool) -> bool:
    span = (session.day, session.day + 1) if is_daily else (session.open, session.close)
    first, last = np.searchsorted(present, span)
    return bool(first < last)
