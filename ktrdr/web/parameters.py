"""Parameters of the API: which there are, and their values as types. Answers no request.

An unknown one is refused, since a misspelt filter that is ignored gives the answer to another
question; so is an empty one, but for times.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, date, datetime
from difflib import get_close_matches
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
)
from werkzeug.datastructures import MultiDict

from ktrdr.errors import InvalidRequest
from ktrdr.escapes import visible
from ktrdr.ipc.text import expect_text
from ktrdr.market.instruments import Series, check_symbol
from ktrdr.market.timeframes import Timeframe

Q = TypeVar("Q", bound="Parameters")

_EXAMPLE = "2026-11-20 or 2026-11-20T14:30:00+00:00"
_BARE_ZONE = re.compile(r"(?<=:\d\d) (?=\d\d:\d\d$)")
_FLAGS = {"true": True, "false": False}
_IN_JSON = {"json": True}
"""The context of values that are JSON's; other values have none."""
_NO_TEXTS = ("a whole number", "true or false")
"""How `allowed` names what has no quotes in JSON."""
_LONGEST = 100
"""Characters of a text; the programs' sockets accept a few thousand in all."""


class Parameters(BaseModel):
    """The parameters of one endpoint, each with its type, default and meaning."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def names(cls) -> list[str]:
        """As they are written in a query."""
        return [field.alias or name for name, field in cls.model_fields.items()]

    @classmethod
    def needed(cls) -> list[str]:
        """Those of them that have no default."""
        fields = cls.model_fields.items()
        return [field.alias or name for name, field in fields if field.is_required()]


def _whole(text: Any) -> Any:
    """Digits as a number; Python's and pydantic's reading would accept `1_0` too."""
    if not isinstance(text, str) or not re.fullmatch("[0-9]{1,10}", text):
        raise ValueError
    return int(text)


def _seconds(text: Any) -> int | None:
    """UTC seconds of a date or time; no bar starts before the next whole one. None: empty."""
    if text == "":
        return None
    spelled = _BARE_ZONE.sub("+", text) if isinstance(text, str) else ""
    try:
        found = datetime.fromisoformat(spelled)
        return math.ceil((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp())
    except OverflowError:
        raise ValueError from None


def _day(text: str) -> str:
    """A day of the calendar, as it is written."""
    if not re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        raise ValueError
    date.fromisoformat(text)
    return text


def _contract_number(value: Any, info: ValidationInfo) -> Any:
    """IB's number of a contract, as a number of JSON or else in digits."""
    if not info.context:
        return _whole(value)
    if isinstance(value, float) and value.is_integer():  # JSON has one kind of number
        return int(value)
    if type(value) is not int:
        raise ValueError
    return value


def _flag(value: Any, info: ValidationInfo) -> Any:
    """True or false, as JSON has it or else as a text."""
    found = value if info.context else _FLAGS.get(str(value).lower())
    if type(found) is not bool:
        raise ValueError
    return found


def _day_or_null(value: Any, info: ValidationInfo) -> Any:
    """None for the null of JSON, or else for the text `null`."""
    return None if value == "null" and not info.context else value


DIGITS = BeforeValidator(_whole)
"""For numbers: only digits are one."""
ConId = Annotated[int, Field(ge=1, le=2**31 - 1), BeforeValidator(_contract_number)]
"""IB's number of a contract."""
Flag = Annotated[bool, BeforeValidator(_flag)]
"""True or false."""
Day = Annotated[
    str,
    AfterValidator(_day),
    WithJsonSchema({"type": "string", "format": "date", "examples": ["2026-11-20"]}),
]
"""A day in ISO 8601, as it is written."""
Moment = Annotated[
    int | None,
    BeforeValidator(_seconds),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "format": "date"},
                {"type": "string", "format": "date-time"},
                {"type": "string", "maxLength": 0},
            ],
            "examples": ["2026-11-20", "2026-11-20T14:30:00+00:00"],
        }
    ),
]
"""A date or time in ISO 8601, without a zone in UTC; as UTC seconds. None: it is empty."""
DayOrNull = Annotated[Day | None, BeforeValidator(_day_or_null)]
"""The same, or none: `null`, which is a text in a form."""
SYMBOL: Mapping[str, Any] = {
    "type": "string",
    "pattern": r"^[A-Za-z0-9][A-Za-z0-9._-]*( [A-Za-z0-9._-]+)*$",
    "maxLength": 40,
    "examples": ["AAPL", "BRK B"],
}
"""The JSON schema of a symbol, which is what `check_symbol` checks."""
SERIES_PATH: Mapping[str, Mapping[str, Any]] = {
    "symbol": SYMBOL,
    "timeframe": {"type": "string", "enum": [one.value for one in Timeframe]},
}
"""The JSON schemas of a path's parts that name a series."""
Symbol = Annotated[str, AfterValidator(check_symbol), WithJsonSchema(dict(SYMBOL))]
"""As it is in a file's name."""


