"""The page of one series: its state, a chart, its gaps and days, and how to get its bars."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from urllib.parse import quote, urlencode

from ktrdr.addresses import as_host_and_port
from ktrdr.config.settings import Settings
from ktrdr.errors import KtrdrError, UnknownSeries
from ktrdr.health.peers import Answer
from ktrdr.health.system import Snapshot, System
from ktrdr.ipc.messages import SeriesCoverage, SeriesStatus
from ktrdr.ipc.revision_messages import RevisionList, RevisionStatus
from ktrdr.web.page_access import local_host
from ktrdr.web.pages.bar_rows import BarRows, Reader, begin_of_newest, day_after
from ktrdr.web.pages.page import Page, Site, Values

CHART_BARS = 1500
_TABLE_BARS = 20
_GAPS = 100
_REVISIONS = 20
_EVENING_DAYS = 4
"""A session that begins on an evening is of one of these days: over a weekend, of Monday."""
_DAYS = 60
_TONES = {
    "complete": "good",
    "filling": "busy",
    "renewed": "busy",
    "waiting": "warn",
    "unproven": "warn",
}
_TOML = re.compile(r"^\[", re.MULTILINE)
_NO_CONTRACT = 200
"""IB's code for no contract, or several ones."""
_OF_CONTRACTS = frozenset({"unknown_contract", "other_contract"})
_ALL_SERIES = "the first page lists all series, and adds others"


@dataclass(frozen=True)
class GapRow:
    """A run of missing bars."""

    first: datetime
    last: datetime
    bars: int
    reason: str
    day: str
    """The trading day of its first bar; ISO 8601."""


@dataclass(frozen=True)
class Same:
    """How to get the bars of the chart elsewhere: the same range in each of them."""

    start: str | None
    end: str | None
    python: str
    shell: str
    curl: str


@dataclass(frozen=True)
class RevisionRow:
    """A bar that was corrected, or a rebuild of the whole series, or bars that were left."""

    bar: datetime | None
    """Its start; None: a rebuild."""
    corrected_at: datetime
    """When it was; or when bars that were left were compared."""
    changes: Sequence[tuple[str, float, float]]
    """Name, value before and value since, of those that differ."""
    why: str
    old_file: str | None
    is_left: bool
    last: datetime | None
    """The start of the last of several bars."""
    bars: int


def tone_of(state: str) -> str:
    """The tone of a series' state; an unknown one is bad."""
    return _TONES.get(state, "bad")


def gap_rows(series: SeriesCoverage) -> list[GapRow]:
    """The newest gaps, the newest first."""
    return [
        GapRow(_utc(first), _utc(last), bars, reason, _day_of(series, _utc(first), reason))
        for first, last, bars, reason in reversed(series.gaps[-_GAPS:])
    ]


def revision_rows(found: RevisionList) -> list[RevisionRow]:
    """The revisions, in their order."""
    return [
        RevisionRow(
            one.timestamp,
            one.corrected_at,
            _changes(one),
            one.why,
            one.old_file,
            one.is_left,
            one.last,
            one.bars,
        )
        for one in found.revisions
    ]


def _changes(one: RevisionStatus) -> list[tuple[str, float, float]]:
    if one.old is None or one.new is None:
        return []
    pairs = [(name, value, getattr(one.new, name)) for name, value in vars(one.old).items()]
    return [(name, old, new) for name, old, new in pairs if old != new]


def _day_of(series: SeriesCoverage, first: datetime, reason: str) -> str:
    """The trading day of a missing bar: that of a bar late in the evening may be the next one."""
    date = first.date()
    near = {(date + timedelta(days=n)).isoformat() for n in range(_EVENING_DAYS)}
    lacking = (day.date for day in series.days if day.date in near and reason in day.missing)
    return next(lacking, date.isoformat())


def same_elsewhere(one: SeriesStatus, start: str | None, end: str | None, site: Settings) -> Same:
    """The lines of Python, shell and curl that give the bars in `[start, end)`, in ISO 8601."""
    chosen = {"start": start, "end": end}
    given = {name: value for name, value in chosen.items() if value}
    words = [one.symbol, one.timeframe]
    python = ", ".join([*map(repr, words), *(f"{k}={v!r}" for k, v in given.items())])
    options = [part for k, v in given.items() for part in (f"--{k}", v)]
    url = f"http://{as_host_and_port(local_host(site), site.ktrdr_status_port)}"
    url += f"/api/v1/data/{quote(one.symbol, safe='')}/{one.timeframe}"
    url += f"?{urlencode(given)}" if given else ""
    token = '-H "Authorization: Bearer $KTRDR_STATUS_TOKEN" ' if site.status_token else ""
    return Same(
        start,
        end,
        f"from ktrdr.data.data_manager import DataManager; DataManager().load({python})",
        shlex.join([".venv/bin/ktrdr", "show", *words, *options]),
        f"curl {token}{shlex.quote(url)}",
    )


