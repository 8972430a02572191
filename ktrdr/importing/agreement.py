"""Whether files that are to be one series agree: all understood, and meaning the same. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from ktrdr.errors import KtrdrError, NotUnderstood
from ktrdr.importing.bar_writer import Rules
from ktrdr.importing.meaning import IN_FILE, TimeMeaning
from ktrdr.importing.series_names import Named
from ktrdr.market.instruments import Series
from ktrdr.market.sessions import Int64Array
from ktrdr.market.timeframes import DAY_S, Timeframe
from ktrdr.store.time_spelling import spell_time

_MOST_NAMED = 5


def refuse_if_any_is_refused(errors: Sequence[KtrdrError | None], names: Sequence[str]) -> None:
    """NotUnderstood: there is an error among those of all files of a series, named by `names`."""
    bad = [name for name, error in zip(names, errors, strict=True) if error is not None]
    if bad:
        more = f" and {len(bad) - _MOST_NAMED:,} more" if len(bad) > _MOST_NAMED else ""
        few = f"{', '.join(bad[:_MOST_NAMED])}{more}"
        what = f"nothing of it is imported, since files of its series are refused: {few}"
        raise NotUnderstood(what, hint="do what is said of these; or leave them out")


def refuse_different(
    series: Sequence[Series | None], rules: Sequence[Rules], names: Sequence[str]
) -> None:
    """NotUnderstood: not all files mean bars of one series, zone, stamp and kind of volume."""
    facts: dict[str, list[str]] = {
        "series": [str(one) for one in series],
        "volume": ["volumes" if one.has_volume else "no volumes" for one in rules],
        "zone": [_zone(one) for one in rules],
        "times": [_stamp(one) for one in rules],
    }
    for values in facts.values():
        said = [(value, name) for value, name in zip(values, names, strict=True) if value]
        other = next((one for one in said if one[0] != said[0][0]), None)
        if other is not None:
            what = f"files of one series differ: {said[0][1]} has {said[0][0]}, {other[1]} "
            hint = "give --zone or --stamp if that is meant for all, or leave the odd ones out"
            raise NotUnderstood(f"{what}{other[0]}", hint=hint)


def _zone(rules: Rules) -> str:
    """The zone that was found or given; empty: the file says it, or has days."""
    meaning = rules.meaning
    is_found = isinstance(meaning, TimeMeaning) and meaning.zone_known != IN_FILE
    return f"times of {meaning.zone}" if is_found else ""


def _stamp(rules: Rules) -> str:
    meaning = rules.meaning
    return f"{meaning.stamp.value}s of bars" if isinstance(meaning, TimeMeaning) else ""


def refuse_outside_period(name: str, times: Int64Array, named: Named, timeframe: Timeframe) -> None:
    """NotUnderstood: not all rows are of the dates in the name, give or take a day.

    `times`: UTC seconds, ascending, or as if they were UTC.
    """
    if named.period is None:
        return
    first, end = named.period
    if times[0] < first - DAY_S or times[-1] >= end + DAY_S:
        has = " to ".join(spell_time(int(at))[:10] for at in (times[0], times[-1]))
        dates = f"{spell_time(first)[:10]} to {spell_time(end - DAY_S)[:10]}"
        what = f"{name}: its name is that of bars of {dates}, and it has bars of {has}"
        raise NotUnderstood(
            what, hint=f"say which series it is: --to {named.symbol}_{timeframe.value}"
        )
