"""The kinds of defects in a bar file: names, and which can be fixed without loss. Finds none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ktrdr.market.instruments import Instrument
from ktrdr.market.sessions import (
    DAILY_SETTLE_S,
    SETTLE_S,
    BoolArray,
    Int64Array,
    Schedule,
    expected,
)
from ktrdr.market.timeframes import DAY_S, MINUTE_S, Timeframe

Float64Array = NDArray[np.float64]

A_PERSON = "a person must decide"
"""What a finding says of how it is fixed if ktrdr cannot fix it."""
_FAR = 2**62
_TIME = f"{A_PERSON}: correct the time, or remove the line"
_VALUES = f"{A_PERSON}: correct the line, or remove it, so that IB's bar is requested"


class Defect(Enum):
    """A kind of defect: its description, and how it is fixed or that a person must decide."""

    HEADER = ("no header with the required columns", f"{A_PERSON}: add the header as first line")
    TOO_LONG = ("a line too long to be a bar", f"{A_PERSON}: bar files have no such lines")
    NO_TIME = ("a time that cannot be read", _TIME)
    FIELDS = ("more or fewer fields than the header has", f"{A_PERSON}: correct the line")
    NO_VALUE = (
        "a row that lacks a price or volume, as an empty cell or nan",
        "it is removed, and IB's bar is requested in its place",
    )
    NO_NUMBER = ("a price or volume that is not a finite number", _VALUES)
    UNEVEN = ("a time off the grid: whole minutes, or 00:00 UTC for daily bars", _TIME)
    IMPOSSIBLE = ("prices outside low and high, or a volume below 0 other than -1", _VALUES)
    CONFLICT = ("a different row for the same time", f"{A_PERSON} which of the two is right")
    UNORDERED = ("a row out of order", "the rows are sorted by time")
    DOUBLE = ("a duplicate row", "it is kept once")
    BLANK = ("an empty line", "it is dropped")
    HEADER_AGAIN = ("a repeated header", "it is dropped")
    TORN = ("an incomplete last line", "it is dropped: it was never a whole row")
    UNENDED = ("a last row without a line end", "the line end is added")
    UNFINISHED = ("a bar that has not ended yet", "it is dropped, and requested again once it has")
    DOUBTFUL = ("a bar that may not have ended: its sessions are not known", "nothing to fix")
    OUTSIDE = ("a bar outside the sessions that IB reports", "nothing to fix")

    @property
    def what(self) -> str:
        """Its description."""
        return self.value[0]

    @property
    def fix(self) -> str:
        """How it is fixed, or that a person must decide."""
        return self.value[1]

    @property
    def refusal(self) -> str:
        """Why a defect of this kind, which can be fixed in most files, is not fixed in this one."""
        return _REFUSALS.get(self, A_PERSON)

    @property
    def is_lossless(self) -> bool:
        """It can be fixed without loss, in most files."""
        return self in DROPPED | _ALONE | _IN_ORDER

    @property
    def is_note(self) -> bool:
        """Worth knowing, but not a problem."""
        return self in (Defect.DOUBTFUL, Defect.OUTSIDE)


DROPPED = frozenset(
    {
        Defect.DOUBLE,
        Defect.BLANK,
        Defect.HEADER_AGAIN,
        Defect.TORN,
        Defect.UNFINISHED,
        Defect.NO_VALUE,
    }
)
"""Fixed by dropping the line."""

_ALONE = frozenset({Defect.BLANK, Defect.HEADER_AGAIN, Defect.TORN, Defect.UNENDED})
_IN_ORDER = frozenset({Defect.UNORDERED, Defect.DOUBLE})
_REFUSALS = {
    Defect.UNORDERED: f"{A_PERSON}: it is not known where the lines without a time belong",
    Defect.DOUBLE: f"{A_PERSON}: it is dropped once every line has a readable time",
    Defect.NO_VALUE: f"{A_PERSON}: most rows lack one; a volume that is not known is -1",
    Defect.UNFINISHED: f"{A_PERSON}: ktrdr did not write it, or the clock is wrong",
}
_WITHOUT_TIME = frozenset({Defect.NO_TIME, Defect.TOO_LONG})


class FindingState(Enum):
    """Whether a finding is a problem, and whether it can be fixed."""

    NOTE = "worth knowing"
    STAYS = "for a person to decide"
    FIXABLE = "can be fixed"
    FIXED = "fixed"


@dataclass(frozen=True)
class Finding:
    """A problem, or something worth knowing."""

    where: str
    """The file's name in the store."""
    what: str
    fix: str
    """How it is fixed, or what a person must do."""
    state: FindingState = FindingState.STAYS
    lines: tuple[int, ...] = ()
    """The numbers of the first few; the header is line 1."""
    count: int = 1
    files: Mapping[str, str] = field(default_factory=dict)
    """For files that are not read: names of the first → the names that they should have.

    Empty: it is not certain, or another file has that name.
    """

    @property
    def is_broken(self) -> bool:
        """It is a problem, not a note."""
        return self.state in (FindingState.STAYS, FindingState.FIXABLE)


