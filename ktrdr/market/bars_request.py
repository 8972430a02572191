"""A request for bars as a value, also in IB's terms, and its priority. Sends nothing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum

from ktrdr.market.instruments import Instrument
from ktrdr.market.timeframes import DAY_S, Timeframe

_LEAST_S = 1800
_SECONDS_MAX = 86400  # IB refuses more in S (error 321)
_DAYS_MAX = 365  # IB refuses more in D (error 321)
RETURN_S = 150.0
"""How long a request outlives its connection: a nightly restart takes a minute or two."""
_ANSWER_S = 30.0
_ANSWER_PER_BAR_S = 0.01  # 15,500 one-minute bars took IB 33–59 s [observed]


@dataclass(frozen=True)
class BarsRequest:
    """All finished bars of one series that start in `[start, end)` (UTC seconds)."""

    instrument: Instrument
    timeframe: Timeframe
    start: int
    end: int

    @property
    def bars_at_most(self) -> int:
        """How many bars the interval could have if the market never closed."""
        return max(1, (self.end - self.start) // self.timeframe.length_s)

    @property
    def timeout_s(self) -> float:
        """How long to wait for a response of this size."""
        return _ANSWER_S + _ANSWER_PER_BAR_S * self.bars_at_most

    @property
    def patience_s(self) -> float:
        """How long the caller should wait, including an outage of the connection."""
        return self.timeout_s + RETURN_S

    def ib_end(self, now: int) -> str:
        """IB's `endDateTime` in UTC, a bar later, since IB does not document if it is inclusive.

        Empty, which means now, if that would be in the future, and for series of which IB accepts
        no other end. Daily bars are dated by the day on which their session closes, which west of
        Greenwich can be the next UTC day.
        """
        until = self.until(now)
        return (
            "" if until == now else datetime.fromtimestamp(until, UTC).strftime("%Y%m%d-%H:%M:%S")
        )

    def until(self, now: int) -> int:
        """The end that IB is told (UTC seconds): a bar that ends later has only its beginning."""
        if not self.instrument.can_be_paged:
            return now
        return min(self.end + self._margin_s, now)

    def ib_duration(self, now: int) -> str:
        """IB's `durationStr`, long enough to reach back to the start.

        `S` and `D` count trading seconds and trading days [observed], so they reach at least as
        far as calendar seconds and days; the day of the end counts as one.
        """
        span = max(self.until(now) - self.start, 0) + self.timeframe.length_s
        if span <= _SECONDS_MAX and not self.timeframe.is_daily:
            return f"{max(span, _LEAST_S)} S"
        days = -(-span // DAY_S) + 1
        return f"{days} D" if days <= _DAYS_MAX else f"{-(-days // _DAYS_MAX)} Y"

    @property
    def _margin_s(self) -> int:
        return 2 * DAY_S if self.timeframe.is_daily else self.timeframe.length_s


class Priority(IntEnum):
    """The order in which waiting requests are sent."""

    INTERACTIVE = 0
    """A person waits for the response."""
    TAIL = 1
    """The newest bars."""
    RECENT = 2
    """Gaps in the days that are kept complete."""
    BACKFILL = 3
    """History, as far as it was requested."""
