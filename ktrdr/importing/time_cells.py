"""The times of files of other programs, as numbers. Knows no sessions, and guesses no zone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import date
from enum import Enum
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from ktrdr.importing.texts import Texts, texts_of
from ktrdr.market.sessions import BoolArray, Int64Array
from ktrdr.market.timeframes import DAY_S, HOUR_S, MINUTE_S

NO_OFFSET = 10**6
"""In the place of an offset: the time says none."""
_BAD = -(2**62)
_MOST_KEPT = 100_000
_BETWEEN = " T,;_"
"""What is between date and clock."""
_FIRST_YEAR, _LAST_YEAR = 1900, 2199
_UNITS = ((10**11, 1), (10**14, 10**3), (10**17, 10**6), (2**63 - 1, 10**9))
"""Below which number → how many of its units are a second."""
_LONGEST_EPOCH = 20
_LAST_SECOND = 59
_LAST_MOMENT = re.compile(r"9{3,9}")
"""The fraction of the last second of a bar: its end is named so, as by Binance."""
_LEAST_EPOCH = 10**8
"""Smaller numbers are no times: it is 1973."""
_MONTHS = {
    name: number
    for number, name in enumerate(
        "jan feb mar apr may jun jul aug sep oct nov dec".split(), start=1
    )
}
_YEAR_FIRST = re.compile(r"(\d{4})(?:([-/.])(\d{1,2})\2(\d{1,2})(?!\d)|(\d{2})(\d{2}))", re.ASCII)
_FIXED_LENGTHS = (len("20261124"), len("2026-11-24"))
_YEAR_LAST = re.compile(r"(\d{1,2})([-/.])(\d{1,2})\2(\d{4})", re.ASCII)
_DAY_AND_NAME = re.compile(r"(\d{1,2})[- ]([A-Za-z]{3,9})\.?,?[- ](\d{4})", re.ASCII)
_NAME_AND_DAY = re.compile(r"([A-Za-z]{3,9})\.? (\d{1,2}),? (\d{4})", re.ASCII)
_CLOCK = re.compile(
    r"""
    (?P<hour>\d\d|\d(?=:|\ ?[AaPp]))
    (?: : (?P<minute>\d\d) (?: : (?P<second>\d\d) (?:[.,](?P<fraction>\d{1,9}))? )?
        | (?P<minute_2>\d\d) (?P<second_2>\d\d)? )
    (?: \ ?(?P<half>[AaPp])\.?[Mm]\.? )?
    (?: \ *(?P<utc>Z|UTC|GMT)? (?P<sign>[+-]) (?P<hours>\d\d) :? (?P<minutes>\d\d)?
        | \ *(?P<zone>[A-Za-z][A-Za-z0-9_+/-]*) )?
    """,
    re.VERBOSE | re.ASCII,
)
_HOUR = re.compile(r"\d\d", re.ASCII)
"""A clock behind a date, of the hour alone."""
_UTC_NAMES = frozenset(("Z", "z", "UTC", "GMT", "Etc/UTC"))
_FIXED = {"EST": -5, "EDT": -4}
"""Abbreviations that stand for one offset alone, in hours."""


class DateOrder(Enum):
    """Which number of `01/02/2024` is the day."""

    DAY_FIRST = "day-first"
    MONTH_FIRST = "month-first"


class Times(NamedTuple):
    """The times of some rows, in columns."""

    clocks: Int64Array
    """Seconds since 1970, as the cells show them: of a time with an offset still local."""
    offsets: Int64Array
    """Seconds that each says it is ahead of UTC, or `NO_OFFSET`."""
    are_good: BoolArray
    """Which could be read."""
    are_ends: BoolArray
    """Which show the last moment of a bar, such as `09:30:59.999`; the clock is that behind it."""


class _Clock(NamedTuple):
    second: int
    offset: int
    is_end: bool = False


class TimeReader:
    """Reads the times of one file, cell by cell, all in the same way. For one thread.

    `has_ends`: they are the ends of bars, also where they show a last second, such as `09:30:59`.
    `ignores_zones`: what they say of their zone counts as not said.
    """

    def __init__(
        self,
        order: DateOrder | None = None,
        *,
        has_ends: bool = False,
        ignores_zones: bool = False,
    ) -> None:
        self._order = order
        self._has_ends = has_ends
        self._ignores_zones = ignores_zones
        self._clocks: dict[str, _Clock] = {}
        self.zone = ""
        """The name of the zone that the times say; empty: none so far."""

    def read(self, cells: Sequence[str], clocks: Sequence[str] | None = None) -> Times:
        """The times in these cells, or in these dates and clocks."""
        if clocks is None:
            model = next(filter(is_time, cells), "")
            if is_epoch(model):
                return self.read_epochs(np.array([_whole(cell) for cell in cells], np.int64))
            dates, clocks = _split(cells, model)
            return self.read_texts(texts_of(dates), texts_of(clocks))
        return self.read_texts(texts_of(cells), texts_of(clocks))

    def read_texts(self, dates: Texts, clocks: Texts) -> Times:
        """The times of dates and clocks, which may have what is between them before them."""
        days = dates.numbers(self._day, 1)[:, 0]
        seconds, offsets, are_ends = clocks.numbers(self._clock, 3).T
        are_good = (days != _BAD) & (seconds != _BAD)
        return Times(
            np.where(are_good, days + seconds, 0), offsets, are_good, are_good & (are_ends != 0)
        )

    def read_epochs(self, numbers: Int64Array) -> Times:
        """Seconds, milliseconds, microseconds or nanoseconds since 1970, each by its magnitude."""
        clocks = np.full(len(numbers), _BAD, np.int64)
        are_ends = np.zeros(len(numbers), np.bool_)
        least = _LEAST_EPOCH
        for below, parts in _UNITS:
            is_unit = (numbers >= least) & (numbers < below)
            if parts > 1:
                are_ends |= is_unit & ((numbers + 1) % (MINUTE_S * parts) == 0)
            elif self._has_ends:
                are_ends |= is_unit & (numbers % MINUTE_S == _LAST_SECOND)
            whole = is_unit & ((numbers % parts == 0) | are_ends)
            clocks[whole] = (numbers[whole] + are_ends[whole]) // parts
            least = below
        are_good = clocks != _BAD
        offset = NO_OFFSET if self._ignores_zones else 0
        offsets = np.full(len(numbers), offset, np.int64)
        return Times(np.where(are_good, clocks, 0), offsets, are_good, are_ends)

    def _day(self, text: str) -> tuple[int]:
        day = day_of(text.strip(), self._order)
        return (_BAD if day is None else (day.toordinal() - _EPOCH_DAY) * DAY_S,)

    def _clock(self, text: str) -> _Clock:
        """With `_BAD` for one that cannot be read."""
        if (known := self._clocks.get(text)) is not None:
            return known
        if len(self._clocks) >= _MOST_KEPT:
            self._clocks.clear()
        clock = self._parse_clock(text.lstrip(_BETWEEN).rstrip()) or _Clock(_BAD, NO_OFFSET)
        self._clocks[text] = clock
        return clock

    def _parse_clock(self, text: str) -> _Clock | None:
        if not text:
            return _Clock(0, NO_OFFSET)
        found = _CLOCK.fullmatch(f"{text}00" if _HOUR.fullmatch(text) else text)
        if found is None:
            return None
        hour, minute = int(found["hour"]), int(found["minute"] or found["minute_2"])
        second = int(found["second"] or found["second_2"] or 0)
        if found["half"]:
            if not 1 <= hour <= 12:
                return None
            hour = hour % 12 + (12 if found["half"] in "Pp" else 0)
        fraction = found["fraction"] or ""
        is_end = second == _LAST_SECOND and bool(
            _LAST_MOMENT.fullmatch(fraction) or (self._has_ends and not fraction.strip("0"))
        )
        is_whole = is_end or not fraction.strip("0")
        if hour > 23 or minute > 59 or second > 59 or not is_whole:
            return None
        offset = NO_OFFSET if self._ignores_zones else self._said_offset(found)
        if offset is None:
            return None
        return _Clock(hour * HOUR_S + minute * MINUTE_S + second + is_end, offset, is_end)

    def _said_offset(self, found: re.Match[str]) -> int | None:
        """None: its zone is not known, or another one than that of the other times."""
        if found["sign"]:
            ahead = int(found["hours"]) * HOUR_S + int(found["minutes"] or 0) * MINUTE_S
            return (-ahead if found["sign"] == "-" else ahead) if ahead <= DAY_S else None
        name = found["zone"] or ""
        if name in _UTC_NAMES:
            return 0
        if name in _FIXED:
            return _FIXED[name] * HOUR_S
        if not name:
            return NO_OFFSET
        if "/" not in name or name != (self.zone or name) or not _is_zone(name):
            return None
        self.zone = name
        return NO_OFFSET


_EPOCH_DAY = date(1970, 1, 1).toordinal()


def day_of(text: str, order: DateOrder | None) -> date | None:
    """The day that a text is; None: it is none, or its `order` is needed and not known."""
    if found := _YEAR_FIRST.fullmatch(text):
        return _date(int(found[1]), int(found[3] or found[5]), int(found[4] or found[6]))
    if found := _YEAR_LAST.fullmatch(text):
        numbers = int(found[1]), int(found[3])
        if order is None:
            return None
        day, month = numbers if order is DateOrder.DAY_FIRST else numbers[::-1]
        return _date(int(found[4]), month, day)
    if found := _DAY_AND_NAME.fullmatch(text):
        return _date(int(found[3]), _MONTHS.get(found[2][:3].lower(), 0), int(found[1]))
    if found := _NAME_AND_DAY.fullmatch(text):
        return _date(int(found[3]), _MONTHS.get(found[1][:3].lower(), 0), int(found[2]))
    return None


def order_shown(texts: Iterable[str]) -> DateOrder | None:
    """Which number is the day, if dates such as `13/02/2024` show it; None: they do not."""
    for text in texts:
        if found := _YEAR_LAST.match(text.strip()):
            if int(found[1]) > 12:
                return DateOrder.DAY_FIRST
            if int(found[3]) > 12:
                return DateOrder.MONTH_FIRST
    return None


def needs_order(text: str) -> bool:
    """Whether a date can be read only if it is known which number is the day."""
    return _YEAR_LAST.match(text.strip()) is not None


def is_time(text: str) -> bool:
    """Whether a cell is a time, or the date of one."""
    text = text.strip()
    if is_epoch(text):
        return int(text.partition(".")[0]) >= _LEAST_EPOCH
    (day,), (clock,) = _split([text], text)
    is_day = any(day_of(day.strip(), order) for order in DateOrder)
    clock = clock.lstrip(_BETWEEN).rstrip()
    return is_day and (not clock or is_clock(clock) or bool(_HOUR.fullmatch(clock)))


def is_clock(text: str) -> bool:
    """Whether a cell is a time of day alone."""
    return bool(_CLOCK.fullmatch(text.strip()))


def is_epoch(text: str) -> bool:
    """Whether a time is a number of seconds since 1970, or of smaller units."""
    whole, _, fraction = text.strip().partition(".")
    if not whole.isdigit() or not whole.isascii() or fraction.strip("0"):
        return False
    return not _is_compact(whole) and len(whole) != 8


def date_length(text: str) -> int:
    """How long the date is with which a time begins; 0: that is not the same for all times."""
    found = _YEAR_FIRST.match(text)
    return found.end() if found and found.end() in _FIXED_LENGTHS else 0


def _is_compact(text: str) -> bool:
    """`20240102093000` or `2024010209`, and not a number of seconds or of smaller units.

    Ten digits of this century, or of the years from 1990 on: as seconds they are in 2033 or later.
    """
    is_long = len(text) in (12, 14) and text.startswith(("19", "20"))
    is_long |= len(text) == 10 and text.startswith(("199", "20")) and int(text[8:]) < 24
    return is_long and day_of(text[:8], None) is not None


def _whole(cell: str) -> int:
    whole, _, fraction = cell.strip().partition(".")
    is_number = whole.isdigit() and whole.isascii() and not fraction.strip("0")
    return int(whole) if is_number and len(whole) < _LONGEST_EPOCH else -1


def _split(cells: Sequence[str], model: str) -> tuple[list[str], list[str]]:
    """The dates and the clocks of times, divided where one of them is, the `model`."""
    first = model.strip()
    if _is_compact(first):
        return [cell.strip()[:8] for cell in cells], [cell.strip()[8:] for cell in cells]
    for form in (_DAY_AND_NAME, _NAME_AND_DAY):
        if form.match(first):
            ends = [(found.end() if (found := form.match(cell)) else len(cell)) for cell in cells]
            parts = list(zip(cells, ends, strict=True))
            return [c[:e] for c, e in parts], [c[e:] for c, e in parts]
    form = _YEAR_FIRST if _YEAR_FIRST.match(first) else _YEAR_LAST
    found = form.match(first)
    mark = first[found.end() : found.end() + 1] if found else ""
    if not found or not mark or mark not in _BETWEEN:
        return list(cells), [""] * len(cells)
    if len(set(map(len, cells))) == 1 and date_length(first):
        end = found.end()
        return [cell[:end] for cell in cells], [cell[end:] for cell in cells]
    divided = [cell.strip().partition(mark) for cell in cells]
    return [one[0] for one in divided], [one[2] for one in divided]


def _date(year: int, month: int, day: int) -> date | None:
    try:
        return date(year, month, day) if _FIRST_YEAR <= year <= _LAST_YEAR else None
    except ValueError:
        return None


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True
