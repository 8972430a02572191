"""What the times of a file mean: their zone and their stamp. Pure; when in doubt, nothing.

What the file says counts most, then what a person says, then what alone fits the sessions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from ktrdr.completeness.file_fit import (
    ON_WEEKENDS,
    Fit,
    Hours,
    Kind,
    Misfit,
    are_named_by_start,
    fit_in_utc,
    fits_by_zone,
    has_rows_on_weekends,
    in_utc,
    misfit,
    reach_both_ends,
)
from ktrdr.errors import NotUnderstood
from ktrdr.importing.columns import Stamp
from ktrdr.importing.lengths import refuse_other_quarters
from ktrdr.importing.other_clock import (
    refuse_likely_ends,
    refuse_other_clock,
    refuse_shifted_starts,
)
from ktrdr.importing.zone_clocks import local_clock
from ktrdr.market.sessions import Int64Array, Schedule
from ktrdr.market.timeframes import DAY_S, HOUR_S, Timeframe

IN_FILE = "in the file"
"""How a zone is known that each time or the header says."""
_LEAST_ROWS = 20
"""Fewer rows show no zone."""
_USUAL_ZONES = ("UTC", "America/New_York", "Europe/London", "Europe/Berlin", "America/Chicago")
"""Others are not proposed."""
_FRIDAY, _SUNDAY = 4, 6


@dataclass(frozen=True)
class Said:
    """What the file or a person says of its times."""

    has_offsets: bool
    """Each time says its offset from UTC, or is a number of seconds since 1970."""
    zone: str = ""
    """Of times without an offset; empty: it is not said."""
    zone_by: str = ""
    """Where that is said, in words."""
    stamp: Stamp | None = None
    stamp_by: str = ""
    is_stamp_given: bool = False
    """By a person."""
    is_zone_given: bool = False
    """By a person: rows may lie outside the sessions."""
    clocks: Int64Array | None = None
    """What the times show, whatever offset they say, as if that were UTC."""


@dataclass(frozen=True)
class TimeMeaning:
    """What the times of a file mean, and how that is known."""

    zone: str
    """`UTC`, also of times with an offset; else that of its clocks."""
    zone_known: str
    """How it is known, in words."""
    stamp: Stamp
    stamp_known: str
    notes: tuple[str, ...] = ()


# Intraday times.


def meaning_of(
    name: str, times: Int64Array, hours: Hours | None, said: Said, length: Timeframe
) -> TimeMeaning:
    """What intraday times mean. `times`: ascending, those without a zone as if they were UTC.

    `hours`: None if no sessions are known. NotUnderstood: it cannot be known, and what to type.
    """
    zone, how, notes = _zone(name, times, hours, said)
    utc = in_utc(times, zone)
    if hours is None:
        return _without_sessions(name, zone, how, said)
    says_zone = (said.has_offsets or bool(said.zone)) and not said.is_zone_given
    if says_zone and said.clocks is not None:
        refuse_other_clock(name, utc, said.clocks, hours)
    given_start = said.is_stamp_given and said.stamp is Stamp.START
    hours = replace(hours, has_zone=True, has_starts=given_start)
    if length is Timeframe.H4:
        refuse_other_quarters(name, utc, hours.schedule)
    why = misfit(utc, hours)
    is_by_end = why is not None and why.kind is Kind.STAMP
    if is_by_end and says_zone and said.clocks is not None:
        refuse_shifted_starts(name, said.clocks, hours)
    if why is not None and not is_by_end:
        notes += (_note_or_refusal(name, why, zone, said),)
    if has_rows_on_weekends(utc, hours) and not said.is_zone_given:
        what = f"{name}: {ON_WEEKENDS.what}"
        hint = f"its times may be another clock's than they say; if they are right: --zone {zone}"
        raise NotUnderstood(what, hint=hint)
    stamp, known = _stamp(name, utc, hours, said, is_by_end=is_by_end)
    if stamp is Stamp.END:
        _refuse_uneven_ends(name, hours, length)
    return TimeMeaning(zone, how, stamp, known, notes)


def _note_or_refusal(name: str, why: Misfit, zone: str, said: Said) -> str:
    """What is worth knowing of rows that fit badly. NotUnderstood: IB's bars cannot be there."""
    if why.kind is Kind.EXTENDED_HOURS:
        return f"{why.what}: {why.advice}"
    if why.kind in (Kind.LENGTH, Kind.GRID):
        hint = "IB's bars do not belong between them: leave the file out"
        raise NotUnderstood(f"{name}: {why.what}", hint=hint)
    if not said.is_zone_given:
        hint = f"is it this contract? If its times are right: --zone {zone}"
        raise NotUnderstood(f"{name}: {why.what}", hint=hint)
    return why.what


