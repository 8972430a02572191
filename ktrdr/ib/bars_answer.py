"""Bars of one IB response: collected in columns, then checked for invalid bars."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from datetime import date, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ktrdr.ib.raw_messages import OddBar
from ktrdr.market.bars import Answer, Bar, are_sound
from ktrdr.market.bars_request import BarsRequest
from ktrdr.market.sessions import BoolArray, utc_midnight

Numbers = NDArray[np.float64]
"""One row for each bar: its start (UTC seconds), open, high, low, close and volume."""

_NEIGHBOURS = 5
"""How many bars before and after the requested ones are returned too."""
_UNSET_VOLUMES = [float(2**31 - 1), float(2**63 - 1), float(2**127 - 1)]
"""IB's values for "not set": UNSET_INTEGER, _LONG and _DECIMAL (TWS API, `ibapi/const.py`)."""


class ReceivedBars(list[Any]):
    """Received bars as numbers: the library's own objects are ten times as large."""

    def __init__(self) -> None:
        super().__init__()
        self._numbers = array("d")
        self.odd: list[OddBar] = []
        """Bars that could not be read."""

    def clear(self) -> None:
        """Discard all bars."""
        self._numbers = array("d")

    def append(self, each: Any, /) -> None:
        """Add one of the library's bars."""
        bar = (start_of(each.date), each.open, each.high, each.low, each.close, each.volume)
        self._numbers += array("d", bar)

    def numbers(self) -> Numbers:
        """All of them, in the order in which they came."""
        return np.array(self._numbers).reshape(-1, len(Bar._fields))

    def __len__(self) -> int:
        return len(self._numbers) // len(Bar._fields)

    def __iter__(self) -> Iterator[Bar]:
        return iter(_bars(self.numbers()))


def _bars(numbers: Numbers) -> list[Bar]:
    starts, *values = numbers.T
    columns = (starts.astype(np.int64).tolist(), *(column.tolist() for column in values))
    return list(map(Bar._make, zip(*columns, strict=True)))


def start_of(when: Any) -> int:
    """UTC seconds of a bar's time as parsed by the library: daily bars have a date."""
    if isinstance(when, datetime):
        if when.tzinfo is None:  # seconds since 1970 were requested
            raise ValueError(f"{when} is a time of no zone")
        return int(when.timestamp())
    return utc_midnight(when if isinstance(when, date) else date.fromisoformat(str(when)))


def checked(
    request: BarsRequest, found: Numbers, unreadable: AbstractSet[int], now: int
) -> tuple[Answer, list[Bar]]:
    """The requested bars, in order, each start once; and the invalid bars, which are left out.

    Two different bars with the same start are both left out: either may be wrong.
    A neighbour that ends after the end that IB was told at `now` is left out: it may have only its
    beginning. `unreadable`: the starts of bars of the same answer that could not be read.
    """
    is_possible = found[:, 0] % request.timeframe.grid_s == 0
    good = is_possible & are_sound(found[:, 1:]) & ~_are_odd(found)
    wrong = _bars(found[~good])
    numbers, contradicting = _ordered(found[good])
    wrong += contradicting
    starts = numbers[:, 0]
    invalid = {*unreadable, *(bar.start for bar in wrong)}
    if invalid:
        invalid.difference_update(starts.tolist())
    first, end = np.searchsorted(starts, [request.start, request.end]).tolist()
    last_whole = request.until(now) - request.timeframe.length_s
    whole = int(np.searchsorted(starts, last_whole, side="right"))
    before = _bars(numbers[max(first - _NEIGHBOURS, 0) : first])
    after = _bars(numbers[end : min(end + _NEIGHBOURS, whole)])
    answer = Answer(
        _bars(numbers[first:end]),
        tuple(sorted(start for start in invalid if request.start <= start < request.end)),
        (*before, *after),
    )
    return answer, wrong


def _ordered(numbers: Numbers) -> tuple[Numbers, list[Bar]]:
    """These bars by their starts, each once; and those that differ from one of the same start."""
    starts = numbers[:, 0]
    if (starts[1:] > starts[:-1]).all():
        return numbers, []
    numbers = numbers[np.argsort(starts, kind="stable")]
    starts = numbers[:, 0]
    is_first = np.concatenate(([True], starts[1:] != starts[:-1]))
    first = np.maximum.accumulate(np.where(is_first, np.arange(len(starts)), 0))
    differs = (numbers != numbers[first]).any(axis=1)
    chosen = is_first & ~np.isin(starts, starts[differs])
    return numbers[chosen], _bars(numbers[differs])


def start_of_odd(odd: OddBar, request: BarsRequest, read: Callable[[str], int | None]) -> int:
    """The start of a bar that cannot be read: its own time, or else after the bar before it.

    `read`: parses IB's text for a bar's time into its start; None: it is not a time.
    """
    if (start := read(odd.time)) is not None:
        return start
    length_s = request.timeframe.length_s
    before = read(odd.before) if odd.before else None
    after = request.start - length_s if before is None else before
    return max(request.start, min(after + length_s, request.end - length_s))


def _are_odd(numbers: Numbers) -> BoolArray:
    """Which bars have placeholder numbers: all prices 0, or a volume that means "not set".

    This is checked in IB's responses only, not in files, which other programs may have written.
    """
    odd: BoolArray = ~numbers[:, 1:5].any(axis=1) | np.isin(numbers[:, 5], _UNSET_VOLUMES)
    return odd
