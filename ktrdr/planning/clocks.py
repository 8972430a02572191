"""What time it is by two clocks, this machine's and the gateway's. Reads neither."""

from __future__ import annotations

from dataclasses import dataclass

APART_S = 60.0
"""Clocks that are further apart than this do not agree: one of them is wrong."""
_EXACT_S = 2.0
"""The gateway tells whole seconds, and its answer takes time."""


@dataclass(frozen=True)
class Clocks:
    """How far the gateway's clock is off this machine's."""

    offset_s: float | None = None
    """The gateway's minus this machine's; None: it was not asked yet."""

    @property
    def agree(self) -> bool:
        """Nothing is known to be wrong with either."""
        return self.offset_s is None or abs(self.offset_s) <= APART_S

    def now(self, wall_s: float) -> float:
        """The time (UTC seconds) that both allow, where this machine's clock shows `wall_s`.

        Nothing is due, finished or absent later than the clock that is behind says.
        """
        if self.offset_s is None or self.offset_s >= -_EXACT_S:
            return wall_s
        return wall_s + self.offset_s

    @property
    def words(self) -> str:
        """What is wrong, for a person; empty: nothing."""
        if self.offset_s is None or self.agree:
            return ""
        order = "ahead of" if self.offset_s > 0 else "behind"
        return (
            f"the gateway's clock is {abs(self.offset_s):.0f} s {order} this machine's: "
            "nothing is taken for complete or absent until they agree"
        )
