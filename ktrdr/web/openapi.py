"""The OpenAPI 3.1 document, made of what the endpoints state and of the messages' types.

pydantic makes the JSON schemas; the paths are Flask's. It serves nothing.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import Field, fields, is_dataclass
from textwrap import dedent
from typing import Any, NamedTuple

from flask import Flask
from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue
from pydantic_core import core_schema
from werkzeug.routing import Rule

from ktrdr import __version__
from ktrdr.errors import InvalidRequest, KtrdrError
from ktrdr.ipc.messages import Json
from ktrdr.web.answers import ProblemDetails
from ktrdr.web.endpoints import Endpoint, Shape, View, about
from ktrdr.web.problems import MEDIA_TYPE, meaning

PREFIX = "/api/v1"
_REF = "#/components/schemas/"
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_DESCRIPTION = (
    "What the status page shows, as JSON, and the bars. Times are ISO 8601 in UTC. Every error is a"
    " problem of RFC 9457; unknown parameters are refused. docs/api.md has examples."
)
_FOR_ALL = {
    400: "a parameter is unknown or wrong, or the page has no such host name",
    401: "KTRDR_STATUS_TOKEN is set, and was not sent",
}


class Operation(NamedTuple):
    """One method of one path."""

    path: str
    """As in the document: `/api/v1/data/{symbol}/{timeframe}`."""
    method: str
    view: View
    about: Endpoint
    parts: tuple[str, ...]
    """Names of the path's variable parts."""

    @property
    def summary(self) -> str:
        """The first line of its description."""
        return _text(self.view).partition("\n")[0].rstrip(".")


def operations(app: Flask) -> Iterator[Operation]:
    """All of the API, in the order of their paths."""
    for rule in sorted(app.url_map.iter_rules(), key=lambda one: one.rule):
        view = app.view_functions[rule.endpoint]
        stated = about(view)
        if rule.rule.startswith(PREFIX) and stated is not None and rule.alias is not True:
            for method in _METHODS:
                if method in (rule.methods or ()):
                    yield Operation(_path(rule), method, view, stated, tuple(rule.arguments))


def document(app: Flask) -> Json:
    """The whole document."""
    schemas = _Schemas()
    paths: dict[str, Json] = {}
    for one in operations(app):
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "ktrdr", "version": __version__, "description": _DESCRIPTION},
        "servers": [{"url": "/"}],
        "security": [{}, {"token": []}, {"password": []}],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.found.items())),
            "responses": {"Problem": _problem("a problem of another kind", schemas)},
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "password": {"type": "http", "scheme": "basic"},
            },
        },
    }


def _path(rule: Rule) -> str:
    return re.sub(r"<(?:[^<:]+:)?([^>]+)>", r"{\1}", rule.rule)


def _operation(one: Operation, schemas: _Schemas) -> Json:
    stated, more = one.about, _text(one.view).partition("\n")[2]
    found: Json = {
        "operationId": one.view.__name__,
        "summary": one.summary,
        "tags": [one.path.removeprefix(PREFIX).strip("/").partition("/")[0] or "index"],
    }
    if more.strip():
        found["description"] = " ".join(more.split())
    parameters = [
        *_path_parameters(one),
        *_query_parameters(stated, schemas),
        *_header_parameters(stated),
    ]
    if parameters:
        found["parameters"] = parameters
    if stated.body is not None:
        content = {"schema": schemas.of(stated.body, "validation")}
        types = ("application/json", "application/x-www-form-urlencoded")
        found["requestBody"] = {"required": True, "content": dict.fromkeys(types, content)}
    found["responses"] = _responses(stated, found["summary"], schemas)
    return found


def _path_parameters(one: Operation) -> Iterator[Json]:
    for name in sorted(one.parts, key=one.path.index):
        schema = one.about.path.get(name, {"type": "string", "minLength": 1})
        yield {"name": name, "in": "path", "required": True, "schema": dict(schema)}


def _query_parameters(stated: Endpoint, schemas: _Schemas) -> Iterator[Json]:
    if stated.query is None:
        return
    whole = schemas.whole(stated.query)
    for name, schema in whole["properties"].items():
        about_it = schema.pop("description", "")
        found: Json = {
            "name": name,
            "in": "query",
            "required": name in whole.get("required", ()),
            "description": about_it,
            "schema": _without_null(schema),
        }
        if schema.get("type") == "array":
            found |= {"style": "form", "explode": False}  # separated by commas
        yield found


def _header_parameters(stated: Endpoint) -> Iterator[Json]:
    for name, meaning_ in stated.sent.items():
        schema = {"type": "string"}
        yield {"name": name, "in": "header", "description": meaning_, "schema": schema}


def _without_null(schema: Json) -> Json:
    """A query has no null: a parameter is left out."""
    kept = {k: v for k, v in schema.items() if k not in ("anyOf", "title")}
    if kept.get("default", "") is None:
        del kept["default"]
    choices: list[Json] = [one for one in schema.get("anyOf", ()) if one != {"type": "null"}]
    if len(choices) == 1:
        return kept | choices[0]
    return kept | ({"anyOf": choices} if choices else {})


