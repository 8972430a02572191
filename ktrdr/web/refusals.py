"""Errors as answers: one JSON shape for everything under /api, and a status code for each kind."""

from __future__ import annotations

from flask import Flask, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException

from ktrdr.errors import KtrdrError, Permanent, Retryable

_BY_OUTCOME = {
    "not_entitled": 403,
    "unknown_contract": 404,
    "unknown_series": 404,
    "unknown_fill": 404,
    "malformed_file": 422,
    "wrong_source": 409,
    "paced": 429,
}


def answer_errors(app: Flask) -> None:
    """Have errors answered, never shown raw."""

    @app.errorhandler(KtrdrError)
    def _ours(error: KtrdrError) -> ResponseReturnValue:
        said = {"outcome": error.outcome, "reason": error.message, "hint": error.hint or None}
        return said, http_status(error)

    @app.errorhandler(HTTPException)
    def _https(error: HTTPException) -> ResponseReturnValue:
        if not request.path.startswith("/api/"):
            return error
        said = {"outcome": error.name.lower().replace(" ", "_"), "reason": error.description}
        return said, error.code or 500, _allowed(error)


def http_status(error: KtrdrError) -> int:
    """The HTTP code that tells a caller whose turn it is: theirs (4xx), or ours to mend (5xx)."""
    if error.outcome in _BY_OUTCOME:
        return _BY_OUTCOME[error.outcome]
    if isinstance(error, Permanent):
        return 400
    return 503 if isinstance(error, Retryable) else 500


def _allowed(error: HTTPException) -> list[tuple[str, str]]:
    """The headers that belong to the code, such as a 405's Allow."""
    return [(k, v) for k, v in error.get_headers() if k.lower() != "content-type"]