def series_of_path(symbol: str, timeframe: str) -> Series:
    """The series that a path names. InvalidRequest: not a symbol, or not a timeframe."""
    try:
        return Series(check_symbol(symbol), Timeframe.parse(timeframe))
    except ValueError as error:
        raise InvalidRequest(str(error)) from error


def read_query(shape: type[Q] | None, given: MultiDict[str, str]) -> Q | None:
    """The parameters of a query. InvalidRequest names what is unknown, doubled or wrong."""
    names = shape.names() if shape else []
    refuse_unknown("parameter", given, names)
    if doubled := [name for name in given if len(given.getlist(name)) > 1]:
        raise InvalidRequest(f"parameter {doubled[0]!r} is there more than once: expected one")
    return read(shape, given.to_dict()) if shape else None


def read(shape: type[Q], given: Mapping[str, Any], *, is_json: bool = False) -> Q:
    """The parameters with these values. InvalidRequest names the first that is wrong.

    `is_json`: numbers and flags are to be JSON's own; else they are texts.
    """
    expect_text({name: str(value) for name, value in given.items()})
    try:
        return shape.model_validate(dict(given), context=_IN_JSON if is_json else None)
    except ValidationError as error:
        raise InvalidRequest(_words(shape, error, is_json=is_json)) from None


def refuse_unknown(kind: str, given: Iterable[str], names: Collection[str]) -> None:
    """InvalidRequest: one of the given names is none of `names`; the hint has the nearest one."""
    for name in given:
        if name not in names:
            near = get_close_matches(name.lower(), names, 1)
            known = ", ".join(names) or "none"
            raise InvalidRequest(
                f"unknown {kind} {visible(name[:_LONGEST])!r}: expected {known}",
                hint=f"did you mean {near[0]}?" if near else "",
            )


def _words(shape: type[Parameters], error: ValidationError, *, is_json: bool) -> str:
    """The first error in words, with what the schema allows."""
    first = error.errors()[0]
    name = str(first["loc"][0])
    if first["loc"][0] == "symbol":
        return str(first["ctx"]["error"])  # the rule for symbols
    schema = shape.model_json_schema()
    what = allowed(schema["properties"][name], schema)
    if first["type"] == "missing":
        return f"{name} is missing: expected {what}"
    if is_json and isinstance(first["input"], str) and what.startswith(_NO_TEXTS):
        what += ", without quotes"
    return _expected(name, first["input"], what)


def _expected(name: str, value: object, what: str) -> str:
    return f"{name}={visible(str(value)[:_LONGEST])!r}: expected {what}"


def allowed(schema: Mapping[str, Any], root: Mapping[str, Any]) -> str:
    """What a JSON schema of a parameter allows, in words."""
    choices = [_resolved(one, root) for one in schema.get("anyOf", [schema])]
    formats = {one["format"] for one in choices if "format" in one}
    if formats:
        is_day = formats == {"date"}
        return "a day such as 2026-11-20" if is_day else f"a date or time such as {_EXAMPLE}"
    chosen = choices[0]
    if "enum" in chosen:
        return f"one of {', '.join(map(str, chosen['enum']))}"
    if chosen.get("type") == "array":
        return f"{', '.join(chosen['examples'][0])} or the like, separated by commas"
    if chosen.get("type") == "boolean":
        return "true or false"
    if chosen.get("type") == "integer":
        return f"a whole number from {chosen['minimum']} to {chosen['maximum']}"
    return "a text"


def _resolved(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    name = schema.get("$ref", "").rpartition("/")[2]
    return root["$defs"][name] if name else schema
