"""The page of the filling: requested fills, what is filled next, and recent errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Blueprint, redirect, request, url_for
from flask.typing import ResponseReturnValue

from ktrdr.errors import KtrdrError
from ktrdr.health.peers import Peers
from ktrdr.health.system import Snapshot
from ktrdr.ipc.messages import FillStatus, GapFillerStatus, Problem
from ktrdr.web.pages.page import Page, Site, Values

NOTICES = {
    "fill-cancelled": "The fill was cancelled; what was fetched stays.",
    "fill-not-cancelled": "The fill was not cancelled: the gap filler did not do it.",
    "fill-paused": "The fill is paused: nothing more is requested for it until it is resumed.",
    "fill-not-paused": "The fill was not paused: it is over, or the gap filler did not do it.",
    "fill-resumed": "The fill goes on.",
    "fill-not-resumed": "The fill was not resumed: it is over, or the gap filler did not do it.",
}
_ERRORS = 50
_ENDED = 10


def _view(site: Site, snapshot: Snapshot, _: Values) -> dict[str, Any]:
    listed = site.system.fill_list(snapshot)
    known = listed.content.fills if listed.content else []
    return {
        "fills": listed,
        "open_fills": [one for one in known if one.is_open],
        "ended_fills": _newest_ended(known),
        "recent_errors": _newest_errors(snapshot.gap_filler.content),
    }


def _newest_ended(fills: list[FillStatus]) -> list[FillStatus]:
    ended = [one for one in fills if one.ended_at]
    return sorted(ended, key=lambda one: str(one.ended_at), reverse=True)[:_ENDED]


def _newest_errors(status: GapFillerStatus | None) -> list[Problem]:
    errors = status.recent_errors if status else ()
    return sorted(errors, key=lambda problem: problem.time, reverse=True)[:_ERRORS]


FILLS = Page("fills", "/fills", "Fills", _view)


def add_fill_forms(bp: Blueprint, peers: Peers, changed: Callable[[], None]) -> None:
    """`/fills/cancel`, `/fills/pause` and `/fills/resume`. `changed`: pages are to be rendered."""

    def done(change: Callable[[str], object], words: str) -> ResponseReturnValue:
        try:
            change(request.form.get("id", ""))
        except KtrdrError:
            words = f"not-{words}"
        changed()
        return redirect(url_for("page.fills", notice=f"fill-{words}"), 303)

    @bp.post("/fills/cancel")
    def cancel_fill() -> ResponseReturnValue:
        return done(peers.cancel_fill, "cancelled")

    @bp.post("/fills/pause")
    def pause_fill() -> ResponseReturnValue:
        return done(peers.pause_fill, "paused")

    @bp.post("/fills/resume")
    def resume_fill() -> ResponseReturnValue:
        return done(peers.resume_fill, "resumed")
