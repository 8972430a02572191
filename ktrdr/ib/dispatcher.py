"""What is asked over the link: in turn, again after a loss, until there is an outcome. No cache.

A request ends with its answer or with one error that says what came of it; it never waits
without bound, and a failure is never an empty answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from datetime import datetime, timedelta
from typing import TypeVar

from ktrdr.errors import (
    CompetingSession,
    KtrdrError,
    NotConnected,
    NotEntitled,
    Paced,
    Permanent,
    RequestFailed,
    Retryable,
    TimedOut,
    UnknownContract,
)
from ktrdr.ib.candidates import how_else_spelt
from ktrdr.ib.client import ANSWER_S, IbClient
from ktrdr.ib.connection import Link
from ktrdr.ib.contract_facts import ContractFacts
from ktrdr.ib.error_codes import says_no_farm, says_several
from ktrdr.ib.pacing import Pacer, Ticket
from ktrdr.ipc.messages import RefusedContract
from ktrdr.market.bars import Answer
from ktrdr.market.bars_request import RETURN_S, Priority
from ktrdr.market.instruments import Instrument

T = TypeVar("T")

_REFUSED_MAX = 200
"""Contracts that are remembered as refused."""
_REFUSED_FOR = timedelta(hours=7)
"""They are asked for again every six hours at the least, unless nobody wants them any more."""
_TROUBLE_PAUSE_S = 2.0
"""Between two questions while there is a trouble, unless it ends before."""
_NO_FARM_HEARTBEATS = 4
"""Heartbeats between two questions that IB refuses for a broken farm, unless one comes back."""
_LOOK_S = 1.0
_CONTROL_FRESH_S = 5.0
"""So long the answer to a control counts for others, too."""


class Requests:
    """The requests of one application, on the event loop of its link."""

    def __init__(self, link: Link, now: Callable[[], datetime], heartbeat_s: float) -> None:
        self._link = link
        self._after_farm_s = 2 * heartbeat_s
        self._no_farm_pause_s = _NO_FARM_HEARTBEATS * heartbeat_s
        self._now = now
        self._pacer = Pacer()
        self._waiting: dict[Ticket, asyncio.Future[None]] = {}
        self._next_look: asyncio.TimerHandle | None = None
        self._numbers = itertools.count()
        self._refused: dict[str, RefusedContract] = {}
        self._refused_at: dict[str, datetime] = {}
        """When that was said last."""
        self._controls: dict[Instrument, tuple[float, asyncio.Task[ContractFacts]]] = {}
        """What is asked to find out whether IB knows contracts at all, and since when."""

    def __repr__(self) -> str:
        return f"<Requests {self._pacer!r}, {len(self._waiting)} waiting>"

    @property
    def open(self) -> int:
        """Sent, and neither answered nor given up."""
        return self._pacer.open_requests

    @property
    def at_once(self) -> int:
        """How many may be under way now."""
        return self._pacer.at_once

    @property
    def refused(self) -> tuple[RefusedContract, ...]:
        """Contracts whose data IB refuses, and that were asked for lately."""
        now = self._now()
        lately = [s for s, at in self._refused_at.items() if now - at < _REFUSED_FOR]
        return tuple(one for one in self._refused.values() if one.symbol in lately)

    async def answered(
        self,
        request: Hashable,
        instrument: Instrument,
        ask: Callable[[IbClient], Awaitable[T]],
        *,
        patience_s: float = ANSWER_S + RETURN_S,
        priority: Priority = Priority.INTERACTIVE,
        is_small: bool = False,
    ) -> T:
        """The answer to one request, which is asked again when the connection breaks under it.

        One that comes while there is no connection fails at once with the reason; one that was
        asked already waits for the next connection until its time is over. `request`: what two
        identical ones have in common. `is_small`: it falls under IB's rules for small bars.
        """
        deadline = asyncio.get_running_loop().time() + patience_s
        ticket = Ticket(request, priority, instrument.symbol, next(self._numbers), is_small)
        cause: Retryable | None = None
        is_patient = False
        while True:
            client = await self._link.client_by(deadline, is_patient=is_patient)
            try:
                return await self._asked(ticket, instrument, ask, deadline)
            except _AskAgainError as again:
                cause = again.cause
            except TimedOut as late:  # what it was refused for before says more
                raise cause if cause and says_no_farm(cause) else late from None
            is_patient = True
            if cause is None:
                continue  # it went astray, and the way is free now
            left_s = deadline - asyncio.get_running_loop().time()
            if left_s <= 0:
                raise cause
            if self._link.client is client:  # nothing has changed yet
                await self._pause(cause, left_s)

    async def _asked(
        self,
        ticket: Ticket,
        instrument: Instrument,
        ask: Callable[[IbClient], Awaitable[T]],
        deadline: float,
    ) -> T:
        """The answer to one question. _AskAgainError: there is none, and it is worth another."""
        loop = asyncio.get_running_loop()
        asked_at: float | None = None
        try:
            async with self._turn(ticket, deadline):
                client = self._link.client_now()
                asked_at = loop.time()
                answer = await self._answer_of_its_farm(client, instrument, ask, deadline)
        except NotConnected as error:
            raise _AskAgainError(error) from error
        except (Paced, TimedOut, RequestFailed) as error:
            await self._bear(error, asked_at)
            raise
        except CompetingSession as error:
            if asked_at is not None:  # else it is the link that says so
                self._link.evidence.note_refused_session(instrument, error)
            raise
        except Permanent as error:
            left_s = deadline - loop.time()
            raise await self._believed(instrument, error, left_s) from error
        if isinstance(answer, Answer):
            self._pacer.learn(loop.time() - asked_at, len(answer.bars), loop.time())
        is_history = not isinstance(answer, ContractFacts)
        self._link.evidence.note_data(instrument, asked_at, is_history=is_history)
        if instrument.symbol in self._refused:
            self._refused = {one.symbol: one for one in self._others_refused(instrument)}
        return answer

    async def _answer_of_its_farm(
        self,
        client: IbClient,
        instrument: Instrument,
        ask: Callable[[IbClient], Awaitable[T]],
        deadline: float,
    ) -> T:
        """The answer; a refusal for a broken farm is none, and may be asked again at any time."""
        try:
            return await self._one_answer(client, ask, deadline)
        except RequestFailed as error:
            if not says_no_farm(error):
                raise
            self._link.evidence.note_no_farm(instrument)
            raise _AskAgainError(error) from error

    async def _bear(self, error: Retryable, asked_at: float | None) -> None:
        """Learn from a failure. _AskAgainError: the request is not to blame for it."""
        if asked_at is None:  # its turn never came
            return
        if not isinstance(error, RequestFailed):
            was_paced = isinstance(error, Paced)
            now = asyncio.get_running_loop().time()
            self._pacer.learn_failure(now, was_paced=was_paced)
            if was_paced:
                raise _AskAgainError(error) from error
        if self._link.evidence.was_troubled_since(asked_at):
            raise _AskAgainError(error) from error

    async def _pause(self, cause: Retryable, left_s: float) -> None:
        """Until it is worth another try: after a moment, or when a broken farm is back."""
        is_farm = says_no_farm(cause)
        availability = self._link.availability
        seconds = self._no_farm_pause_s if is_farm else _TROUBLE_PAUSE_S
        turn = availability.data_back if is_farm else availability.repeat
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(turn.wait(), min(seconds, left_s))

    async def _one_answer(
        self, client: IbClient, ask: Callable[[IbClient], Awaitable[T]], deadline: float
    ) -> T:
        """The answer, unless the link says that it will not come and should be asked for again."""
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        with self._link.liveness.waiting_for_data():
            answer = asyncio.ensure_future(ask(client))
            again = asyncio.ensure_future(self._link.availability.repeat.wait())
            try:
                while not answer.done():
                    left_s = min(deadline, self._stale_at(asked_at)) - loop.time()
                    await asyncio.wait(
                        {answer, again},
                        timeout=min(max(left_s, 0), _LOOK_S),
                        return_when=asyncio.FIRST_COMPLETED,
                    )
                    if answer.done():
                        break
                    if again.done() or loop.time() >= self._stale_at(asked_at):
                        raise _AskAgainError(None)
                    if loop.time() >= deadline:
                        raise TimedOut(
                            "IB did not answer before the time of whoever asked was over"
                        )
                return answer.result()
            finally:
                answer.cancel()
                again.cancel()
                await asyncio.gather(answer, again, return_exceptions=True)

    def _stale_at(self, asked_at: float) -> float:
        """When an answer is not waited for any more: long after a farm came back."""
        back_at = self._link.availability.farm_back_after(asked_at)
        return float("inf") if back_at is None else back_at + self._after_farm_s

    async def _believed(
        self, instrument: Instrument, error: Permanent, left_s: float
    ) -> KtrdrError:
        """The error as it should be taken.

        While IB's servers are reset, IB knows no contract at all (error 200): that is believed
        only when one that is known to be good is found.
        """
        good = self._link.evidence.contracts.good(other_than=instrument)
        if isinstance(error, UnknownContract) and good is not None:
            try:
                control = asyncio.shield(self._control(good))
                await asyncio.wait_for(control, max(left_s, _LOOK_S))
            except (NotConnected, TimeoutError) as unsure:
                raise _AskAgainError(RequestFailed(error.message, code=error.code)) from unsure
            except UnknownContract:
                return RequestFailed(
                    f"IB knows no contract at present, not even {good.symbol}, so that "
                    f"nothing is known of {instrument.symbol}",
                    code=error.code,
                    hint="IB's servers are being reset; it is asked again later",
                )
            except KtrdrError as unsure:
                return unsure
        if isinstance(error, UnknownContract) and error.code is not None:
            hint = await self._which_contract(instrument, error, left_s)
            error = UnknownContract(error.message, code=error.code, hint=hint)
        if isinstance(error, UnknownContract | NotEntitled):
            self._note_refused(instrument, error)
        return error

    async def _which_contract(
        self, instrument: Instrument, error: UnknownContract, left_s: float
    ) -> str:
        """What a person may write for IB to know the contract; it is asked which there are."""
        if not says_several(error):
            return how_else_spelt(instrument, self._now().date())
        try:
            asked = asyncio.shield(self._control(instrument))
            await asyncio.wait_for(asked, max(left_s, _LOOK_S))
        except UnknownContract as named:
            return named.hint
        except (KtrdrError, TimeoutError):
            return error.hint  # which there are will be known when it is asked for again
        return error.hint

    def _control(self, good: Instrument) -> asyncio.Task[ContractFacts]:
        """One question for what IB knows of a contract, for all who are in doubt just now."""
        now = asyncio.get_running_loop().time()
        self._controls = {
            instrument: (began_at, asked)
            for instrument, (began_at, asked) in self._controls.items()
            if not asked.done() or now - began_at < _CONTROL_FRESH_S
        }
        if good not in self._controls:
            asked = asyncio.create_task(self._ask_for_contract(good), name="control")
            asked.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._controls[good] = (now, asked)
        return self._controls[good][1]

    async def _ask_for_contract(self, good: Instrument) -> ContractFacts:
        deadline = asyncio.get_running_loop().time() + ANSWER_S
        number = next(self._numbers)
        ticket = Ticket(("control", good), Priority.INTERACTIVE, good.symbol, number, False)
        async with self._turn(ticket, deadline):
            return await self._link.client_now().contract(good)

    def _note_refused(self, instrument: Instrument, error: Permanent) -> None:
        self._link.evidence.contracts.refused(instrument)
        known = self._refused.get(instrument.symbol)
        since = known.since if known else self._now()
        refused = RefusedContract(
            instrument.symbol, error.outcome, error.code, error.message, error.hint, since
        )
        kept = self._others_refused(instrument)[-_REFUSED_MAX + 1 :]
        self._refused = {**{other.symbol: other for other in kept}, instrument.symbol: refused}
        before = {s: at for s, at in self._refused_at.items() if s in self._refused}
        self._refused_at = {**before, instrument.symbol: self._now()}

    def _others_refused(self, instrument: Instrument) -> list[RefusedContract]:
        return [one for one in self._refused.values() if one.symbol != instrument.symbol]

    @contextlib.asynccontextmanager
    async def _turn(self, ticket: Ticket, deadline: float) -> AsyncIterator[None]:
        """Wait until the pacer lets the request go. TimedOut: not before its time was over."""
        turn = self._waiting[ticket] = asyncio.get_running_loop().create_future()
        self._grant_turns()
        was_answered = True
        try:
            try:
                async with asyncio.timeout_at(deadline):
                    await turn
            except TimeoutError:
                raise TimedOut("too many requests were before it") from None
            yield
        except (NotConnected, _AskAgainError):
            was_answered = False
            raise
        finally:
            self._waiting.pop(ticket, None)
            if turn.done() and not turn.cancelled():
                self._pacer.end(ticket, was_answered=was_answered)
            self._grant_turns()

    def _grant_turns(self) -> None:
        """Let go who may go now, and look again when the next one may."""
        loop = asyncio.get_running_loop()
        if self._next_look is not None:
            self._next_look.cancel()
            self._next_look = None
        while True:
            ticket, delay_s = self._pacer.next(list(self._waiting), loop.time())
            if ticket is None:
                break
            self._pacer.begin(ticket, loop.time())
            turn = self._waiting.pop(ticket)
            if not turn.done():
                turn.set_result(None)
            else:  # whoever waited was cancelled just now
                self._pacer.end(ticket, was_answered=False)
        if delay_s is not None:
            self._next_look = loop.call_later(delay_s, self._grant_turns)


class _AskAgainError(Exception):
    """It was not answered, and should be asked again; `cause`: what to say when time is over."""

    def __init__(self, cause: Retryable | None) -> None:
        super().__init__(str(cause))
        self.cause = cause
