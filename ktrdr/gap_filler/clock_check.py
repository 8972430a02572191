"""The clock check: compares machine and gateway, and undoes the effects of a wrong clock."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from dataclasses import replace

from ktrdr.assessment.assessment import Assessor
from ktrdr.completeness.clocks import APART_S, BELIEVED_AFTER_S, Clocks, Moment
from ktrdr.errors import KtrdrError, RequestFailed
from ktrdr.ledger.ledger import Clock

log = logging.getLogger("gap-filler")

_CHECK_EVERY_S = 60.0
"""The longest time between two comparisons of the clocks."""
_HINT = "set this machine's clock, and that of the machine on which the gateway runs, by NTP"


class ClockCheck:
    """The clocks of one gap filler. For the stepping thread, except `now` and `agree`.

    `wall` returns UTC seconds; `monotonic` is a clock that cannot be set. `boot` names the run of
    the machine in which the latter counts; empty: not known.
    """

    def __init__(
        self,
        wall: Callable[[], float],
        monotonic: Callable[[], float],
        boot: str,
        assessor: Assessor,
    ) -> None:
        self.wall, self._monotonic, self._boot = wall, monotonic, boot
        self._assessor = assessor
        self._clocks = Clocks()
        self._requested_at = -_CHECK_EVERY_S
        """When the gateway's clock was last requested, by the monotonic clock."""
        self._began = 0.0
        """When the clocks were first compared, by the monotonic clock."""
        self._agreed = True
        """Whether the clocks agreed when last compared."""
        self._base_s: float | None = None
        """This machine's clock minus the monotonic one, as last trusted."""

    @property
    def moment(self) -> Moment:
        """The machine's clocks now."""
        return Moment(self.wall(), self._monotonic())

    def now(self) -> float:
        """The time (UTC seconds) by this machine's clock or the gateway's, whichever is behind."""
        return self._clocks.now(self.moment)

    @property
    def agree(self) -> bool:
        """Neither this machine's clock nor the gateway's is known to be wrong."""
        return self._clocks.agree(self.moment)

    @property
    def words(self) -> str:
        """What is wrong, for a person; empty: nothing."""
        return self._clocks.words(self.moment)

    @property
    def jump_s(self) -> float:
        """How far this machine's clock has jumped, while that is not trusted; 0: it has not."""
        at = self.moment
        return round(self._clocks.jump_s(at)) if self._clocks.has_jumped(at) else 0

    def requested_lately(self, within_s: float) -> bool:
        """The gateway's clock was requested within this time, and agreed."""
        return self.agree and 0 <= self._monotonic() - self._requested_at < within_s

    def learn(self, offset_s: float | None, measure: Callable[[], float | None]) -> None:
        """Note how far the gateway's clock was off when last measured.

        `measure` measures it now; KtrdrError: it cannot.
        """
        self._requested_at = self._monotonic()
        self._clocks = self._clocks.received(offset_s, self.moment)
        if self._clocks.are_apart:  # one may have been corrected since
            with contextlib.suppress(KtrdrError):
                self._clocks = self._clocks.received(measure(), self.moment)

    def compare(
        self, report: Callable[[str, KtrdrError], None], *, is_foreign: bool = False
    ) -> bool:
        """Report clocks that disagree. True: whether they agree has changed since the last time.

        Then all series have to be assessed again. `is_foreign`: the store belongs to the other
        source, and nothing is written into its ledger.
        """
        at = self.moment
        if is_foreign:
            self._clocks = self._clocks.seen(at)
            return False
        if self._base_s is None:
            self._begin(at)
        self._clocks = self._clocks.seen(at)
        base_s = self._clocks.base_s or 0.0
        if self._base_s is not None and base_s - self._base_s > APART_S:
            self._assessor.ledger.put_off(int(base_s - self._base_s), int(self.now()))
        self._base_s = base_s
        if why_not := self._clocks.words(at):
            report("clock", RequestFailed(why_not, hint=_HINT))
        has_changed = self.agree != self._agreed
        self._agreed = self.agree
        return has_changed

    def _begin(self, at: Moment) -> None:
        """Restore what was known; evidence grows no older while the machine is off."""
        kept = self._assessor.ledger.clock() if self._assessor.ledger.exists else None
        if kept is not None and kept.boot and kept.boot == self._boot:
            self._clocks = replace(self._clocks, base_s=kept.base_s)
        elif kept is not None and at.wall_s - kept.wall_s > APART_S:
            self._assessor.ledger.put_off(int(at.wall_s - kept.wall_s), int(at.wall_s))
        self._base_s, self._began = self._clocks.base_s, at.monotonic_s

    def forget_future_findings(self) -> None:
        """Discard findings dated later than now: they were made by a clock that was ahead.

        Not right after the start: the machine's clock may be behind until NTP sets it.
        """
        is_early = self._monotonic() - self._began < BELIEVED_AFTER_S
        if is_early or not self.agree or self._clocks.offset_s is None:
            return
        if self._assessor.ledger.forget_after(int(self.now() + APART_S)):
            log.info("findings made while a clock was ahead are requested again")

    def keep(self) -> None:
        """Record this machine's clock, for the next start."""
        if self._assessor.ledger.exists and self._base_s is not None:
            self._assessor.ledger.keep_clock(Clock(self._boot, self._base_s, self.now()))
