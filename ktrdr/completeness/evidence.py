"""Evidence for absence: the one place that decides when missing bars and days are absent. Pure.

When IB's servers are unwell they report "no data", omit bars and days, and send wrong times. The
likelier an absence is, the sooner it is accepted: that depends on the density of the series, how
many bars are missing, whether bars were received on both sides of them, how often they were
missing and over what time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from ktrdr.completeness.gaps import edges
from ktrdr.market.sessions import BoolArray, Int64Array, Schedule, Session
from ktrdr.market.timeframes import DAY_S, HOUR_S, MINUTE_S

_LIKELY_BITS = 20.0
"""The surprise of 20 heads in a row: anything less surprising happens somewhere every day."""
_PRIOR_BARS, _PRIOR_ABSENT = 50.0, 1.0
"""A series of which nothing is known is assumed to trade in 49 bars of 50."""
_MANY_SESSIONS = 5
"""A week of sessions: more than one bad day of a server can explain."""
_LATER_S = (DAY_S // 2, DAY_S, 3 * DAY_S, 7 * DAY_S, 30 * DAY_S)
"""When to request bars again that were missing often enough but still need a control."""
_LEAST_APART_S = 5 * MINUTE_S


class Need(NamedTuple):
    """What it takes to accept bars as absent: they must be missing repeatedly."""

    after_s: tuple[int, ...] = ()
    """How long after the first answer without them they are requested again."""
    control: bool = False
    """In between, a request for bars near them in the same series must be answered with bars."""


AT_ONCE = Need()
SPARSE = Need((HOUR_S,))
"""Scattered among received bars, as in an illiquid series."""
HALT = Need((HOUR_S,))
"""Less than half a day, among received bars: a trading halt, or a slow server."""
AT_THE_EDGE = Need((5 * MINUTE_S, 25 * HOUR_S))
"""Few bars, with none received on one side: answers may be cut off there for a whole day."""
LIQUID = Need((5 * MINUTE_S, 35 * MINUTE_S, 25 * HOUR_S), control=True)
"""More bars than chance explains: over more than a day, as a server may be unwell that long."""
WHOLE_WEEKS = Need((*LIQUID.after_s, 73 * HOUR_S), control=True)


@dataclass(frozen=True)
class Density:
    """The density of a series: how many of its expected bars are known to be there or absent."""

    present: int = 0
    absent: int = 0
    """Proven absent."""

    @property
    def absence(self) -> float:
        """The estimated share of bars that are absent."""
        absent = self.absent + _PRIOR_ABSENT
        return absent / (self.present + self.absent + _PRIOR_BARS)


@dataclass(frozen=True)
class UnprovenAbsences:
    """How often each bar was missing, as long as its absence is not proven."""

    times: Int64Array
    """How many answers did not have the bar; 0: none."""
    first_at: Int64Array
    """When the first of these answers was requested (UTC seconds)."""

    @classmethod
    def none(cls, bars: int) -> UnprovenAbsences:
        """No bar was missing before."""
        return cls(np.zeros(bars, np.int64), np.zeros(bars, np.int64))


@dataclass(frozen=True)
class Judgement:
    """What one more answer shows about each bar."""

    absent: BoolArray
    """The bar counts as absent now."""
    still_missing: BoolArray
    """The bar is missing from this answer, and does not count as absent."""
    unproven: UnprovenAbsences
    again_at: Int64Array
    """When to request bars that are still missing again (UTC seconds)."""
    wants_control: BoolArray
    """The bar does not count as absent only because no control was answered yet."""


@dataclass(frozen=True)
class Answered:
    """What an answer says about missing bars."""

    requested: BoolArray
    """Which of the expected bars were requested."""
    received: tuple[int, int] | None
    """The starts of its first and last bar, neighbouring bars included; None: it has no bars."""
    requested_at: int
    """UTC seconds."""
    is_progress: bool = False
    """It added bars that were missing: it may have been cut off, and the rest comes next time."""
    control_at: int | None = None
    """When bars of this series near by were last received; None: never."""


def weigh(
    starts: Int64Array,
    days: Int64Array,
    missing: BoolArray,
    answer: Answered,
    unproven: UnprovenAbsences,
    density: Density,
    agreed: BoolArray | None = None,
) -> Judgement:
    """Which of the expected bars `starts` count as absent after an answer.

    `missing`: neither stored, with the answer's bars written, nor known to be absent. A gap is
    weighed as a whole, even if only a part of it was requested. `agreed`: bars that should not
    exist by other evidence either, such as those of sessions missing from IB's SCHEDULE.
    """
    not_received = missing & answer.requested
    agreed = np.zeros(len(starts), np.bool_) if agreed is None else agreed
    now = answer.requested_at
    times = np.where(not_received, unproven.times + 1, np.where(missing, unproven.times, 0))
    first_at = np.where(unproven.times > 0, unproven.first_at, now)
    first_at = np.where(times > 0, first_at, 0)
    absent = np.zeros(len(starts), np.bool_)
    wants_control = np.zeros(len(starts), np.bool_)
    again_at = np.zeros(len(starts), np.int64)
    needs = _needs(starts, days, missing, not_received, answer, density, agreed)
    for (is_flanked, need), run in _alike(needs):
        if answer.is_progress and not is_flanked:
            times[run], again_at[run] = np.where(missing[run], unproven.times[run], 0), now
            continue
        is_often = times[run] > len(need.after_s)
        is_long = now - first_at[run] >= (need.after_s[-1] if need.after_s else 0)
        has_control = _controlled(need, answer.control_at, first_at[run])
        absent[run] = not_received[run] & is_often & is_long & has_control
        wants_control[run] = not_received[run] & is_often & is_long & ~has_control
        again_at[run] = _again_at(need, times[run], first_at[run], now)
    return Judgement(
        absent=absent,
        still_missing=not_received & ~absent,
        unproven=UnprovenAbsences(np.where(absent, 0, times), np.where(absent, 0, first_at)),
        again_at=again_at,
        wants_control=wants_control,
    )


def flanked_now(missing: BoolArray, requested: BoolArray, new: BoolArray) -> BoolArray:
    """Runs of missing bars that were not requested, next to a bar that was just added.

    Bars on both sides of them are known now, so an answer without them cannot have been cut off.
    """
    found = np.zeros(len(missing), np.bool_)
    begins, ends = edges(missing)
    is_within = (begins > 0) & (ends < len(missing))
    begins, ends = begins[is_within], ends[is_within]
    beside = new[begins - 1] | new[ends]
    for begin, end in zip(begins[beside].tolist(), ends[beside].tolist(), strict=True):
        found[begin:end] = not requested[begin:end].any()
    return found


def _controlled(need: Need, control_at: int | None, first_at: Int64Array) -> BoolArray:
    """Which of these bars of a run need no control, or no further one."""
    if not need.control:
        return np.ones(len(first_at), np.bool_)
    answered: BoolArray = first_at <= (control_at if control_at is not None else -1)
    return answered


def _again_at(need: Need, times: Int64Array, first_at: Int64Array, now: int) -> Int64Array:
    """When to request each of these bars of a run again, given how often it was missing."""
    if not need.after_s:
        return first_at
    place = np.clip(times - 1, 0, len(need.after_s) - 1)
    wanted = first_at + np.array(need.after_s, np.int64)[place]
    beyond = np.clip(times - 1 - len(need.after_s), 0, len(_LATER_S) - 1)
    is_due = (times > len(need.after_s)) & (now - first_at >= need.after_s[-1])
    later = now + np.where(is_due, np.array(_LATER_S, np.int64)[beyond], _LEAST_APART_S)
    again: Int64Array = np.where(wanted > now, wanted, later)
    return again


def _needs(
    starts: Int64Array,
    days: Int64Array,
    missing: BoolArray,
    not_received: BoolArray,
    answer: Answered,
    density: Density,
    agreed: BoolArray,
) -> list[tuple[int, int, bool, Need]]:
    """What it takes to accept each run of missing bars that was requested, wholly or in part.

    Its first index and end, whether bars were received on both sides of it, and the need.
    """
    begins, ends = edges(missing)
    requested = np.concatenate(([0], np.cumsum(not_received)))
    touched = requested[ends] > requested[begins]
    begins, ends = begins[touched], ends[touched]
    if not len(begins):
        return []
    bars = ends - begins
    first, last = answer.received or (0, 0)
    is_flanked = (starts[begins] > first) & (starts[ends - 1] < last)
    is_flanked &= answer.received is not None
    bits = -bars * math.log2(density.absence)
    within = answer.requested & (starts > first) & (starts < last)
    scattered = int(bars[is_flanked & (bits <= _LIKELY_BITS)].sum())
    is_usual = _excess_bits(scattered, int(within.sum()), density.absence) <= _LIKELY_BITS
    others = int((not_received & within).sum()) - np.where(is_flanked, bars, 0)
    neighbours = int(within.sum()) - np.where(is_flanked, bars, 0)
    own = (np.maximum(others, 0) + _PRIOR_ABSENT) / (np.maximum(neighbours, 0) + _PRIOR_BARS)
    is_sparse = -bars * np.log2(own) <= _LIKELY_BITS + math.log2(len(bars) + 1)
    all_agreed = np.concatenate(([0], np.cumsum(agreed)))
    is_agreed = all_agreed[ends] - all_agreed[begins] == bars
    sessions = _distinct(days, begins, ends)
    of_day = np.searchsorted(days, days[begins], side="right") - np.searchsorted(days, days[begins])
    is_part_of_day = (sessions == 1) & (2 * bars < of_day)
    found = []
    for place, (begin, end) in enumerate(zip(begins.tolist(), ends.tolist(), strict=True)):
        is_likely = bits[place] <= _LIKELY_BITS
        if is_flanked[place] and (is_agreed[place] or (is_likely and is_usual)):
            need = AT_ONCE
        elif is_flanked[place] and (is_likely or is_sparse[place]):
            need = SPARSE
        elif is_flanked[place] and is_part_of_day[place]:
            need = HALT
        elif is_likely:
            need = AT_THE_EDGE
        else:
            need = WHOLE_WEEKS if sessions[place] >= _MANY_SESSIONS else LIQUID
        found.append((begin, end, bool(is_flanked[place]), need))
    return found


def _alike(
    needs: Iterable[tuple[int, int, bool, Need]],
) -> list[tuple[tuple[bool, Need], Int64Array]]:
    """The indexes of all bars whose runs are alike: an illiquid series has thousands of runs."""
    runs: dict[tuple[bool, Need], list[Int64Array]] = {}
    for begin, end, is_flanked, need in needs:
        runs.setdefault((is_flanked, need), []).append(np.arange(begin, end))
    return [(kind, np.concatenate(bars)) for kind, bars in runs.items()]


def _excess_bits(absent: int, bars: int, usual: float) -> float:
    """How surprising this many absent bars are, given their usual share.

    The Kullback-Leibler divergence of the two shares, times the bars; 0 if fewer are absent.
    """
    share = absent / bars if bars else 0.0
    if share <= usual:
        return 0.0
    rest = (1 - share) * math.log2((1 - share) / (1 - usual)) if share < 1 else 0.0
    return bars * (share * math.log2(share / usual) + rest)


def _distinct(days: Int64Array, begins: Int64Array, ends: Int64Array) -> Int64Array:
    """How many trading days each run touches."""
    number = np.concatenate(([0], np.cumsum(days[1:] != days[:-1])))
    touched: Int64Array = number[ends - 1] - number[begins] + 1
    return touched


# Sessions.


class MissingSession(NamedTuple):
    """How often a trading day was missing from IB's SCHEDULE, contrary to other evidence."""

    times: int
    first_at: int
    """When it was first missing (UTC seconds)."""

    def is_settled(self, now: int) -> bool:
        """Whether it has been missing so often and for so long that it counts as a holiday."""
        is_often = self.times >= len(_SESSION_AFTER_S) + 1
        return is_often and now - self.first_at >= _SESSION_AFTER_S[-1]


