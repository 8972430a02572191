"""Series and contracts on the API: listed, added, changed, removed; as the gap filler does it."""

from __future__ import annotations

import pytest

from ktrdr.errors import ContractConflict, NotConnected, UnknownSeries
from tests.played_peers import CANDIDATE, KEPT

SERIES = "/api/v1/data/series"
AAPL = f"{SERIES}/AAPL/1m"
WANTED = {"symbol": "BRK B", "timeframe": "1d"}
NAMED = {"symbol": "AAPL", "timeframe": "1m"}

CHOICE = (
    "send the con_id of one of them: 265598, 7;"
    " GET /api/v1/data/contracts?symbol=BRK%20B describes them"
)


def test_the_store_s_series_are_listed_and_each_can_be_had(client, peers):
    assert client.get(SERIES).json == peers.kept
    assert client.get(AAPL).json == KEPT

    missing = client.get(f"{SERIES}/AAPL/1h")
    assert (missing.status_code, missing.json["outcome"]) == (404, "unknown_series")
    assert missing.json["hint"] == "GET /api/v1/data/series lists all of them"


def test_a_new_series_is_created_and_says_where_it_is(client, peers):
    answer = client.post(SERIES, json=WANTED | {"since": "2020-01-01", "con_id": 72063691})

    assert (answer.status_code, answer.json["outcome"]) == (201, "added")
    assert answer.headers["Location"] == f"{SERIES}/BRK%20B/1d"
    assert peers.requested == [
        {"what": "added", **WANTED, "since": "2020-01-01", "con_id": "72063691"}
    ]


@pytest.mark.parametrize("how", ["json", "data", "query_string"])
def test_only_what_would_be_is_answered_in_each_of_the_usual_ways(client, peers, how):
    values = {"dry_run": True, "unchecked": False}
    if how != "json":
        values = {"dry_run": "true", "unchecked": "false"}

    answer = client.post(SERIES, **{how: WANTED | values})

    assert (answer.status_code, answer.json["is_trial"]) == (200, True)
    assert "Location" not in answer.headers
    sent = {"what": "added", **WANTED, "dry_run": "true", "unchecked": "false"}
    assert peers.requested == [sent]


def test_a_series_that_was_kept_already_is_no_new_one(client, peers):
    peers.changes["BRK B"] = {"outcome": "watched_already"}

    answer = client.post(SERIES, json=WANTED)

    assert (answer.status_code, answer.json["outcome"]) == (200, "watched_already")


@pytest.mark.parametrize(
    ("change", "status", "outcome", "hint"),
    [
        (
            {"outcome": "ambiguous", "candidates": [CANDIDATE, CANDIDATE | {"con_id": 7}]},
            409,
            "ambiguous_contract",
            CHOICE,
        ),
        (
            {"outcome": "unknown", "candidates": [], "hint": "see its name"},
            404,
            "unknown_contract",
            "see its name",
        ),
        (ContractConflict("kept", hint="set it"), 409, "contract_conflict", "set it"),
        (NotConnected("no connection", hint="log in"), 503, "not_connected", "log in"),
    ],
)
def test_a_contract_that_is_not_clear_is_refused(client, peers, change, status, outcome, hint):
    peers.changes["BRK B"] = change

    answer = client.post(SERIES, json=WANTED)

    assert (answer.status_code, answer.json["outcome"]) == (status, outcome)
    assert answer.json["hint"] == hint


def test_a_trial_answers_with_the_candidates(client, peers):
    peers.changes["BRK B"] = {"outcome": "ambiguous"}

    answer = client.post(SERIES, json=WANTED | {"dry_run": True})

    assert (answer.status_code, answer.json["candidates"]) == (200, [CANDIDATE])


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"con_id": "x"}, "con_id='x': expected a whole number from 1 to 2147483647"),
        ({"con_id": 0}, "con_id='0': expected a whole number from 1 to 2147483647"),
        ({"con_id": True}, "con_id='True': expected a whole number"),
        ({"dry_run": "yes"}, "dry_run='yes': expected true or false"),
        ({"since": "2020"}, "since='2020': expected a day"),
        ({"sinse": "2020-01-01"}, "unknown key 'sinse'"),
    ],
)
def test_a_wrong_value_is_named_and_nothing_is_requested(client, peers, more, words):
    answer = client.post(SERIES, json=WANTED | more)

    assert answer.status_code == 400
    assert words in answer.json["detail"]
    assert peers.requested == []


