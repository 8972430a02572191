"""Finished bars as server-sent events (HTML standard, section 9.2). Sends nothing itself."""

from __future__ import annotations

import json
from typing import NamedTuple

from ktrdr.data.following import Following
from ktrdr.market.bars import Bar
from ktrdr.market.instruments import Series
from ktrdr.times import iso
from ktrdr.web.bar_formats import whole_volume
from ktrdr.web.event_ids import EventIds
from ktrdr.web.problems import problem_of

MEDIA_TYPE = "text/event-stream"
HEARTBEAT = b":\n\n"
"""A comment, which clients ignore: it shows both sides that the other one is there."""
_COME_AGAIN_MS = 2000


class Part(NamedTuple):
    """Some events."""

    text: bytes
    more: bool
    """Others follow at once."""


class EventStream:
    """The events of one stream, in order. For one thread at a time."""

    def __init__(self, following: Following) -> None:
        self._following = following
        self._positions = following.positions
        self._ids = EventIds(self._positions)

    def begin(self) -> bytes:
        """What comes first: when to come again after an end, and the id if that is before a bar."""
        return f"retry: {_COME_AGAIN_MS}\nid: {self._ids.write(self._positions)}\n\n".encode()

    def next_part(self) -> Part:
        """An event for each new bar, and one for each series that cannot be read; perhaps none."""
        bars, errors, more = self._following.next_piece()
        events = [self._event(series, bar) for series, bar in bars]
        events += [f"event: problem\ndata: {_compact(problem_of(one))}\n\n" for one in errors]
        return Part("".join(events).encode(), more)

    def _event(self, series: Series, bar: Bar) -> str:
        self._positions[series] = bar.start + 1
        return (
            f"id: {self._ids.write(self._positions)}\ndata: {_compact(_content(series, bar))}\n\n"
        )


def _content(series: Series, bar: Bar) -> dict[str, object]:
    return {
        "symbol": series.symbol,
        "timeframe": series.timeframe.value,
        "timestamp": iso(bar.start),
        "open": bar.open,
        "high": bar.high,
        "low": bar.low,
        "close": bar.close,
        "volume": whole_volume(bar.volume),
    }


def _compact(content: object) -> str:
    return json.dumps(content, separators=(",", ":"))
