"""When to trust the two clocks, this machine's and the gateway's. Reads no clock itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

APART_S = 60.0
"""Clocks further apart than this do not agree: one of them is wrong."""
BELIEVED_AFTER_S = 300.0
"""How long a clock must stay at the time it jumped to before that time is trusted."""
_EXACT_S = 2.0
"""The gateway reports whole seconds, and its answer takes time."""
_NOT_YET = "nothing is taken for complete or absent until"


class Moment(NamedTuple):
    """One instant as this machine's two clocks show it."""

    wall_s: float
    """UTC seconds; can be set, and runs on while the machine sleeps."""
    monotonic_s: float
    """Seconds since some instant; cannot be set."""

    @property
    def base_s(self) -> float:
        """Their difference: constant, unless a clock is set or stops."""
        return self.wall_s - self.monotonic_s


@dataclass(frozen=True)
class Clocks:
    """How far the gateway's clock is off this machine's, and whether this machine's has jumped."""

    offset_s: float | None = None
    """The gateway's minus this machine's; None: not known yet."""
    base_s: float | None = None
    """This machine's clock minus its monotonic one, when last trusted; None: never."""
    gateway_s: float | None = None
    """The gateway's clock minus this machine's monotonic one, when that was last trusted."""
    jumped: Moment | None = None
    """When the jump was first seen; None: it has not jumped."""

    def received(self, offset_s: float | None, at: Moment) -> Clocks:
        """The clocks after the gateway has reported its time.

        The clock of a gateway on this machine jumps with it and proves nothing. If a gateway's
        clock has run on evenly and the two agree only now, this machine's clock was corrected.
        """
        if offset_s is None:  # unknown, so a clock that was wrong still is
            return self
        found = replace(self, offset_s=offset_s)
        gateway_s = at.base_s + offset_s
        if not self.has_jumped(at):
            return replace(found, gateway_s=gateway_s)
        went_on = self.gateway_s is not None and abs(gateway_s - self.gateway_s) <= APART_S
        is_right = went_on and not found.are_apart
        return replace(found, base_s=at.base_s, jumped=None) if is_right else found

    def seen(self, at: Moment) -> Clocks:
        """The clocks after reading this machine's.

        A jump is trusted once it has lasted, and forgotten when it is reversed.
        """
        by_s = self.jump_s(at)
        if abs(by_s) <= APART_S:
            return replace(self, base_s=at.base_s, jumped=None)
        passed_s = 0.0 if self.jumped is None else at.monotonic_s - self.jumped.monotonic_s
        if self.jumped is None or abs(by_s - self.jump_s(self.jumped)) > APART_S:
            return replace(self, jumped=at)
        if passed_s < BELIEVED_AFTER_S:
            return self
        return replace(self, base_s=at.base_s, jumped=None)

    def jump_s(self, at: Moment) -> float:
        """How far this machine's clock is ahead of where it should be since it was last trusted."""
        return 0.0 if self.base_s is None else at.base_s - self.base_s

    def has_jumped(self, at: Moment) -> bool:
        """The clock of this machine was set, or it slept, and its time is not trusted yet."""
        return abs(self.jump_s(at)) > APART_S

    @property
    def are_apart(self) -> bool:
        """The clocks differ too much: one of the two is wrong."""
        return self.offset_s is not None and abs(self.offset_s) > APART_S

    def agree(self, at: Moment) -> bool:
        """Neither clock is known to be wrong."""
        return not self.are_apart and not self.has_jumped(at)

    def now(self, at: Moment) -> float:
        """The time (UTC seconds) by the clock that is behind.

        No bar counts as due, finished or absent at a later time.
        """
        allowed = [at.wall_s]
        if self.offset_s is not None and self.offset_s < -_EXACT_S:
            allowed.append(at.wall_s + self.offset_s)
        if self.has_jumped(at):
            allowed.append(at.wall_s - self.jump_s(at))
        return min(allowed)

    def words(self, at: Moment) -> str:
        """What is wrong, for a person; empty: nothing."""
        if self.has_jumped(at):
            by_s = self.jump_s(at)
            return (
                f"this machine's clock has jumped by {abs(by_s):.0f} s, "
                f"{'ahead' if by_s > 0 else 'back'} (it was set, or the machine slept): "
                f"{_NOT_YET} it has stayed there for {BELIEVED_AFTER_S / 60:.0f} minutes"
            )
        if self.offset_s is None or not self.are_apart:
            return ""
        order = "ahead of" if self.offset_s > 0 else "behind"
        return (
            f"the gateway's clock is {abs(self.offset_s):.0f} s {order} this machine's: "
            f"{_NOT_YET} they agree"
        )
