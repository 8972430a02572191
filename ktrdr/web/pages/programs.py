"""The page of the programs: which run, what they used in 24 hours, and the ends of their logs."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from flask import Blueprint, Response, abort, redirect, url_for
from flask.typing import ResponseReturnValue

from ktrdr.errors import KtrdrError
from ktrdr.health.programs import NAMES
from ktrdr.health.recorder import Recorder
from ktrdr.health.supervisor import ACTIONS
from ktrdr.health.system import Snapshot, System
from ktrdr.health.usage import chart, figures
from ktrdr.web.fragments import Fragments
from ktrdr.web.logs import tail
from ktrdr.web.pages.page import Page, Site, Values

NOTICES = {
    "program-start": "Its start was requested; that takes some seconds.",
    "program-stop": "Its stop was requested. It stays stopped until it is started again.",
    "program-restart": "Its restart was requested; that takes some seconds.",
    "program-refused": "Nothing was done: supervisord refused it, or does not answer. Next step:"
    " the command beside the button.",
}
UPLOT = "vendor/uplot-1.6.32.min"
_LOG_LINES = 15


def _view(site: Site, _snapshot: Snapshot, _: Values) -> dict[str, Any]:
    usage = site.recorder.usage
    return {
        "logs": {name: tail(site.log_dir / f"{name}.log", _LOG_LINES) for name in NAMES},
        "figures": {name: figures(usage, name) for name in NAMES},
        "is_measured": len(usage.samples) > 1,
    }


PROGRAMS = Page(
    "programs",
    "/programs",
    "Programs",
    _view,
    scripts=(f"{UPLOT}.js", "usage.js"),
    styles=(f"{UPLOT}.css",),
)


def add_program_forms(bp: Blueprint, system: System, changed: Callable[[], None]) -> None:
    """`/programs/NAME/start`, `stop` and `restart`. `changed`: pages are to be rendered anew."""

    @bp.post("/programs/<program>/<action>")
    def control_program(program: str, action: str) -> ResponseReturnValue:
        if program not in NAMES or action not in ACTIONS:
            abort(404)
        notice = f"program-{action}"
        try:
            system.control(program, action)
        except KtrdrError:
            notice = "program-refused"
        changed()
        return redirect(url_for("page.programs", notice=notice), 303)


def add_usage(bp: Blueprint, recorder: Recorder) -> None:
    """`/usage`: what the charts of programs and pace draw, once rendered for all."""
    fragments = Fragments[str](
        lambda _: json.dumps(chart(recorder.usage, NAMES), separators=(",", ":"))
    )

    @bp.get("/usage")
    def usage() -> Response:
        return fragments.get("").response("application/json")
