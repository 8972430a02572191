"""Messages as JSON, and back. Sends nothing."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from ktrdr import errors
from ktrdr.ipc.messages import Json

T = TypeVar("T")


def to_json(message: object) -> Json:
    """A message, which is a dataclass, as JSON-able values; times as ISO 8601 with `+00:00`."""
    encoded: Json = adapter(type(message)).dump_python(message, mode="json", by_alias=True)
    return encoded


def to_text(message: object) -> bytes:
    """A message as JSON text, several times faster. All its text must be UTF-8."""
    return adapter(type(message)).dump_json(message, by_alias=True)


def from_text(shape: type[T], body: bytes) -> T:
    """The message of this shape from JSON text, with strict types.

    Unknown fields are ignored. InvalidRequest names what is missing or wrong.
    """
    try:
        return adapter(shape).validate_json(body, strict=True)
    except ValidationError as error:
        if error.errors()[0]["type"] != "json_invalid":
            raise errors.InvalidRequest(first_problem(error)) from error
    values = read_json(body)  # pydantic refuses half a surrogate pair in a text
    try:
        return adapter(shape).validate_python(values)
    except ValidationError as error:
        raise errors.InvalidRequest(first_problem(error)) from error


def adapter(shape: type[T]) -> TypeAdapter[T]:
    """What writes and reads messages of a shape; each is made once."""
    if shape not in _ADAPTERS:
        _ADAPTERS[shape] = TypeAdapter(shape)
    made: TypeAdapter[T] = _ADAPTERS[shape]
    return made


_ADAPTERS: dict[type[Any], TypeAdapter[Any]] = {}
"""Making one takes some milliseconds."""


def first_problem(error: ValidationError) -> str:
    """The first part of a message that is wrong, and how."""
    problem = error.errors()[0]
    return ": ".join(filter(None, (".".join(map(str, problem["loc"])), problem["msg"])))


def read_json(body: bytes) -> Json:
    """The JSON object of an answer. InvalidRequest: it is none."""
    try:
        answer = json.loads(body)
    except ValueError as error:
        raise errors.InvalidRequest("an answer that cannot be read") from error
    if not isinstance(answer, dict):
        raise errors.InvalidRequest("an answer that is no object")
    return answer
