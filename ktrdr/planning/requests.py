"""Gaps as the requests that IB accepts, and a request in IB's words. Sends nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from ktrdr.planning.gaps import Gap
from ktrdr.planning.instruments import Instrument
from ktrdr.planning.timeframes import DAY_S, Timeframe

SPAN_DAYS = {
    Timeframe.M1: 7,
    Timeframe.M5: 30,
    Timeframe.M15: 60,
    Timeframe.M30: 60,
    Timeframe.H1: 180,
    Timeframe.H4: 360,
    Timeframe.D1: 20 * 365,
}
"""Calendar days in one request: well inside what IB was seen to answer within a minute."""

JOIN_BARS = 1000
"""Gaps nearer than this are asked for together: bars cost IB less than another request."""

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
        """How long an answer of this size may take."""
        return _ANSWER_S + _ANSWER_PER_BAR_S * self.bars_at_most

    @property
    def patience_s(self) -> float:
        """How long whoever asks should wait, over a loss of the connection and its return."""
        return self.timeout_s + RETURN_S

    def ib_end(self, now: int) -> str:
        """IB's `endDateTime` in UTC, one bar late since nobody says whether it is inclusive.

        Empty, which means now, where that would be in the future. Daily bars are dated by the
        day on which their session closes, west of Greenwich on the next UTC day.
        """
        late = self.end + (2 * DAY_S if self.timeframe.is_daily else self.timeframe.length_s)
        return "" if late >= now else datetime.fromtimestamp(late, UTC).strftime("%Y%m%d-%H:%M:%S")

    def ib_duration(self, now: int) -> str:
        """IB's `durationStr`, long enough to reach back to the start.

        `S` and `D` count trading seconds and trading days [observed], so they never reach less
        far than as many on the calendar; the day of the end counts as one.
        """
        margin = 2 * DAY_S if self.timeframe.is_daily else self.timeframe.length_s
        span = max(min(self.end + margin, now) - self.start, 0) + self.timeframe.length_s
        if span <= _SECONDS_MAX and not self.timeframe.is_daily:
            return f"{max(span, _LEAST_S)} S"
        days = -(-span // DAY_S) + 1
        return f"{days} D" if days <= _DAYS_MAX else f"{-(-days // _DAYS_MAX)} Y"


def plan(gaps: Iterable[Gap], instrument: Instrument, timeframe: Timeframe) -> list[BarsRequest]:
    """Requests that cover the gaps, newest first, each within the span for its bar size."""
    span = SPAN_DAYS[timeframe] * DAY_S
    requests = []
    for first, end in reversed(_near_ones_joined(gaps, timeframe.length_s)):
        while first < end:
            start = max(first, end - span)
            requests.append(BarsRequest(instrument, timeframe, start, end))
            end = start  # noqa: PLW2901  # what is left of this range
    return requests


def _near_ones_joined(gaps: Iterable[Gap], length_s: int) -> list[tuple[int, int]]:
    """The gaps as ranges `[start, end)`, oldest first, with near ones made one."""
    ranges: list[tuple[int, int]] = []
    for gap in sorted(gaps, key=lambda g: g.first):
        end = gap.last + length_s
        if ranges and gap.first - ranges[-1][1] < JOIN_BARS * length_s:
            ranges[-1] = (ranges[-1][0], max(end, ranges[-1][1]))
        else:
            ranges.append((gap.first, end))
    return ranges