def hint_parts(hint: str) -> tuple[str, str]:
    """A hint as words, and the lines of instruments.toml in it; either may be empty."""
    found = _TOML.search(hint)
    return (hint[: found.start()].strip(), hint[found.start() :].strip()) if found else (hint, "")


def is_of_contract(one: SeriesStatus) -> bool:
    """What is wrong with the series can be that another contract is meant."""
    return (
        one.error_code == _NO_CONTRACT
        or bool(hint_parts(one.hint or "")[1])
        or not _OF_CONTRACTS.isdisjoint(one.missing)
    )


def find_series(
    system: System, snapshot: Snapshot, symbol: str, timeframe: str
) -> Answer[SeriesCoverage]:
    """A series with its gaps and days. UnknownSeries has the nearest right names."""
    known = snapshot.gap_filler
    if known.content is None:
        return Answer(None, known.why, known.hint)
    found = system.peers.coverage_of(symbol, timeframe)
    if found.content is None:
        return Answer(None, found.why, found.hint)
    if not found.content:
        listed = system.series(snapshot).content or []
        raise UnknownSeries(
            f"the store has no series {symbol} {timeframe}",
            hint=_nearest(listed, symbol, timeframe),
        )
    return Answer(found.content[0])


def _nearest(listed: Sequence[SeriesStatus], symbol: str, timeframe: str) -> str:
    """What was meant, perhaps."""
    of_symbol = [
        f"/series/{quote(one.symbol)}/{one.timeframe}"
        for one in listed
        if one.symbol.casefold() == symbol.casefold()
    ]
    if of_symbol:
        return f"there is {', '.join(of_symbol)}"
    names = {f"{one.symbol} {one.timeframe}".upper(): one for one in listed}
    meant = difflib.get_close_matches(f"{symbol} {timeframe}".upper(), names, 3)
    paths = [f"/series/{quote(names[one].symbol)}/{names[one].timeframe}" for one in meant]
    return f"did you mean {', '.join(paths)}?" if paths else _ALL_SERIES


def _view(site: Site, snapshot: Snapshot, values: Values) -> dict[str, Any]:
    symbol, timeframe = values["symbol"], values["timeframe"]
    found = find_series(site.system, snapshot, symbol, timeframe)
    one = found.content
    if one is None:
        past = site.recorder.known
        old = past.find(symbol, timeframe) if past else None
        return {
            "found": found,
            "symbol": symbol,
            "timeframe": timeframe,
            "old": old,
            "known_at": past.at if past else None,
        }
    revised = _revised(site, one)
    return {
        "found": found,
        "symbol": one.symbol,
        "timeframe": one.timeframe,
        "tone": tone_of(one.state),
        "revised": revised,
        "revisions": revision_rows(revised.content) if revised.content else [],
        "hint": hint_parts(one.hint or ""),
        "is_retried": "failed" in one.missing and not one.hint,
        "is_of_contract": is_of_contract(one),
        "gaps": gap_rows(one),
        "days": one.days[: -_DAYS - 1 : -1],
        "table": _newest_rows(site, one),
        "chart_from": begin_of_newest(one.days, CHART_BARS),
        "same": same_elsewhere(one, *_chart_range(one), site.system.settings),
    }


def _revised(site: Site, one: SeriesCoverage) -> Answer[RevisionList]:
    """Its newest revisions; the rest of the page does without them."""
    newest = {"limit": str(_REVISIONS)}
    try:
        return site.system.peers.revisions_of(one.symbol, one.timeframe, newest)
    except KtrdrError as error:
        return Answer(None, error.message, error.hint)


def _chart_range(one: SeriesCoverage) -> tuple[str | None, str | None]:
    """The interval of the chart as it is at first."""
    return begin_of_newest(one.days, CHART_BARS), day_after(one.last) if one.last else None


def _newest_rows(site: Site, one: SeriesCoverage) -> BarRows:
    if one.last is None:
        return BarRows(())
    begin = begin_of_newest(one.days, _TABLE_BARS) or one.last.date().isoformat()
    rows = reader_of(site.system.settings).rows(one.symbol, one.timeframe, begin, None, one.key)
    return BarRows(rows.rows[: -_TABLE_BARS - 1 : -1], rows.reason)


@lru_cache(4)
def reader_of(settings: Settings) -> Reader:
    """The reader of the store with these settings."""
    return Reader(settings)


def _utc(time_s: int) -> datetime:
    return datetime.fromtimestamp(time_s, UTC)


SERIES = Page(
    "series",
    "/series/<symbol>/<timeframe>",
    "",
    _view,
    parameters=("symbol", "timeframe"),
    scripts=("vendor/lightweight-charts-5.2.1.min.js", "series.js"),
)
