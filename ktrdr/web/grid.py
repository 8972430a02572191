"""The heat map's data: the coverage of all series, a character a trading day."""

from __future__ import annotations

from flask import Blueprint, Response, current_app
from pydantic import Field

from ktrdr.health.peers import Peers
from ktrdr.health.recorder import Recorder
from ktrdr.ipc.codec import to_json
from ktrdr.ipc.messages import Json
from ktrdr.web.answers import GridAnswer
from ktrdr.web.endpoints import Shape, endpoint
from ktrdr.web.fragments import Fragments
from ktrdr.web.parameters import Day, Parameters


class GridQuery(Parameters):
    """Which days."""

    first: Day | None = Field(None, alias="from", description="the first day")
    last: Day | None = Field(None, alias="to", description="the last day")


def grid_api(peers: Peers, recorder: Recorder) -> Blueprint:
    """`GET /api/v1/data/coverage/grid?from=&to=`: by default the last year.

    Without the gap filler the last year as it was last known, with `known_at` and the reason.
    """
    api = Blueprint("grid", __name__)

    def render(span: tuple[str, ...]) -> str:
        known = {name: day for name, day in zip(GridQuery.names(), span, strict=True) if day}
        grid = peers.grid(known)
        past = recorder.known
        if grid.content is None and past is not None and past.grid is not None and not known:
            old = {"known_at": past.at.isoformat(), "reason": grid.reason}
            return current_app.json.dumps(to_json(past.grid) | old)
        if grid.content is None:
            return _compact({"series": None, "reason": grid.reason})
        return _compact(to_json(grid.content))

    grids = Fragments[tuple[str, ...]](render)

    @api.get("/api/v1/data/coverage/grid")
    @endpoint(
        Shape(GridAnswer, headers={"ETag": "changes with the grid"}),
        query=GridQuery,
    )
    def coverage_grid(query: GridQuery) -> Response:
        """All series by trading day, a character a day; by default the last year."""
        return grids.get((query.first or "", query.last or "")).response("application/json")

    return api


def _compact(answer: Json) -> str:
    return current_app.json.dumps(answer, separators=(",", ":"))
