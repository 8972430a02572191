"""The OpenAPI document says what the code does, and all of it."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest
from openapi_spec_validator import validate

from ktrdr.ipc.messages import ConnectionStatus
from ktrdr.web.answers import ProblemDetails

DOCUMENT = "/api/v1/openapi.json"
MEMBERS = ["type", "title", "status", "detail", "outcome", "reason", "hint"]


@pytest.fixture
def document(client):
    return client.get(DOCUMENT).json


def operations(document):
    return [
        (path, method, one)
        for path, item in document["paths"].items()
        for method, one in item.items()
    ]


def test_it_is_openapi_3_1(document):
    assert document["openapi"] == "3.1.0"
    validate(document)


def test_it_is_compact(client):
    assert b'": ' not in client.get(DOCUMENT).data


def test_it_has_every_endpoint(client, document):
    rules = [one for one in client.application.url_map.iter_rules() if "/api/v1" in one.rule]
    served = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in rules
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }

    assert {(path, method) for path, method, _ in operations(document)} == served
    assert ("/api/v1/data/{symbol}/{timeframe}", "get") in served


def test_every_endpoint_says_what_it_is_and_how_it_refuses(document):
    names = set()
    for path, _, one in operations(document):
        assert one["summary"], path
        names.add(one["operationId"])
        refusal = one["responses"]["400"]["content"]["application/problem+json"]
        assert refusal["schema"] == {"$ref": "#/components/schemas/ProblemDetails"}
        assert all(
            parameter["description"]
            for parameter in one.get("parameters", ())
            if parameter["in"] == "query"
        )
    assert len(names) == len(operations(document))


def test_a_problem_has_the_members_that_are_sent(client, document):
    assert [one.name for one in fields(ProblemDetails)] == MEMBERS
    schema = document["components"]["schemas"]["ProblemDetails"]
    assert list(schema["properties"]) == list(client.get("/api/v1/nothing").json) == MEMBERS


def test_parameters_have_their_types_and_limits(document):
    (lines,) = [
        one
        for one in document["paths"]["/api/v1/system/logs/{name}"]["get"]["parameters"]
        if one["name"] == "lines"
    ]

    assert lines["schema"] == {"type": "integer", "minimum": 1, "maximum": 1000, "default": 50}
    assert lines["description"] == "how many lines at most, counted from the end"


def test_a_body_may_be_json_or_a_form(document):
    body = document["paths"]["/api/v1/data/fills"]["post"]["requestBody"]["content"]

    assert list(body) == ["application/json", "application/x-www-form-urlencoded"]
    schema = document["components"]["schemas"]["FillRequest"]
    assert schema["required"] == ["symbol", "timeframe", "from"]
    assert schema["additionalProperties"] is False


def test_what_stands_below_a_field_describes_it(document):
    schemas = document["components"]["schemas"]

    assert schemas["StateSpan"]["properties"]["state"]["description"] == (
        "One of `ib.states.State`, or `not_running`."
    )
    # A field with another name in JSON, of the class that it is derived from.
    assert schemas["CoveredSeries"]["properties"]["until"]["description"] == (
        "Nothing is known of later bars."
    )


def test_a_status_is_null_without_its_program(document):
    status = document["components"]["schemas"]["IbStatus"]

    assert set(status["required"]) == {one.name for one in fields(ConnectionStatus)} | {"reason"}
    assert status["properties"]["port"]["anyOf"] == [{"type": "integer"}, {"type": "null"}]
    assert status["properties"]["connected"]["type"] == "boolean"


def test_times_are_times(document):
    run = document["components"]["schemas"]["MissingRun"]["properties"]

    assert (run["first"]["type"], run["first"]["format"]) == ("string", "date-time")


def test_the_index_links_to_everything(client, document):
    index = client.get("/api/v1").json

    assert (index["name"], index["openapi"]) == ("ktrdr", DOCUMENT)
    assert (
        client.get(index["openapi"]).status_code == client.get(index["problems"]).status_code == 200
    )
    assert {(one["path"], one["method"].lower()) for one in index["endpoints"]} == {
        (path, method) for path, method, _ in operations(document)
    }
    assert all(one["summary"] for one in index["endpoints"])


def test_every_kind_of_problem_is_explained_where_its_type_points(client):
    listed = client.get("/api/v1/problems").json["problems"]

    assert {"invalid_request", "unknown_series", "peer_down"} <= {one["outcome"] for one in listed}
    for one in listed:
        assert client.get(one["type"]).json == one
        assert one["meaning"].startswith(one["title"])
        assert one["what_next"]


def test_the_type_of_a_real_problem_leads_to_its_meaning(client):
    problem = client.get("/api/v1/data/MSFT/1m").json
    kind = client.get(problem["type"]).json

    assert (kind["title"], kind["status"]) == (problem["title"], problem["status"])


def test_a_browser_gets_the_meaning_as_a_page(client):
    answer = client.get("/api/v1/problems/peer_down", headers={"Accept": "text/html,*/*;q=0.8"})

    assert answer.mimetype == "text/html"
    assert "Another program of the group does not answer on its socket" in answer.text
    assert '<a href="/">' in answer.text


def test_a_kind_that_is_not_there_is_not_found(client):
    answer = client.get("/api/v1/problems/nonsense")

    assert answer.status_code == 404
    assert "'nonsense': expected one of" in answer.json["detail"]
