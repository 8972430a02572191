"""Clocks of time zones: what they show, and which hours come twice or not at all. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from ktrdr.completeness.file_fit import in_utc
from ktrdr.market.sessions import BoolArray, Int64Array
from ktrdr.market.timeframes import HOUR_S
from ktrdr.market.zones import find_zone

_STEP_S = 900
"""Offsets change at multiples of this."""


def local_clock(utc: Int64Array, zone: str) -> Int64Array:
    """What a clock of the zone shows at UTC seconds, as if that were UTC."""
    if zone == "UTC":
        return utc
    local = find_zone(zone)
    steps, place = np.unique(utc // _STEP_S, return_inverse=True)
    offsets = [_offset_s(step * _STEP_S, local) for step in steps.tolist()]
    found: Int64Array = utc + np.array(offsets, np.int64)[place]
    return found


def are_skipped(clocks: Int64Array, zone: str) -> BoolArray:
    """Which of these clock times there never were: the hour was left out."""
    skipped: BoolArray = local_clock(in_utc(clocks, zone), zone) != clocks
    return skipped


def are_double(clocks: Int64Array, zone: str) -> BoolArray:
    """Which of these clock times there were twice, so that it is not known which is meant."""
    utc = in_utc(clocks, zone)
    before, after = (local_clock(utc + step, zone) == clocks for step in (-HOUR_S, HOUR_S))
    double: BoolArray = before | after
    return double


def _offset_s(utc: int, zone: ZoneInfo) -> int:
    there = datetime.fromtimestamp(utc, UTC).astimezone(zone)
    return int((there.utcoffset() or timedelta()).total_seconds())
