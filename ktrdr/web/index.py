"""The API about itself: what it has, its OpenAPI document, and what its problems mean."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass

from flask import Blueprint, Response, abort, current_app, render_template, request
from flask.typing import ResponseReturnValue

from ktrdr import __version__
from ktrdr.errors import KtrdrError, Misconfigured, Permanent, Retryable
from ktrdr.ipc.codec import to_json
from ktrdr.web.endpoints import Shape, endpoint
from ktrdr.web.openapi import PREFIX, document, operations
from ktrdr.web.problems import PROBLEMS, meaning, outcomes

DOCUMENT = f"{PREFIX}/openapi.json"


@dataclass(frozen=True)
class LinkAnswer:
    """One endpoint."""

    method: str
    path: str
    """Parts in braces are to be replaced."""
    summary: str


@dataclass(frozen=True)
class IndexAnswer:
    """What the API has."""

    name: str
    version: str
    openapi: str
    """Where the OpenAPI document is."""
    problems: str
    """Where the kinds of problems are listed."""
    endpoints: list[LinkAnswer]


@dataclass(frozen=True)
class ProblemKind:
    """What a kind of problem means."""

    type: str
    outcome: str
    title: str
    status: int
    meaning: str
    what_next: str


@dataclass(frozen=True)
class ProblemKinds:
    """All kinds of problems."""

    problems: list[ProblemKind]


def index_api() -> Blueprint:
    """`/api/v1`, `/api/v1/openapi.json` and `/api/v1/problems/…`."""
    api = Blueprint("index", __name__, url_prefix=PREFIX)
    made: list[str] = []

    @api.get("")
    @endpoint(Shape(IndexAnswer))
    def index() -> ResponseReturnValue:
        """What the API has."""
        links = [LinkAnswer(one.method, one.path, one.summary) for one in operations(current_app)]
        return to_json(IndexAnswer("ktrdr", __version__, DOCUMENT, PROBLEMS, links))

    @api.get("/openapi.json")
    @endpoint(Shape())
    def openapi() -> ResponseReturnValue:
        """The OpenAPI document of all this."""
        if not made:
            made.append(current_app.json.dumps(document(current_app), separators=(",", ":")))
        return Response(made[0], mimetype="application/json")

    _add_problems(api)
    return api


def _add_problems(api: Blueprint) -> None:
    """`/api/v1/problems/…`."""

    @api.get("/problems")
    @endpoint(Shape(ProblemKinds))
    def problems() -> ResponseReturnValue:
        """The kinds of problems, which the `type` of an error names."""
        return to_json(ProblemKinds([*map(_kind, outcomes().values())]))

    @api.get("/problems/<outcome>")
    @endpoint(
        Shape(ProblemKind, ("application/json", "text/html")),
        further={404: "there is no such kind"},
        path={"outcome": {"type": "string", "enum": [*outcomes()]}},
    )
    def problem(outcome: str) -> ResponseReturnValue:
        """What a kind of problem means, and what to do; a page for browsers."""
        kind = outcomes().get(outcome)
        if kind is None:
            abort(404, f"no problem is named {outcome!r}: expected one of {', '.join(outcomes())}")
        found = _kind(kind)
        wanted = request.accept_mimetypes.best_match(("application/json", "text/html"))
        answer = Response(
            render_template("problem.html", problem=found)
            if wanted == "text/html"
            else current_app.json.dumps(to_json(found), separators=(",", ":")),
            mimetype="text/html" if wanted == "text/html" else "application/json",
        )
        answer.vary.add("Accept")
        return answer


def _kind(kind: type[KtrdrError]) -> ProblemKind:
    text = " ".join(inspect.cleandoc(kind.__doc__ or "").split())
    what_next = next(text for base, text in _WHAT_NEXT.items() if issubclass(kind, base))
    place = f"{PROBLEMS}/{kind.outcome}"
    return ProblemKind(place, kind.outcome, meaning(kind), kind.http_status, text, what_next)


_WHAT_NEXT: Mapping[type[KtrdrError], str] = {
    Retryable: "Try again later; `hint` says what a person can do meanwhile.",
    Permanent: "Change the request, or do what `hint` says: the same request fails again.",
    Misconfigured: "Correct the settings that `detail` names, and start the programs again.",
    KtrdrError: "See `detail`.",
}
"""The most special ones first."""
