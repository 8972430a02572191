"""Control requests after "no such contract" (200), IB's answer for all contracts during a reset."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime

from ktrdr.errors import KtrdrError, NotConnected, RequestFailed, UnknownContract
from ktrdr.ib.candidates import how_else_spelt
from ktrdr.ib.client import ANSWER_S
from ktrdr.ib.connection import Connection
from ktrdr.ib.contract_facts import ContractFacts
from ktrdr.ib.error_codes import says_several
from ktrdr.ib.turns import RepeatError, Turns
from ktrdr.market.bars_request import Priority
from ktrdr.market.instruments import Instrument

_LEAST_S = 1.0
"""Minimum seconds for a control request, even where the caller has no time left."""
_FRESH_S = 5.0
"""Seconds for which other callers share a refusal of a control request."""


class ContractControls:
    """Requests that test whether IB knows contracts at all, on one event loop."""

    def __init__(self, connection: Connection, turns: Turns, now: Callable[[], datetime]) -> None:
        self._connection = connection
        self._turns = turns
        self._now = now
        self._controls: dict[Instrument, tuple[float, asyncio.Task[ContractFacts]]] = {}
        """Control requests in flight or just refused, with their start by the loop's clock."""

    def __repr__(self) -> str:
        return f"<ContractControls {' '.join(one.symbol for one in self._controls)}>"

    async def doubt(
        self, instrument: Instrument, error: UnknownContract, left_s: float
    ) -> KtrdrError | None:
        """Why the error is inconclusive; None: IB knows a good contract.

        RepeatError: the request for the good contract was not answered either.
        """
        good = self._connection.evidence.contracts.good(other_than=instrument)
        try:
            await self._answer(good, left_s)
        except (NotConnected, TimeoutError) as unsure:
            raise RepeatError(RequestFailed(error.message, code=error.code)) from unsure
        except UnknownContract:
            return RequestFailed(
                f"IB knows no contract at present, not even {good.symbol}, so that "
                f"nothing is known of {instrument.symbol}",
                code=error.code,
                hint="IB's servers are being reset; it is requested again later",
            )
        except KtrdrError as unsure:
            return unsure
        return None

    async def may_be_known(self, instrument: Instrument, left_s: float) -> bool:
        """Whether IB knows the contract after all, by its details, or does not say."""
        try:
            await self._answer(instrument, left_s, is_own=True)
        except UnknownContract:
            return False
        except (KtrdrError, TimeoutError):
            return True
        return True

    async def hint(self, instrument: Instrument, error: UnknownContract, left_s: float) -> str:
        """What to write for the contract in `instruments.toml`; may request contract details."""
        if not says_several(error):
            return how_else_spelt(instrument, self._now().date())
        try:
            await self._answer(instrument, left_s)
        except UnknownContract as named:
            return named.hint
        except (KtrdrError, TimeoutError):
            return error.hint  # the contracts will be listed at the next request
        return error.hint

    async def _answer(
        self, instrument: Instrument, left_s: float, *, is_own: bool = False
    ) -> ContractFacts:
        """IB's answer about a contract, shared by all callers that test it now.

        What was requested before the caller's error came and is answered does not count: the
        reset may have begun since. Nor does a refusal, if it is of the caller's own contract
        (`is_own`): the reset may have ended since.
        """
        loop = asyncio.get_running_loop()
        doubted_at = loop.time()
        async with asyncio.timeout(max(left_s, _LEAST_S)):
            while True:
                began_at, control = self._control(instrument)
                try:
                    facts = await asyncio.shield(control)
                except UnknownContract:
                    if began_at >= doubted_at or not is_own:
                        raise
                    if self._controls.get(instrument) == (began_at, control):
                        del self._controls[instrument]
                    continue
                if began_at >= doubted_at:
                    return facts

    def _control(self, instrument: Instrument) -> tuple[float, asyncio.Task[ContractFacts]]:
        """The control request that is in flight or was just refused, or a new one; its start."""
        now = asyncio.get_running_loop().time()
        self._controls = {
            known: (began_at, requested)
            for known, (began_at, requested) in self._controls.items()
            if not requested.done() or (now - began_at < _FRESH_S and _was_refused(requested))
        }
        if instrument not in self._controls:
            requested = asyncio.create_task(self._request(instrument), name="control")
            requested.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._controls[instrument] = (now, requested)
        return self._controls[instrument]

    async def _request(self, instrument: Instrument) -> ContractFacts:
        deadline = asyncio.get_running_loop().time() + ANSWER_S
        request = object()  # what was answered before says nothing now: it is sent again at once
        queued = self._turns.queued(request, instrument.symbol, Priority.INTERACTIVE)
        async with self._turns.turn(queued, deadline):
            return await self._connection.client_now().contract(instrument)


def _was_refused(requested: asyncio.Task[ContractFacts]) -> bool:
    return not requested.cancelled() and isinstance(requested.exception(), UnknownContract)
