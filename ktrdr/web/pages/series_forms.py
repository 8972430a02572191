"""What the forms of a series and of a day do, and the gaps that a series' chart draws."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from flask import Blueprint, abort, redirect, request, url_for
from flask.typing import ResponseReturnValue

from ktrdr.errors import KtrdrError
from ktrdr.health.system import System
from ktrdr.ipc.wording import because
from ktrdr.web.pages.series import find_series

NOTICES = {
    "fill-requested": "Fill requested; its progress is on the page Fills.",
    "fill-not-requested": "The fill was not requested: the gap filler refused it, or did not"
    " answer. Expected: a day that is not in the future, of a series that is in the store.",
    "fill-needs-day": "The fill was not requested: expected a day such as 2020-01-31.",
    "series-removed": "The series is not kept any more; its file stays. To keep it again, add it.",
    "series-not-removed": "Nothing was changed: the gap filler refused it, or did not answer.",
    "since-changed": "The day from which history is wanted was changed in instruments.toml.",
    "since-not-changed": "The day was not changed: expected one from 1970 to today, such as"
    " 2020-01-31, and a gap filler that answers.",
    "contract-changed": "The contract was chosen in instruments.toml, and the series is assessed"
    " again.",
    "contract-not-changed": "The contract was not chosen: it is none of the candidates, or the gap"
    " filler or IB did not answer.",
}
_MOST_GAPS = 5000


def add_series_forms(bp: Blueprint, system: System) -> None:
    """`fill` and `scan` below a series' page, `fill` below a day's, and the chart's `gaps`."""

    @bp.post("/series/<symbol>/<timeframe>/fill")
    def fill_series(symbol: str, timeframe: str) -> ResponseReturnValue:
        notice = _request_fill(system, symbol, timeframe, request.form.get("from", ""))
        return _back("series", notice, symbol=symbol, timeframe=timeframe)

    @bp.post("/series/<symbol>/<timeframe>/scan")
    def scan_series(symbol: str, timeframe: str) -> ResponseReturnValue:
        requested = system.peers.scan().content is not None
        notice = "scan-requested" if requested else "scan-failed"
        return _back("series", notice, symbol=symbol, timeframe=timeframe)

    @bp.post("/series/<symbol>/<timeframe>/<day>/fill")
    def fill_day(symbol: str, timeframe: str, day: str) -> ResponseReturnValue:
        """Request it, and a scan too: that requests again what was given up."""
        notice = _request_fill(system, symbol, timeframe, day)
        if notice == "fill-requested":
            system.peers.scan()
        return _back("day", notice, symbol=symbol, timeframe=timeframe, day=day)

    _add_keeping_forms(bp, system)

    @bp.get("/series/<symbol>/<timeframe>/gaps")
    def gaps(symbol: str, timeframe: str) -> ResponseReturnValue:
        """The newest gaps that touch `[start, end)`: first, last (UTC seconds), bars, reason."""
        start, end = _seconds("start"), _seconds("end")
        found = find_series(system, system.snapshot(), symbol, timeframe)
        if found.content is None:
            return {"gaps": [], "reason": found.reason}, 503
        touching = [g for g in found.content.gaps if g[1] >= start and g[0] < end]
        return {"gaps": [[*gap[:3], because(gap[3])] for gap in touching[-_MOST_GAPS:]]}


def _add_keeping_forms(bp: Blueprint, system: System) -> None:
    """`remove`, `since` and `contract` below a series' page: how it is kept."""

    @bp.post("/series/<symbol>/<timeframe>/remove")
    def remove_series(symbol: str, timeframe: str) -> ResponseReturnValue:
        try:
            system.peers.remove_series(symbol, timeframe)
        except KtrdrError:
            return _back("series", "series-not-removed", symbol=symbol, timeframe=timeframe)
        return _back("overview", "series-removed")

    @bp.post("/series/<symbol>/<timeframe>/since")
    def change_since(symbol: str, timeframe: str) -> ResponseReturnValue:
        notice = _change(system, "since", symbol, timeframe, since=request.form.get("since", ""))
        return _back("series", notice, symbol=symbol, timeframe=timeframe)

    @bp.post("/series/<symbol>/<timeframe>/contract")
    def choose_contract(symbol: str, timeframe: str) -> ResponseReturnValue:
        con_id = request.form.get("con_id", "")
        notice = _change(system, "contract", symbol, timeframe, con_id=con_id)
        return _back("series", notice, symbol=symbol, timeframe=timeframe)


def _change(system: System, what: str, symbol: str, timeframe: str, **wanted: str) -> str:
    """Change how a series is kept; returns the notice on what came of it."""
    try:
        system.peers.change_series({"symbol": symbol, "timeframe": timeframe, **wanted})
    except KtrdrError:
        return f"{what}-not-changed"
    return f"{what}-changed"


def _request_fill(system: System, symbol: str, timeframe: str, since: str) -> str:
    """Request a fill; returns the notice on what came of it."""
    try:
        day = date.fromisoformat(since).isoformat()
    except ValueError:
        return "fill-needs-day"
    try:
        system.peers.request_fill({"symbol": symbol, "timeframe": timeframe, "from": day})
    except KtrdrError:
        return "fill-not-requested"
    return "fill-requested"


def _back(page: str, notice: str, **path: str) -> ResponseReturnValue:
    values: dict[str, Any] = {"notice": notice, **path}
    return redirect(url_for(f"page.{page}", **values), 303)


def _seconds(name: str) -> float:
    text = request.args.get(name, "")
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        abort(400, f"{name}={text[:100]!r}: expected a time such as 2026-11-20T14:30:00Z")
