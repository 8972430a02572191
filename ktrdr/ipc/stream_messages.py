"""The messages about streams of forming bars, and the bars that they have finished."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ktrdr.ipc.messages import Number, Time
from ktrdr.market.bars import Bar


@dataclass(frozen=True)
class StreamedBar:
    """A finished bar of a stream."""

    series: str
    """Such as `AAPL_1m`."""
    start: int
    """UTC seconds."""
    open: Number
    high: Number
    low: Number
    close: Number
    volume: Number

    @classmethod
    def of(cls, series: str, bar: Bar) -> StreamedBar:
        """The message of a bar."""
        return cls(series, *bar)

    @property
    def bar(self) -> Bar:
        """The bar, unchecked."""
        return Bar(self.start, self.open, self.high, self.low, self.close, self.volume)


@dataclass(frozen=True)
class StreamStatus:
    """The state of one stream."""

    series: str
    state: str
    """`opening`, `open`, or `waiting` before the next attempt."""
    since: Time
    """Since when it is in that state."""
    last_update: Time | None = None
    bars: int = 0
    """How many bars it has finished."""
    error: str = ""
    """Why it is not open, or was not."""
    problems: Mapping[str, int] = field(default_factory=dict)
    """What was wrong with its updates → how often, since it was opened."""


@dataclass(frozen=True)
class StreamsMessage:
    """The answer of `GET /streams`."""

    run: str
    """Names the run of the program: after a restart numbers begin again."""
    number: int
    """The number of the newest finished bar, for the next `after`."""
    is_behind: bool
    """Bars after the requested number were dropped: they have to be requested."""
    most: int
    """How many streams may be open: `KTRDR_LIVE_STREAMS`."""
    gateway: str
    """`live` or `simulated`."""
    bars: tuple[StreamedBar, ...] = ()
    streams: tuple[StreamStatus, ...] = ()
