from __future__ import annotations

import re
from dataclasses import replace
from html import unescape

import pytest

from ktrdr.errors import InvalidRequest, StoreUnwritable, UnknownFill, WrongSource
from tests.played_peers import FILL

FILLS = "/api/v1/data/fills"
ASKED = {"symbol": "AAPL", "timeframe": "1m", "from": "2015-01-01"}


def test_fills_are_passed_through(client, peers):
    assert client.get(FILLS).json == peers.fills
    client.get(f"{FILLS}?symbol=BRK B")
    assert peers.requested == [{"what": "fills"}, {"what": "fills", "symbol": "BRK B"}]


def test_fills_are_null_without_a_gap_filler(client):
    answer = client.get(FILLS)

    assert answer.status_code == 200
    assert answer.json["fills"] is None
    assert "gap-filler is not running" in answer.json["reason"]


@pytest.mark.usefixtures("peers")
def test_a_fill_is_where_its_request_says(client):
    place = client.post(FILLS, json=ASKED).headers["Location"]
    answer = client.get(place)

    assert (place, answer.status_code) == (f"{FILLS}/3", 200)
    assert answer.json["id"] == 3
    assert answer.json["from"] == "2015-01-01T00:00:00+00:00"
    assert answer.json["missing"] == {"open": 750}


@pytest.mark.usefixtures("peers")
@pytest.mark.parametrize("number", ["4", "9" * 30])
def test_a_fill_that_there_is_not_is_unknown(client, number):
    answer = client.get(f"{FILLS}/{number}")

    assert (answer.status_code, answer.json["outcome"]) == (404, "unknown_fill")
    assert answer.json["detail"] == f"there is no fill {number}"


def test_without_the_gap_filler_a_fill_is_not_called_unknown(client):
    answer = client.get(f"{FILLS}/3")

    assert (answer.status_code, answer.json["outcome"]) == (503, "peer_down")


@pytest.mark.parametrize("how", ["json", "data", "query_string"])
def test_a_fill_is_requested_in_each_of_the_usual_ways(client, peers, how):
    answer = client.post(FILLS, **{how: ASKED})

    assert answer.status_code == 202
    assert (answer.json["id"], answer.json["scan_id"]) == (3, "5f1c")
    assert "accepted" not in answer.json
    assert peers.requested == [{"what": "fill", **ASKED}]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"symbol": "AAPL", "timeframe": "1m"}, "missing: from"),
        (ASKED | {"symbol": 5}, "missing: symbol"),
        ([], "an object"),
        (ASKED | {"from": "2" * 9000}, "at most 100 characters; longer: from"),
    ],
)
def test_what_is_left_out_is_named(client, peers, body, words):
    answer = client.post(FILLS, json=body)

    assert answer.status_code == 400
    assert words in answer.json["reason"]
    assert peers.requested == []


def test_json_that_is_none_is_refused(client, peers):
    answer = client.post(FILLS, data="{", content_type="application/json")

    assert (answer.status_code, answer.json["outcome"]) == (400, "invalid_request")
    assert peers.requested == []


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidRequest("from=2030-01-01: expected a day", hint="name the first day"), 400),
        (StoreUnwritable("the ledger is locked", hint="see who"), 503),
        (WrongSource("it is for live bars", hint="another folder"), 409),
    ],
)
def test_a_fill_that_is_refused_says_why_and_what_to_do(client, peers, error, code):
    peers.fill = error

    answer = client.post(FILLS, json=ASKED)

    assert answer.json == {
        "type": f"/api/v1/problems/{error.outcome}",
        "title": answer.json["title"],
        "status": code,
        "detail": error.message,
        "outcome": error.outcome,
        "reason": error.message,
        "hint": error.hint,
    }
    assert answer.status_code == code


def test_no_fill_without_a_gap_filler(client):
    answer = client.post(FILLS, json=ASKED)

    assert answer.status_code == 503
    assert "gap-filler is not running" in answer.json["reason"]
    assert "supervisorctl" in answer.json["hint"]


def test_a_fill_is_cancelled_by_its_number(client, peers):
    answer = client.delete(f"{FILLS}/3")

    assert (answer.status_code, answer.json) == (200, peers.cancelled)
    assert peers.requested == [{"what": "cancelled", "id": "3"}]


