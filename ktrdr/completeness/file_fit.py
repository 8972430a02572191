"""How a file's rows fit the sessions of its contract: zone, stamp, grid and length. Pure.

A file that somebody else wrote may mean other times than it seems to: those of an exchange without
a zone, the ends of bars instead of their starts, bars of another length. Sessions show most of it,
since in the right zone nearly all rows lie in them. They show little of a market that never closes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import NamedTuple
from zoneinfo import ZoneInfo

import numpy as np

from ktrdr.completeness.gaps import among
from ktrdr.completeness.grids import find_grid, shown
from ktrdr.market.sessions import BoolArray, Int64Array, Schedule, expected
from ktrdr.market.timeframes import DAY_S, HOUR_S, MINUTE_S, Timeframe
from ktrdr.market.zones import EXCHANGE_ZONES, find_zone

_LEAST_ROWS = 20
"""Fewer rows prove nothing."""
_STRAY = 0.05
"""So large a part of the rows may lie elsewhere: half days, sessions that were extended."""
_LEAST_STRAY = 10
"""Fewer rows outside are a chance; and so many times fewer are no chance."""
_BY_END = 0.9
"""In so large a part of the sessions rows are at the ends of the first and the last bar, and none
at the open, if bars are named by their end."""
_LEAST_SESSIONS = 3
"""Fewer sessions do not show that."""
_LEAST_PLACES = 4
"""Longer bars begin at so many times of day, or they may be auctions."""
_LEAST_H4_S = 2 * HOUR_S
"""Four-hour bars may be cut this short by an open or a close, but not most of them."""
_OBSERVED_ZONE = "America/New_York"
"""Where IB's grid was observed."""
_FAR = 2**62
_BEFORE_S, _AFTER_S = 5 * HOUR_S + HOUR_S // 2, 4 * HOUR_S
"""Extended hours before and after regular ones: of US stocks from 04:00 to 20:00."""
_NEAR_S = HOUR_S // 4
"""So near to an open or a close some row is: zones differ by half an hour at least."""
_EDGE_S = HOUR_S // 2
_LONG_S = 12 * HOUR_S
_AHEAD_S = 60
"""A row begins no later than this, by the clock of this machine."""
_OTHER_ZONES = ("UTC", "Etc/GMT+5", "Europe/Athens", "America/Los_Angeles")
"""No zones of exchanges, but of files: `Etc/GMT+5` is New York's winter time all year, and the
servers of many forex brokers have Eastern Europe's."""


class Kind(Enum):
    """What does not fit."""

    ZONE = "zone"
    OTHER_CLOCK = "other clock"
    STAMP = "stamp"
    GRID = "grid"
    LENGTH = "length"
    EXTENDED_HOURS = "extended hours"
    HOURS = "hours"
    ROW_NUMBERS = "row numbers"


_NEARLY_ALL = 0.95

_ADVICE = {
    Kind.ZONE: "move it away and bring it in with `ktrdr import`, or write each time in UTC or "
    "with its offset; or, if they are UTC, "
    'zone = "UTC" for it in instruments.toml',
    Kind.OTHER_CLOCK: "correct its times in a copy, and put that in its place; or, if they "
    "are right, "
    'zone = "UTC" for it in instruments.toml',
    Kind.STAMP: "move it away and bring it in with `ktrdr import`, or name each bar by its "
    "start; or, if they are starts, "
    'stamp = "start" for it in instruments.toml',
    Kind.GRID: "bring its bars onto IB's times, or move the file away",
    Kind.LENGTH: "give the file the name of another timeframe, the length of its bars",
    Kind.EXTENDED_HOURS: "extended_hours = true for it in instruments.toml, if they are wanted",
    Kind.HOURS: "is it this contract?",
    Kind.ROW_NUMBERS: "write the file without that column, as pandas does with "
    "to_csv(…, index=False), or give the column a name if it is no index",
}


