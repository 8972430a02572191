"""The length of bars, from the distances of their rows. Pure; when in doubt, none."""

from __future__ import annotations

from functools import reduce
from math import gcd

import numpy as np

from ktrdr.errors import NotUnderstood
from ktrdr.market.sessions import Int64Array, Schedule
from ktrdr.market.timeframes import DAY_S, HOUR_S, MINUTE_S, Timeframe
from ktrdr.store.time_spelling import spell_time

_HALF = 0.5
_LEAST_IN_DAY, _LEAST_SHARE, _LEAST_DAYS = 5, 0.8, 2
"""So many rows of a day follow another one, so many of these at one longer distance, on so many
days: few trades do not fall so."""
_LONGER_DAYS = ((5, 9), (27, 35))
"""Days between weeks and between months, also if their first one was a holiday."""
_LEAST_RUN = 4
_OBSERVED_ZONE = "America/New_York"
"""Where IB's four-hour bars are known to begin at whole hours, or at an open."""


def timeframe_of(name: str, times: Int64Array, named: Timeframe | None, symbol: str) -> Timeframe:
    """The length of bars, from the distances of their times, ascending. `named`: by the file name.

    `symbol`: for hints. NotUnderstood: it is another one than that of the name, not the same all
    over the file, or none that a store has.
    """
    each = times[np.append(True, times[1:] != times[:-1])]
    apart: Int64Array = each[1:] - each[:-1]
    if not len(apart):
        if named is None:
            what = f"{name}: one row does not show the length of its bars"
            raise NotUnderstood(what, hint=f"say it, such as: --to {symbol}_1d")
        return named
    lengths, counts = np.unique(apart, return_counts=True)
    usual_s, share = int(lengths[counts.argmax()]), float(counts.max() / counts.sum())
    if named is None:
        found = next((one for one in Timeframe if one.length_s == usual_s), None)
        if found is None or share < _HALF:
            what = f"{name}: most rows are {_length(usual_s)} apart"
            raise NotUnderstood(what, hint=_hint_on_length(usual_s, symbol))
        named = found
    if not _agrees(apart, usual_s, named):
        what = f"{name}: its name says {named.value}, and most rows are {_length(usual_s)} apart"
        raise NotUnderstood(what, hint=_hint_on_length(usual_s, symbol))
    _refuse_longer(name, each, named)
    return named


def usual_length(times: Int64Array) -> Timeframe | None:
    """The length that most of these times are apart, ascending; None: a store has none such."""
    each = np.unique(times)
    lengths, counts = np.unique(each[1:] - each[:-1], return_counts=True)
    usual_s = int(lengths[counts.argmax()]) if len(lengths) else 0
    return next((one for one in Timeframe if one.length_s == usual_s), None)


def _agrees(apart: Int64Array, usual_s: int, named: Timeframe) -> bool:
    """Whether rows so far apart are bars of this length; many may be missing."""
    length_s = named.length_s
    if named is Timeframe.D1:
        return usual_s == DAY_S
    if named in (Timeframe.H1, Timeframe.H4):
        return _are_cut_bars(apart, named)
    if usual_s == length_s:
        return bool((apart >= length_s).all())
    is_common = 2 * (apart == usual_s).sum() > len(apart)
    has_some = (apart == length_s).any() and not is_common
    return bool(has_some and (apart >= length_s).all()) and reduce(gcd, apart.tolist()) == length_s


def _are_cut_bars(apart: Int64Array, named: Timeframe) -> bool:
    """Whether rows are long bars, of which only the first and the last of a session are shorter.

    So few short ones follow one another: the last of a session and the first of the next, at most.
    """
    length_s = named.length_s
    near, is_short = apart[apart < 2 * length_s], apart < length_s
    lengths, counts = np.unique(near, return_counts=True)
    if not len(near) or 2 * (near >= length_s / 2).sum() <= len(near):
        return False
    are_usual = lengths[counts == counts.max()]
    is_usual = length_s in are_usual or (named is Timeframe.H4 and are_usual.min() < length_s)
    return bool(is_usual and 4 * (is_short[1:] & is_short[:-1]).sum() <= len(apart))