def test_a_fill_that_is_not_there_is_not_found(client, peers):
    peers.cancelled = UnknownFill("there is no fill 7", hint="ktrdr fills")

    answer = client.delete(f"{FILLS}/7")

    assert (answer.status_code, answer.json["outcome"]) == (404, "unknown_fill")


@pytest.mark.parametrize(("verb", "word"), [("pause", "paused"), ("resume", "resumed")])
def test_a_fill_is_paused_and_resumed_by_its_number(client, peers, verb, word):
    answer = client.post(f"{FILLS}/3/{verb}")

    assert (answer.status_code, answer.json) == (200, getattr(peers, word))
    assert peers.requested == [{"what": word, "id": "3"}]

    setattr(peers, word, UnknownFill("there is no fill 3"))
    assert client.post(f"{FILLS}/3/{verb}").status_code == 404
    setattr(peers, word, InvalidRequest("fill 3 is done"))
    assert client.post(f"{FILLS}/3/{verb}").status_code == 400


# On the page.


@pytest.fixture
def section(client):
    return lambda: client.get("/fills").text.partition('id="fills"')[2].partition("</section>")[0]


@pytest.fixture
def filled(peers, filling):
    """`filled(open_fills)`: what the gap filler's status counts."""

    def filled(count):
        peers.gap_filler = replace(filling, fills={"waiting": count} if count else {})

    return filled


def test_the_page_lists_what_is_open_with_a_button_for_each(section, filled):
    filled(1)
    html = section()
    assert "no data from IB" in html
    assert "log in" in html
    assert '<progress class="warn" max="1000" value="250"' in html
    assert '<form method="post" action="/fills/cancel">' in html
    assert '<form method="post" action="/fills/pause">' in html
    assert html.count('name="id" value="3"') == html.count("<form") == 2


def test_where_nothing_is_open_the_command_is_shown(section, filled, peers):
    filled(0)
    peers.fills = {"fills": [FILL | {"state": "done"}]}
    assert "ktrdr fill AAPL 1m --from 2020-01-01" in section()


def test_a_running_fill_says_how_fast_and_how_long(section, filled, peers):
    filled(1)
    running = {"state": "filling", "bars_per_s": 412.0, "eta_words": "about 2 to 3 min"}
    peers.fills = {"fills": [FILL | running]}
    assert re.search("about 2 to 3 min.*412 bars/s", section(), re.DOTALL)


def test_a_paused_fill_says_since_when_and_offers_to_go_on(section, filled, peers):
    filled(1)
    peers.fills = {
        "fills": [FILL | {"state": "paused", "paused_at": "2026-11-20T21:30:00+00:00", "why": ""}]
    }
    html = section()
    assert '<span class="pill idle">paused</span>' in html
    assert (
        "2026-11-20 21:30:00 UTC</time>; nothing more is requested for it until it is resumed"
        in html
    )
    assert "not while it is paused" in html
    assert 'action="/fills/resume"' in html
    assert 'action="/fills/pause"' not in html


