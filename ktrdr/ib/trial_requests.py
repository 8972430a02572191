"""Trial requests to the gateway, for the doctor: a few small ones, and the outcome of each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any

from ktrdr.errors import KtrdrError, NotConnected, TimedOut
from ktrdr.ib.connection import Connection
from ktrdr.ib.states import State
from ktrdr.ipc.messages import ConnectionStatus, TrialResult

TRIAL_S = 10.0


async def send_trial_requests(connection: Connection, status: ConnectionStatus) -> TrialResult:
    """Send the gateway a few small requests, whatever state the connection is in."""
    client = connection.client
    if client is None:
        gone = NotConnected.outcome
        why = status.last_error.message if status.last_error else status.state
        return TrialResult(None, None, gone, gone, "", why)
    probed = connection.evidence.contracts.good()
    requests = [_outcome(client.is_read_only(TRIAL_S))]
    if status.state != State.UPSTREAM_LOST:  # these would get no answer
        requests += [
            _outcome(asyncio.wait_for(client.contract(probed), TRIAL_S)),
            _outcome(client.probe(probed, TRIAL_S)),
        ]
    read_only, *others = await asyncio.gather(*requests)
    lost = _Outcome(NotConnected.outcome, "the gateway has lost IB's servers")
    contract, data = others or (lost, lost)
    return TrialResult(
        status.clock_offset_s,
        read_only.answer,
        contract.outcome,
        data.outcome,
        probed.symbol,
        data.message or contract.message,
    )


@dataclass(frozen=True)
class _Outcome:
    """The outcome of a request, in the words of the local API."""

    outcome: str
    message: str = ""
    answer: Any = None


async def _outcome(requested: Awaitable[object]) -> _Outcome:
    try:
        return _Outcome("answered", answer=await requested)
    except KtrdrError as error:
        return _Outcome(error.outcome, error.message)
    except TimeoutError:
        return _Outcome(TimedOut.outcome, "not answered")
