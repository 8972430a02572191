"""Notices, which the gateway sends without a request, and their meaning. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from ktrdr.errors import KtrdrError, NotConnected, RequestFailed
from ktrdr.ib.farms import HISTORY_OK, Farm, Farms
from ktrdr.ib.states import Event

_UPSTREAM_LOST = (1100, 2110)
_UPSTREAM_BACK = (1101, 1102)
_NOTICES = range(1000, 2200)
"""IB's codes of messages about no request (TWS API, "System Message Codes")."""


class HistoryNews(Enum):
    """News about the history farm from a notice."""

    BROKEN = auto()
    PERHAPS_BACK = auto()
    BACK = auto()
    """A notice names it as connected."""


@dataclass(frozen=True)
class Meaning:
    """The meaning of one notice."""

    words: str = ""
    """For the log; empty: nothing, or the error has the text."""
    error: KtrdrError | None = None
    events: tuple[Event, ...] = ()
    is_data_farm_back: bool = False
    """A farm that serves bars or contracts has just come back."""
    history: HistoryNews | None = None


def meaning(farms: Farms, code: int, text: str, now: float) -> Meaning:
    """The meaning of a notice; updates `farms`. `now`: UTC seconds."""
    if code in _UPSTREAM_LOST:
        hint = "wait until the gateway reaches IB's servers again"
        error = NotConnected(text, code=code, hint=hint)
        return Meaning(error=error, events=(Event.UPSTREAM_LOST,))
    if code in _UPSTREAM_BACK:
        is_named = farms.restored(text, now)
        return Meaning(
            words=f"IB {code}: {text}",
            events=(Event.UPSTREAM_BACK, *_farm_back(farms)),
            history=HistoryNews.BACK if is_named else HistoryNews.PERHAPS_BACK,
        )
    history = HistoryNews.BACK if code in HISTORY_OK else None
    if farm := farms.take(code, text, now):
        return _of_farm(farms, farm, code, text, history)
    return Meaning(words=f"IB {code}: {text}" if code in _NOTICES else "", history=history)


def _of_farm(
    farms: Farms, farm: Farm, code: int, text: str, history: HistoryNews | None
) -> Meaning:
    """A farm has broken or come back."""
    if not farm.is_up:
        return Meaning(
            error=RequestFailed(text, code=code, hint="wait: IB brings its farms back by itself"),
            events=(Event.FARM_BROKEN,),
            history=HistoryNews.BROKEN if farm.serves == "history" else None,
        )
    return Meaning(
        words=f"IB {code}: {text}, after {farm.last_break_s or 0:.0f} s",
        events=_farm_back(farms),
        is_data_farm_back=farm.serves_data,
        history=history,
    )


def _farm_back(farms: Farms) -> tuple[Event, ...]:
    return () if farms.broken else (Event.FARM_BACK,)
