"""Begins and ends the restarts of the gateway and of its log-in, as its plan says."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime

from ktrdr.errors import Misconfigured
from ktrdr.sim.gateway.clock import Clock
from ktrdr.sim.gateway.fault_injector import FaultInjector
from ktrdr.sim.gateway.restart_plan import Change, Nights

log = logging.getLogger(__name__)

_CHECK_S = 0.2
"""Real seconds between readings of the clock at most, since a caller's clock may jump."""


class Restarts:
    """The restarts of one gateway, on the event loop that starts them."""

    def __init__(
        self, plan: Nights, clock: Clock, now: Callable[[], datetime], fault_injector: FaultInjector
    ) -> None:
        self._plan = plan
        self._clock = clock
        self._now = now
        self._fault_injector = fault_injector
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to follow the plan."""
        self._task = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """Stop following the plan. Safe to call twice."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _follow(self) -> None:
        changed_at = self._now()
        while (next_at := self._plan.next_change(changed_at)) is not None:
            await asyncio.sleep(min(self._clock.real_s(next_at), _CHECK_S))
            now = self._now()
            for change in self._plan.changes(changed_at, now):
                try:
                    self._make(change)
                except Misconfigured as error:
                    log.error("%s cannot end: %s", change.fault, error)
            changed_at = now

    def _make(self, change: Change) -> None:
        if change.is_begin:
            self._fault_injector.begin(change.fault, {})
        else:
            self._fault_injector.end(change.fault)