def _zone(
    name: str, times: Int64Array, hours: Hours | None, said: Said
) -> tuple[str, str, tuple[str, ...]]:
    if said.has_offsets:
        return "UTC", IN_FILE, ()
    if said.zone:
        return said.zone, said.zone_by, ()
    if hours is None:
        what = f"{name}: its times say no zone, and no sessions of its contract are known"
        raise NotUnderstood(what, hint="say which: --zone UTC, or --zone America/New_York")
    fits = fits_by_zone(times, hours)
    best = max(fits, key=lambda one: one.share)
    if best.rows < _LEAST_ROWS:
        what = f"{name}: its times say no zone, and {len(times)} rows show none"
        raise NotUnderstood(what, hint=f"say which: --zone {hours.schedule.zone}, or --zone UTC")
    if not best.is_good:
        what = (
            f"{name}: its times say no zone, and fit the sessions in none: at most "
            f"{best.inside} of {best.rows} rows"
        )
        raise NotUnderstood(what, hint="is it this contract? If so, say its zone: --zone NAME")
    rivals = [one for one in _others(times, fits, best) if not best.is_much_better(one)]
    if rivals:
        zones = [best.zone, *(one.zone for one in rivals)]
        if fit_in_utc(in_utc(times, hours.schedule.zone), hours).is_good:  # in extended hours
            zones.append(hours.schedule.zone)
        zones = _usual_first(zones, hours)
        more = f" and {len(zones) - 4} more" if len(zones) > 4 else ""
        what = f"{name}: its times say no zone, and fit several: {', '.join(zones[:4])}{more}"
        raise NotUnderstood(what, hint=_hint_on_zone(zones[0], hours))
    if not reach_both_ends(in_utc(times, best.zone), hours):
        what = f"{name}: its times say no zone, and no row is near the open or the close"
        raise NotUnderstood(what, hint=_hint_on_zone(best.zone, hours))
    return best.zone, f"fits {best.inside:,} of {best.rows:,} rows, no other does", ()


def _usual_first(zones: Sequence[str], hours: Hours) -> list[str]:
    """The exchange's own and the commonest zones before the others."""
    usual = [one for one in (hours.schedule.zone, *_USUAL_ZONES) if one in zones]
    return list(dict.fromkeys([*usual, *zones]))


def _hint_on_zone(zone: str, hours: Hours) -> str:
    """Names a zone only if it is a usual one."""
    is_usual = zone in (hours.schedule.zone, *_USUAL_ZONES)
    return f"say which: --zone {zone}, if it is that" if is_usual else "say which: --zone NAME"


def _others(times: Int64Array, fits: Sequence[Fit], best: Fit) -> list[Fit]:
    """The fits of zones in which the times would be other ones, each of these once."""
    meant, others = in_utc(times, best.zone), []
    for one in fits:
        is_good = one.is_good or not best.is_much_better(one)
        if is_good and (in_utc(times, one.zone) != meant).any():
            others.append(one)
    return others


def _stamp(
    name: str, utc: Int64Array, hours: Hours, said: Said, *, is_by_end: bool
) -> tuple[Stamp, str]:
    """The stamp, and how it is known. NotUnderstood: it is not, or the sessions show another."""
    shown = Stamp.START if are_named_by_start(utc, hours) else None
    shown = Stamp.END if is_by_end else shown
    if said.stamp is None:
        if shown is None:
            raise _unknown_stamp(name)
        at = "opens" if shown is Stamp.START else "closes"
        return shown, f"by the sessions' {at}"
    if shown not in (None, said.stamp):
        what = f"{name}: by the sessions its times are the {shown.value}s of bars"
        hint = f"--stamp {shown.value}, if that is right"
        if shown is Stamp.END:
            hint += "; if they are starts all the same: --stamp start"
        raise NotUnderstood(f"{what}, and not the {said.stamp.value}s", hint=hint)
    if (
        said.stamp is Stamp.START
        and not said.is_stamp_given
        and hours.timeframe is not Timeframe.H4
    ):
        refuse_likely_ends(name, utc, hours)
    return said.stamp, said.stamp_by


def _unknown_stamp(name: str) -> NotUnderstood:
    what = f"{name}: it is not known whether its times are the starts or the ends of bars"
    return NotUnderstood(what, hint="say which: --stamp start, or --stamp end")


def _without_sessions(name: str, zone: str, how: str, said: Said) -> TimeMeaning:
    if said.stamp is None:
        raise _unknown_stamp(name)
    note = "no sessions of its contract are known: nothing shows whether its times are right"
    return TimeMeaning(zone, how, said.stamp, said.stamp_by, (note,))


def _refuse_uneven_ends(name: str, hours: Hours, length: Timeframe) -> None:
    """The first hour of a session may be half a one: then its end does not show its start."""
    opens, _, _, offset = hours.schedule.columns
    if ((opens + offset) % length.length_s).any() and length.length_s > HOUR_S // 2:
        what = f"{name}: bars of {length.value} are named by their ends, and some are shorter"
        raise NotUnderstood(what, hint="name each bar by its start in a copy, and import that")


# Daily times.