@dataclass(frozen=True)
class Settled:
    """The accepted sessions after one more SCHEDULE."""

    schedule: Schedule
    missing: dict[int, MissingSession]
    """Trading day (UTC midnight) → how often SCHEDULE did not have it, until that is accepted."""
    is_suspect: bool
    """Days seem to be missing from SCHEDULE though the market was open."""


def settle(
    known: Schedule | None,
    received: Schedule,
    usual: Schedule,
    missing: Mapping[int, MissingSession],
    is_traded: Callable[[Session], bool],
    now: int,
    closed: Collection[int] = (),
) -> Settled:
    """The accepted sessions once IB has reported those `received` for an interval.

    Sessions that were `known`, or that the `usual` week has on days of which nothing was known,
    stay expected on days missing from SCHEDULE, until these were missing three times over more
    than a day; and for good if `is_traded`: bars of that session are stored. A holiday is certain
    if the contract's hours reported it before, or if it is among the `closed` days of another
    calendar (UTC midnights). Future sessions are accepted as received: no bar is due there yet.
    """
    if received.source != "ib":
        return Settled(received if known is None else received.joined(known), dict(missing), True)
    if known is not None and known.source != "ib":
        known = None
    days = {session.day for session in received.sessions}
    past = [day for day in days if day < now]
    first, last = (min(past), max(days)) if past else (now, now)
    kept: list[Session] = []
    counted: dict[int, MissingSession] = {
        day: one for day, one in missing.items() if day not in days
    }
    denied: list[int] = []
    for day, sessions in _by_day_within(received, known, usual, now).items():
        if day in days:
            continue
        if day in closed and not any(map(is_traded, sessions)):
            continue
        before = missing.get(day, MissingSession(0, now))
        counted[day] = after = MissingSession(before.times + 1, before.first_at)
        if after.is_settled(now) and not any(map(is_traded, sessions)):
            continue
        kept += sessions
        if first < day < last:
            denied.append(day)
    traded = [
        session  # on a day that SCHEDULE has, at times without trading by it
        for session in set(known.sessions if known else ()) - set(received.sessions)
        if session.day in days and received.start <= session.open and session.close <= now
        if not received.overlaps(session) and is_traded(session)
    ]
    together = tuple(sorted({*received.sessions, *kept, *traded}))
    source = received.source if past else "hours"  # it does not cover the past
    accepted = replace(received, sessions=together, source=source, denied=tuple(sorted(denied)))
    joined = accepted if known is None else known.joined(accepted)
    newest = max(past, default=now)  # bars received after a day will show whether it had trading
    is_suspect = any(s.day not in denied or s.day > newest for s in kept)
    return Settled(joined, counted, is_suspect)


_SESSION_AFTER_S = (DAY_S // 2, 25 * HOUR_S)


def _by_day_within(
    received: Schedule, known: Schedule | None, usual: Schedule, now: int
) -> dict[int, list[Session]]:
    """Trading day → the sessions that should have begun by now, within the interval of `received`.

    The known ones, and the usual ones where nothing was known.
    """
    expected = [*(known.sessions if known else ())]
    expected += [s for s in usual.sessions if known is None or not known.covers(s.open, s.close)]
    found: dict[int, list[Session]] = {}
    for session in expected:
        if received.start <= session.open < min(received.end, now):
            found.setdefault(session.day, []).append(session)
    return found
