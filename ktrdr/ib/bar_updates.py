"""The updates of open streams, as the library parses them: handed to whoever opened each.

The library compares each update with all bars of the stream, and keeps every one; here nothing is
kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ktrdr.errors import KtrdrError
from ktrdr.market.bars import Bar

Updated = Callable[[Bar | None], None]
"""Receives the forming bar; None: an update that cannot be read."""
Ended = Callable[[KtrdrError], None]
"""Receives why IB has ended the stream."""


class _Stream(NamedTuple):
    updated: Updated
    ended: Ended


class BarUpdates:
    """The streams of one connection."""

    def __init__(self, wrapper: Any, read_time: Callable[[str], int | None]) -> None:
        """`wrapper`: the library's receiver of parsed messages; `read_time`: a bar's start."""
        self._streams: dict[int, _Stream] = {}
        self._read_time = read_time
        wrapper.historicalDataUpdate = self._take

    def __repr__(self) -> str:
        return f"<BarUpdates of {len(self._streams)} streams>"

    def begin(self, number: int, updated: Updated, ended: Ended) -> None:
        """Hand on the updates of this request."""
        self._streams[number] = _Stream(updated, ended)

    def end(self, number: int) -> bool:
        """Ignore the updates of this request; False: it was no stream."""
        return self._streams.pop(number, None) is not None

    def fail(self, number: int, error: KtrdrError) -> None:
        """IB has ended this stream, if it is one."""
        if (stream := self._streams.pop(number, None)) is not None:
            stream.ended(error)

    def _take(self, number: int, each: Any) -> None:
        stream = self._streams.get(number)
        if stream is None:
            return
        start = self._read_time(str(each.date))
        known = None if start is None else _bar(start, each)
        stream.updated(known)


def _bar(start: int, each: Any) -> Bar | None:
    try:
        numbers = (each.open, each.high, each.low, each.close, each.volume)
        return Bar(start, *map(float, numbers))
    except (TypeError, ValueError):
        return None
