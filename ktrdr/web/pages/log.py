"""The page of one program's log: followed, searched and downloaded.

Without JavaScript it shows the last lines, chosen by level and text. Regular expressions are the
browser's: one that takes for ever must not stop the status app.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flask import Blueprint, Response, abort, request
from flask.typing import ResponseReturnValue

from ktrdr.health.programs import NAMES
from ktrdr.health.system import Snapshot
from ktrdr.run_folder import open_plain
from ktrdr.web.logs import LEVELS, MOST_LINES, blocks, chosen, levelled, read_on, tail
from ktrdr.web.pages.page import Page, Site, Values

_SHOWN = 200


def _view(site: Site, _: Snapshot, values: Values) -> dict[str, Any]:
    found = tail(_path(site, values["program"]), MOST_LINES)
    lines = chosen(levelled(found.lines), values["level"], values["q"])
    return {
        "program": values["program"],
        "log": found,
        "lines": lines[-_SHOWN:],
        "level": values["level"],
        "q": values["q"],
        "levels": LEVELS[1:],
        "names": NAMES,
    }


LOG = Page(
    "log",
    "/programs/<program>/log",
    "",
    _view,
    parameters=("program", "level", "q"),
    scripts=("log.js",),
)


def _path(site: Site, program: str) -> Path:
    """The log of a program; 404: there is none of this name."""
    if program not in NAMES:
        abort(404, f"no program has the name {program!r}: expected one of {', '.join(NAMES)}")
    return site.log_dir / f"{program}.log"


def add_log(bp: Blueprint, site: Site) -> None:
    """`lines` and `download` below a log's page."""

    @bp.get(f"{LOG.path}/lines")
    def log_lines(program: str) -> ResponseReturnValue:
        """Lines behind `after`: level and text of each. To be requested again and again."""
        found = read_on(_path(site, program), request.args.get("after", ""))
        return {
            "cursor": found.cursor,
            "lines": [[line.level, line.text] for line in levelled(found.lines)],
            "is_new_file": found.is_new_file,
            "reason": found.reason or None,
        }

    @bp.get(f"{LOG.path}/download")
    def download_log(program: str) -> ResponseReturnValue:
        """The whole file as it is."""
        path = _path(site, program)
        try:
            file = open_plain(path)
        except OSError as error:
            abort(404, f"{path} cannot be read: {error.strerror}")
        response = Response(blocks(file), mimetype="text/plain")
        response.headers["Content-Disposition"] = f"attachment; filename={path.name}"
        return response
