"""The first page: whether the data is all right, and if not, why, and when it will be."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ktrdr.errors import InvalidRequest
from ktrdr.escapes import visible
from ktrdr.health.system import Snapshot
from ktrdr.ipc.messages import SeriesStatus
from ktrdr.ipc.wording import remarks
from ktrdr.web.pages.page import Page, Site, Values

_ROWS = 40
_NEEDS = 8
"""What needs a person is listed up to this number, and the rest on demand."""
_WORST_FIRST = (
    "refused", "failed", "not_understood", "incomplete_row", "renewed", "filling", "unproven",
    "waiting", "complete",
)  # fmt: skip
_TIMEFRAMES = ("1m", "5m", "15m", "30m", "1h", "4h", "1d")


@dataclass(frozen=True)
class Choice:
    """Which of the series are shown."""

    state: str = ""
    timeframe: str = ""
    text: str = ""
    """In the name of the series, as `AAPL` or `AAPL 1m`."""

    def takes(self, one: SeriesStatus) -> bool:
        """True for a series that is shown."""
        name = f"{one.symbol} {one.timeframe}".casefold()
        return (
            self.state in ("", one.state)
            and self.timeframe in ("", one.timeframe)
            and " ".join(self.text.replace("_", " ").split()).casefold() in name.replace("_", " ")
        )

    @property
    def mistake(self) -> str:
        """What no series can have, and what it could be; empty: nothing."""
        for what, value, known in (
            ("state", self.state, _WORST_FIRST),
            ("timeframe", self.timeframe, _TIMEFRAMES),
        ):
            if value and value not in known:
                return f"No series can have the {what} “{value}”; expected {', '.join(known)}."
        return ""


@dataclass(frozen=True)
class Rows:
    """One screen of the series that were chosen, and how many there are."""

    shown: list[SeriesStatus]
    chosen: int
    page: int
    pages: int


def rows_of(series: list[SeriesStatus], choice: Choice, page: str) -> Rows:
    """The series of one screen, the worst first. `page`: its number from 1; empty: the first.

    Behind the last one is the last one: there may have been more series a moment ago.
    InvalidRequest: no number of a page.
    """
    if page and not re.fullmatch("[1-9][0-9]{0,5}", page):
        raise InvalidRequest(f"page={visible(page)!r}: expected a whole number from 1 to 999999")
    chosen = worst_first([one for one in series if choice.takes(one)])
    pages = max(1, -(-len(chosen) // _ROWS))
    number = min(int(page or 1), pages)
    begin = (number - 1) * _ROWS
    return Rows(chosen[begin : begin + _ROWS], len(chosen), number, pages)


def _view(site: Site, snapshot: Snapshot, values: Values) -> dict[str, Any]:
    series = site.system.series(snapshot)
    choice = Choice(values["state"], values["timeframe"], values["q"])
    past = site.recorder.known if series.content is None else None
    known = (past.series if past else series.content) or []
    states, timeframes = Counter(o.state for o in known), Counter(o.timeframe for o in known)
    return {
        "series": series,
        "listed": known,
        "most_needs": _NEEDS,
        "by_name": {f"{one.symbol}_{one.timeframe}": one for one in known},
        "known_at": past.at if past else None,
        "choice": choice,
        "rows": rows_of(known, choice, values["page"]),
        "states": {name: states[name] for name in sorted(states, key=_state_place)},
        "timeframes": {name: timeframes[name] for name in sorted(timeframes, key=_frame_place)},
        "fills": site.system.open_fills(snapshot),
    }


OVERVIEW = Page(
    "overview",
    "/",
    "Overview",
    _view,
    parameters=("state", "timeframe", "q", "page"),
    scripts=("heatmap.js",),
)


def remarks_on(series: SeriesStatus, now: datetime) -> list[str]:
    """Remarks on a series: why it expects no more bars, or that it is being rebuilt."""
    found = remarks(
        now,
        series.looked_from,
        series.listed,
        series.expires,
        series.sessions_from,
        series.comparison,
    )
    if series.state == "renewed":
        found.append("IB revised its bars, as after a split: the whole series is rebuilt")
    return found


def worst_first(series: list[SeriesStatus]) -> list[SeriesStatus]:
    """Series that need attention first, then by symbol and timeframe."""
    return sorted(
        series, key=lambda one: (_state_place(one.state), one.symbol, _frame_place(one.timeframe))
    )


def _state_place(name: str) -> int:
    return _WORST_FIRST.index(name) if name in _WORST_FIRST else -1


def _frame_place(name: str) -> int:
    return _TIMEFRAMES.index(name) if name in _TIMEFRAMES else -1