def test_what_is_filled_next_is_listed_in_order_with_the_reason(client, peers):
    turn = {"symbol": "AAPL", "timeframe": "1m", "state": "filling", "why": "in flight"}
    peers.fills = {
        "fills": [],
        "queue": [
            turn | {"missing": 8},
            turn | {"symbol": "MSFT", "state": "next", "why": "its newest bars", "missing": None},
            turn
            | {"symbol": "TWIN", "state": "later", "why": "tried again later: no such contract"}
            | {"missing": 3, "at": "2026-11-20T21:45:00+00:00"},
        ],
        "rule": "symbols that have waited longest come first",
    }
    html = client.get("/fills").text.partition('"h-queue">')[2].partition("</section>")[0]
    text = unescape(re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", html)))
    assert re.search(
        "AAPL 1m now 8 in flight MSFT 1m next – its newest bars"
        " TWIN 1m later 2026-11-20 21:45:00 UTC 3 tried again later: no such contract"
        " The order: symbols that have waited longest come first.",
        text,
    )


def test_what_is_under_way_without_a_missing_bar_is_not_none_to_be_fetched(client, peers):
    """As for a fill that was paused while its requests were under way."""
    turn = {"symbol": "AAPL", "timeframe": "1m", "state": "filling", "why": "in flight"}
    peers.fills = {"fills": [], "queue": [turn | {"missing": 0}]}
    html = client.get("/fills").text
    assert re.search('data-label="Bars" class="number">([^<]*)<', html)[1] == "–"


def test_without_the_gap_filler_nothing_is_offered_that_it_would_do(client):
    """And why is said once."""
    html = client.get("/fills").text
    assert "Scan now" not in html
    assert html.count("supervisorctl status gap-filler</code>; where nothing runs, <code") == 1
    assert html.count("Not known: the gap filler does not answer.") == 3


def test_the_card_says_how_many_of_the_open_fills_are_paused(client, filled, peers):
    filled(2)
    peers.fills = {"fills": [FILL | {"state": "paused"}, FILL | {"id": 4}]}
    card = client.get("/").text.partition("Requested fills")[2].partition("</a>")[0]
    assert re.sub("<[^>]*>", " ", card).split() == ["2", "open,", "1", "paused"]


def test_an_empty_queue_says_so(client, peers):
    peers.fills = {"fills": [], "queue": []}
    assert "Nothing waits for its turn." in client.get("/fills").text


def test_bars_that_are_not_counted_yet_are_reported(section, filled, peers):
    filled(1)
    peers.fills = {"fills": [FILL | {"expected": None, "present": None, "state": "queued"}]}
    assert "not known yet" in section()


@pytest.mark.parametrize("answer", [{"fills": [{"id": "x"}]}, StoreUnwritable("locked"), {}])
def test_an_answer_that_cannot_be_read_is_reported(section, filled, peers, answer):
    filled(1)
    peers.fills = answer
    assert "Not known:" in section()


@pytest.mark.parametrize(
    ("cancelled", "word", "shown"),
    [
        ({"cancelled": []}, "cancelled", "The fill was cancelled"),
        (UnknownFill("there is no fill 3"), "not-cancelled", "The fill was not cancelled"),
    ],
)
def test_the_button_cancels_and_comes_back(client, peers, cancelled, word, shown):
    peers.cancelled = cancelled

    answer = client.post("/fills/cancel", data={"id": "3"})

    assert (answer.status_code, answer.location) == (303, f"/fills?notice=fill-{word}")
    assert peers.requested == [{"what": "cancelled", "id": "3"}]
    assert shown in client.get(answer.location).text


@pytest.mark.parametrize("name", ["symbol", "timeframe", "from"])
@pytest.mark.usefixtures("peers")
def test_what_is_no_text_is_refused(client, name):
    requested = {"symbol": "AAPL", "timeframe": "1m", "from": "2026-11-01", name: "\udcff"}

    answer = client.post("/api/v1/data/fills", json=requested)

    assert answer.status_code == 400
    assert answer.json["reason"].endswith("not UTF-8")


@pytest.mark.parametrize(
    ("verb", "word", "shown"),
    [("pause", "paused", "The fill is paused"), ("resume", "resumed", "The fill goes on")],
)
def test_the_buttons_pause_and_resume_and_come_back(client, peers, verb, word, shown):
    answer = client.post(f"/fills/{verb}", data={"id": "3"})
    assert (answer.status_code, answer.location) == (303, f"/fills?notice=fill-{word}")
    assert peers.requested == [{"what": word, "id": "3"}]
    assert shown in client.get(answer.location).text

    setattr(peers, word, UnknownFill("there is no fill 3"))
    answer = client.post(f"/fills/{verb}", data={"id": "3"})
    assert answer.location == f"/fills?notice=fill-not-{word}"
    assert f"The fill was not {word}" in client.get(answer.location).text


def test_after_a_button_the_page_shows_what_was_done(client, section, filled, peers):
    filled(1)
    assert 'action="/fills/pause"' in section()
    peers.fills = {"fills": [FILL | {"state": "paused", "why": "", "hint": ""}]}
    client.post("/fills/pause", data={"id": "3"})
    assert 'action="/fills/resume"' in section()
