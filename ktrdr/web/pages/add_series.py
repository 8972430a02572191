"""The page that adds series: which contracts they are, before any file is made, and the adding."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from flask import Blueprint, redirect, request, url_for
from flask.typing import ResponseReturnValue

from ktrdr.errors import InvalidRequest, KtrdrError, Permanent
from ktrdr.health.peers import Peers
from ktrdr.health.system import Snapshot
from ktrdr.ipc.series_messages import CandidateContract, SeriesChange
from ktrdr.market.instruments import Series
from ktrdr.market.series_words import EXAMPLE, SeriesWanted, series_of_words
from ktrdr.web.pages.page import Page, Site, Values

NOTICES = {
    "series-added": "Added; it is in the list below once the gap filler has assessed it.",
}
_MOST_SYMBOLS = 20
_PATIENCE_S = 20.0
"""How long a page looks contracts up; those that are left are not looked up."""
_LONGEST = 1000

_READY = ("added", "changed", "watched_again", "watched_already")


@dataclass(frozen=True)
class Row:
    """One series: what would become of it, or has."""

    series: Series
    message: str
    tone: str
    hint: str = ""
    contract: CandidateContract | None = None
    is_refused: bool = True
    """Of a bad one: it was refused; else nothing is known of it, since a program failed."""


@dataclass(frozen=True)
class Choice:
    """A symbol that may stand for several contracts."""

    symbol: str
    candidates: list[CandidateContract]
    words: str
    """What adds it, for the form."""


@dataclass(frozen=True)
class Found:
    """What is known of the series that a person has named."""

    rows: list[Row]
    choices: list[Choice]
    words: str
    """What adds those that can be added; empty: none can."""
    can_be_unchecked: bool = False
    """IB could not be consulted."""


def words_of(wanted: SeriesWanted, symbols: list[str]) -> str:
    """The words that name some of its symbols, with all else as it is."""
    since = [f"since {wanted.since}"] if wanted.since else []
    named = [f'"{symbol}"' for symbol in symbols]
    return " ".join([*named, *(one.value for one in wanted.timeframes), *since])


def look_up(peers: Peers, wanted: SeriesWanted) -> Found:
    """What would become of each series. Makes and changes nothing."""
    rows, choices, ready = list[Row](), list[Choice](), dict[str, None]()
    until, is_held_up = time.monotonic() + _PATIENCE_S, False
    for series in wanted.series:
        if is_held_up or time.monotonic() > until:
            rows.append(Row(series, "not looked up", "idle"))
            continue
        try:
            change = peers.add_series(_query(series, wanted, {"dry_run": "true"}))
        except KtrdrError as error:
            is_held_up = not isinstance(error, Permanent)  # the others would fail as well
            rows.append(_failed(series, error))
            continue
        rows.append(_row(series, change))
        if not change.is_refused:
            ready[series.symbol] = None
        elif change.candidates and series.symbol not in [one.symbol for one in choices]:
            words = words_of(wanted, [series.symbol])
            choices.append(Choice(series.symbol, change.candidates, words))
    words = words_of(wanted, list(ready)) if ready else ""
    return Found(rows, choices, words, is_held_up)


def add_all(peers: Peers, wanted: SeriesWanted, more: Mapping[str, str]) -> list[Row]:
    """Add each series; one that is refused does not stop the others."""
    rows = []
    for series in wanted.series:
        try:
            rows.append(_row(series, peers.add_series(_query(series, wanted, more))))
        except KtrdrError as error:
            rows.append(_failed(series, error))
            if not isinstance(error, Permanent):
                break
    return rows


def _query(series: Series, wanted: SeriesWanted, more: Mapping[str, str]) -> dict[str, str]:
    since = {"since": wanted.since.isoformat()} if wanted.since else {}
    return {"symbol": series.symbol, "timeframe": series.timeframe.value, **since, **more}


def _failed(series: Series, error: KtrdrError) -> Row:
    is_refused = isinstance(error, Permanent)
    return Row(series, error.message, "bad", error.hint, is_refused=is_refused)


def _row(series: Series, change: SeriesChange) -> Row:
    tone = "good" if change.outcome in _READY else "warn" if change.candidates else "bad"
    contract = change.candidates[0] if len(change.candidates) == 1 else None
    hint = "" if change.candidates else change.hint  # the candidates follow, each with a button
    return Row(series, _message(change), tone, hint, contract)


def _message(change: SeriesChange) -> str:
    if not change.is_trial or change.outcome == "watched_already":
        return change.message
    return {
        "added": f"{change.file} will be made",
        "watched_again": f"{change.file} is there, and will be kept again",
        "ambiguous": "choose one of the contracts below",
    }.get(change.outcome, change.message)


def _read(text: str) -> SeriesWanted:
    """The series of a text. InvalidRequest: it is wrong, or names too many symbols for a page."""
    if len(text) > _LONGEST:
        raise InvalidRequest(f"expected {_LONGEST} characters at most")
    wanted = series_of_words(text, datetime.now(UTC).date())
    if len(wanted.symbols) > _MOST_SYMBOLS:
        raise InvalidRequest(
            f"expected {_MOST_SYMBOLS} symbols at most",
            hint=".venv/bin/ktrdr watch add --from-file, which takes any number",
        )
    return wanted


def _view(site: Site, snapshot: Snapshot, values: Values) -> dict[str, Any]:
    text = values["words"]
    context: dict[str, Any] = {"words": text, "example": EXAMPLE, "found": None, "error": None}
    if text.strip():
        try:
            found = look_up(site.system.peers, _read(text))
            is_filler_there = snapshot.gap_filler.content is not None
            can_be = found.can_be_unchecked and is_filler_there  # the gap filler makes the file
            context["found"] = replace(found, can_be_unchecked=can_be)
        except InvalidRequest as error:
            context["error"] = error
    return context


ADD = Page("add", "/add", "", _view, parameters=("words",), longest=_LONGEST, is_live=False)


def add_adding_form(
    bp: Blueprint, peers: Peers, show: Callable[[dict[str, Any]], str], changed: Callable[[], None]
) -> None:
    """`/add` by POST. `show`: the page with these values; `changed`: pages are rendered anew."""

    @bp.post(ADD.path)
    def add_series() -> ResponseReturnValue:
        text = request.form.get("words", "")
        more = {name: request.form[name] for name in ("con_id",) if request.form.get(name)}
        more |= {"unchecked": "true"} if request.form.get("unchecked") else {}
        values: dict[str, Any] = {"words": text, "example": EXAMPLE, "found": None, "error": None}
        try:
            wanted = _read(text)
        except InvalidRequest as error:
            return show(values | {"error": error}), 400
        rows = add_all(peers, wanted, more)
        changed()
        if len(rows) < len(wanted.series) or any(row.tone != "good" for row in rows):
            return show(values | {"made": rows}), 409
        only = wanted.symbols[0] if len(wanted.symbols) == 1 else None
        return redirect(url_for("page.overview", q=only, notice="series-added"), 303)
