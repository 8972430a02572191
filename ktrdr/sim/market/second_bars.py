"""One-second bars: a minute's bar split into sixty, which add up to it exactly."""

from __future__ import annotations

import numpy as np

from ktrdr.sim.market.bars import Bars, FloatArray, sums
from ktrdr.sim.market.contracts import Tick
from ktrdr.sim.market.prices import noise, round_to
from ktrdr.sim.market.sessions import MINUTE_S, Int64Array


def seconds(key: int, minutes: Bars, tick: Tick) -> Bars:
    """One bar a second. The price goes from the open through both extremes to the close.

    The path depends only on `key` and the minute.
    """
    start = (minutes.start[:, None] + np.arange(MINUTE_S)).ravel()
    path = _path(key, minutes, tick)
    opens, closes = path[:, :-1].ravel(), path[:, 1:].ravel()
    return Bars(
        start,
        start + 1,
        opens,
        np.maximum(opens, closes),
        np.minimum(opens, closes),
        closes,
        _volumes(minutes.volume),
    )


def so_far(key: int, minute: Bars, end_s: int, tick: Tick) -> Bars:
    """A single minute as it was at `end_s`, at least a second after its start."""
    passed = seconds(key, minute, tick)
    passed = passed.only(passed.start < end_s)
    bar = sums(passed, np.repeat(minute.start, len(passed)))
    return Bars(bar.start, minute.end, bar.open, bar.high, bar.low, bar.close, bar.volume)


def _path(key: int, minutes: Bars, tick: Tick) -> FloatArray:
    """Prices at the 61 edges of the seconds of each minute."""
    number = minutes.start // MINUTE_S
    high_at = 1 + (noise(key ^ 0xB1, number) * 59).astype(np.int64)
    low_at = 1 + (noise(key ^ 0xB2, number) * 58).astype(np.int64)
    low_at += low_at >= high_at
    high_first = high_at < low_at
    at = (np.minimum(high_at, low_at), np.maximum(high_at, low_at))
    turns = (
        np.where(high_first, minutes.high, minutes.low),
        np.where(high_first, minutes.low, minutes.high),
    )
    edge = np.arange(MINUTE_S + 1)[None, :]
    path = np.where(
        edge <= at[0][:, None],
        _line(edge, 0 * at[0], at[0], minutes.open, turns[0]),
        np.where(
            edge <= at[1][:, None],
            _line(edge, at[0], at[1], turns[0], turns[1]),
            _line(edge, at[1], 0 * at[1] + MINUTE_S, turns[1], minutes.close),
        ),
    )
    return np.clip(round_to(tick, path), minutes.low[:, None], minutes.high[:, None])


def _line(
    edge: Int64Array, begin: Int64Array, end: Int64Array, first: FloatArray, last: FloatArray
) -> FloatArray:
    """A straight line from `first` at `begin` to `last` at `end`, continued beyond them."""
    share = (edge - begin[:, None]) / (end - begin)[:, None]
    return first[:, None] + (last - first)[:, None] * share


def _volumes(volume: Int64Array) -> Int64Array:
    """The volume spread evenly over the seconds, in whole numbers; -1 stays -1."""
    passed = np.maximum(volume, 0)[:, None] * np.arange(MINUTE_S + 1)[None, :] // MINUTE_S
    return np.where(volume[:, None] < 0, -1, np.diff(passed, axis=1)).ravel()