def _refuse_longer(name: str, each: Int64Array, named: Timeframe) -> None:
    """Refuse rows of which a part are bars of a longer length, as where two files were joined."""
    if named.is_daily:
        found = _first_of_longer_days(each)
    else:
        longer = [one for one in Timeframe if named.length_s < one.length_s < DAY_S]
        days = (_first_day(each, one) for one in longer)
        found = next((one for one in days if one is not None), None)
    if found is None:
        return
    first, length_s = found
    what = f"{name}: its bars are of {named.value}, and from {spell_time(first)[:10]} on"
    hint = "import its bars of each length from a file of its own"
    raise NotUnderstood(f"{what} some rows are {_length(length_s)} apart", hint=hint)


def _first_day(each: Int64Array, longer: Timeframe) -> tuple[int, int] | None:
    """The first of the days on which rows are as far apart as bars of the longer length."""
    days = each // DAY_S
    is_within = days[1:] == days[:-1]
    is_longer = is_within & (each[1:] - each[:-1] == longer.length_s)
    if not is_longer.any():
        return None
    shown, place = np.unique(days[1:], return_inverse=True)
    rows, those = (np.bincount(place, one, len(shown)) for one in (is_within, is_longer))
    found = shown[(rows >= _LEAST_IN_DAY) & (those >= _LEAST_SHARE * rows)]
    return (int(found[0]) * DAY_S, longer.length_s) if len(found) >= _LEAST_DAYS else None


def _first_of_longer_days(each: Int64Array) -> tuple[int, int] | None:
    """The first of several days one after another that are as far apart as weeks or months."""
    apart = each[1:] - each[:-1]
    for least, most in _LONGER_DAYS:
        is_longer = (apart >= least * DAY_S) & (apart <= most * DAY_S)
        runs = np.convolve(is_longer, np.ones(_LEAST_RUN, np.int64), "valid") == _LEAST_RUN
        if len(is_longer) >= _LEAST_RUN and runs.any():
            first = int(runs.argmax())
            return int(each[first]), int(apart[first])
    return None


def refuse_other_quarters(name: str, starts: Int64Array, schedule: Schedule) -> None:
    """Refuse four-hour bars of which most behind an open begin within an hour, as of 195 minutes.

    `starts`: UTC seconds, or the ends of the bars. NotUnderstood: IB's bars begin elsewhere.
    """
    if schedule.zone != _OBSERVED_ZONE or not schedule.sessions:
        return
    opens, closes, _, offset = schedule.columns
    place = np.maximum(np.searchsorted(opens, starts, side="right") - 1, 0)
    is_behind = (opens[place] < starts) & (starts < closes[place])
    clocks = (starts + offset[place])[is_behind]
    is_odd = clocks % HOUR_S != 0
    if 2 * is_odd.sum() > len(clocks):
        shown = spell_time(int(clocks[is_odd][0]))[11:16]
        what = f"{name}: its bars of 4h begin at {shown} by the exchange's clock"
        raise NotUnderstood(what, hint="IB's bars do not belong between them: leave the file out")


def _hint_on_length(usual_s: int, symbol: str) -> str:
    found = next((one for one in Timeframe if one.length_s == usual_s), None)
    if found is None:
        return "a store has bars of 1m 5m 15m 30m 1h 4h 1d; leave the file out"
    return f"if that is their length: --to {symbol}_{found.value}"


def _length(seconds: int) -> str:
    for unit_s, word in ((DAY_S, "day"), (HOUR_S, "hour"), (MINUTE_S, "minute")):
        if seconds % unit_s == 0 and seconds:
            count = seconds // unit_s
            return f"{count} {word}" + ("s" if count > 1 else "")
    return f"{seconds} seconds"
