"""Times that say a wrong zone, or the wrong end of their bars: what the sessions show. Pure."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ktrdr.completeness.file_fit import (
    Hours,
    are_named_by_start,
    fit_in_utc,
    fits_by_zone,
    in_utc,
    is_long,
    longest,
)
from ktrdr.completeness.gaps import among
from ktrdr.errors import NotUnderstood
from ktrdr.market.sessions import Int64Array
from ktrdr.market.timeframes import DAY_S

_NEAR_S = 900
"""So near to their end rows of extended hours come."""
_NEARLY_ALL = 0.95


def refuse_other_clock(name: str, utc: Int64Array, clocks: Int64Array, hours: Hours) -> None:
    """Refuse times whose clock fits the regular sessions far better as that of another zone.

    `utc`: as the file says, ascending; `clocks`: what its cells show, as if that were UTC. Rows
    of extended hours fill more of a day than the sessions do: these fit in no other zone.
    NotUnderstood: their zone is a wrong one.
    """
    regular = replace(hours, has_extended_hours=True)  # none are added
    here = fit_in_utc(utc, regular)
    if not here._replace(inside=here.rows).is_much_better(here):
        return  # no zone could be
    there = max(fits_by_zone(np.sort(clocks), regular), key=lambda one: one.share)
    if not there.is_good or not there.is_much_better(here) or _are_extended_alone(utc, hours):
        return
    what = (
        f"{name}: by the zone that its times say, {here.inside:,} of {here.rows:,} rows lie in the "
        f"contract's sessions; the same clock in {there.zone}: {there.inside:,} of {there.rows:,}"
    )
    hint = "correct the offsets in a copy, and import that; if they are right: --zone UTC"
    raise NotUnderstood(what, hint=hint)


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


def refuse_shifted_starts(name: str, clocks: Int64Array, hours: Hours) -> None:
    """Refuse ends of bars by the zone that they say, which are starts on the exchange's clock.

    So it is with hours marked `EST` in summer. `clocks`: as above. NotUnderstood.
    """
    zone = hours.schedule.zone
    if are_named_by_start(in_utc(np.sort(clocks), zone), hours):
        what = f"{name}: by the zone that its times say they are the ends of bars; the same clock"
        hint = "correct the offsets in a copy, and import that; if they are right: --zone UTC"
        raise NotUnderstood(f"{what} in {zone} shows starts", hint=hint)


def refuse_likely_ends(name: str, utc: Int64Array, hours: Hours) -> None:
    """Refuse starts of bars of which none is at an open of the sessions, and some at a close.

    So it is with the ends of bars, and a few sessions show no more. A bar that reaches over an
    open counts as one there; a close just before another open does not count. Of markets that are
    open day and night no bar begins at the close of a week. NotUnderstood.
    """
    length_s = hours.timeframe.length_s
    if is_long(hours.schedule):
        opens, closes, *_ = hours.schedule.columns
        if among(closes[:-1][opens[1:] - closes[:-1] >= DAY_S], utc).any():
            what = f"{name}: some rows are at the close of a week, where no bar begins"
            raise NotUnderstood(what, hint="say which they are: --stamp end, or --stamp start")
    for schedule in (hours.schedule, longest(hours)):
        opens, closes, *_ = schedule.columns
        begun = [np.searchsorted(utc, at, side="right") for at in (opens - length_s, opens)]
        last = closes[np.append(opens[1:] - closes[:-1] >= length_s, True)[: len(closes)]]
        if among(last, utc).any() and not (begun[1] > begun[0]).any():
            what = f"{name}: no row is at the open of a session, and some are at the close"
            raise NotUnderstood(what, hint="say which they are: --stamp end, or --stamp start")
