"""The seven timeframes: length, IB's bar size, and possible starts. Knows no sessions."""

from __future__ import annotations

from enum import Enum

MINUTE_S = 60
HOUR_S = 3600
DAY_S = 86400


class Timeframe(Enum):
    """A bar length of the store. The value is its name in file names: `1m` … `1d`."""

    M1 = "1m"
    M5 = "5m"
    M15 = "15m"
    M30 = "30m"
    H1 = "1h"
    H4 = "4h"
    D1 = "1d"

    @classmethod
    def parse(cls, text: str) -> Timeframe:
        """The timeframe of this name. ValueError lists the accepted ones."""
        try:
            return cls(text)
        except ValueError:
            accepted = " ".join(t.value for t in cls)
            raise ValueError(f"timeframe {text!r}: expected one of {accepted}") from None

    @property
    def length_s(self) -> int:
        """Nominal length in seconds. The last bar of a session can be shorter."""
        return _LENGTH_S[self]

    @property
    def ib_bar_size(self) -> str:
        """IB's `barSizeSetting` (TWS API, "Historical Bar Data", valid bar sizes)."""
        return _IB_BAR_SIZE[self]

    @property
    def is_daily(self) -> bool:
        """True for bars that are named by a trading day and not by a time."""
        return self is Timeframe.D1

    @property
    def grid_s(self) -> int:
        """Every start is a multiple of this: a whole minute, or a UTC midnight for daily bars."""
        return DAY_S if self.is_daily else MINUTE_S

    def can_begin_at(self, time_s: int) -> bool:
        """Whether a bar of this length may have that start (UTC seconds)."""
        return time_s % self.grid_s == 0

    def __repr__(self) -> str:
        return f"Timeframe({self.value!r})"


_LENGTH_S = {
    Timeframe.M1: MINUTE_S,
    Timeframe.M5: 5 * MINUTE_S,
    Timeframe.M15: 15 * MINUTE_S,
    Timeframe.M30: 30 * MINUTE_S,
    Timeframe.H1: HOUR_S,
    Timeframe.H4: 4 * HOUR_S,
    Timeframe.D1: DAY_S,
}

_IB_BAR_SIZE = {
    Timeframe.M1: "1 min",
    Timeframe.M5: "5 mins",
    Timeframe.M15: "15 mins",
    Timeframe.M30: "30 mins",
    Timeframe.H1: "1 hour",
    Timeframe.H4: "4 hours",
    Timeframe.D1: "1 day",
}
