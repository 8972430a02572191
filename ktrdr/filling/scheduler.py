"""Asks for what series lack, and sees to what comes back. Which series, and when, others say.

Sessions first, then bars; a control where an answer proves too little; now and then a look
whether what is stored is still what IB tells.
"""

from __future__ import annotations

import contextlib
import logging
import random
import re
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import Enum, auto
from functools import partial
from typing import Any

import numpy as np

from ktrdr.errors import (
    KtrdrError,
    NotConnected,
    OtherContract,
    OtherUnit,
    PeerDown,
    PeerSilent,
    RequestFailed,
    TimedOut,
    WrongSource,
)
from ktrdr.filling.assessment import Watch
from ktrdr.filling.gaps import Gap, Reason
from ktrdr.filling.holidays import closed_days
from ktrdr.filling.identity import COMPARED, Identity, Likeness, likeness
from ktrdr.filling.ingest import Books, is_other, is_whole, stored
from ktrdr.filling.rebuilds import Owner, Renewals
from ktrdr.filling.report import iso
from ktrdr.filling.request_plan import Spans, plan
from ktrdr.filling.revisions import Drift, compare
from ktrdr.filling.series_state import Watched
from ktrdr.filling.tasks import Errands
from ktrdr.filling.throughput import Eta, Throughput
from ktrdr.ipc.client import LocalClient
from ktrdr.ipc.codec import answer_from_json, read_json, request_to_query, schedule_from_json
from ktrdr.market.bars import Answer, Bar
from ktrdr.market.bars_request import BarsRequest, Priority
from ktrdr.market.instruments import Instrument, Series, contract_name
from ktrdr.market.sessions import Schedule
from ktrdr.market.timeframes import DAY_S, HOUR_S, Timeframe
from ktrdr.store.file_errors import is_of_the_disk, unwritable

log = logging.getLogger("gap-filler")

AT_ONCE = 48
"""Questions under way: the connection process says which goes when."""

_SCHEDULE_S, _SCHEDULE_A_YEAR_S = 400.0, 40.0
"""How long the sessions of a contract may take, and for each year more."""
_SHORT_S = 200.0
"""How long a small answer may take, with the loss and the return of the connection."""
_HEARD_FOR_S = 0.5
"""So long answers are seen to before anything else is: many large ones can be there at once."""
_REQUESTS_A_SERIES = 8
"""At a time; the rest of a long history is for the next ones, so that nobody waits for it."""
_HEAD_AGAIN_S = 30 * DAY_S
_CHECK_EVERY_S = DAY_S
_CHECK_OLDER_S = 7 * DAY_S
_CHECK_BARS = 60
_CHECKS_AT_ONCE = 5
_SETTLED_S = 18 * HOUR_S
"""After the end of its UTC day a daily bar is what it stays: settlements come hours later."""
_COMPARED_S = HOUR_S
"""So long after some of a series was compared what touches none of it may be asked for."""
_TOUCH_S = 4 * DAY_S
"""What is nearer to stored bars brings some of them along, over a long weekend too."""
_CONTROL_DAYS = 40
MISTAKE_HINT = "it is tried again; please report it, with what gap-filler's log says of it"
"""What a person can do about a mistake of ours."""


class Kind(Enum):
    """What an errand is for."""

    SESSIONS = auto()
    HEAD = auto()
    FILL = auto()
    CONTROL = auto()
    """Is anything answered of this series? Else what an answer lacks is not absent."""
    CHECK = auto()
    """Is what is stored what IB tells now?"""
    LIKENESS = auto()
    """The symbol is another contract by now: are its bars those that are stored?"""
    AROUND = auto()
    """The same near bars that are told otherwise: are these alone, or are all of the series?"""


@dataclass(frozen=True, eq=False)
class Errand:
    """One question, for one series or for several of a contract."""

    kind: Kind
    series: tuple[Watched, ...]
    asked_at: int
    """UTC seconds."""
    sent_at: float
    """By a clock that only moves forward."""
    request: BarsRequest | None = None
    gaps: tuple[Gap, ...] = field(default=())
    """What a control is about, or what nothing is written of until it is known."""

    @property
    def key(self) -> tuple[BarsRequest | None, float]:
        """No other one has it."""
        return self.request, self.sent_at

    @property
    def watched(self) -> Watched:
        """The only series, or the first."""
        return self.series[0]


@dataclass(frozen=True)
class ToldOfContract:
    """What an answer for the sessions of a contract says."""

    schedule: Schedule
    last_trade_date: str
    """`YYYYMMDD` or `YYYYMM`, or empty."""
    identity: Identity | None
    """Which contract it is; None: that was not told."""
    closed: frozenset[int] | None
    """Days without trading by a calendar that is not IB's (UTC midnights); None: it was not asked.
    """


