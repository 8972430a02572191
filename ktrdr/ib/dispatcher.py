"""Requests over the connection: queued, resent after a loss, until there is an outcome. No cache.

A request ends with its answer or with one error that names its outcome; it never waits without
a time limit, and a failure is never an empty answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeGuard, TypeVar

from ktrdr.errors import (
    CompetingSession,
    KtrdrError,
    NotConnected,
    NotEntitled,
    PacingViolation,
    Permanent,
    RequestFailed,
    Retryable,
    TimedOut,
    UnknownContract,
)
from ktrdr.ib.client import ANSWER_S, IbClient
from ktrdr.ib.connection import Connection
from ktrdr.ib.contract_controls import ContractControls
from ktrdr.ib.contract_facts import ContractFacts
from ktrdr.ib.error_codes import says_no_farm, says_several
from ktrdr.ib.known_contracts import kind
from ktrdr.ib.overtaken import Overtaking
from ktrdr.ib.pacing import QueuedRequest
from ktrdr.ib.refused_contracts import RefusedContracts
from ktrdr.ib.turns import RepeatError, Turns
from ktrdr.ipc.messages import RefusedContract
from ktrdr.market.bars import Answer
from ktrdr.market.bars_request import RETURN_S, Priority
from ktrdr.market.instruments import Instrument

T = TypeVar("T")

log = logging.getLogger("ib-connection")

_TROUBLE_PAUSE_S = 2.0
"""Seconds before a resend while there is trouble, unless the trouble ends before."""
_POLL_S, _OVERDUE_POLL_S = 1.0, 0.1


@dataclass
class _Request(Generic[T]):
    """One request, from its queue to its outcome."""

    queued: QueuedRequest
    instrument: Instrument
    send: Callable[[IbClient], Awaitable[T]]
    deadline: float
    overtaking: Overtaking | None
    """None: no history farm serves it, so that answers to others tell nothing."""
    refusals: int = 0
    """How often it was refused for a reason that holds for others too."""
    has_failed: bool = False
    """IB has refused it once for no known reason."""
    was_unknown: bool = False
    """IB has refused it once as one for an unknown contract."""

    @property
    def left_s(self) -> float:
        """The seconds until its deadline."""
        return self.deadline - asyncio.get_running_loop().time()


class Requests:
    """The requests of one application, on the event loop of its connection."""

    def __init__(
        self, connection: Connection, now: Callable[[], datetime], heartbeat_s: float
    ) -> None:
        self._connection = connection
        self._after_farm_s = 2 * heartbeat_s
        self._now = now
        self._turns = Turns()
        self._times = connection.evidence.answer_times
        self._refused = RefusedContracts()
        self._controls = ContractControls(connection, self._turns, now)

    def __repr__(self) -> str:
        return f"<Requests {self._turns!r}>"

    @property
    def open(self) -> int:
        """The number of requests sent that are neither answered nor given up."""
        return self._turns.pacer.open_requests

    @property
    def at_once(self) -> int:
        """How many requests may be in flight now."""
        return self._turns.pacer.at_once

    def note_streams(self, change: int) -> None:
        """So many more streams are open, or fewer; each counts among IB's open requests."""
        self._turns.pacer.streams += change

    def forget_refusal(self, symbol: str) -> None:
        """Do not list the contract as refused: nobody keeps it."""
        self._refused.withdraw(symbol)

    @property
    def refused(self) -> tuple[RefusedContract, ...]:
        """Contracts whose data IB refuses, and that were requested recently."""
        return self._refused.lately(self._now())

    async def answered(
        self,
        request: Hashable,
        instrument: Instrument,
        send: Callable[[IbClient], Awaitable[T]],
        *,
        patience_s: float = ANSWER_S + RETURN_S,
        priority: Priority = Priority.INTERACTIVE,
        is_small: bool = False,
        is_history: bool = True,
    ) -> T:
        """The answer to one request, which is resent when the connection breaks before the answer.

        A new request fails at once with the reason while there is no connection; one that was
        sent before waits for the next connection until its time limit. `request`: equal for two
        identical requests. `is_small`: it falls under IB's rules for small bars. `is_history`: a
        history farm serves it, and it is held back while that is known to be broken.
        """
        deadline = asyncio.get_running_loop().time() + patience_s
        queued = self._turns.queued(request, instrument.symbol, priority, is_small=is_small)
        overtaking = Overtaking(self._times, request) if is_history else None
        one = _Request(queued, instrument, send, deadline, overtaking)
        gate = self._connection.evidence.gate
        cause: Retryable | None = None
        is_patient = False
        while True:
            client = await self._connection.client_by(deadline, is_patient=is_patient)
            why_not = None
            if is_history or gate.holds_details:
                why_not = await gate.passed(kind(instrument) if is_history else None, deadline)
            if why_not is not None:
                self._connection.client_now()  # raises, if there are no data at all
                raise why_not
            try:
                return await self._requested(one)
            except RepeatError as repeat:
                again, cause = repeat, repeat.cause
            except TimedOut as late:  # the earlier refusal is more specific
                raise cause if isinstance(cause, RequestFailed) else late from None
            is_patient = True
            if cause is None:
                continue  # it was lost, and can be resent now
            if (left_s := one.left_s) <= 0:
                raise cause
            if again.is_gated:  # the gate may have been opened by what others were answered
                await self._pause(min(min(one.refusals, 2) * self._after_farm_s / 2, left_s))
                one.refusals += 1
            elif self._connection.client is client:  # nothing has changed yet
                await self._pause(min(_TROUBLE_PAUSE_S, left_s))

    async def _requested(self, one: _Request[T]) -> T:
        """The answer to one attempt at the request. RepeatError: none came; resend it."""
        loop = asyncio.get_running_loop()
        instrument = one.instrument
        requested_at: float | None = None
        try:
            async with self._turns.turn(one.queued, one.deadline):
                client = self._connection.client_now()
                requested_at = loop.time()
                answer = await self._answer_of_its_farm(client, one)
        except NotConnected as error:
            raise RepeatError(error) from error
        except (PacingViolation, TimedOut, RequestFailed) as error:
            await self._record_failure(one, error, requested_at)
            raise
        except CompetingSession as error:
            if requested_at is not None:  # else the error is the connection's own
                self._connection.evidence.note_refused_session(instrument, error)
            raise
        except Permanent as error:
            raise await self._confirm_rejection(one, error) from error
        if isinstance(answer, Answer) and self._turns.pacer.learn(
            loop.time() - requested_at, len(answer.bars), loop.time()
        ):
            self._connection.evidence.note_data_back()
        if one.overtaking is not None:
            self._times.answered(one.queued.request, requested_at, loop.time())
        is_history = not isinstance(answer, ContractFacts)
        self._connection.evidence.note_data(instrument, requested_at, is_history=is_history)
        self._refused.note_answer(instrument.symbol, has_bars=isinstance(answer, Answer))
        return answer

    async def _answer_of_its_farm(self, client: IbClient, one: _Request[T]) -> T:
        """The answer. RepeatError: refused for a broken farm; it may be resent at any time.

        A failure for which the pace is to blame slows it before the next request has its turn.
        """
        loop = asyncio.get_running_loop()
        sent_at = loop.time()
        try:
            return await self._one_answer(client, one)
        except (PacingViolation, TimedOut) as error:
            was_paced = isinstance(error, PacingViolation)
            self._turns.pacer.learn_failure(sent_at, loop.time(), was_paced=was_paced)
            raise
        except RequestFailed as error:
            if not says_no_farm(error):
                raise
            self._connection.evidence.note_no_farm(one.instrument, error)
            raise RepeatError(error, is_gated=True) from error

    async def _record_failure(
        self, one: _Request[T], error: Retryable, requested_at: float | None
    ) -> None:
        """Record a failure. RepeatError: the request did not cause it, or it is the first one."""
        if requested_at is None:  # never sent
            return
        if isinstance(error, PacingViolation):
            self._connection.evidence.gate.note_paced()
            raise RepeatError(error) from error
        if isinstance(error, RequestFailed):
            if self._connection.evidence.note_failed(one.instrument, error):
                raise RepeatError(error, is_gated=True) from error
            if not one.has_failed:
                one.has_failed = True
                self._turns.pacer.forget(one.queued)
                raise RepeatError(error) from error
        if self._connection.evidence.was_troubled_since(requested_at):
            raise RepeatError(error) from error

    async def _pause(self, pause_s: float) -> None:
        """Wait before a resend: for the pause, or until the trouble is over."""
        repeat = self._connection.availability.repeat
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(repeat.wait(), pause_s)

    async def _one_answer(self, client: IbClient, one: _Request[T]) -> T:
        """The answer. RepeatError: it will not come, and the request should be resent."""
        loop = asyncio.get_running_loop()
        requested_at = loop.time()
        if one.overtaking is not None:
            one.overtaking.sent(requested_at)
        with self._connection.liveness.waiting_for_data():
            answer = asyncio.ensure_future(one.send(client))
            again = asyncio.ensure_future(self._connection.availability.repeat.wait())
            try:
                while not answer.done():
                    left_s = min(one.deadline, self._stale_at(requested_at)) - loop.time()
                    await asyncio.wait(
                        {answer, again},
                        timeout=min(max(left_s, 0), self._poll_s(one)),
                        return_when=asyncio.FIRST_COMPLETED,
                    )
                    if answer.done():
                        break
                    if again.done() or loop.time() >= self._stale_at(requested_at):
                        raise RepeatError(None)
                    if self._is_overtaken(one):
                        raise RepeatError(None)
                    if loop.time() >= one.deadline:
                        raise TimedOut("IB did not answer within the time limit of the request")
                return answer.result()
            finally:
                answer.cancel()
                again.cancel()
                await asyncio.gather(answer, again, return_exceptions=True)

    def _poll_s(self, one: _Request[T]) -> float:
        """In how many seconds to look again whether the answer can still come."""
        if one.overtaking is None:
            return _POLL_S
        until_s = one.overtaking.overdue_at - asyncio.get_running_loop().time()
        return min(max(until_s, _OVERDUE_POLL_S), _POLL_S)

    def _is_overtaken(self, one: _Request[T]) -> bool:
        """Whether later requests are answered and this one is not; a probe tests that."""
        if one.overtaking is None:
            return False
        if one.overtaking.has_happened:
            one.overtaking.spend()
            log.info(
                "%s: IB answers what was requested later: it is requested again",
                one.instrument.symbol,
            )
            return True
        now = asyncio.get_running_loop().time()
        is_overdue = one.overtaking.overdue_at <= now
        if is_overdue and self._connection.state.has_data and self._times.wants_probe(now):
            self._connection.evidence.probe_wanted.set()
        return False

    def _stale_at(self, requested_at: float) -> float:
        """When to stop waiting for the answer: two heartbeats after a farm came back."""
        back_at = self._connection.availability.farm_back_after(requested_at)
        return float("inf") if back_at is None else back_at + self._after_farm_s

    async def _confirm_rejection(self, one: _Request[T], error: Permanent) -> KtrdrError:
        """The error to raise, which is another one while IB's servers are being reset.

        RepeatError: that all are refused is known, or IB has the contract's details: the error
        was the last one of a reset, say.
        """
        instrument = one.instrument
        if isinstance(error, UnknownContract):
            evidence = self._connection.evidence
            if _is_of_all(known := evidence.gate.why_shut, error):
                raise RepeatError(known, is_gated=True)
            doubt = await self._controls.doubt(instrument, error, one.left_s)
            if _is_of_all(doubt, error) and evidence.note_failed(instrument, doubt):
                raise RepeatError(doubt, is_gated=True)
            if doubt is not None:
                return doubt
            if await self._may_be_known(one, error):
                raise RepeatError(None)
            if error.code is not None:
                hint = await self._controls.hint(instrument, error, one.left_s)
                error = UnknownContract(error.message, code=error.code, hint=hint)
        if isinstance(error, UnknownContract | NotEntitled):
            self._connection.evidence.contracts.refused(instrument)
            self._refused.note(instrument.symbol, error, self._now())
        return error

    async def _may_be_known(self, one: _Request[T], error: UnknownContract) -> bool:
        """Whether IB has the contract's details, so that the request is worth another attempt."""
        if one.was_unknown or error.code is None or says_several(error):
            return False
        one.was_unknown = True
        if not await self._controls.may_be_known(one.instrument, one.left_s):
            return False
        self._turns.pacer.forget(one.queued)
        return True


def _is_of_all(failure: KtrdrError | None, error: KtrdrError) -> TypeGuard[RequestFailed]:
    """The failure says of all contracts what the error says of one, by IB's code."""
    is_known = error.code is not None
    return is_known and isinstance(failure, RequestFailed) and failure.code == error.code
