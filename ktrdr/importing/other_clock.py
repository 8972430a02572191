"""Times that say a wrong zone, or the wrong end of their bars: what the sessions show. Pure."""

from __future__ import annotations

import numpy as np

from ktrdr.completeness.file_fit import (
    Hours,
    are_named_by_start,
    in_utc,
    is_long,
    longest,
    other_clock,
)
from ktrdr.completeness.gaps import among
from ktrdr.errors import NotUnderstood
from ktrdr.market.sessions import Int64Array
from ktrdr.market.timeframes import DAY_S


def refuse_other_clock(name: str, utc: Int64Array, clocks: Int64Array, hours: Hours) -> None:
    """Refuse times that are another clock's than they say; arguments as of `other_clock`.

    NotUnderstood: their zone is a wrong one.
    """
    why = other_clock(utc, clocks, hours)
    if why is None:
        return
    raise NotUnderstood(f"{name}: {why.what}", hint=_hint())


def _hint(zone: str = "") -> str:
    """For times whose clock may be that of the zone; empty: the sessions show of which."""
    named = f"--zone {zone} " if zone else ""
    return (
        "if they show the right clock and a wrong zone: "
        f"{named}--columns offsets=ignored; if their zone is right: --zone UTC"
    )


def refuse_shifted_starts(name: str, clocks: Int64Array, hours: Hours) -> None:
    """Refuse ends of bars by the zone that they say, which are starts on the exchange's clock.

    So it is with hours marked `EST` in summer. `clocks`: as above. NotUnderstood.
    """
    zone = hours.schedule.zone
    if are_named_by_start(in_utc(np.sort(clocks), zone), hours):
        what = f"{name}: by the zone that its times say they are the ends of bars; the same clock"
        raise NotUnderstood(f"{what} in {zone} shows starts", hint=_hint(zone))


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