def _responses(stated: Endpoint, summary: str, schemas: _Schemas) -> Json:
    found: Json = {str(stated.status): _answer(stated.answer, summary, schemas)}
    for status, when in stated.also.items():
        found[str(status)] = _answer(stated.answer, when, schemas)
    if stated.answer.headers.get("ETag"):
        found["304"] = {"description": "the client has it already (If-None-Match)"}
    whens = dict(_FOR_ALL)
    kinds: tuple[type[KtrdrError], ...] = (InvalidRequest, *stated.problems)
    for kind in kinds:
        known = whens.get(kind.http_status)
        text = f"`{kind.outcome}`: {meaning(kind)}"
        whens[kind.http_status] = f"{known}; {text}" if known else text
    for status, when in (whens | dict(stated.further)).items():
        found[str(status)] = _problem(when, schemas)
    return found | {"default": {"$ref": "#/components/responses/Problem"}}


def _answer(shape: Shape, summary: str, schemas: _Schemas) -> Json:
    content: Json = {}
    for media_type in shape.media_types:
        is_json = media_type == "application/json" and shape.type is not None
        content[media_type] = {"schema": schemas.shape(shape)} if is_json else {}
    found: Json = {"description": summary, "content": content}
    if shape.headers:
        found["headers"] = {
            name: {"description": text, "schema": {"type": "string"}}
            for name, text in shape.headers.items()
        }
    return found


def _problem(when: str, schemas: _Schemas) -> Json:
    content = {MEDIA_TYPE: {"schema": schemas.of(ProblemDetails)}}
    return {"description": when, "content": content}


def _text(view: View) -> str:
    return inspect.getdoc(view) or view.__name__.replace("_", " ")


class _Schemas:
    """The JSON schemas of the document's components, each made once."""

    def __init__(self) -> None:
        self.found: dict[str, Json] = {}

    def of(self, shape: type[Any], mode: JsonSchemaMode = "serialization") -> Json:
        """A reference to the schema of a type."""
        schema = self.whole(shape, mode)
        self.found.setdefault(shape.__name__, schema)
        return {"$ref": _REF + shape.__name__}

    def whole(self, shape: type[Any], mode: JsonSchemaMode = "validation") -> Json:
        """The schema of a type itself; those that it refers to become components."""
        schema = TypeAdapter(shape).json_schema(
            ref_template=_REF + "{model}", schema_generator=_Described, mode=mode
        )
        for name, definition in schema.pop("$defs", {}).items():
            self.found.setdefault(name, definition)
        if "$ref" in schema:  # it refers to itself
            return self.found[schema["$ref"].removeprefix(_REF)]
        return schema

    def shape(self, shape: Shape) -> Json:
        """A reference to the schema of an answer."""
        if not shape.flag:
            return self.of(shape.type)
        schema = self.whole(shape.type, "serialization")
        known = {k: v if k == shape.flag else _or_null(v) for k, v in schema["properties"].items()}
        reason = {
            "type": ["string", "null"],
            "description": "Why the rest is null; or why it waits.",
        }
        known["reason"] = reason
        self.found[shape.name] = schema | {"properties": known, "required": list(known)}
        return {"$ref": _REF + shape.name}


def _or_null(schema: Json) -> Json:
    choices = schema.get("anyOf", [{k: v for k, v in schema.items() if k != "default"}])
    return {"anyOf": [*(one for one in choices if one != {"type": "null"}), {"type": "null"}]}


class _Described(GenerateJsonSchema):
    """pydantic's schemas, with the texts that stand below the fields of our dataclasses."""

    def dataclass_schema(self, schema: core_schema.DataclassSchema) -> JsonSchemaValue:
        found = super().dataclass_schema(schema)
        target = self.resolve_ref_schema(found)
        for name, text in _texts(schema["cls"]).items():
            if name in target.get("properties", {}):
                target["properties"][name].setdefault("description", text.replace("None", "null"))
        return found

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - pydantic's
        """Never: `Retry After` says no more than `retry_after`."""
        return False


def _texts(kind: type[Any]) -> Mapping[str, str]:
    """What stands below each field of a dataclass, by its name in JSON."""
    if not is_dataclass(kind):
        return {}
    found: dict[str, str] = {}
    for one in reversed(kind.__mro__[:-1]):
        found |= _own_texts(one)
    names = {one.name: _alias(one) for one in fields(kind)}
    return {names[name]: text for name, text in found.items() if name in names}


def _alias(one: Field[Any]) -> str:
    """A field's name in JSON."""
    found = re.search(r"alias=[\"'](\w+)", str(one.type))
    return found[1] if found else one.name


def _own_texts(kind: type[Any]) -> dict[str, str]:
    body = ast.parse(dedent(inspect.getsource(kind))).body[0]
    assert isinstance(body, ast.ClassDef)
    found = {}
    for one, after in zip(body.body, body.body[1:], strict=False):
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name):
            text = _constant(after)
            if text:
                found[one.target.id] = " ".join(text.split())
    return found


def _constant(node: ast.stmt) -> str:
    value = node.value if isinstance(node, ast.Expr) else None
    return value.value if isinstance(value, ast.Constant) and type(value.value) is str else ""
