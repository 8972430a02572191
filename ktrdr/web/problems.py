"""Errors as problem details of RFC 9457, with our `outcome` and `hint`. Answers no request."""

from __future__ import annotations

from collections.abc import Iterator

from ktrdr import errors
from ktrdr.ipc.messages import Json

MEDIA_TYPE = "application/problem+json"
PROBLEMS = "/api/v1/problems"
"""Where the meaning of each outcome is served."""
_OUTCOMES = {400: "invalid_request", 500: "failed"}
"""Outcomes of HTTP's own errors that have another name with us."""


def problem_of(error: errors.KtrdrError, reason: str = "") -> Json:
    """An error of ours; `reason`: in one sentence, by default its message."""
    outcome, detail = error.outcome, error.message
    return {
        "type": f"{PROBLEMS}/{outcome}",
        "title": meaning(type(error)),
        "status": error.http_status,
        "detail": detail,
        "outcome": outcome,
        "reason": reason or detail,
        "hint": error.hint or None,
    }


def http_problem(status: int, name: str, detail: str, hint: str | None = None) -> Json:
    """An error of HTTP's own, such as 405; `name` is HTTP's: `Method Not Allowed`."""
    return {
        "type": "about:blank",
        "title": name,
        "status": status,
        "detail": detail,
        "outcome": _OUTCOMES.get(status, name.lower().replace(" ", "_")),
        "reason": detail,
        "hint": hint,
    }


def meaning(kind: type[errors.KtrdrError]) -> str:
    """What an error means, whatever the occasion: the first sentence of its description."""
    text = " ".join((kind.__doc__ or kind.outcome).split())
    return text.partition(". ")[0].partition(": ")[0].rstrip(".")


def outcomes() -> dict[str, type[errors.KtrdrError]]:
    """Outcome → the most general error that has it."""
    found: dict[str, type[errors.KtrdrError]] = {}
    for kind in _tree(errors.KtrdrError):
        found.setdefault(kind.outcome, kind)
    return found


def _tree(kind: type[errors.KtrdrError]) -> Iterator[type[errors.KtrdrError]]:
    if kind.__module__ == errors.__name__:
        yield kind
    for derived in kind.__subclasses__():
        yield from _tree(derived)
