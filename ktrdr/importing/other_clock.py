"""Times that say a wrong zone, or the wrong end of their bars: what the sessions show. Pure."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ktrdr.completeness.file_fit import Hours, fit_in_utc, fits_by_zone, is_long, longest
from ktrdr.completeness.gaps import among
from ktrdr.errors import NotUnderstood
from ktrdr.market.sessions import Int64Array
from ktrdr.market.timeframes import DAY_S


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
    if not there.is_good or not there.is_much_better(here):
        return
    what = (
        f"{name}: by the zone that its times say, {here.inside:,} of {here.rows:,} rows lie in the "
        f"contract's sessions; the same clock in {there.zone}: {there.inside:,} of {there.rows:,}"
    )
    hint = "correct the offsets in a copy, and import that; if they are right: --zone UTC"
    raise NotUnderstood(what, hint=hint)


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
