"""The page of the contracts that a series may be of, each with a button that chooses it."""

from __future__ import annotations

from typing import Any

from ktrdr.errors import KtrdrError
from ktrdr.health.system import Snapshot
from ktrdr.web.pages.page import Page, Site, Values


def _view(site: Site, _: Snapshot, values: Values) -> dict[str, Any]:
    context: dict[str, Any] = {**values, "found": None, "error": None}
    try:
        context["found"] = site.system.peers.candidates(values["symbol"])
    except KtrdrError as error:
        context["error"] = error
    return context


CONTRACTS = Page(
    "contracts",
    "/series/<symbol>/<timeframe>/contracts",
    "",
    _view,
    parameters=("symbol", "timeframe"),
    is_live=False,
)
