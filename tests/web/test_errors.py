"""Errors as RFC 9457 has them, and as a page for who reads pages."""

from __future__ import annotations

import pytest

MEMBERS = ["type", "title", "status", "detail", "outcome", "reason", "hint"]
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.mark.parametrize(
    ("method", "path", "status", "outcome"),
    [
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/api/v1/nothing", 404, "not_found"),
        ("GET", "/static/nothing.css", 404, "not_found"),
        ("PUT", "/", 405, "method_not_allowed"),
        ("DELETE", "/api/v1/system/ib-status", 405, "method_not_allowed"),
        ("GET", "/api/v1/data/MSFT/1m", 404, "unknown_series"),
        ("GET", "/api/v1/data/MSFT/2m", 400, "invalid_request"),
        ("POST", "/api/v1/system/gap-filler/force-scan", 503, "peer_down"),
    ],
)
@pytest.mark.parametrize("accept", [None, "*/*", "application/json", "text/csv"])
def test_every_error_has_the_members_of_a_problem(client, method, path, status, outcome, accept):
    headers = {"Accept": accept} if accept else {}

    answer = client.open(path, method=method, headers=headers)

    assert answer.status_code == answer.json["status"] == status
    assert answer.content_type == "application/problem+json"
    assert list(answer.json) == MEMBERS
    assert answer.json["outcome"] == outcome
    assert "Accept" in answer.headers["Vary"]


def test_a_browser_gets_a_page_with_a_way_home(client):
    answer = client.get("/nothing", headers={"Accept": BROWSER})

    assert answer.status_code == 404
    assert answer.content_type.startswith("text/html")
    assert "404 Not Found" in answer.text
    assert "<p>There is nothing at /nothing.</p>" in answer.text
    assert '<a href="/">' in answer.text
    assert '<nav aria-label="Pages">' in answer.text


def test_the_api_never_answers_with_a_page(client):
    answer = client.get("/api/v1/nothing", headers={"Accept": BROWSER})

    assert answer.json["title"] == "Not Found"


def test_a_wrong_method_names_the_right_one(client):
    answer = client.get("/api/v1/system/gap-filler/force-scan")

    assert "POST" in answer.headers["Allow"]
    path = "/api/v1/system/gap-filler/force-scan"
    assert answer.json["detail"] == f"{path} does not take GET: expected POST"


def test_a_page_of_an_error_marks_the_command_of_the_next_step(client):
    @client.application.get("/mistake")
    def mistake() -> None:
        raise ZeroDivisionError("our secret")

    html = client.get("/mistake", headers={"Accept": BROWSER}).text
    assert '<code class="copy">.venv/bin/supervisorctl tail status-app</code> says more' in html


def test_a_body_that_is_too_large_is_refused(client):
    answer = client.post("/api/v1/data/fills", data=b"x" * (1024 * 1024 + 1))

    assert (answer.status_code, answer.json["status"]) == (413, 413)


def test_the_error_of_a_series_that_is_not_there_says_what_to_do(client):
    problem = client.get("/api/v1/data/MSFT/1m").json

    assert problem["type"] == "/api/v1/problems/unknown_series"
    assert problem["title"] == "The store has no file for this series"
    assert problem["detail"] == problem["reason"]
    assert "MSFT_1m.csv" in problem["detail"]
    assert problem["hint"] == "to have it kept: ktrdr watch add MSFT 1m"


def test_who_is_down_is_named_with_the_next_step(client):
    problem = client.get("/api/v1/system/ib-history").json

    assert problem["title"] == "Another program of the group does not answer on its socket"
    assert problem["detail"] == "ib-connection is not running (ib-connection.sock)"
    assert problem["hint"].startswith(".venv/bin/supervisorctl status ib-connection")
    assert problem["reason"] == f"{problem['detail']} – next step: {problem['hint']}"


def test_a_mistake_of_ours_is_a_problem_too(new_client):
    client = new_client()

    @client.application.get("/mistake")
    def mistake() -> None:
        raise ZeroDivisionError("our secret")

    answer = client.get("/mistake")

    assert (answer.status_code, answer.json["outcome"]) == (500, "failed")
    assert "supervisorctl tail status-app" in answer.json["hint"]
    assert "secret" not in answer.text
