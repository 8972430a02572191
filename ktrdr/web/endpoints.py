"""What an endpoint of the API takes and answers: stated beside its function, kept by `endpoint`.

The OpenAPI document is made of these statements, so it cannot say anything else than the code.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, TypeVar

from flask import abort, request
from werkzeug.datastructures import MultiDict

from ktrdr.errors import InvalidRequest, KtrdrError
from ktrdr.escapes import visible
from ktrdr.web.parameters import Parameters, read, read_query, refuse_unknown

View = Callable[..., Any]
"""A function of Flask's."""
B = TypeVar("B", bound=Parameters)

_LONGEST = 100


@dataclass(frozen=True)
class Shape:
    """The content of an answer: a type, from which its JSON schema is made; or only media types."""

    type: Any = None
    media_types: tuple[str, ...] = ("application/json",)
    name: str = ""
    """In the document, where it is not the type itself."""
    flag: str = ""
    """Without the program that knows, all is null but this, which is false, and `reason`."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Name → meaning."""


@dataclass(frozen=True)
class Endpoint:
    """One endpoint. Its function's docstring is its description."""

    answer: Shape
    status: int = 200
    also: Mapping[int, str] = field(default_factory=dict)
    """Further statuses of the same answer → when."""
    query: type[Parameters] | None = None
    body: type[Parameters] | None = None
    """Values that may be JSON, a form, or in the query."""
    sent: Mapping[str, str] = field(default_factory=dict)
    """Headers of a request that matter: name → meaning."""
    problems: tuple[type[KtrdrError], ...] = ()
    """Besides a wrong parameter, which every endpoint refuses."""
    further: Mapping[int, str] = field(default_factory=dict)
    """HTTP's own errors: status → when."""
    path: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Name of a part of the path → its JSON schema, where it is not any text."""


def endpoint(
    answer: Shape,
    *,
    status: int = 200,
    also: Mapping[int, str] | None = None,
    query: type[Parameters] | None = None,
    body: type[Parameters] | None = None,
    sent: Mapping[str, str] | None = None,
    problems: tuple[type[KtrdrError], ...] = (),
    further: Mapping[int, str] | None = None,
    path: Mapping[str, Mapping[str, Any]] | None = None,
) -> Callable[[View], View]:
    """State what a function takes and answers; it receives the checked `query` and `body`.

    What it does not take is refused: unknown parameters and unknown keys of a body.
    """
    about = Endpoint(
        answer, status, also or {}, query, body, sent or {}, problems, further or {}, path or {}
    )

    def stated(function: View) -> View:
        @wraps(function)
        def view(**named: Any) -> Any:
            if body is not None:
                return function(body=_body(body), **named)
            refuse_unknown("key", _posted(), [])
            checked = read_query(query, request.args)
            return function(**(named if checked is None else {"query": checked, **named}))

        view.__dict__["about"] = about
        return view

    return stated


def about(view: View) -> Endpoint | None:
    """What a function of Flask's has stated; None: it is not part of the API."""
    found: Endpoint | None = getattr(view, "about", None)
    return found


def _posted() -> list[str]:
    """The keys of the request's body, where it is JSON or a form."""
    if not request.is_json:
        return [*request.form]
    values = _json() if request.get_data() else None
    return [*values] if isinstance(values, dict) else []


def _body(shape: type[B]) -> B:
    """The checked values of the request. Aborts if some are missing, InvalidRequest if wrong."""
    names = shape.names()
    values = _values(names)
    refuse_unknown("key" if request.is_json else "parameter", map(str, values), names)
    needed = shape.needed()
    if missing := [name for name in needed if not isinstance(values.get(name), str)]:
        abort(400, f"expected {', '.join(needed)} as texts; missing: {', '.join(missing)}")
    if long := [name for name, value in values.items() if len(str(value)) > _LONGEST]:
        abort(400, f"expected at most {_LONGEST} characters; longer: {', '.join(long)}")
    return read(shape, values, is_json=request.is_json and not request.args)


def _values(names: list[str]) -> Mapping[str, Any]:
    """What was sent: in the body or in the query, but not in both."""
    content = _json() if request.is_json else _once(request.form)
    if not isinstance(content, dict):
        abort(400, f"expected an object with {', '.join(names)}")
    query = _once(request.args)
    if content and query:
        raise InvalidRequest(
            f"{next(iter(query))!r} is in the query, and there is a body: expected one of them"
        )
    return content or query


def _json() -> Any:
    """The body as JSON. InvalidRequest: it is none, or has a key more than once."""
    try:
        return json.loads(request.get_data(), object_pairs_hook=_object, parse_constant=_refuse)
    except RecursionError:
        raise InvalidRequest("the body is nested too deep") from None
    except ValueError as error:
        raise InvalidRequest(f"the body is no JSON: {error}") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        doubled = next(name for name in names if names.count(name) > 1)
        raise InvalidRequest(
            f"key {visible(doubled[:_LONGEST])!r} is there more than once: expected one"
        )
    return found


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _once(given: MultiDict[str, str]) -> dict[str, str]:
    if doubled := [name for name in given if len(given.getlist(name)) > 1]:
        raise InvalidRequest(f"parameter {doubled[0]!r} is there more than once: expected one")
    return given.to_dict()