class Filling:
    """One thread's; others only ask for it."""

    def __init__(
        self,
        connection: LocalClient,
        watch: Watch,
        executor: Executor,
        clock: Callable[[], float],
        owner: Owner,
        check_interval_s: float,
    ) -> None:
        self._connection = connection
        self._watch = watch
        self._clock = clock
        self._owner = owner
        self._books = Books(watch, owner.report, check_interval_s / 2)
        self._errands: Errands[Errand] = Errands(executor, AT_ONCE)
        self._throughput = Throughput()
        self._spans: Spans | None = None
        self._source = ""
        self._renewals = Renewals(watch, clock, owner, self.look_at, self._one)
        self._to_check: deque[tuple[Watched, str]] = deque()
        self.failed = self.bars_added = 0
        """Requests for bars that failed, and bars that were written, since the start."""
        self.heard = 0
        """Answers that have come back, of whatever kind."""

    @property
    def has_room(self) -> bool:
        """More may be asked."""
        return self._errands.room > 0

    @property
    def is_busy(self) -> bool:
        """Answers are under way."""
        return len(self._errands) > 0

    @property
    def current(self) -> tuple[str, ...]:
        """Series that are asked for."""
        asked = [e for e in self._errands.under_way if e.kind not in (Kind.CHECK, Kind.AROUND)]
        return tuple(dict.fromkeys(str(w.series) for e in asked for w in e.series))

    @property
    def renewals(self) -> Collection[Watched]:
        """Series that are pulled again, beside their own files."""
        return self._renewals.shadows

    def is_asking_for(self, watched: Watched) -> bool:
        """Something about this series is under way."""
        return any(watched in errand.series for errand in self._errands.under_way)

    @property
    def spans(self) -> dict[Series, list[tuple[int, int]]]:
        """The spans that are asked for, but for those of series that are pulled again."""
        found: dict[Series, list[tuple[int, int]]] = {}
        for errand in self._errands.under_way:
            if errand.request and errand.kind is Kind.FILL and errand.watched.renews_from is None:
                span = (errand.request.start, errand.request.end)
                found.setdefault(errand.watched.series, []).append(span)
        return found

    def allow(self, at_once: int) -> None:
        """So many requests may be under way at IB."""
        self._throughput.allow(at_once)

    def eta(self, missing: Mapping[Timeframe, int], unknown: Mapping[Timeframe, int]) -> Eta | None:
        """How long so many bars will take, and what series lack that nobody has looked at yet.

        None while that cannot be known.
        """
        return self._throughput.left(missing, unknown, time.monotonic())

    def close(self) -> None:
        """Wait for what is under way."""
        self._errands.close()

    # Asking.

    def begin(self, batch: list[Watched], source: str) -> None:
        """Ask for what these series lack; first for the sessions of those that want them."""
        self._source = source
        now = int(self._clock())
        lacking: dict[str, list[Watched]] = {}
        for watched in batch:
            watched.tried_at = self._clock()
            with self._one(watched):
                if self._watch.wants_schedule(watched, now):
                    lacking.setdefault(contract_name(watched.instrument), []).append(watched)
                else:
                    self.look_at(watched)
                    self._ask_for_bars(watched, len(batch))
        for same in lacking.values():
            with self._one(*same):
                self._ask_for_sessions(same, now)

    def _ask_for_sessions(self, same: list[Watched], now: int) -> None:
        """Those of a contract, for all of its series."""
        instrument = same[0].instrument
        start = self._watch.schedule_from(same, now)
        is_doubted = self._watch.has_doubted_sessions(instrument)
        self._send(
            Errand(Kind.SESSIONS, tuple(same), now, time.monotonic()),
            partial(self._sessions, instrument, start, now, is_doubted),
        )

    def plan_checks(self, series: Iterable[Watched]) -> None:
        """Find what is complete, and should be compared with what IB tells now."""
        self._to_check = deque()
        for watched in list(series):  # one whose file is gone is forgotten
            with self._one(watched):
                if (what := self._due_check(watched, int(self._clock()))) is not None:
                    self._to_check.append((watched, what))

    @property
    def wants_check(self) -> bool:
        """Something should be compared, and there is nothing else to do."""
        return not self.is_busy and bool(self._to_check)

    def begin_checks(self, source: str) -> None:
        """Compare a few of them."""
        self._source = source
        now = int(self._clock())
        for _ in range(min(_CHECKS_AT_ONCE, len(self._to_check))):
            watched, what = self._to_check.popleft()
            if not self._owner.is_watched(watched) or not watched.may_be_asked_for(now):
                continue
            with self._one(watched):
                self._watch.ledger.note_look(watched.series, what, now)
                request = self._check_request(watched, what, now)
                if request is not None:
                    self._send_for_bars(Kind.CHECK, watched, request, Priority.BACKFILL)

    def renew(self, known: Mapping[Series, Watched]) -> None:
        """Go on with the series that are being pulled again; after a restart too."""
        self._renewals.resume(known)
        for shadow in self._renewals.shadows:
            with self._one(shadow):
                self._finish_renewal(shadow)

    def _finish_renewal(self, watched: Watched) -> None:
        if self._renewals.is_shadow(watched) and not self.is_asking_for(watched):
            self._renewals.finish(watched)

    def _ask_for_bars(self, watched: Watched, sharers: int) -> None:
        """The requests for what is open of a series.

        After a failure for one gap alone, another one each time: one that always fails shall hold
        up no other, and who never answers shall hold no more than one place.
        """
        if not watched.may_be_asked_for(self._clock()) or not self._owner.is_watched(watched):
            return
        if self._watch.question_of(watched) is not None:
            self._ask_whether_alike(watched)
            return
        if watched.coverage is None:
            return
        most = max(_REQUESTS_A_SERIES, self._errands.room // max(sharers, 1))
        now = int(self._clock())
        gaps = watched.coverage.open_gaps
        if watched.failures and gaps:
            gaps, most = [gaps[-1 - (watched.failures - 1) % len(gaps)]], 1
        wanted = plan(
            gaps,
            watched.instrument,
            watched.series.timeframe,
            self._known_spans(),
        )
        if not now - _COMPARED_S <= watched.compared_at <= now:
            wanted = self._touching(watched, wanted) or wanted
        for request in wanted[:most]:
            self._send_for_bars(Kind.FILL, watched, request, self._priority(watched, request, now))

    def _touching(self, watched: Watched, wanted: list[BarsRequest]) -> list[BarsRequest]:
        """Those whose answers will bring stored bars along, so that these are compared first.

        What comes alone would be written though all is told in another unit by now.
        """
        if watched.first is None or len(wanted) < 2:
            return wanted
        oldest = min(request.start for request in wanted)
        there = watched.store.look(watched.series, oldest - _TOUCH_S).starts
        spans = [(request.start - _TOUCH_S, request.end + _TOUCH_S) for request in wanted]
        counts = [end - begin for begin, end in np.searchsorted(there, spans).tolist()]
        return [request for request, count in zip(wanted, counts, strict=True) if count]

    def _priority(self, watched: Watched, request: BarsRequest, now: int) -> Priority:
        if watched.renews_from is not None:
            return Priority.BACKFILL
        if watched.last is not None and request.start > watched.last:
            return Priority.TAIL
        is_recent = request.end > now - _CONTROL_DAYS * DAY_S
        return Priority.RECENT if is_recent else Priority.BACKFILL

    def _send_for_bars(
        self,
        kind: Kind,
        watched: Watched,
        request: BarsRequest,
        priority: Priority,
        gaps: tuple[Gap, ...] = (),
    ) -> None:
        errand = Errand(kind, (watched,), int(self._clock()), time.monotonic(), request, gaps)
        if kind is Kind.FILL:
            bars = _missing_in(watched, request)
            self._throughput.sent(errand.key, request.timeframe, bars, errand.sent_at)
        self._send(errand, partial(self._bars, request, priority))

    def _send(self, errand: Errand, ask: Callable[[], object]) -> None:
        self._errands.send(errand, ask)

    # In the asking threads.

    def _sessions(
        self, instrument: Instrument, start: int, end: int, is_doubted: bool
    ) -> ToldOfContract:
        query = request_to_query(instrument, None, start, end)
        timeout_s = _SCHEDULE_S + _SCHEDULE_A_YEAR_S * (end - start) / (365 * DAY_S)
        said = self._connection.get("/sessions", timeout_s, **query)
        identity = _identity(said)
        exchange = identity.exchange if identity else ""
        return ToldOfContract(
            schedule_from_json(said),
            str(said.get("last_trade_date") or ""),
            identity,
            closed_days(exchange, start, end) if is_doubted else None,
        )

    def _head(self, instrument: Instrument) -> object:
        now = int(self._clock())
        query = request_to_query(instrument, None, now - DAY_S, now)
        return self._connection.get("/head", _SHORT_S, **query).get("head")

    def _bars(self, request: BarsRequest, priority: Priority) -> bytes:
        query = request_to_query(request.instrument, request.timeframe, request.start, request.end)
        query["priority"] = priority.name.lower()
        # The connection process gives up first.
        return self._connection.text("/bars", 10 + request.patience_s, **query)

    # Hearing.

    def hear(self, wait_s: float) -> KtrdrError | None:
        """See to what has come back; the first is waited for so long.

        Not for long: what is still to be seen to stays under way, and others have their turn. The
        error when there is no connection any more: what has come beside it is kept. So it is where
        the store as a whole refuses, which is raised.
        """
        lost: KtrdrError | None = None
        refused: Exception | None = None
        if not self.is_busy:
            self._throughput.idle()
            return None
        until: float | None = None
        while back := self._errands.back(wait_s, most=1):
            ((errand, done),) = back
            until, wait_s = until or time.monotonic() + _HEARD_FOR_S, 0.0
            self.heard += 1
            try:
                self._see_to(errand, done)
            except (PeerDown, NotConnected) as error:
                lost = error
            except (WrongSource, OSError, sqlite3.Error) as error:
                refused = error
            finally:
                self._throughput.ended(errand.key)
            if time.monotonic() >= until:
                break
        self._throughput.look(time.monotonic())
        if refused is not None:
            raise refused
        if lost is not None:
            for errand in self._errands.give_up_waiting():
                self._throughput.ended(errand.key)
        return lost

    def _see_to(self, errand: Errand, done: Future[object]) -> None:
        known = tuple(one for one in errand.series if self._may_be_seen_to(one))
        if not known:
            return  # their files were removed or broken meanwhile
        errand = replace(errand, series=known)
        with self._one(*known):
            match errand.kind:
                case Kind.SESSIONS:
                    self._take_sessions(errand, done.result())
                case Kind.HEAD:
                    self._take_head(errand, done.result())
                case Kind.FILL:
                    self._take_bars(errand, done)
                case Kind.CONTROL:
                    self._take_control(errand, self._answer(errand, done))
                case Kind.CHECK | Kind.AROUND:
                    self._take_check(errand, self._answer(errand, done))
                case Kind.LIKENESS:
                    self._take_likeness(errand, self._answer(errand, done))

    def _may_be_seen_to(self, watched: Watched) -> bool:
        return self._owner.is_watched(watched) and not watched.is_blocked

    def _answer(self, errand: Errand, done: Future[Any]) -> Answer:
        """What IB has answered: read only now, since each is large, and many are under way."""
        said = read_json(done.result())
        if said.get("gateway") != self._source:
            raise WrongSource(
                f"the gateway has become {said.get('gateway')}",
                hint="set KTRDR_DATA_DIR to another folder, or IB_HOST to the right gateway; then "
                "./scripts/up",
            )
        self._throughput.answered(errand.key, int(said.get("at_once") or 1), time.monotonic())
        return answer_from_json(said)

    @contextlib.contextmanager
    def _one(self, *series: Watched) -> Iterator[None]:
        """What goes wrong with one series, or with those of one contract, is theirs alone.

        It is put back and reported, whatever it was, and the others go on. What is everybody's is
        raised: a lost connection, a disk that is full, a ledger that refuses.
        """
        try:
            yield
        except Exception as error:
            if isinstance(error, FileNotFoundError) and not self._watch.is_there:
                raise
            gone = [one for one in series if isinstance(error, FileNotFoundError) and _is_gone(one)]
            for watched in gone:
                self._forget(watched)
            if gone:
                return
            if _is_everybodys(error):
                raise
            self._put_back(series, self._trouble_with(series[0], error))

    def _put_back(self, series: Iterable[Watched], error: KtrdrError) -> None:
        """Something has gone wrong with these."""
        for watched in series:
            if not (watched.is_blocked and watched.error is error):  # or the watch has noted it
                watched.failed(error, self._clock())
            self._owner.report(str(watched.series), error)

    @staticmethod
    def _trouble_with(watched: Watched, error: Exception) -> KtrdrError:
        if isinstance(error, KtrdrError):
            return error
        if isinstance(error, OSError):
            return unwritable(watched.series.file_name, error)
        log.error("%s: a mistake of ours", watched.series, exc_info=error)
        return RequestFailed(f"a mistake of ours: {error!r}", hint=MISTAKE_HINT)

    def _take_sessions(self, errand: Errand, found: Any) -> None:
        instrument = errand.watched.instrument
        self._watch.take_schedule(errand.series, found.schedule, errand.asked_at, found.closed)
        if (expires := _day(found.last_trade_date)) is not None:
            life = self._watch.life(instrument)._replace(expires=expires)
            self._watch.keep_life(instrument, life)
        for watched in errand.series:
            with self._one(watched):
                self.look_at(watched)
                if found.identity is not None:
                    self._watch.take_identity(watched, found.identity)
                self._ask_for_bars(watched, len(errand.series))

    def _take_head(self, errand: Errand, head: Any) -> None:
        watched = errand.watched
        life = self._watch.life(watched.instrument)
        known, asked_at = None if head is None else int(head), errand.asked_at
        if known is None or not self._watch.head_is_borne_out(watched, known, asked_at):
            known, asked_at = life.head, asked_at - _HEAD_AGAIN_S + DAY_S
        else:
            log.info("%s: IB has bars from %s on", watched.series, iso(known))
        self._watch.keep_life(watched.instrument, life._replace(head=known, head_at=asked_at))
        watched.succeeded()
        self.look_at(watched)

    def _take_bars(self, errand: Errand, done: Future[object]) -> None:
        """Store one answer, and remember what it says IB has not."""
        watched, request = errand.watched, errand.request
        assert request is not None
        span = (request.start, request.end)
        holes = _holes_in(watched, span)
        took_s = time.monotonic() - errand.sent_at
        try:
            answer = self._answer(errand, done)
            if watched.is_renewed:
                return  # and comes once more, with all the others
            taken = self._books.take(
                watched, request, answer, errand.asked_at, is_sure=self._owner.clocks_agree
            )
        except KtrdrError as error:
            self._learn_from(error, request, watched, errand.asked_at)
            raise
        if not taken.is_withheld:
            watched.succeeded()
            watched.compared_at = errand.asked_at
        self._learn_spans(request, took_s)
        self.bars_added += taken.added
        self.look_at(watched)
        log.info(
            "%s: %s to %s: %d bars, %d new",
            *(watched.series, iso(span[0]), iso(span[1]), len(answer.bars), taken.added),
        )
        if taken.drift:
            self._see_to_drift(replace(errand, gaps=tuple(holes)), taken.drift)
        if taken.is_moved:
            self._pull_again(watched, "IB's bars begin at other minutes than those stored")
        if taken.wants_control:
            self._ask_for_control(watched, taken.wants_control, errand.asked_at)
        if not taken.is_withheld:
            self._ask_for_head(watched, request, errand.asked_at)
        self._finish_renewal(watched)

    def _learn_from(
        self, error: KtrdrError, request: BarsRequest, watched: Watched, asked_at: int
    ) -> None:
        self.failed += 1
        self._watch.ledger.refused(
            watched.series, request.start, request.end, asked_at, error.outcome, error.code
        )
        if isinstance(error, TimedOut) and self._known_spans().failed(request):
            self._watch.ledger.keep_spans(self._known_spans().days)

    def _learn_spans(self, request: BarsRequest, took_s: float) -> None:
        if self._known_spans().answered(request, took_s):
            self._watch.ledger.keep_spans(self._known_spans().days)

    def _known_spans(self) -> Spans:
        if self._spans is None:
            self._spans = Spans(self._watch.ledger.spans())
        return self._spans

    # Absence.

    def _ask_for_head(self, watched: Watched, request: BarsRequest, now: int) -> None:
        """IB's first bar, where an answer begins later than what was asked for."""
        life = self._watch.life(watched.instrument)
        is_short = watched.first is None or watched.first > request.start
        lacks = watched.coverage is not None and Reason.UNPROVEN in watched.coverage.holes
        is_known = life.head_at is not None and now - life.head_at <= _HEAD_AGAIN_S
        is_asked = any(
            errand.kind is Kind.HEAD and errand.watched.instrument == watched.instrument
            for errand in self._errands.under_way
        )
        if is_short and lacks and not is_known and not is_asked:
            self._send(
                Errand(Kind.HEAD, (watched,), now, time.monotonic()),
                partial(self._head, watched.instrument),
            )

    def _ask_for_control(self, watched: Watched, gaps: tuple[Gap, ...], now: int) -> None:
        """Something of the same series that IB should have, near what it says it has not.

        Where nothing is known that it has, what it lacks is not believed at all.
        """
        known = self._books.nearest_known(watched, gaps[-1], now)
        if known is None:
            return
        timeframe = watched.series.timeframe
        control = BarsRequest(watched.instrument, timeframe, known, known + timeframe.length_s)
        self._send_for_bars(Kind.CONTROL, watched, control, Priority.RECENT, gaps)

    def _take_control(self, errand: Errand, answer: Any) -> None:
        watched, request = errand.watched, errand.request
        assert request is not None
        is_there = any(bar.start == request.start for bar in answer.bars)
        if is_there and self._owner.clocks_agree:
            self._books.believe_absent(watched, errand.gaps, errand.asked_at)
        elif not is_there:
            raise RequestFailed(
                f"IB has no bar at {iso(request.start)}, where it had one: what it lacks "
                "besides is not taken for absent"
            )
        watched.succeeded()
        self.look_at(watched)
        self._finish_renewal(watched)

    # Another contract.

    def _ask_whether_alike(self, watched: Watched, until: int | None = None) -> None:
        """Compare many bars: the symbol is another contract than before, or may be.

        The newest ones, or those up to a bar (UTC seconds).
        """
        span = self._watch.latest(watched, COMPARED, until)
        is_asked = any(
            errand.kind is Kind.LIKENESS and watched in errand.series
            for errand in self._errands.under_way
        )
        if span is None:
            self._watch.settle_question(watched)
        elif watched.may_be_asked_for(self._clock()) and not is_asked:
            request = BarsRequest(watched.instrument, watched.series.timeframe, *span)
            self._send_for_bars(Kind.LIKENESS, watched, request, Priority.RECENT)

    def _take_likeness(self, errand: Errand, answer: Answer) -> None:
        """Go on where the bars are those that are stored; else stop, and ask a person."""
        watched, known = errand.watched, self._watch.question_of(errand.watched)
        if watched.is_renewed:
            return
        if not self._owner.clocks_agree:
            raise RequestFailed("bars cannot be compared while the clocks are apart")
        told = {bar.start: bar for bar in self._books.comparable(watched, answer)}
        if known is None or known.told is None:
            self._take_prices(errand, told)
            return
        change = f"it was {known.contract.words}, and is {known.told.words}"
        like = likeness(stored(watched, told), told)
        if like is Likeness.OTHER:
            raise OtherContract(
                f"{watched.series.symbol} is another contract at IB than the one whose bars are "
                f"stored: {change}; nothing is asked for, nor written",
                hint="if the old bars should go on with the new contract's, say in "
                f"instruments.toml: con_id = {known.told.con_id}; else move the file away, or "
                f"keep to the old contract: con_id = {known.contract.con_id}",
            )
        self._watch.settle_question(watched)
        watched.succeeded()
        in_ratio = " but for the ratio of a split" if like is Likeness.RATIO else ""
        self._owner.report(
            str(watched.series),
            RequestFailed(
                f"{watched.series.symbol} is another contract at IB: {change}",
                hint=f"nothing to do: its bars are those that are stored{in_ratio}, so it goes on",
            ),
        )
        self.look_at(watched)
        self._ask_for_bars(watched, 1)

    def _take_prices(self, errand: Errand, told: Mapping[int, Bar]) -> None:
        """All prices were told in one ratio, as it seemed: pull the series again if they are.

        Some may be alike: after a split whose older bars alone are told anew.
        """
        watched = errand.watched
        drift = compare(stored(watched, told), told)
        if not told:
            raise RequestFailed("IB has none of the bars that are stored")
        if drift is None:
            raise RequestFailed("IB tells bars otherwise than they are stored, and then alike")
        changed = {bar.start: bar for bar in drift.changed}
        if likeness(stored(watched, changed), changed) is Likeness.RATIO:
            self._renewals.begin(watched, drift.words)
        elif is_other(watched, replace(drift, price=None, volume=None)):
            self._stop_for_other_prices(errand, drift)
        else:
            raise RequestFailed(f"{drift.words}, and before that all in one ratio")

    # Drift.

    def _due_check(self, watched: Watched, now: int) -> str | None:
        """What of a complete series should be compared, `settle` or `sample`; None: nothing."""
        is_complete = watched.coverage is not None and not watched.coverage.closable
        if self._watch.question_of(watched) is not None:
            return None
        if not is_complete or watched.last is None or not watched.may_be_asked_for(now):
            return None
        if self._is_unsettled(watched, now):
            return "settle"
        looked = self._watch.ledger.looked_at(watched.series, "sample")
        if looked is None:  # seen for the first time: tomorrow
            self._watch.ledger.note_look(watched.series, "sample", now)
        return "sample" if looked is not None and now - looked >= _CHECK_EVERY_S else None

    def _is_unsettled(self, watched: Watched, now: int) -> bool:
        """The newest daily bar was written before it was settled, and not looked at since."""
        if not watched.series.timeframe.is_daily or not watched.is_ours or watched.last is None:
            return False
        settled_at = watched.last + DAY_S + _SETTLED_S
        looked = self._watch.ledger.looked_at(watched.series, "settle")
        if looked is None:  # written just now, or long ago
            self._watch.ledger.note_look(watched.series, "settle", now)
            return False
        return looked < settled_at <= now

    def _check_request(self, watched: Watched, what: str, now: int) -> BarsRequest | None:
        """Some bars that are stored: the newest, or old ones by chance; None: there are none."""
        length = watched.series.timeframe.length_s
        if what == "settle":
            if watched.last is None:
                return None
            return BarsRequest(
                watched.instrument, watched.series.timeframe, watched.last, watched.last + length
            )
        until = now - _CHECK_OLDER_S
        if watched.first is None or watched.first >= until:
            return None
        chance = random.Random(f"{watched.series} {now // DAY_S}")  # noqa: S311  no secret
        some = chance.randrange(watched.first, until)
        start = watched.store.nearest(watched.series, some, some)
        if start is None:  # somebody has emptied the file since it was looked at
            self.look_at(watched)
            return None
        end = start + _CHECK_BARS * length
        return BarsRequest(watched.instrument, watched.series.timeframe, start, end)

    def _take_check(self, errand: Errand, answer: Any) -> None:
        watched = errand.watched
        if watched.is_renewed:
            return
        told = {bar.start: bar for bar in self._books.comparable(watched, answer)}
        drift = compare(stored(watched, told), told)
        if drift is not None and (is_whole(watched, drift) or is_other(watched, drift)):
            self._see_to_drift(errand, replace(drift, doubted_at=None))
            return
        watched.succeeded()
        if drift is not None:
            self._see_to_drift(errand, replace(drift, doubted_at=None))
        if errand.kind is Kind.AROUND:
            self._see_to_withheld(watched, errand.gaps)
        self._finish_renewal(watched)

    def _see_to_drift(self, errand: Errand, drift: Drift) -> None:
        """Correct what is ours, a whole series by pulling it again; leave what is others'."""
        watched, is_shadow = errand.watched, self._renewals.is_shadow(errand.watched)
        self._books.notice_others(watched, int(self._clock()))
        if drift.doubted_at is not None:
            self._look_around(watched, drift.doubted_at, errand.gaps)
        elif is_other(watched, drift):
            self._stop_for_other_prices(errand, drift)
        elif not is_whole(watched, drift):
            self._see_to_revision(errand, drift)
        elif not watched.is_ours:
            self._ask_a_person(errand, drift)
        elif drift.price is None or is_shadow or not watched.instrument.can_be_paged:
            self._pull_again(watched, drift.words)
        else:
            self._ask_whether_alike(watched, drift.changed[-1].start)

    def _pull_again(self, watched: Watched, why: str) -> None:
        """The whole series, beside its own file."""
        if self._renewals.is_shadow(watched):
            self._renewals.give_up(watched, "IB tells it otherwise from one answer to the next")
        elif not watched.is_renewed:
            self._renewals.begin(watched, why)

    def _see_to_revision(self, errand: Errand, drift: Drift) -> None:
        """Some bars alone were revised."""
        watched = errand.watched
        if watched.is_ours:
            self._books.correct(watched, drift)
            self.look_at(watched)
            return
        if errand.kind is Kind.AROUND:
            self._books.note_revised(watched, drift)
        self._owner.report(
            str(watched.series),
            RequestFailed(
                f"{drift.words}; the file has rows that were not written here, and is left",
                hint="delete the rows that should be asked for again",
            ),
        )

    def _stop_for_other_prices(self, errand: Errand, drift: Drift) -> None:
        """All that was compared is told at other prices: nothing is written any more."""
        watched, symbol = errand.watched, errand.watched.series.symbol
        if self._renewals.is_shadow(watched):
            self._renewals.give_up(watched, "IB tells it otherwise from one answer to the next")
            return
        error = OtherContract(
            f"{symbol} may be another contract at IB than the one whose bars are stored: all of "
            f"{drift.compared} bars are told at other prices; nothing is written",
            hint="if it is another company now, move the file away; else see whose the stored "
            f"bars are, and say which contract is meant: con_id = … below [{symbol}] in "
            "instruments.toml",
        )
        if errand.kind is Kind.CHECK and not watched.is_ours:  # old rows of others, by chance
            watched.succeeded()
        else:
            watched.failed(error, self._clock())
        self._owner.report(str(watched.series), error)

    def _ask_a_person(self, errand: Errand, drift: Drift) -> None:
        """Nobody else can say what is to become of rows of others that are in another unit.

        What was chosen by chance says nothing of the newest rows: bars behind them are added, as
        long as those are told alike.
        """
        watched = errand.watched
        error = OtherUnit(
            f"{drift.words}; the file has rows that were not written here: it is left, and "
            "nothing is added in another unit",
            hint="bring its rows to what IB tells now, or delete all of them but the header line "
            "to have them asked for again",
        )
        if errand.kind is Kind.CHECK:
            watched.succeeded()
        else:
            watched.failed(error, self._clock())
        self._owner.report(str(watched.series), error)

    def _look_around(self, watched: Watched, start: int, withheld: tuple[Gap, ...]) -> None:
        """Compare more bars, to tell a split from a bar that was revised."""
        timeframe = watched.series.timeframe
        reach = _CHECK_BARS * timeframe.length_s
        request = BarsRequest(watched.instrument, timeframe, start - reach, start + reach)
        self._send_for_bars(Kind.AROUND, watched, request, Priority.RECENT, withheld)

    def _see_to_withheld(self, watched: Watched, gaps: tuple[Gap, ...]) -> None:
        """Nothing of it is in another unit: it is asked for at once, but not again and again."""
        if not self._books.put_off(watched, gaps, int(self._clock())):
            return
        if self._renewals.is_shadow(watched):  # which would seem whole without it
            self._renewals.give_up(watched, "IB tells it otherwise from one answer to the next")
            return
        self.look_at(watched)
        doubted = "IB tells bars otherwise than they are stored, and the next time alike"
        self._owner.report(
            str(watched.series),
            RequestFailed(f"{doubted}: what came with it is left out, and asked for again later"),
        )

    def _forget(self, watched: Watched) -> None:
        """Its file is gone."""
        if self._renewals.is_shadow(watched):
            self._renewals.give_up(watched, "somebody has removed the new file")
        else:
            self._owner.forget(watched)

    def look_at(self, watched: Watched, *, only_if_changed: bool = False) -> None:
        """Judge a series anew; what cannot be read is reported, and left as it is."""
        was_known = watched.coverage is not None
        with self._one(watched):
            now = int(self._clock())
            self._watch.look_at(watched, now, only_if_changed=only_if_changed)
        if watched.coverage is not None and not was_known:
            lacks = sum(gap.bars for gap in watched.coverage.closable)
            self._throughput.found(watched.series.timeframe, lacks)

    def look_back(self, watched: Watched) -> bool:
        """Look at every row of its file, and at what is before the days kept; False: it is done."""
        with self._one(watched):
            return self._watch.look_back(watched, int(self._clock()))
        return True


def _is_everybodys(error: Exception) -> bool:
    """It is a trouble of the connection, or of the store as a whole."""
    if isinstance(error, OSError):
        return is_of_the_disk(error)
    everybodys = isinstance(error, PeerDown | NotConnected | WrongSource | sqlite3.Error)
    return everybodys and not isinstance(error, PeerSilent)


def _is_gone(watched: Watched) -> bool:
    """There is no such file any more."""
    try:
        return watched.store.key(watched.series) is None
    except FileNotFoundError:
        return True
    except Exception:  # noqa: BLE001  what it was is told by who came upon it first
        return False


def _day(text: str) -> int | None:
    """The UTC midnight of `YYYYMMDD`; None: it is no day, such as a month alone."""
    if not re.match(r"\d{8}", text):
        return None
    try:
        return int(datetime.strptime(text[:8], "%Y%m%d").replace(tzinfo=UTC).timestamp())
    except ValueError:
        return None


def _identity(said: Mapping[str, Any]) -> Identity | None:
    """The contract that an answer names; None where it names none."""
    con_id = said.get("con_id")
    if not isinstance(con_id, int) or con_id <= 0:
        return None
    texts = (str(said.get(key) or "") for key in ("exchange", "currency", "local_symbol", "name"))
    return Identity(con_id, *texts)


def _missing_in(watched: Watched, request: BarsRequest) -> int:
    """How many bars of the series are missing, and are asked for by this request."""
    if watched.coverage is None:
        return 0
    return watched.coverage.closable_within(request.start, request.end, request.timeframe.length_s)


def _holes_in(watched: Watched, span: tuple[int, int]) -> list[Gap]:
    """The series' open gaps that reach into `[start, end)`."""
    gaps = watched.coverage.open_gaps if watched.coverage else []
    return [gap for gap in gaps if gap.first < span[1] and gap.last >= span[0]]
