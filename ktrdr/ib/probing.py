"""Probes: small requests for data that test whether data come while other requests wait."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from ktrdr.errors import CompetingSession, KtrdrError, NotConnected, NotEntitled, TimedOut
from ktrdr.ib.availability import Availability
from ktrdr.ib.client import IbClient
from ktrdr.ib.data_evidence import DataEvidence
from ktrdr.ib.liveness import Liveness
from ktrdr.ib.states import State
from ktrdr.ib.status_record import StatusRecord

log = logging.getLogger("ib-connection")

_FIRST_HEARTBEATS = 2 / 3
"""Heartbeats until the first probe after a farm broke, for most breaks are short."""
_APART_HEARTBEATS = 2
"""Heartbeats between two probes of which the first is refused or not answered: two a minute."""
_HURRY_S = 4.0
"""Seconds until the first probe of an outage, and then to the next: most outages are short."""
_HURRIES_S = (_HURRY_S, 1.25 * _HURRY_S)
"""Seconds to the next of the first probes that are not answered."""
_AFTER_OTHERS_S = 1.0
"""Seconds for which a request may go first that tests whether all are still refused."""
_PATIENT = 4
"""Factor on a probe's time limit while a farm is broken, which may slow all answers."""


class Prober:
    """Probes over successive connections; the results go to the evidence."""

    def __init__(
        self,
        heartbeat_s: float,
        status: StatusRecord,
        liveness: Liveness,
        availability: Availability,
        evidence: DataEvidence,
    ) -> None:
        self._heartbeat_s = heartbeat_s
        self._status = status
        self._liveness = liveness
        self._availability = availability
        self._evidence = evidence
        self._sent_at = float("-inf")
        """When the last probe was sent, by the loop's clock."""
        self._unanswered = 0
        """How many probes have waited in vain since the last one that was answered."""

    def __repr__(self) -> str:
        return f"<Prober every {self._heartbeat_s:g} s>"

    async def probe_until_silent(self, client: IbClient) -> None:
        """Probe at once, and whenever requests for data are overdue; ends when no answer comes."""
        patience_s = 2 * self._heartbeat_s
        if await self._is_unanswered(client, 2 * patience_s):  # a new one first calls its farms
            return
        while True:
            await self._until_due()
            longer = _PATIENT if self._evidence.is_data_farm_broken else 1
            if await self._is_unanswered(client, patience_s * longer):
                return

    async def _until_due(self) -> None:
        """Wait until data are overdue, may have come back, or a probe is wanted."""
        while not await self._is_wanted(0):
            now = asyncio.get_running_loop().time()
            if self._status.state is State.HISTORY_DOWN:
                first_s = _FIRST_HEARTBEATS * self._heartbeat_s
                is_new = now - self._status.snapshot.state_since < first_s
                await self._is_wanted(first_s if is_new else _APART_HEARTBEATS * self._heartbeat_s)
                return
            if not self._status.state.has_data:  # test now and then whether data come again
                last = max(self._sent_at, self._status.snapshot.state_since)
                await self._is_wanted(max(last + self._apart_s(2 * self._heartbeat_s) - now, 0))
                return
            test_s = self._evidence.gate.test_in_s + _AFTER_OTHERS_S
            if test_s <= 0:
                return
            due = self._liveness.probe_at
            wait_s = self._heartbeat_s / 2 if due is None else due - now
            if wait_s <= 0 or await self._is_wanted(min(wait_s, self._heartbeat_s / 2, test_s)):
                return

    async def _is_wanted(self, within_s: float) -> bool:
        """Whether a probe is wanted now or within that time."""
        wanted = self._evidence.probe_wanted
        if not wanted.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(wanted.wait(), within_s)
        was_wanted = wanted.is_set()
        wanted.clear()
        return was_wanted

    async def _is_unanswered(self, client: IbClient, patience_s: float) -> bool:
        """Whether a probe gets no answer, and no known trouble at IB explains this."""
        requested_at = asyncio.get_running_loop().time()
        probe = asyncio.ensure_future(self._probe_repeatedly(client, patience_s))
        repeat = asyncio.ensure_future(self._availability.repeat.wait())
        try:
            await asyncio.wait({probe, repeat}, return_when=asyncio.FIRST_COMPLETED)
            is_answered = probe.done() and probe.result()
        finally:
            probe.cancel()
            repeat.cancel()
            await asyncio.gather(probe, repeat, return_exceptions=True)
        is_lost = self._status.state in (State.UPSTREAM_LOST, State.COMPETING_SESSION)
        was_lost = is_lost or self._availability.was_lost_after(requested_at)
        return not is_answered and not was_lost

    async def _probe_repeatedly(self, client: IbClient, patience_s: float) -> bool:
        """Send a probe, and others beside it after a while; whether an answer came.

        What an outage swallowed is never answered, and would hide that it is over.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience_s
        probes: set[asyncio.Future[bool]] = set()
        next_at = loop.time()
        try:
            while True:
                if next_at <= loop.time() < deadline:
                    self._unanswered += bool(probes)
                    probes.add(asyncio.ensure_future(self._probe(client, deadline - loop.time())))
                    next_at = loop.time() + self._apart_s(_APART_HEARTBEATS * self._heartbeat_s)
                wait_s = max(next_at - loop.time(), 0) if next_at < deadline else None
                done, probes = await asyncio.wait(
                    probes, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED
                )
                if any(one.result() for one in done):
                    self._unanswered = 0
                    return True
                if not probes:
                    return False
        finally:
            for one in probes:
                one.cancel()
            await asyncio.gather(*probes, return_exceptions=True)

    def _apart_s(self, most_s: float) -> float:
        """Seconds between two probes: few while a trouble is new, and then so many."""
        if self._status.state.has_data:
            return min([*_HURRIES_S[self._unanswered : self._unanswered + 1], most_s])
        since_s = asyncio.get_running_loop().time() - self._status.snapshot.state_since
        is_new = since_s < 2 * _HURRY_S and not self._unanswered
        return min(_HURRY_S, most_s) if is_new else most_s

    async def _probe(self, client: IbClient, patience_s: float) -> bool:
        """Send one probe; whether an answer came."""
        instrument = self._evidence.to_probe()
        requested_at = self._sent_at = asyncio.get_running_loop().time()
        self._evidence.gate.note_test()
        try:
            with self._liveness.waiting_for_data():
                await client.probe(instrument, patience_s)
        except NotConnected:
            raise
        except TimedOut:
            return False
        except CompetingSession as error:
            self._evidence.note_refused_session(instrument, error)
            return True
        except NotEntitled as error:  # proves that its farm answers
            log.info("the probe was answered: %s", error)
        except KtrdrError as error:
            log.info("the probe was answered: %s", error)
            self._evidence.note_probe_error(instrument, error)
            return True
        self._evidence.note_probe(instrument, requested_at)
        if self._unanswered:  # requests too may have waited in vain
            self._evidence.note_data_back()
        return True