def fixable(
    found: Iterable[Defect], *, drop_unfinished: bool, drop_incomplete: bool = True
) -> frozenset[Defect]:
    """Those of a file's defects that can be fixed without loss.

    Rows are sorted only if each has a readable time: otherwise the place of some is unknown.
    `drop_unfinished`: there is one unfinished bar, the last, and ktrdr has written it.
    `drop_incomplete`: half of the rows at least have all values.
    """
    present = frozenset(found)
    if Defect.HEADER in present:
        return frozenset()
    chosen = present & _ALONE
    if not present & _WITHOUT_TIME:
        chosen |= present & _IN_ORDER
    dropped = {Defect.UNFINISHED: drop_unfinished, Defect.NO_VALUE: drop_incomplete}
    return chosen | {defect for defect in present if dropped.get(defect)}


def impossible(
    opens: Float64Array,
    highs: Float64Array,
    lows: Float64Array,
    closes: Float64Array,
    volumes: Float64Array,
) -> BoolArray:
    """Which bars are invalid: `Bar.is_sound` for many bars of finite numbers at once."""
    found: BoolArray = (
        (lows > np.minimum(opens, closes))
        | (highs < np.maximum(opens, closes))
        | (lows > highs)
        | ((volumes < 0) & (volumes != -1))
    )
    return found


class Sessions(NamedTuple):
    """The sessions of a contract, as IB reports them."""

    schedule: Schedule
    alignment: frozenset[int]
    """Local minutes at which bars begin; an argument of `expected` for their length."""
    instrument: Instrument


def sessions_from(
    schedule: Schedule | None, alignment: frozenset[int], instrument: Instrument
) -> Sessions | None:
    """None: these sessions are guessed, from a week or from usual hours."""
    if schedule is None or schedule.source != "ib":
        return None
    return Sessions(schedule, alignment, instrument)


def unfinished(
    starts: Int64Array, timeframe: Timeframe, sessions: Sessions | None, now: int
) -> tuple[BoolArray, BoolArray]:
    """Which bars are certainly unfinished at `now`, and which may be (UTC seconds).

    Only the sessions show when a bar ends: it is cut short when its session closes, and a trading
    day can end before its UTC day does. One-minute bars and bars in the future need no sessions.
    """
    length_s = timeframe.length_s
    late = starts + (2 * DAY_S if timeframe.is_daily else length_s) > now
    sure = late & ((starts > now) | (timeframe is Timeframe.M1))
    open_ = late & ~sure
    if not open_.any():
        return sure, open_
    due, coming = _due_and_coming(starts[open_], timeframe, sessions, now)
    sure[open_] = coming & ~due
    doubtful = open_ & (starts + length_s > now)
    doubtful[open_] &= ~coming & ~due
    return sure, doubtful


def _due_and_coming(
    starts: Int64Array, timeframe: Timeframe, sessions: Sessions | None, now: int
) -> tuple[BoolArray, BoolArray]:
    """Which bars are over by now according to the sessions, and which will be at some time."""
    if sessions is None:
        nothing = np.zeros(len(starts), np.bool_)
        return nothing, nothing
    settle_s = DAILY_SETTLE_S if timeframe.is_daily else SETTLE_S
    first, last = int(starts.min()), int(starts.max()) + MINUTE_S
    due, coming = (
        np.isin(
            starts,
            expected(
                sessions.schedule, timeframe, first, last, by, alignment=sessions.alignment
            ).starts,
        )
        for by in (now + settle_s, _FAR)
    )
    return due, coming
