"""The page of the programs: which run, what they use, and the ends of their logs."""

from __future__ import annotations

from typing import Any

from ktrdr.health.programs import NAMES
from ktrdr.health.system import Snapshot
from ktrdr.web.logs import tail
from ktrdr.web.pages.page import Page, Site, Values

_LOG_LINES = 15


def _view(site: Site, _snapshot: Snapshot, _: Values) -> dict[str, Any]:
    return {"logs": {name: tail(site.log_dir / f"{name}.log", _LOG_LINES) for name in NAMES}}


PROGRAMS = Page("programs", "/programs", "Programs", _view)