def test_in_a_form_null_is_a_text(client, peers):
    assert client.patch(AAPL, data={"since": "null"}).status_code == 200
    assert peers.requested == [{"what": "changed", **NAMED, "since": ""}]


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        ({"since": "2020-01-01"}, {"since": "2020-01-01"}),
        ({"since": None}, {"since": ""}),
        ({"con_id": 265598}, {"con_id": "265598"}),
    ],
)
def test_how_a_series_is_kept_is_changed(client, peers, body, sent):
    answer = client.patch(AAPL, json=body)

    assert (answer.status_code, answer.json["outcome"]) == (200, "changed")
    assert peers.requested == [{"what": "changed", **NAMED, **sent}]


def test_a_change_of_nothing_is_refused(client, peers):
    answer = client.patch(AAPL, json={})

    assert answer.status_code == 400
    assert answer.json["detail"] == "nothing to change: expected since or con_id"
    assert peers.requested == []


def test_a_series_is_removed(client, peers):
    answer = client.delete(AAPL)

    assert (answer.status_code, answer.json["outcome"]) == (200, "removed")
    assert peers.requested == [{"what": "removed", **NAMED}]


@pytest.mark.parametrize("method", ["patch", "delete"])
def test_a_series_that_is_not_there_is_not_found(client, peers, method):
    peers.changes["AAPL"] = UnknownSeries("AAPL_1m.csv is not in the store")

    answer = getattr(client, method)(AAPL, **({"json": {"con_id": 1}} if method == "patch" else {}))

    assert (answer.status_code, answer.json["outcome"]) == (404, "unknown_series")


@pytest.mark.parametrize("method", ["get", "delete"])
def test_a_path_that_names_no_series_is_refused(client, peers, method):
    answer = getattr(client, method)(f"{SERIES}/AAPL/2m")

    assert answer.status_code == 400
    assert peers.requested == []


def test_the_contracts_of_a_symbol_are_listed(client, peers):
    assert client.get("/api/v1/data/contracts?symbol=AAPL").json["candidates"] == [CANDIDATE]
    assert peers.requested == [{"what": "candidates", "symbol": "AAPL"}]


@pytest.mark.parametrize("method", ["post", "patch", "delete"])
def test_another_site_cannot_change_a_series(client, peers, method):
    path = SERIES if method == "post" else AAPL

    answer = getattr(client, method)(path, headers={"Origin": "http://evil.example"})

    assert answer.status_code == 403
    assert peers.requested == []


def test_without_a_gap_filler_nothing_is_pretended(client):
    for answer in (client.get(SERIES), client.post(SERIES, json=WANTED), client.delete(AAPL)):
        assert (answer.status_code, answer.json["outcome"]) == (503, "peer_down")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (
            {"con_id": "265598"},
            "con_id='265598': expected a whole number from 1 to 2147483647, without quotes",
        ),
        ({"con_id": 1.5}, "con_id='1.5': expected a whole number from 1 to 2147483647"),
        ({"con_id": None}, "con_id='None': expected a whole number from 1 to 2147483647"),
        ({"dry_run": "true"}, "dry_run='true': expected true or false, without quotes"),
        ({"unchecked": 1}, "unchecked='1': expected true or false"),
        ({"since": "null"}, "since='null': expected a day such as 2026-11-20"),
    ],
)
def test_json_has_types_of_its_own(client, peers, more, words):
    answer = client.post(SERIES, json=WANTED | more)

    assert (answer.status_code, answer.json["detail"]) == (400, words)
    assert peers.requested == []


def test_beside_an_empty_body_the_query_has_texts(client, peers):
    answer = client.post(SERIES, json={}, query_string=WANTED | {"dry_run": "true"})

    assert (answer.status_code, answer.json["is_trial"]) == (200, True)
    assert peers.requested == [{"what": "added", **WANTED, "dry_run": "true"}]


@pytest.mark.parametrize("path", [SERIES, "/api/v1/system/ib-connection/reconnect"])
@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("[" * 100_000, "the body is nested too deep"),
        ('{"con_id": ' + "9" * 5000 + "}", "the body is no JSON: Exceeds the limit"),
        ('{"con_id": NaN}', "the body is no JSON: NaN is no number of JSON"),
        ('{"con_id": 1, "con_id": 2}', "key 'con_id' is there more than once: expected one"),
        (b'{"con_id": "\xff"}', "the body is no JSON: 'utf-8' codec can't decode"),
        ("{", "the body is no JSON: Expecting property name"),
    ],
)
def test_a_body_that_is_no_json_is_refused_with_the_place(client, peers, path, body, words):
    answer = client.post(path, data=body, content_type="application/json")

    assert answer.status_code == 400
    assert answer.json["detail"].startswith(words)
    assert peers.requested == []
