"""Error handlers for Flask: an error becomes problem details, or a page for a person's browser."""

from __future__ import annotations

from typing import Any

from flask import Flask, Response, render_template, request
from flask.json import dumps
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound

from ktrdr.errors import KtrdrError, PeerDown
from ktrdr.health.peers import Answer
from ktrdr.ipc.messages import Json
from ktrdr.web.problems import MEDIA_TYPE, http_problem, problem_of

MOST_BODY_BYTES = 1024 * 1024
_FAILED = "the status app failed to answer this"
_FAILED_HINT = ".venv/bin/supervisorctl tail status-app says more"


def answer_errors(app: Flask) -> None:
    """Register the handlers."""
    app.config["MAX_CONTENT_LENGTH"] = MOST_BODY_BYTES

    @app.errorhandler(KtrdrError)
    def _ours(error: KtrdrError) -> Response:
        return problem_response(problem_of(error))

    @app.errorhandler(HTTPException)
    def _https(error: HTTPException) -> Response:
        code = error.code or 500
        detail, hint = (_FAILED, _FAILED_HINT) if code == 500 else (_detail(error), None)
        response = problem_response(http_problem(code, error.name, detail, hint))
        for name, value in error.get_headers():  # those that belong to the code, as a 405's Allow
            if name.lower() != "content-type":
                response.headers[name] = value
        return response


def _detail(error: HTTPException) -> str:
    """What is wrong with this request; werkzeug's own words name neither path nor method."""
    if error.description == type(error).description:
        if isinstance(error, NotFound):
            return f"there is nothing at {request.path}"
        if isinstance(error, MethodNotAllowed) and error.valid_methods:
            taken = ", ".join(sorted({*error.valid_methods} - {"HEAD", "OPTIONS"}))
            return f"{request.path} does not take {request.method}: expected {taken}"
    return error.description or ""


def unavailable(answer: Answer[Any]) -> Response:
    """503: why a peer gave no answer; `reason` has the next step in the same sentence."""
    body = problem_of(PeerDown(answer.why, hint=answer.hint), answer.reason)
    return problem_response(body)


def problem_response(body: Json) -> Response:
    """Problem details, as a page where the client prefers HTML; the API's are never HTML."""
    if _is_for_a_person():
        response = Response(render_template("error.html", **body), body["status"])
    else:
        text = dumps(body, separators=(",", ":")) + "\n"
        response = Response(text, body["status"], mimetype=MEDIA_TYPE)
    response.vary.add("Accept")
    return response


def _is_for_a_person() -> bool:
    if request.path.startswith("/api/"):
        return False
    wanted = request.accept_mimetypes
    return wanted.best_match((MEDIA_TYPE, "application/json", "text/html")) == "text/html"
