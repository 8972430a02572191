"""Bars of one IB response: collected in columns, then checked for invalid bars."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from datetime import date, datetime
from typing import Any

from ktrdr.ib.raw_messages import OddBar
from ktrdr.market.bars import Answer, Bar
from ktrdr.market.bars_request import BarsRequest
from ktrdr.market.sessions import utc_midnight

_NEIGHBOURS = 5
"""How many bars before and after the requested ones are returned too."""
_UNSET_VOLUMES = frozenset(map(float, (2**31 - 1, 2**63 - 1, 2**127 - 1)))
"""IB's values for "not set": UNSET_INTEGER, _LONG and _DECIMAL (TWS API, `ibapi/const.py`)."""


class ReceivedBars(list[Any]):
    """Received bars in columns: the library's own objects are ten times as large."""

    def __init__(self) -> None:
        super().__init__()
        self._columns = [array("d") for _ in Bar._fields]
        self.odd: list[OddBar] = []
        """Bars that could not be read."""

    def clear(self) -> None:
        """Discard all bars."""
        self._columns = [array("d") for _ in Bar._fields]

    def append(self, each: Any, /) -> None:
        """Add one of the library's bars."""
        for column, value in zip(self._columns, _bar(each), strict=True):
            column.append(value)

    def __len__(self) -> int:
        return len(self._columns[0])

    def __iter__(self) -> Iterator[Bar]:
        for start, *values in zip(*self._columns, strict=True):
            yield Bar(int(start), *values)


def _bar(each: Any) -> Bar:
    return Bar(start_of(each.date), each.open, each.high, each.low, each.close, each.volume)


def start_of(when: Any) -> int:
    """UTC seconds of a bar's time as parsed by the library: daily bars have a date."""
    if isinstance(when, datetime):
        if when.tzinfo is None:  # seconds since 1970 were requested
            raise ValueError(f"{when} is a time of no zone")
        return int(when.timestamp())
    return utc_midnight(when if isinstance(when, date) else date.fromisoformat(str(when)))


def checked(
    request: BarsRequest, found: Iterable[Bar], unreadable: AbstractSet[int], now: int
) -> tuple[Answer, list[Bar]]:
    """The requested bars, in order, each start once; and the invalid bars, which are left out.

    Two different bars with the same start are both left out: either may be wrong.
    A neighbour that ends after the end that IB was told at `now` is left out: it may have only its
    beginning. `unreadable`: the starts of bars of the same answer that could not be read.
    """
    bars: dict[int, Bar] = {}
    wrong: list[Bar] = []
    contradicted: set[int] = set()
    for bar in found:
        if not bar.is_sound or _is_odd(bar) or not request.timeframe.can_begin_at(bar.start):
            wrong.append(bar)
        elif bars.setdefault(bar.start, bar) != bar:
            wrong.append(bar)
            contradicted.add(bar.start)
    starts = sorted(bars.keys() - contradicted)
    invalid = ({bar.start for bar in wrong} | unreadable).difference(starts)
    first, end = bisect_left(starts, request.start), bisect_left(starts, request.end)
    whole = bisect_right(starts, request.until(now) - request.timeframe.length_s)
    after = starts[end : min(end + _NEIGHBOURS, whole)]
    neighbours = starts[max(first - _NEIGHBOURS, 0) : first] + after
    answer = Answer(
        [bars[start] for start in starts[first:end]],
        tuple(sorted(start for start in invalid if request.start <= start < request.end)),
        tuple(bars[start] for start in neighbours),
    )
    return answer, wrong


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


def _is_odd(bar: Bar) -> bool:
    """Placeholder numbers: all prices 0, or a volume that means "not set".

    This is checked in IB's responses only, not in files, which other programs may have written.
    """
    return not any(bar[1:5]) or bar.volume in _UNSET_VOLUMES
