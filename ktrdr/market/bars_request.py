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
"""How long a request outlives its connection: a gateway's nightly restart takes a minute or two."""
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
        """As many as the span could hold if the market never closed."""
        return max(1, (self.end - self.start) // self.timeframe.length_s)

    @property
    def timeout_s(self) -> float:
        """Timeout for an answer of this size."""
        return _ANSWER_S + _ANSWER_PER_BAR_S * self.bars_at_most

    @property
    def patience_s(self) -> float:
        """How long the caller should wait, including a loss of the connection and its return."""
        return self.timeout_s + RETURN_S

    def ib_end(self, now: int) -> str:
        """IB's `endDateTime` in UTC, one bar late since it is unknown whether it is inclusive.

        Empty, which means now, if that would be in the future, and for what accepts no other.
        Daily bars are dated by the day on which their session closes, west of Greenwich on the
        next UTC day.
        """
        late = self.end + (2 * DAY_S if self.timeframe.is_daily else self.timeframe.length_s)
        if late >= now or not self.instrument.can_be_paged:
            return ""
        return datetime.fromtimestamp(late, UTC).strftime("%Y%m%d-%H:%M:%S")

    def ib_duration(self, now: int) -> str:
        """IB's `durationStr`, long enough to reach back to the start.

        `S` and `D` count trading seconds and trading days [observed], so they never reach less
        far than as many on the calendar; the day of the end counts as one.
        """
        margin = 2 * DAY_S if self.timeframe.is_daily else self.timeframe.length_s
        end = min(self.end + margin, now) if self.instrument.can_be_paged else now
        span = max(end - self.start, 0) + self.timeframe.length_s
        if span <= _SECONDS_MAX and not self.timeframe.is_daily:
            return f"{max(span, _LEAST_S)} S"
        days = -(-span // DAY_S) + 1
        return f"{days} D" if days <= _DAYS_MAX else f"{-(-days // _DAYS_MAX)} Y"


class Priority(IntEnum):
    """The order of waiting requests."""

    INTERACTIVE = 0
    """A person is waiting at the screen."""
    TAIL = 1
    """The newest bars."""
    RECENT = 2
    """Gaps in the days that are kept complete."""
    BACKFILL = 3
    """History, as far as it was requested."""
