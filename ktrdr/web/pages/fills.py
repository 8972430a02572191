"""The page of the filling: what is being filled, requested fills, and recent errors."""

from __future__ import annotations

from typing import Any

from ktrdr.health.system import Snapshot
from ktrdr.ipc.messages import GapFillerStatus, Problem
from ktrdr.web.pages.page import Page, Site, Values

_ERRORS = 50


def _view(site: Site, snapshot: Snapshot, _: Values) -> dict[str, Any]:
    return {
        "fills": site.system.open_fills(snapshot),
        "recent_errors": _newest_errors(snapshot.gap_filler.content),
    }


def _newest_errors(status: GapFillerStatus | None) -> list[Problem]:
    errors = status.recent_errors if status else ()
    return sorted(errors, key=lambda problem: problem.time, reverse=True)[:_ERRORS]


FILLS = Page("fills", "/fills", "Fills", _view)