class Fit(NamedTuple):
    """How many of a file's rows lie in the sessions, if its times are those of a zone."""

    zone: str
    """`UTC` also stands for times that have a zone in the file."""
    rows: int
    """Those on days whose sessions are known."""
    inside: int
    days_outside: int = 0
    """The days on which others lie outside."""

    @property
    def outside(self) -> int:
        """Those that do not."""
        return self.rows - self.inside

    @property
    def is_good(self) -> bool:
        """Nearly all of them do."""
        return self.outside <= _STRAY * self.rows

    @property
    def share(self) -> float:
        """The part of them that do."""
        return self.inside / max(self.rows, 1)

    def is_much_better(self, other: Fit) -> bool:
        """Nearly none are outside, and of the other so many that it is no chance."""
        is_clear = other.outside >= _LEAST_STRAY * max(self.outside, 1)
        return is_clear and (other.days_outside > 1 or not other.is_good)


@dataclass(frozen=True)
class Misfit:
    """Why the rows of a file cannot be what they seem to be."""

    kind: Kind
    why: str
    fits: Fit | None = None
    """The zone in which they would fit; None: it is not about the zone, or none is known."""

    @property
    def what(self) -> str:
        """In words."""
        if self.fits is None:
            return self.why
        return f"{self.why}, as {self.fits.zone} {self.fits.inside} of {self.fits.rows}"

    @property
    def advice(self) -> str:
        """What a person can do."""
        return _ADVICE[self.kind]

    @property
    def is_sure(self) -> bool:
        """IB's bars do not belong between these rows; otherwise it is only worth knowing."""
        return self.kind not in (Kind.EXTENDED_HOURS, Kind.HOURS)


ROW_NUMBERS = Misfit(
    Kind.ROW_NUMBERS,
    "its first column has no name and numbers the rows, and new rows would have no number",
)
"""The first column is an index."""
ON_WEEKENDS = Misfit(Kind.OTHER_CLOCK, "some of its rows lie in the middle of weekends")
"""As with a broker's clock that the times do not say."""


@dataclass(frozen=True)
class Hours:
    """The sessions of a contract, and what is known of the times of a file."""

    timeframe: Timeframe
    schedule: Schedule
    alignment: frozenset[int]
    """As an argument of `sessions.expected`."""
    now: int
    """UTC seconds."""
    has_zone: bool
    """The rows say their zone, or it is known to be UTC."""
    has_starts: bool = False
    """They are known to be named by their start."""
    has_extended_hours: bool = False
    """The sessions include them."""
    trusts_usual: bool = False
    """Usual sessions count as well, where nothing is to be written between the rows yet."""

    @property
    def can_tell(self) -> bool:
        """Not for daily bars; and by guessed sessions only where they count."""
        is_known = self.schedule.source == "ib" or self.trusts_usual
        return not self.timeframe.is_daily and is_known


def misfit(times: Int64Array, hours: Hours) -> Misfit | None:
    """Why rows do not fit the sessions of their contract; None: they do, or nothing tells.

    `times`: ascending starts of intraday bars, in UTC seconds; those without a zone as if they
    were UTC.
    """
    if not hours.can_tell or not hours.schedule.sessions or not len(times):
        return None
    here = _fit(times, "UTC", hours, hours.schedule)
    if here.rows < _LEAST_ROWS:
        return None
    fits = here if hours.has_zone else _best(times, here, hours)
    utc = in_utc(times, fits.zone) if fits.is_good else times
    if (why := _other_length(utc, hours)) is not None:
        return Misfit(Kind.LENGTH, why)
    if fits is not here or not here.is_good:
        return _elsewhere(times, here, fits, hours)
    if _are_named_by_end(times, hours, hours.schedule):
        return Misfit(Kind.STAMP, "its times are the ends of bars, not their starts")
    return _other_grid(times, hours)


