"""The summary of all series for a person: how many are current, and which need attention."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from ktrdr.assessment.series_state import SeriesState
from ktrdr.errors import KtrdrError, Misconfigured, Permanent, StoreUnwritable
from ktrdr.ipc.messages import SeriesTrouble
from ktrdr.market.timeframes import Timeframe

_NAMED = 20
"""How many series are named for each trouble."""
_TROUBLES = 50


@dataclass(frozen=True)
class SeriesSummary:
    """Counts of series."""

    current: int = 0
    """Nothing fillable is missing, except bars that became due just now."""
    states: Mapping[str, int] = field(default_factory=dict)
    """State → how many series have it that are neither current nor troubled."""
    troubled: int = 0
    """Those that need a person."""
    troubles: tuple[SeriesTrouble, ...] = ()
    newest: int | None = None
    """The start of the newest bar (UTC seconds)."""
    unknown: Mapping[Timeframe, int] = field(default_factory=dict)
    """Bar size → series whose missing bars are not known yet."""


def summed_up(
    series: Iterable[SeriesState],
    state_of: Callable[[SeriesState], str],
    trouble_of: Callable[[SeriesState], KtrdrError | None],
    now: float,
    grace_s: float,
    *,
    is_sure: bool,
) -> SeriesSummary:
    """The summary now. `trouble_of`: the error of a series that needs a person.

    `grace_s`: how long after it was due a bar may be missing from a current series. `is_sure`: the
    clocks agree, and all series were assessed since they do; otherwise none counts as current.
    """
    current, newest = 0, None
    states: Counter[str] = Counter()
    unknown: Counter[Timeframe] = Counter()
    groups: dict[tuple[str, str, str], list[str]] = {}
    for state in series:
        if (trouble := trouble_of(state)) is not None:
            kind = (trouble.outcome, trouble.message, trouble.hint)
            groups.setdefault(kind, []).append(str(state.series))
            continue
        if state.last is not None:
            newest = state.last if newest is None else max(newest, state.last)
        if is_sure and state.is_current(now, grace_s):
            current += 1
            continue
        states[state_of(state)] += 1
        if state.coverage is None and state.error is None:
            unknown[state.series.timeframe] += 1
    troubles = tuple(
        SeriesTrouble(*kind, tuple(names[:_NAMED]), len(names)) for kind, names in groups.items()
    )
    troubled = sum(one.count for one in troubles)
    return SeriesSummary(
        current, dict(states), troubled, troubles[:_TROUBLES], newest, dict(unknown)
    )


def needs_person(error: KtrdrError | None) -> bool:
    """Retrying does not help: a person has to change something."""
    return isinstance(error, Permanent | Misconfigured | StoreUnwritable)
