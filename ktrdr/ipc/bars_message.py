"""The message of bars between programs: in columns, which are quick to encode and to parse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter

from ktrdr.errors import InvalidRequest
from ktrdr.market.bars import Answer, Bar


@dataclass(frozen=True)
class BarColumns:
    """Bars as one column for each of their fields; all columns have the same length."""

    start: tuple[int, ...]
    open: tuple[float, ...]
    high: tuple[float, ...]
    low: tuple[float, ...]
    close: tuple[float, ...]
    volume: tuple[float, ...]

    @classmethod
    def of(cls, bars: Sequence[Bar]) -> BarColumns:
        """The columns of these bars."""
        return cls(*(tuple(map(itemgetter(place), bars)) for place in range(len(Bar._fields))))

    def bars(self) -> list[Bar]:
        """The bars of these columns. InvalidRequest: the columns differ in length."""
        columns = (self.start, self.open, self.high, self.low, self.close, self.volume)
        try:
            return list(map(Bar._make, zip(*columns, strict=True)))
        except ValueError:
            lengths = ", ".join(str(len(column)) for column in columns)
            raise InvalidRequest(f"bars in columns of {lengths}: expected one length") from None


@dataclass(frozen=True)
class BarsMessage:
    """The answer of `GET /bars`."""

    bars: BarColumns
    invalid: tuple[int, ...] = ()
    """Starts of the invalid bars that IB sent."""
    neighbours: BarColumns | None = None
    """Bars just before and after the requested interval."""
    outcome: str = ""
    """`bars` or `no_data`."""
    gateway: str | None = None
    """`live` or `simulated`."""
    at_once: int | None = None
    """How many requests may be in flight now; None: not known."""

    def answer(self) -> Answer:
        """IB's answer. InvalidRequest: the columns differ in length."""
        neighbours = self.neighbours.bars() if self.neighbours else ()
        return Answer(self.bars.bars(), self.invalid, tuple(neighbours))
