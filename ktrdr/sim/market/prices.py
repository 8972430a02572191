"""A generated price path: hashed noise on many scales, with random access. Keeps no state.

The logarithm of the price at a minute is a sum of octaves. Each octave takes a random number at
every multiple of its period and interpolates smoothly, so that every minute takes the same time to
compute. Short octaves make minutes move, long ones make trends over weeks and months.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from ktrdr.sim.market.bars import Bars, FloatArray
from ktrdr.sim.market.contracts import Contract, Tick
from ktrdr.sim.market.sessions import DAY_S, MINUTE_S, Int64Array, Sessions

_PERIODS_MIN = tuple(4**k for k in range(11))
_MINUTE_VOLATILITY = 0.00025
"""The scale of one minute's move; that of an octave grows a little slower than √period."""

_VOLATILITY = {"CASH": 0.35, "CRYPTO": 2.5, "FUT": 0.8, "CONTFUT": 0.8, "IND": 0.8}
"""The volatility by security type, as a multiple of a stock's."""


def key_of(seed: int, name: str) -> int:
    """A 56-bit key for all random numbers of `name`."""
    return int.from_bytes(hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=7).digest(), "big")


def noise(key: int, index: Int64Array) -> FloatArray:
    """A number in [0, 1) for each index, always the same, and independent of the others."""
    mixed = index.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(key)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return ((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def log_path(key: int, minute: Int64Array, volatility: float) -> FloatArray:
    """The logarithm of the price over its base at the beginning of each minute since 1970.

    `minute` ascends. Random numbers are made once for the interval, and then indexed.
    """
    total = np.zeros(len(minute))
    for octave, period in enumerate(_PERIODS_MIN if len(minute) else ()):
        cell = minute // period
        place = cell - cell[0]
        known = noise(key + octave, np.arange(cell[0], cell[-1] + 2))
        level = known[place]
        if period > 1:
            share = (minute - cell * period) / period
            level += (known[place + 1] - level) * (share * share * (3 - 2 * share))
        scale = min(period**0.5, 0.6 * period**0.47 + 0.4)
        total += (level - 0.5) * (2 * volatility * _MINUTE_VOLATILITY * scale)
    return total


def round_to(tick: Tick, price: FloatArray) -> FloatArray:
    """Prices in whole ticks, at least one; each result is the double nearest to its decimal."""
    steps = np.maximum(np.rint(price * tick.denominator / tick.numerator), 1)
    return steps * tick.numerator / tick.denominator


def generate(seed: int, contract: Contract, minute: Int64Array, of_day: Int64Array) -> Bars:
    """One bar for each minute since 1970; `of_day` is its minute of the day on the wall clock.

    A bar opens where the one before closed, if there is one the minute before. A contract with
    flat bars trades in every tenth minute.
    """
    key = key_of(seed, contract.price_key)
    volatility = _VOLATILITY.get(contract.sec_type, 1.0)
    base = contract.base_price * (1 + 0.004 * (key_of(seed, contract.local_symbol) % 997) / 997)
    edges, place = _edges(minute)
    traded = np.ones(len(minute), np.int64)
    if contract.has_flat_bars:
        edges, traded = edges // 10 * 10, (minute % 10 == 9).astype(np.int64)
    path = round_to(contract.tick, base * np.exp(log_path(key, edges, volatility)))
    opens, closes = path[place], path[place + 1]
    reach = base * _MINUTE_VOLATILITY * volatility * traded
    highs = np.maximum(opens, closes) + noise(key ^ 0xA1, minute) ** 2 * reach
    lows = np.minimum(opens, closes) - noise(key ^ 0xA2, minute) ** 2 * reach
    return Bars(
        minute * MINUTE_S,
        (minute + 1) * MINUTE_S,
        opens,
        np.maximum(round_to(contract.tick, highs), np.maximum(opens, closes)),
        np.minimum(round_to(contract.tick, lows), np.minimum(opens, closes)),
        closes,
        volumes(key, contract, minute, of_day) * traded,
    )


def with_a_trade(seed: int, contract: Contract, bars: Bars) -> npt.NDArray[np.bool_]:
    """The minutes of an illiquid contract with a trade: not all, and on some days none."""
    key = key_of(seed, contract.price_key)
    return (noise(key ^ 0xA4, bars.start // MINUTE_S) < contract.trade_share) & (
        noise(key ^ 0xA5, bars.start // DAY_S) >= contract.quiet_day_share
    )


def _edges(minute: Int64Array) -> tuple[Int64Array, Int64Array]:
    """Every minute at which a bar begins or ends, once, and the place of each bar's begin in it."""
    pauses = np.flatnonzero(np.diff(minute, append=-1) != 1)
    edges = np.insert(minute, pauses + 1, minute[pauses] + 1)
    steps = np.zeros(len(minute), np.int64)
    steps[pauses[:-1] + 1] = 1
    return edges, np.arange(len(minute)) + np.cumsum(steps)


def volumes(key: int, contract: Contract, minute: Int64Array, of_day: Int64Array) -> Int64Array:
    """Volumes in whole numbers, high at New York's open and close, low at night.

    -1 where there are no volumes; an index has 0.
    """
    if not contract.base_volume:
        return np.full(len(minute), 0 if contract.sec_type == "IND" else -1, np.int64)
    hour = of_day / 60
    day_shape = 1.8 * np.exp(-np.abs(hour - 9.5) / 0.5) + 1.2 * np.exp(-np.abs(hour - 15.9) / 0.4)
    awake = np.where((hour >= 9.5) & (hour < 16), 0.6, 0.04)
    level = contract.base_volume * (awake + day_shape * (hour >= 9.5) * (hour < 16))
    return np.maximum(level * (0.3 + 1.4 * noise(key ^ 0xA3, minute)), 1).astype(np.int64)


def minutes_of(sessions: Sessions, start_s: int, end_s: int) -> tuple[Int64Array, Int64Array]:
    """Minutes since 1970 of all sessions within `[start_s, end_s)`, and their minutes of the day.

    The minute that contains `end_s` is included, since it has begun.
    """
    first = np.maximum(sessions.open, start_s) // MINUTE_S
    end = -(-np.minimum(sessions.close, end_s) // MINUTE_S)
    counts = np.maximum(end - first, 0)
    total = int(counts.sum())
    before = np.cumsum(counts) - counts
    minute = np.arange(total, dtype=np.int64) + np.repeat(first - before, counts)
    wall = minute + np.repeat(sessions.offset // MINUTE_S, counts)
    return minute, wall % (DAY_S // MINUTE_S)


def forming(last: Bars, now_s: float, tick: Tick) -> Bars:
    """A single bar as it is at `now_s`, before its end: with a part of its move and its volume."""
    share = min(max((now_s - last.start[0]) / (last.end[0] - last.start[0]), 0.0), 1.0)
    opens = last.open
    closes = np.clip(round_to(tick, opens + (last.close - opens) * share), last.low, last.high)
    high, low = np.maximum(opens, closes), np.minimum(opens, closes)
    return Bars(
        last.start,
        last.end,
        opens,
        np.minimum(np.maximum(round_to(tick, high + (last.high - high) * share), high), last.high),
        np.maximum(np.minimum(round_to(tick, low + (last.low - low) * share), low), last.low),
        closes,
        np.where(last.volume < 0, -1, (last.volume * share).astype(np.int64)),
    )