@dataclass(frozen=True)
class DayRule:
    """How the trading day follows from the time of a daily bar."""

    zone: str
    """The date on a clock of this zone; empty: the date as it is written."""
    known: str
    """In words."""
    shift_s: int = 0
    """How much later than the trading day its date is, in seconds."""


class DayEnd(Enum):
    """By what days may be named by the midnight at their end."""

    NONE = "nothing"
    GIVEN = "a person, of all files"
    SAID = "the name of their column"
    MOMENT = "times such as 23:59:59.999"


def day_rule_of(
    name: str,
    times: Int64Array,
    offsets: Int64Array | None,
    schedule: Schedule | None,
    *,
    never_closes: bool = False,
    end: DayEnd = DayEnd.NONE,
) -> DayRule:
    """The rule for the days of daily bars; `times` in UTC seconds, or as if they were UTC.

    `never_closes`: its market does not, and days are those of UTC. NotUnderstood: their hours say
    no day.
    """
    if never_closes and (times % DAY_S).any():
        what = f"{name}: its days do not begin at 00:00 UTC, as those of its market do"
        raise NotUnderstood(what, hint="import its hours instead, or leave the file out")
    written = times if offsets is None else times + offsets
    shift_s = _end_shift(name, written, end, never_closes=never_closes)
    if shift_s:
        times, written = times - shift_s, written - shift_s
    rule = replace(_day_rule(name, times, offsets, schedule), shift_s=shift_s)
    if not never_closes:
        days = local_clock(times, rule.zone) if rule.zone else written
        _refuse_evenings(name, days, begins_before=_begins_before(schedule))
    return rule


def _end_shift(name: str, written: Int64Array, end: DayEnd, *, never_closes: bool) -> int:
    """How much later than their days times are, if they are the midnights at the ends of these.

    NotUnderstood: it is not clear whether they are. A person's `--stamp` is that of shorter bars;
    of a market that never closes it means days as well.
    """
    if end is DayEnd.NONE or (written % DAY_S).any():
        return 0
    if end is DayEnd.MOMENT or never_closes:
        return DAY_S
    if end is DayEnd.SAID:
        what = f"{name}: by the name of their column its days may be named by the midnight behind"
        hint = "write the trading days into a column Date in a copy, and import that"
        raise NotUnderstood(what, hint=hint)
    return 0


def _day_rule(
    name: str, times: Int64Array, offsets: Int64Array | None, schedule: Schedule | None
) -> DayRule:
    written = times if offsets is None else times + offsets
    if not (written % DAY_S).any():
        return DayRule("", "the date as written")
    if offsets is None:
        if len(np.unique(written % DAY_S)) == 1:
            return DayRule("", "the date as written, of one time of day")
    elif schedule is not None and (on_clock := _on_clock(times, schedule)) is not None:
        return on_clock
    what = f"{name}: its daily bars have times of day that say no trading day"
    raise NotUnderstood(what, hint="write the trading day alone in a copy, and import that")


def _begins_before(schedule: Schedule | None) -> bool:
    """Whether trading days begin the evening before."""
    if schedule is None or not schedule.sessions:
        return False
    opens, _, days, offset = schedule.columns
    return bool(2 * (opens + offset < days).sum() > len(days))


def _refuse_evenings(name: str, days: Int64Array, *, begins_before: bool) -> None:
    """Refuse days with Sundays and without Fridays, or with times of day on Sundays.

    `begins_before`: trading days do, the evening before: with times of day a Friday is needed.
    """
    weekdays = (days // DAY_S + 3) % 7
    on_sundays = weekdays == _SUNDAY
    has_clocks = (days[on_sundays] % DAY_S).any()
    if on_sundays.any() and (has_clocks or not (weekdays == _FRIDAY).any()):
        what = f"{name}: {on_sundays.sum():,} of {len(days):,} days are of a weekend"
        hint = "its days may be named by the evening before: name the trading days in a copy"
        raise NotUnderstood(what, hint=hint)
    if begins_before and (days % DAY_S).any() and not (weekdays == _FRIDAY).any():
        what = f"{name}: its days have a time of day, and may be those before the trading days"
        raise NotUnderstood(what, hint="name the trading days in a copy, and import that")


def _on_clock(times: Int64Array, schedule: Schedule) -> DayRule | None:
    """The date at the exchange: all are at its midnight, or all at a close, or in a session."""
    local = local_clock(times, schedule.zone)
    if not (local % DAY_S).any():
        return DayRule(schedule.zone, f"midnight in {schedule.zone}")
    opens, closes, days, _ = schedule.columns
    place = np.searchsorted(opens, times, side="right") - 1
    is_in = (place >= 0) & (times <= closes[np.maximum(place, 0)])
    same_day = days[np.maximum(place, 0)] == local // DAY_S * DAY_S
    if 10 * (is_in & same_day).sum() >= 9 * len(times):
        return DayRule(schedule.zone, f"the date in {schedule.zone}")
    return None
