"""How a series is kept: its contract, since when, and no longer."""

from __future__ import annotations

import re
from html import unescape

import pytest

from ktrdr.errors import InvalidRequest, NotConnected
from tests.played_peers import CANDIDATE

PAGE = "/series/AAPL/1m"


def test_a_series_is_kept_no_longer_and_its_file_stays(client, peers):
    assert f'action="{PAGE}/remove"' in client.get(PAGE).text
    peers.requested.clear()
    answer = client.post(f"{PAGE}/remove")
    assert (answer.status_code, answer.location) == (303, "/?notice=series-removed")
    assert peers.requested == [{"what": "removed", "symbol": "AAPL", "timeframe": "1m"}]
    assert "its file stays" in client.get(answer.location).text


@pytest.mark.parametrize("day", ["2020-01-31", ""])
def test_the_day_from_which_history_is_wanted_is_set_or_taken_back(client, peers, day):
    answer = client.post(f"{PAGE}/since", data={"since": day})
    assert answer.location == f"{PAGE}?notice=since-changed"
    asked = {"what": "changed", "symbol": "AAPL", "timeframe": "1m", "since": day}
    assert peers.requested == [asked]


def test_a_contract_is_chosen_among_those_that_it_may_be(client, peers):
    twin = {"con_id": 11, "exchange": "LSE", "currency": "GBP", "toml": '["AAPL"]\ncon_id = 11'}
    peers.candidates = {"symbol": "AAPL", "candidates": [CANDIDATE, CANDIDATE | twin]}
    assert f'href="{PAGE}/contracts"' in client.get(PAGE).text
    html = client.get(f"{PAGE}/contracts").text
    text = unescape(re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", html)))
    assert "AAPL APPLE INC NASDAQ USD – the symbol alone Choose it" in text
    assert 'AAPL APPLE INC LSE GBP – ["AAPL"] con_id = 11 Choose it' in text
    assert re.findall('name="con_id" value="([^"]*)"', html) == ["265598", "11"]

    peers.requested.clear()
    answer = client.post(f"{PAGE}/contract", data={"con_id": "11"})
    assert answer.location == f"{PAGE}?notice=contract-changed"
    asked = {"what": "changed", "symbol": "AAPL", "timeframe": "1m", "con_id": "11"}
    assert peers.requested == [asked]


def test_contracts_that_cannot_be_looked_up_are_reported(client, peers):
    peers.candidates = NotConnected("no connection", hint="log in")
    assert "no connection – next step: log in" in client.get(f"{PAGE}/contracts").text
    peers.candidates = {"symbol": "X", "candidates": [], "message": "IB knows no X", "hint": "look"}
    assert "IB knows no X – next step:" in client.get(f"{PAGE}/contracts").text


@pytest.mark.parametrize(
    ("path", "notice"),
    [
        ("remove", "series-not-removed"),
        ("since", "since-not-changed"),
        ("contract", "contract-not-changed"),
    ],
)
def test_what_was_refused_is_told(client, peers, path, notice):
    peers.changes["AAPL"] = InvalidRequest("no")
    answer = client.post(f"{PAGE}/{path}")
    assert answer.location == f"{PAGE}?notice={notice}"
    assert re.search('id="notice" role="status">.*(not|Nothing)', client.get(answer.location).text)
