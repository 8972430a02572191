"""The heat map's data: the coverage of all series, a character a trading day."""

from __future__ import annotations

from flask import Blueprint, Response, abort, current_app, request

from ktrdr.health.peers import Peers
from ktrdr.health.recorder import Recorder
from ktrdr.ipc.codec import to_json
from ktrdr.web.fragments import Fragments

_PARAMETERS = ("from", "to")
_LONGEST = 40


def grid_api(peers: Peers, recorder: Recorder) -> Blueprint:
    """`GET /api/v1/data/coverage/grid?from=&to=`: by default the last year.

    Without the gap filler the last year as it was last known, with `known_at` and the reason.
    """
    api = Blueprint("grid", __name__)

    def render(span: tuple[str, ...]) -> str:
        known = {name: day for name, day in zip(_PARAMETERS, span, strict=True) if day}
        grid = peers.grid(known)
        past = recorder.known
        if grid.content is None and past is not None and past.grid is not None and not known:
            old = {"known_at": past.at.isoformat(), "reason": grid.reason}
            return current_app.json.dumps(to_json(past.grid) | old)
        if grid.content is None:
            return current_app.json.dumps({"series": None, "reason": grid.reason})
        return current_app.json.dumps(to_json(grid.content))

    grids = Fragments[tuple[str, ...]](render)

    @api.get("/api/v1/data/coverage/grid")
    def grid() -> Response:
        if unknown := [name for name in request.args if name not in _PARAMETERS]:
            abort(400, f"unknown parameter {unknown[0]!r}: expected {', '.join(_PARAMETERS)}")
        span = tuple(request.args.get(name, "")[:_LONGEST] for name in _PARAMETERS)
        return grids.get(span).response("application/json")

    return api