def other_clock(times: Int64Array, clocks: Int64Array, hours: Hours) -> Misfit | None:
    """Why times that say their zone cannot be right; None: they may be.

    Their clock fits the regular sessions far better as that of another zone. Rows of extended hours
    fill more of a day than the sessions do, and fit in no other zone. `times`: ascending, in UTC
    seconds as the file says; `clocks`: what its cells show, as if that were UTC.
    """
    if not hours.can_tell or not hours.schedule.sessions or not len(times):
        return None
    regular = replace(hours, has_extended_hours=True)  # none are added
    here = fit_in_utc(times, regular)
    if here.outside >= _LEAST_STRAY:
        there = max(fits_by_zone(np.sort(clocks), regular), key=lambda one: one.share)
        is_better = there.is_good and there.is_much_better(here)
        if is_better and not _are_extended_alone(times, hours):
            why = (
                f"by the zone that its times say, {here.inside:,} of {here.rows:,} rows lie in the "
                f"contract's sessions; the same clock in {there.zone}: {there.inside:,} of "
                f"{there.rows:,}"
            )
            return Misfit(Kind.OTHER_CLOCK, why)
    return None


def _are_extended_alone(utc: Int64Array, hours: Hours) -> bool:
    """Whether rows are those before the sessions alone, or after them, from end to end.

    The sessions themselves are longer, and do not fit there by another clock. A row is at their
    begin, so that they are no ends of bars.
    """
    opens, closes, *_ = hours.schedule.columns
    first, last, *_ = longest(hours).columns
    for begins, ends in ((first, opens), (closes, last)):
        place = np.maximum(np.searchsorted(begins, utc, side="right") - 1, 0)
        into, left = utc - begins[place], ends[place] - hours.timeframe.length_s - utc
        is_in = (into >= 0) & (left >= 0)
        ends_met = is_in.any() and into[is_in].min() == 0 and left[is_in].min() <= _NEAR_S
        if ends_met and is_in.sum() >= _NEARLY_ALL * len(utc):
            return True
    return False


def on_weekends(times: Int64Array, hours: Hours) -> Misfit | None:
    """That rows lie in the middle of weekends, and so many that it is no chance; None: they do not.

    `times`: UTC seconds.
    """
    if not hours.can_tell or not hours.schedule.sessions:
        return None
    is_chance = on_weekends_count(times, hours) < _LEAST_STRAY
    return ON_WEEKENDS if has_rows_on_weekends(times, hours) and not is_chance else None


def fits_by_zone(times: Int64Array, hours: Hours) -> list[Fit]:
    """How times without a zone fit the sessions in each zone that files are known to have.

    In regular hours; where they fit in no zone, with the hours before and after these. Zones in
    which many rows lie in the middle of weekends are left out.
    """
    clocks = _by_days(times)
    by_zone = {zone: clocks.in_utc(zone) for zone in _zones(hours.schedule)}
    possible = {z: utc for z, utc in by_zone.items() if not has_rows_on_weekends(utc, hours)}
    for schedule in (hours.schedule, longest(hours)):
        fits = [_fit(utc, z, hours, schedule) for z, utc in (possible or by_zone).items()]
        if any(one.is_good for one in fits):
            break
    return fits


def fit_in_utc(times: Int64Array, hours: Hours) -> Fit:
    """How times in UTC seconds fit the sessions; if badly, with extended hours."""
    regular = _fit(times, "UTC", hours, hours.schedule)
    return regular if regular.is_good else _fit(times, "UTC", hours, longest(hours))


def has_rows_on_weekends(times: Int64Array, hours: Hours) -> bool:
    """Whether more than one in a thousand rows lie where nothing has traded for half an hour.

    And is not traded for half an hour more: between sessions that are a day and more apart. Of a
    market that is open day and night nothing else shows another zone. `times`: UTC seconds.
    """
    return 1000 * on_weekends_count(times, hours) > len(times)


def on_weekends_count(times: Int64Array, hours: Hours) -> int:
    """How many rows lie in the middle of weekends, as above. `times`: ascending, UTC seconds."""
    opens, closes, *_ = longest(hours).columns
    apart = opens[1:] - closes[:-1] >= DAY_S
    begins, ends = closes[:-1][apart] + _EDGE_S, opens[1:][apart] - _EDGE_S
    return int((np.searchsorted(times, ends) - np.searchsorted(times, begins)).sum())


