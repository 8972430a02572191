from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest

from ktrdr.errors import InvalidRequest

GRID = "/api/v1/data/coverage/grid"
PAGE = Path(__file__).parents[2] / "docs" / "page.md"


def test_the_grid_is_passed_through(client, peers):
    answer = client.get(GRID)

    assert (answer.status_code, answer.mimetype) == (200, "application/json")
    assert answer.json == peers.grid


def test_who_has_it_is_told_so_in_a_few_bytes(client, peers, new_client):
    tag = {"If-None-Match": client.get(GRID).headers["ETag"]}

    again = client.get(GRID, headers=tag)
    assert (again.status_code, again.data) == (304, b"")

    peers.grid = peers.grid | {"days": 4}
    assert new_client().get(GRID, headers=tag).json["days"] == 4


def test_a_year_of_500_series_is_below_200_kilobytes(client, peers):
    rows = [[f"S{number:03}", "30m", "complete", "c" * 365] for number in range(500)]
    peers.grid = peers.grid | {"days": 365, "series": rows}

    answer = client.get(GRID)
    assert len(answer.json["series"]) == 500
    assert len(answer.data) < 200_000


@pytest.mark.usefixtures("peers")
def test_it_is_compressed(client):
    packed = client.get(GRID, headers={"Accept-Encoding": "gzip"})

    assert json.loads(gzip.decompress(packed.data)) == client.get(GRID).json


def test_the_days_that_were_requested_are(client, peers):
    client.get(f"{GRID}?from=2026-01-01&to=2026-02-01")

    assert peers.requested == [{"what": "grid", "from": "2026-01-01", "to": "2026-02-01"}]


def test_wrong_days_are_refused_in_the_gap_fillers_words(client, peers):
    peers.grid = InvalidRequest("from=1969-12-31: expected a day from 1970-01-01 on")

    answer = client.get(f"{GRID}?from=1969-12-31")

    assert answer.status_code == 400
    assert answer.json["detail"] == "from=1969-12-31: expected a day from 1970-01-01 on"


@pytest.mark.parametrize("day", ["soon", "2026-02-30", "20261120", "2026-11-20T00:00", "x" * 5000])
def test_what_is_no_day_is_refused(client, peers, day):
    answer = client.get(f"{GRID}?to={day}")

    assert answer.status_code == 400
    assert answer.json["detail"] == f"to='{day[:100]}': expected a day such as 2026-11-20"
    assert peers.requested == []


def test_what_it_does_not_know_is_named(client, peers):
    answer = client.get(f"{GRID}?form=2026-01-01")

    assert answer.status_code == 400
    assert answer.json["detail"] == "unknown parameter 'form': expected from, to"
    assert peers.requested == []


def test_without_a_gap_filler_it_says_why(client):
    answer = client.get(GRID)

    assert (answer.status_code, answer.json["series"]) == (200, None)
    assert "gap-filler is not running" in answer.json["reason"]


@pytest.mark.usefixtures("peers")
def test_the_map_is_hidden_until_a_script_draws_it_and_stays_when_the_page_changes(client):
    html = client.get("/?state=failed&q=%22A").text

    assert (
        '<div id="heatmap" hx-morph-skip hidden data-state="failed" data-timeframe="" '
        'data-text="&#34;A"></div>'
    ) in html
    assert "heatmap.js" in html
    assert "heatmap.js" not in client.get("/connection").text


def test_the_heat_map_names_the_states_as_the_table_and_the_document_do(client):
    script = re.search(r'src="([^"]*heatmap[^"]*)"', client.get("/").text)[1]
    names = re.findall(r'words: "([^"]+)"', client.get(script).text)
    document = PAGE.read_text().partition("## The heat map")[2].partition("No colour")[0]
    assert names == re.findall(
        r"^\| ([^|]+) \| (?:plain|blue|yellow|red|violet|pale)", document, re.MULTILINE
    )
    words = {word for name in names for word in name.partition(":")[0].split(" or ")}
    of_table = {"complete", "filling", "waiting", "unproven", "failed", "not understood"}
    assert words == of_table | {"no trades, verified", "closed"}
