from __future__ import annotations

import re
from html import unescape

import pytest

from ktrdr.errors import InvalidRequest, NotConnected
from tests.played_peers import CANDIDATE

WORDS = "AAPL BRK B 1m 1h since 2020"
TWINS = [
    CANDIDATE
    | {"con_id": 11, "local_symbol": "TWIN", "exchange": "LSE", "currency": "GBP"}
    | {"name": "TWIN PLC", "fields": {"con_id": 11}, "toml": '["TWIN"]\ncon_id = 11'},
    CANDIDATE
    | {"con_id": 22, "local_symbol": "TWIN", "exchange": "IBIS", "currency": "EUR"}
    | {"name": "TWIN AG", "fields": {"con_id": 22}, "toml": '["TWIN"]\ncon_id = 22'},
]
AMBIGUOUS = {"outcome": "ambiguous", "message": "TWIN: two", "candidates": TWINS}


@pytest.fixture
def read(client):
    """The page for these words: its HTML, and what a person reads."""

    def page(words):
        html = client.get("/add", query_string={"words": words}).text
        main = html.partition("<main")[2]
        return main, unescape(re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", main)))

    return page


def fields(html):
    return {
        k: unescape(v) for k, v in re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', html)
    }


@pytest.mark.usefixtures("peers")
def test_the_first_page_has_the_box(client):
    assert re.search('<form class="filters" method="get" action="/add">.*name="words"',
                     client.get("/").text, re.DOTALL)  # fmt: skip


def test_contracts_are_shown_before_anything_is_made(read, peers):
    html, text = read(WORDS)
    assert "AAPL 1m APPLE INC AAPL, NASDAQ, USD clear AAPL_1m.csv will be made" in text
    assert "BRK B 1h APPLE INC" in text
    asked = [one for one in peers.requested if one["what"] == "added"]
    assert [(one["symbol"], one["timeframe"]) for one in asked] == [
        ("AAPL", "1m"), ("AAPL", "1h"), ("BRK B", "1m"), ("BRK B", "1h")
    ]  # fmt: skip
    assert {(one["dry_run"], one["since"]) for one in asked} == {("true", "2020-01-01")}
    assert fields(html) == {"words": '"AAPL" "BRK B" 1m 1h since 2020-01-01'}


def test_the_button_adds_what_was_shown(client, read, peers):
    words = fields(read(WORDS)[0])["words"]
    peers.requested.clear()
    answer = client.post("/add", data={"words": words})
    assert (answer.status_code, answer.location) == (303, "/?notice=series-added")
    assert [(one["symbol"], one["timeframe"], one["since"]) for one in peers.requested] == [
        ("AAPL", "1m", "2020-01-01"), ("AAPL", "1h", "2020-01-01"),
        ("BRK B", "1m", "2020-01-01"), ("BRK B", "1h", "2020-01-01"),
    ]  # fmt: skip
    assert all("dry_run" not in one for one in peers.requested)


def test_one_symbol_is_shown_when_it_was_added(client, peers):
    answer = client.post("/add", data={"words": '"BRK B" 1m'})
    assert answer.location == "/?q=BRK+B&notice=series-added"
    assert len(peers.requested) == 1


def test_an_ambiguous_symbol_has_a_button_and_the_toml_for_each_contract(client, read, peers):
    peers.changes["TWIN"] = AMBIGUOUS
    html, text = read("AAPL TWIN 1m 1h")
    assert text.count("TWIN may be one of several contracts") == 1
    assert 'TWIN TWIN PLC LSE GBP – ["TWIN"] con_id = 11 Add this one' in text
    assert 'TWIN TWIN AG IBIS EUR – ["TWIN"] con_id = 22 Add this one' in text
    assert "Add the clear ones" in text
    form = html.partition("several contracts")[2].partition("</form>")[0]
    assert fields(form) == {"words": '"TWIN" 1m 1h', "con_id": "11"}

    peers.requested.clear()
    del peers.changes["TWIN"]
    answer = client.post("/add", data=fields(form))
    assert answer.location == "/?q=TWIN&notice=series-added"
    assert [(one["timeframe"], one["con_id"]) for one in peers.requested] == [
        ("1m", "11"), ("1h", "11")
    ]  # fmt: skip


def test_an_unknown_symbol_is_told_and_not_offered(read, peers):
    peers.changes["AAPPL"] = {
        "outcome": "unknown", "message": "IB knows no AAPPL", "hint": "look at it", "candidates": []
    }  # fmt: skip
    html, text = read("AAPPL 1m")
    assert "refused IB knows no AAPPL Next step: look at it" in text
    assert '<form method="post"' not in html


def test_without_ib_the_others_are_not_tried_and_they_can_be_added_unchecked(client, read, peers):
    peers.changes["AAPL"] = NotConnected("no connection", hint="wait")
    html, text = read("AAPL MSFT 1m")
    assert "failed no connection Next step: wait" in text
    assert "MSFT 1m – open not looked up" in text
    assert fields(html) == {"words": "AAPL MSFT 1m", "unchecked": "true"}
    peers.changes.clear()
    peers.requested.clear()
    client.post("/add", data=fields(html))
    assert [(one["symbol"], one["unchecked"]) for one in peers.requested] == [
        ("AAPL", "true"), ("MSFT", "true")
    ]  # fmt: skip


def test_without_a_gap_filler_nothing_is_offered(client):
    html = client.get("/add?words=AAPL+1m").text
    assert "gap-filler is not running" in html
    assert '<form method="post"' not in html


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("AAPL 2m", "2m: expected one of"),
        ("AAPL", "AAPL: name a timeframe"),
        ("<b>", "&lt;b&gt;"),
        ("AAPL 1m since 2999", "since 2999: expected a year"),
        (" ".join(f"S{n}" for n in range(21)) + " 1m", "expected 20 symbols at most"),
    ],
)
def test_words_that_are_wrong_are_told_and_request_nothing(client, peers, words, said):
    assert said in client.get("/add", query_string={"words": words}).text
    answer = client.post("/add", data={"words": words})
    assert answer.status_code == 400
    assert said in answer.text
    assert [one for one in peers.requested if one["what"] == "added"] == []


def test_what_could_not_be_added_is_told_beside_what_was(client, peers):
    peers.changes["MSFT"] = InvalidRequest("the folder is full of it")
    answer = client.post("/add", data={"words": "AAPL MSFT IBM 1m"})
    text = re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", answer.text))
    assert answer.status_code == 409
    assert "Not all could be added" in text
    assert "AAPL_1m: added" in text
    assert "the folder is full of it" in text
    assert "IBM_1m: added" in text


@pytest.mark.usefixtures("peers")
def test_the_page_is_not_requested_again_by_itself(client):
    html = client.get("/add", query_string={"words": "AAPL 1m"}).text
    assert "data-live" not in html
    assert "http-equiv" not in html
    assert client.get("/live/add").status_code == 404