def reach_both_ends(times: Int64Array, hours: Hours) -> bool:
    """Whether rows are near the open of some session, and near the close of some.

    If not, the times may be those of another zone too, in which they also lie inside. Without
    rows enough in regular hours, extended ones count. Of markets that are open day and night the
    opens and closes of weeks count. `times`: UTC seconds.
    """
    is_regular = _fit(times, "UTC", hours, hours.schedule).is_good
    opens, closes, *_ = (hours.schedule if is_regular else longest(hours)).columns
    apart = opens[1:] - closes[:-1] >= DAY_S
    if is_long(hours.schedule) and apart.any():
        opens, closes = opens[1:][apart], closes[:-1][apart]
    ends = times + hours.timeframe.length_s
    return bool(_least_apart(opens, times) <= _NEAR_S and _least_apart(closes, ends) <= _NEAR_S)


def longest(hours: Hours) -> Schedule:
    """The sessions with the hours before and after them, where there are such."""
    is_whole = hours.has_extended_hours or is_long(hours.schedule)
    return hours.schedule if is_whole else _with_extended_hours(hours.schedule)


def is_long(schedule: Schedule) -> bool:
    """Whether its market is open day and night."""
    opens, closes, *_ = schedule.columns
    return bool(len(opens) and np.median(closes - opens) >= _LONG_S)


def _least_apart(few: Int64Array, times: Int64Array) -> int:
    """How far the nearest of some times are from one another; `times` ascend."""
    later = np.searchsorted(times, few)
    nearest = [times[np.clip(place, 0, len(times) - 1)] for place in (later - 1, later)]
    return int(np.abs(np.array(nearest) - few).min())


def are_named_by_start(times: Int64Array, hours: Hours) -> bool:
    """In nearly all sessions a row is at the open, and at hardly any close: no auctions there.

    Or so it is with extended hours. False: it is not, or the sessions do not show it. `times` as in
    `misfit`.
    """
    return any(_begin_at_opens(times, one) for one in (hours.schedule, longest(hours)))


def _begin_at_opens(times: Int64Array, schedule: Schedule) -> bool:
    opens, closes, *_ = schedule.columns
    begun = np.searchsorted(times, opens, side="right")  # a row at the open alone may be an end
    have_rows = np.searchsorted(times, closes, side="right") > begun
    sessions = int(have_rows.sum())
    at_open, at_close = (int((have_rows & _are_among(at, times)).sum()) for at in (opens, closes))
    is_shown = at_open >= _BY_END * sessions and at_close <= (1 - _BY_END) * sessions
    return sessions >= _LEAST_SESSIONS and is_shown


def in_utc(times: Int64Array, zone: str) -> Int64Array:
    """UTC seconds of the clock times of a zone, given as if they were UTC.

    Of an hour that comes twice the first is meant.
    """
    return _by_days(times).in_utc(zone)


