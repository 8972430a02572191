"""A contract and its sessions from IB: facts, SCHEDULE, hours; otherwise the usual sessions."""

from __future__ import annotations

import asyncio
import logging
from asyncio import Future
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date, datetime

from ktrdr.errors import InvalidRequest, RequestFailed, TimedOut, UnknownContract
from ktrdr.ib.candidates import AmbiguousContract, candidate_messages
from ktrdr.ib.contract_facts import ContractFacts
from ktrdr.ib.dispatcher import Requests
from ktrdr.ib.schedules import ReceivedSchedule, read_hours, read_schedule
from ktrdr.ipc.series_messages import CandidateContract, ContractCandidates
from ktrdr.market.bars_request import Priority
from ktrdr.market.instruments import Instrument
from ktrdr.market.sessions import Schedule
from ktrdr.market.timeframes import DAY_S
from ktrdr.market.usual_sessions import by_rules, every_week
from ktrdr.market.zones import zone_of

log = logging.getLogger("ib-connection")

_FACTS_FRESH_S = 3600.0
_PAST_FRESH_S = 60.0
_SCHEDULE_DAYS_MAX = 360
_NAMED_MOST = 5


class ContractSessions:
    """The sessions of all contracts, over one connection. Answers are kept for a short time."""

    def __init__(self, requests: Requests, now: Callable[[], datetime]) -> None:
        self._requests = requests
        self._now = now
        self._facts: dict[Instrument, tuple[float, ContractFacts]] = {}
        self._past: dict[Instrument, tuple[float, Schedule]] = {}
        self._unclear: dict[Instrument, tuple[float, ContractCandidates]] = {}
        """Symbols that stand for no contract, or several."""

    def __repr__(self) -> str:
        return f"<ContractSessions, facts of {len(self._facts)}>"

    async def contract(
        self, instrument: Instrument, priority: Priority = Priority.INTERACTIVE
    ) -> ContractFacts:
        """IB's facts about the instrument's contract, at most an hour old."""
        at, facts = self._facts.get(instrument, (float("-inf"), None))
        requested_at = self._now().timestamp()
        if facts is None or not 0 <= requested_at - at < _FACTS_FRESH_S:
            facts = await self._requests.answered(
                ("contract", instrument),
                instrument,
                lambda client: client.contract(instrument),
                priority=priority,
                is_history=False,
            )
            self._facts[instrument] = (requested_at, facts)
        return facts

    async def candidates(self, instrument: Instrument) -> ContractCandidates:
        """The contracts that the instrument may stand for, as IB knew them a minute ago at most.

        IB refuses identical requests in quick succession. A symbol that it does not know is not
        recorded as refused, since nobody keeps it.
        """
        at, known = self._unclear.get(instrument, (float("-inf"), None))
        now = self._now().timestamp()
        if known is not None and 0 <= now - at < _PAST_FRESH_S:
            return known
        before = {one.symbol for one in self._requests.refused}
        try:
            facts = await self.contract(instrument)
        except UnknownContract as error:
            if instrument.symbol not in before:
                self._requests.forget_refusal(instrument.symbol)
            found = _unclear(instrument, error, self._now().date())
            self._unclear = self._unclear_since(now - _PAST_FRESH_S) | {instrument: (now, found)}
            return found
        return ContractCandidates(instrument.symbol, [_candidate(facts)])

    def _unclear_since(self, since: float) -> dict[Instrument, tuple[float, ContractCandidates]]:
        return {one: found for one, found in self._unclear.items() if found[0] > since}

    async def sessions(
        self,
        instrument: Instrument,
        start: int,
        end: int,
        priority: Priority = Priority.INTERACTIVE,
    ) -> Schedule:
        """The contract's own sessions in `[start, end)`, and those of the coming days.

        The past is IB's SCHEDULE, the coming days are the contract's hours. Callers decide
        whether to trust missing sessions: nothing is kept for longer than a short time.
        """
        until = max(min(end, int(self._now().timestamp())), start + 1)
        requested = asyncio.ensure_future(self.contract(instrument, priority))
        span = (start, until)  # both requests are sent at once
        found = asyncio.ensure_future(self._past_sessions(instrument, requested, span, priority))
        try:
            facts, past = await asyncio.gather(requested, found)
        finally:  # where one fails, the other's end would be noted after the answer to both
            requested.cancel()
            found.cancel()
            await asyncio.gather(requested, found, return_exceptions=True)
        coming = _coming(instrument, facts, past.zone)
        return past.joined(coming) if coming else past

    async def _past_sessions(
        self,
        instrument: Instrument,
        facts: Future[ContractFacts],
        span: tuple[int, int],
        priority: Priority,
    ) -> Schedule:
        """IB's SCHEDULE for the `span`, `[start, end)`, in as many requests as needed."""
        start, end = span
        requested_at, known = self._past.get(instrument, (float("-inf"), None))
        now = self._now().timestamp()
        is_fresh = 0 <= now - requested_at < _PAST_FRESH_S
        if known is not None and is_fresh and known.start <= start:
            return replace(known, end=max(known.end, end))
        found = await self._page_of_sessions(instrument, facts, span, priority)
        while found.start > start:
            left = (start, found.start)
            older = await self._page_of_sessions(instrument, facts, left, priority)
            found = older.joined(found)
        if found.sessions:
            self._past[instrument] = (now, found)
        return found

    async def _page_of_sessions(
        self,
        instrument: Instrument,
        facts: Future[ContractFacts],
        span: tuple[int, int],
        priority: Priority,
    ) -> Schedule:
        """IB's SCHEDULE for the last days of the `span`; for all where one request reaches so far.

        Without any session: IB answers that there were none, as before the listing. Where its
        answer is an error or unreadable, the usual sessions are used.
        """
        start, end = span
        days = min(-(-(end - start) // DAY_S) + 1, _SCHEDULE_DAYS_MAX)
        try:
            received = await self._requests.answered(
                ("sessions", instrument, end, days),
                instrument,
                lambda client: client.sessions(instrument, end, days),
                priority=priority,
            )
        except (InvalidRequest, RequestFailed, TimedOut) as error:
            log.warning(
                "%s: IB sends no sessions, the usual ones are used: %s", instrument.symbol, error
            )
            return self._usual_sessions(instrument, await facts, start, end)
        if received is None or not received.sessions:
            return Schedule(_zone(instrument, await facts, received), start, end, ())
        zone = _zone(instrument, await facts, received)
        found, unreadable = read_schedule(received, zone, instrument.sec_type, end, days)
        _name_unreadable(instrument, unreadable)
        if not found.sessions:
            return self._usual_sessions(instrument, await facts, start, end)
        # N trading days reach at least as far back as N calendar days.
        reached = max(start, end - (days - 1) * DAY_S)
        return replace(found, start=min(found.start, reached))

    @staticmethod
    def _usual_sessions(
        instrument: Instrument, facts: ContractFacts, start: int, end: int
    ) -> Schedule:
        """The contract's coming sessions, repeated every week; else those of its security type."""
        coming = _coming(instrument, facts)
        if coming is not None and coming.sessions:
            return every_week(coming, instrument.sec_type, start, end)
        return by_rules(instrument.sec_type, start, end)


def _unclear(instrument: Instrument, error: UnknownContract, today: date) -> ContractCandidates:
    found = error.candidates if isinstance(error, AmbiguousContract) else ()
    listed = candidate_messages(instrument.symbol, found, today)
    return ContractCandidates(instrument.symbol, listed, error.message, error.hint)


def _candidate(facts: ContractFacts) -> CandidateContract:
    return CandidateContract(
        facts.con_id,
        facts.local_symbol,
        facts.exchange,
        facts.currency,
        facts.long_name,
        facts.last_trade_date,
    )


def _zone(
    instrument: Instrument, facts: ContractFacts, received: ReceivedSchedule | None = None
) -> str:
    """The time zone of IB's sessions: SCHEDULE's own, the contract's, or the exchange's.

    RequestFailed: none of them is known; no other zone is used instead.
    """
    names = [received.zone] if received else []
    zone = zone_of([*names, facts.zone], facts.exchange)
    if not zone:
        named = ", ".join(map(repr, [*names, facts.zone]))
        raise RequestFailed(
            f"the time zone of {instrument.symbol}'s sessions is not known: IB names {named} "
            f"on {facts.exchange or 'no exchange'}",
            hint="say in instruments.toml which exchange or primary_exchange it is",
        )
    return zone


def _coming(instrument: Instrument, facts: ContractFacts, otherwise: str = "") -> Schedule | None:
    """The coming sessions from the contract's hours; None: they are not known.

    `otherwise`: the zone to use where the contract names no known one.
    """
    zone = zone_of([facts.zone, otherwise], facts.exchange)
    if not facts.hours or not zone:
        return None
    coming, unreadable = read_hours(facts.hours, zone)
    _name_unreadable(instrument, unreadable)
    return coming


def _name_unreadable(instrument: Instrument, sessions: Sequence[str]) -> None:
    if sessions:
        some = "; ".join(sessions[:_NAMED_MOST])
        log.warning(
            "%s: %d of IB's sessions cannot be read: %s", instrument.symbol, len(sessions), some
        )
