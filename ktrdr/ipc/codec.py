"""Messages as JSON, and back. Sends nothing."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from ktrdr import errors
from ktrdr.ipc.messages import Json
from ktrdr.market.sessions import Schedule

T = TypeVar("T")


def to_json(message: object) -> Json:
    """A message, which is a dataclass, as JSON-able values; times as ISO 8601 with `+00:00`."""
    encoded: Json = _adapter(type(message)).dump_python(message, mode="json", by_alias=True)
    return encoded


def to_text(message: object) -> bytes:
    """A message as JSON text, several times faster. All its text must be UTF-8."""
    return _adapter(type(message)).dump_json(message, by_alias=True)


def from_text(shape: type[T], body: bytes) -> T:
    """The message of this shape from JSON text, with strict types.

    Unknown fields are ignored. InvalidRequest names what is missing or wrong.
    """
    try:
        return _adapter(shape).validate_json(body, strict=True)
    except ValidationError as error:
        if error.errors()[0]["type"] != "json_invalid":
            raise errors.InvalidRequest(_first_problem(error)) from error
    values = read_json(body)  # pydantic refuses half a surrogate pair in a text
    try:
        return _adapter(shape).validate_python(values)
    except ValidationError as error:
        raise errors.InvalidRequest(_first_problem(error)) from error


def _adapter(shape: type[T]) -> TypeAdapter[T]:
    if shape not in _ADAPTERS:
        _ADAPTERS[shape] = TypeAdapter(shape)
    adapter: TypeAdapter[T] = _ADAPTERS[shape]
    return adapter


_ADAPTERS: dict[type[Any], TypeAdapter[Any]] = {}
"""Each is made once, since that takes some milliseconds."""


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    return ": ".join(filter(None, (".".join(map(str, problem["loc"])), problem["msg"])))


def schedule_to_json(schedule: Schedule) -> Json:
    """The sessions in the answer of `GET /sessions`, without the days that IB denies."""
    encoded: Json = _adapter(Schedule).dump_python(schedule, mode="json", exclude={"denied"})
    return encoded


def schedule_from_json(received: Json) -> Schedule:
    """The inverse of `schedule_to_json`. InvalidRequest: it has another form."""
    try:
        schedule = _adapter(Schedule).validate_python(received)
    except ValidationError as error:
        why = _first_problem(error)
        raise errors.InvalidRequest(f"sessions that cannot be read: {why}") from error
    if not schedule.is_sound:
        raise errors.InvalidRequest("sessions that overlap, or of a time zone that is not known")
    return schedule


def read_json(body: bytes) -> Json:
    """The JSON object of an answer. InvalidRequest: it is none."""
    try:
        answer = json.loads(body)
    except ValueError as error:
        raise errors.InvalidRequest("an answer that cannot be read") from error
    if not isinstance(answer, dict):
        raise errors.InvalidRequest("an answer that is no object")
    return answer
