"""docs/api.md: its table has every endpoint, and its lines of curl work."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from ktrdr.config.settings import load_settings
from ktrdr.web import create_app

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
LINES = re.findall(r"^(curl [^>|\n]*)", TEXT, re.MULTILINE)
ROWS = "2026-11-20 14:30:00+00:00,228.06,228.21,227.98,228.15,41200\n"


@pytest.fixture
def store(settings):
    for name in ("AAPL_1m", "BRK B_1d", "ESZ6_1m"):
        rows = ROWS.replace("14:30", "00:00") if name.endswith("1d") else ROWS
        text = f"timestamp,open,high,low,close,volume\n{rows}"
        (settings.data_dir / f"{name}.csv").write_text(text)


def request_of(line):
    """Method, URL, headers and body of a line of curl."""
    words = iter(shlex.split(line)[1:])
    method, headers, form, url = "", {}, {}, ""
    body = {}
    for word in words:
        if word == "-X":
            method = next(words)
        elif word == "-H":
            name, _, headers_value = next(words).partition(": ")
            headers[name] = headers_value
        elif word == "--json":
            body = {"data": next(words), "content_type": "application/json"}
        elif word == "-d":
            name, _, value = next(words).partition("=")
            form[name] = value
        elif word == "-sD":
            next(words)
        else:
            url = word
    body = body or ({"data": form} if form else {})
    return method or ("POST" if body else "GET"), url, headers, body


@pytest.mark.parametrize("line", LINES)
@pytest.mark.usefixtures("store", "peers")
def test_a_line_of_curl_works(client, line):
    method, url, headers, body = request_of(line)
    assert url.startswith("localhost:8000/")

    answer = client.open(url.removeprefix("localhost:8000"), method=method, headers=headers, **body)

    assert answer.status_code in (200, 201, 202), answer.text


def test_there_are_lines_of_each_kind():
    assert {request_of(line)[0] for line in LINES} == {"GET", "POST", "PATCH", "DELETE"}
    assert len(LINES) > 8


def test_the_table_has_every_endpoint():
    document = create_app(load_settings(_env_file=None)).test_client().get("/api/v1/openapi.json")
    served = {
        f"{method.upper()} {path}"
        for path, item in document.json["paths"].items()
        for method in item
    }

    table = TEXT.partition("| endpoint |")[2].partition("\n\n")[0]

    assert set(re.findall(r"`((?:GET|POST|PATCH|DELETE) /api/v1[^`]*)`", table)) == served


def test_each_form_of_the_page_has_its_command_and_endpoint(client):
    rows = TEXT.partition("| form of the page |")[2].partition("\n\n")[0].splitlines()[2:]
    forms, commands, endpoints = zip(*(row.strip("| ").split(" | ") for row in rows), strict=True)
    rules = client.application.url_map.iter_rules()
    posted = {one.rule for one in rules if "POST" in one.methods and "/api/" not in one.rule}
    links = {f"{one['method']} {one['path']}" for one in client.get("/api/v1").json["endpoints"]}

    assert set(re.findall("`([^`]+)`", " ".join(forms))) == posted
    assert set(re.findall("`([A-Z]+ [^`]+)`", " ".join(endpoints))) <= links
    listed = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8").splitlines()
    named = re.findall("`(ktrdr(?: ctl|(?: [a-z]+)+))[^-`]*(?:--([a-z-]+))?", " ".join(commands))
    assert ("ktrdr fill", "pause") in named
    for command, option in named:
        row = next(line for line in listed if re.match(rf"\| `{command}[ `]", line))
        assert re.search(f"--{option}[ `]", row) or not option


def test_the_example_of_an_error_is_a_real_one(client):
    problem = client.get("/api/v1/data/coverage?timefrane=1m").json

    for name, value in problem.items():
        assert f'"{name}": {value if isinstance(value, int) else chr(34) + value + chr(34)}' in TEXT
