"""Error handlers for Flask: errors become JSON of one shape, with the HTTP status from `errors`."""

from __future__ import annotations

from flask import Flask, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException

from ktrdr.errors import KtrdrError


def answer_errors(app: Flask) -> None:
    """Register the handlers."""

    @app.errorhandler(KtrdrError)
    def _ours(error: KtrdrError) -> ResponseReturnValue:
        body = {"outcome": error.outcome, "reason": error.message, "hint": error.hint or None}
        return body, error.http_status

    @app.errorhandler(HTTPException)
    def _https(error: HTTPException) -> ResponseReturnValue:
        if not request.path.startswith("/api/"):
            return error
        body = {"outcome": error.name.lower().replace(" ", "_"), "reason": error.description}
        return body, error.code or 500, _allowed(error)


def _allowed(error: HTTPException) -> list[tuple[str, str]]:
    """The headers that belong to the code, such as a 405's Allow."""
    return [(k, v) for k, v in error.get_headers() if k.lower() != "content-type"]