class _ClockTimes(NamedTuple):
    """Clock times, with the day of each run of those that are of one day."""

    times: Int64Array
    days: list[int]
    begins: Int64Array
    """Where these runs begin, and their end."""

    def in_utc(self, zone: str) -> Int64Array:
        """As `in_utc`; what is common to all zones is not done again."""
        if zone == "UTC":
            return self.times
        local = find_zone(zone)
        known = {
            day: _offset_s(day, local) for day in {*self.days, *(d + DAY_S for d in self.days)}
        }
        offsets = np.array([known[day] for day in self.days], np.int64)
        found: Int64Array = self.times - offsets.repeat(np.diff(self.begins))
        for place, day in enumerate(self.days):
            if known[day] != known[day + DAY_S]:  # the clock changes
                whole = slice(*self.begins[place : place + 2])
                hours = (self.times[whole] // HOUR_S * HOUR_S).tolist()
                found[whole] = self.times[whole] - [_offset_s(hour, local) for hour in hours]
        return found


def _by_days(times: Int64Array) -> _ClockTimes:
    days = times // DAY_S * DAY_S
    begins = np.flatnonzero(np.diff(days, prepend=days[:1] - 1))
    return _ClockTimes(times, days[begins].tolist(), np.append(begins, len(times)))


def _offset_s(clock: int, zone: ZoneInfo) -> int:
    """By how much a clock of the zone that shows this is ahead of UTC."""
    shown_there = datetime.fromtimestamp(clock, UTC).replace(tzinfo=zone)
    return int((shown_there.utcoffset() or timedelta()).total_seconds())


# Their zone.


def _fit(utc: Int64Array, zone: str, hours: Hours, schedule: Schedule) -> Fit:
    """Rows at the close count: they may be of an auction, or named by their end.

    `utc`: ascending, but for the hours in which a clock changes.
    """
    known = utc[np.searchsorted(utc, schedule.start) : np.searchsorted(utc, schedule.end, "right")]
    opens, closes, *_ = schedule.columns
    reach_s = hours.timeframe.length_s - MINUTE_S if hours.timeframe is Timeframe.H4 else 0
    open_sessions = np.zeros(len(known) + 1, np.int64)
    np.add.at(open_sessions, np.searchsorted(known, opens - reach_s), 1)
    np.add.at(open_sessions, np.searchsorted(known, closes, side="right"), -1)
    is_inside = open_sessions.cumsum()[:-1] > 0
    is_inside &= known <= hours.now + _AHEAD_S
    outside = known[~is_inside] // DAY_S
    days = int((outside[1:] != outside[:-1]).sum()) + bool(len(outside))
    return Fit(zone, len(known), int(is_inside.sum()), days)


def _best(times: Int64Array, here: Fit, hours: Hours) -> Fit:
    """The zone in which rows that say none fit best: UTC, unless another one is much better."""
    is_ahead = times[-1] > hours.now + _AHEAD_S
    if here.outside < _LEAST_STRAY and not is_ahead:
        return here
    best = max(_by_zones(times, hours, hours.schedule), key=lambda one: one.share)
    is_chosen = best.is_much_better(here) or not here.is_good
    is_chosen |= bool(is_ahead) and best.outside < here.outside
    return best if is_chosen else here


def _by_zones(times: Int64Array, hours: Hours, schedule: Schedule) -> Iterator[Fit]:
    """The fits in all zones that files are known to have; that of the exchange comes first."""
    clocks = _by_days(times)
    for zone in _zones(schedule):
        yield _fit(clocks.in_utc(zone), zone, hours, schedule)


def _zones(schedule: Schedule) -> list[str]:
    zones = (schedule.zone, "America/New_York", *_OTHER_ZONES, *EXCHANGE_ZONES.values())
    return list(dict.fromkeys(zones))


def _with_extended_hours(schedule: Schedule) -> Schedule:
    """The same, each session with the hours before and after it; they may overlap."""
    longer = (
        one._replace(open=one.open - _BEFORE_S, close=one.close + _AFTER_S)
        for one in schedule.sessions
    )
    return Schedule(
        schedule.zone, schedule.start - DAY_S, schedule.end + DAY_S, tuple(longer), schedule.source
    )


def _elsewhere(times: Int64Array, here: Fit, fits: Fit, hours: Hours) -> Misfit:
    """Too many rows lie outside the sessions: where they fit, if anywhere.

    `here`: the fit as the times stand, `fits`: the best.
    """
    inside = f"{here.inside} of {here.rows} rows lie in the contract's sessions"
    if times[-1] > hours.now + _AHEAD_S:
        inside += " and not in the future"
    if fits is not here and fits.is_good:
        return Misfit(Kind.ZONE, f"as UTC {inside}", fits)
    if not hours.has_extended_hours:
        wide = _with_extended_hours(hours.schedule)
        if _fit(times, "UTC", hours, wide).is_good:
            return _in_extended_hours(times, wide, inside, hours)
        if not hours.has_zone:
            best = max(_by_zones(times, hours, wide), key=lambda one: one.share)
            regular = _fit(in_utc(times, best.zone), best.zone, hours, hours.schedule)
            if best.is_good and regular.inside >= here.inside:
                return Misfit(Kind.ZONE, f"as UTC {inside}, even with extended hours", best)
    if hours.has_zone:
        return Misfit(Kind.HOURS, inside)
    return Misfit(Kind.ZONE, f"as UTC {inside}, and in no other zone nearly all of them")


def _in_extended_hours(times: Int64Array, wide: Schedule, inside: str, hours: Hours) -> Misfit:
    """Most rows outside the sessions lie in the hours before and after."""
    if _are_named_by_end(times, hours, wide):
        return Misfit(Kind.STAMP, "its times are the ends of bars, not their starts")
    if (found := _other_grid(times, hours)) is not None:
        return found
    opens, closes, *_ = hours.schedule.columns
    later = np.searchsorted(times, opens)
    have_rows = np.searchsorted(times, closes) > later
    before = times[np.maximum(later - 1, 0)]
    reach_in = have_rows & (before < opens) & (before + hours.timeframe.length_s > opens)
    if 2 * reach_in.sum() > have_rows.sum():
        return Misfit(Kind.GRID, "its bars begin before the sessions do, and reach into them")
    return Misfit(Kind.EXTENDED_HOURS, f"{inside}, most others in extended hours")


# Their length, stamp and grid.


def _other_length(times: Int64Array, hours: Hours) -> str | None:
    """Why the bars are of another length than the file's; None: they may be of that length."""
    timeframe, schedule = hours.timeframe, hours.schedule
    apart = np.diff(times)
    least_s = _LEAST_H4_S if timeframe is Timeframe.H4 else timeframe.length_s
    near = apart[apart < least_s]
    if 2 * len(near) > len(apart) and not _are_expected(times, hours):
        usual_s = int(np.bincount(near).argmax())
        return f"most rows are {_minutes(usual_s)} apart, less than a bar of {timeframe.value}"
    longer = [one for one in Timeframe if timeframe.length_s < one.length_s < DAY_S]
    opens, _, _, offset = schedule.columns
    place = np.maximum(np.searchsorted(opens, times, side="right") - 1, 0)
    local = (times + offset[place])[~among(times, opens)]
    if len(local) < _LEAST_ROWS or len(np.unique(local % DAY_S)) < _LEAST_PLACES:
        return None
    for one in reversed(longer):
        if not (local % one.length_s).any():
            return (
                f"all rows begin as bars of {one.value} do, and not as those of {timeframe.value}"
            )
    return None


def _are_expected(times: Int64Array, hours: Hours) -> bool:
    """Most rows begin as IB's bars do."""
    span = int(times[0]), int(times[-1]) + MINUTE_S
    due = expected(hours.schedule, hours.timeframe, *span, _FAR, alignment=hours.alignment)
    return bool(2 * among(times, due.starts).sum() > len(times))


def _minutes(seconds: int) -> str:
    minutes = seconds // MINUTE_S
    return "a minute" if minutes == 1 else f"{minutes} minutes"


def _are_named_by_end(times: Int64Array, hours: Hours, schedule: Schedule) -> bool:
    """In nearly all sessions rows are at the ends of its first and of its last bar, none before.

    One at the close alone may be of an auction. Where four-hour bars end is not known.
    """
    if hours.has_starts or hours.timeframe is Timeframe.H4:
        return False
    opens, closes, _, offset = schedule.columns
    length_s = hours.timeframe.length_s
    have_rows = np.searchsorted(times, closes, side="right") > np.searchsorted(times, opens)
    first_ends = opens + length_s, opens + length_s - (opens + offset) % length_s
    has_first = _are_among(first_ends[0], times) | _are_among(first_ends[1], times)
    by_end = _are_among(closes, times) & ~_are_among(opens, times) & has_first
    sessions = int(have_rows.sum())
    return sessions >= _LEAST_SESSIONS and bool(by_end.sum() >= _BY_END * sessions)


def _are_among(few: Int64Array, times: Int64Array) -> BoolArray:
    """Which of some times are among many, which ascend."""
    place = np.minimum(np.searchsorted(times, few), len(times) - 1)
    found: BoolArray = times[place] == few
    return found


def _other_grid(times: Int64Array, hours: Hours) -> Misfit | None:
    """Elsewhere IB's grid is not known before its bars have shown it."""
    if hours.schedule.zone != _OBSERVED_ZONE:
        return None
    found = find_grid(times, hours.schedule, hours.timeframe, hours.alignment)
    if found.minute is None:
        return None
    there = shown(hours.schedule, hours.timeframe, frozenset({found.minute}))
    here = shown(hours.schedule, hours.timeframe, hours.alignment)
    return Misfit(Kind.GRID, f"its bars begin at {there} by the exchange's clock, IB's at {here}")
