from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime, timedelta
from html import unescape

import pytest

from ktrdr.errors import NotConnected
from ktrdr.ipc.messages import ConnectionHistory, Outage
from ktrdr.web.pages.outage_strip import sentence, strip


def at(day, clock="00:00"):
    return datetime.fromisoformat(f"2026-11-{day:02}T{clock}:00+00:00")


def outage(start, end, cause="restart", worst="waiting", kind="restart", cost=(None, None)):
    return Outage(start, end, cause, worst, kind, *cost)


def history(*outages, shares=(1.0,), since=None, until=None):
    until = until or at(28, "12:00")
    return ConnectionHistory(since or at(1), until, 0.99, tuple(shares), (), tuple(outages))


def test_the_strip_has_thirty_days_and_the_last_is_today():
    days = strip(history(until=at(28, "12:00")))
    assert len(days) == 30
    assert f"{days[0].day} {days[-1].day}" == "2026-10-30 2026-11-28"


def test_an_outage_stands_at_its_hours_with_its_kind():
    days = strip(history(outage(at(20, "06:00"), at(20, "12:00"))))
    marks = {f"{one.day}": one.outages for one in days if one.outages}
    assert [(m.kind, m.begin, m.length) for m in marks["2026-11-20"]] == [("expected", 25.0, 25.0)]
    assert len(marks) == 1


def test_an_outage_over_midnight_is_of_both_days():
    days = strip(history(outage(at(20, "18:00"), at(21, "06:00"), "x", "dead", "")))
    marks = [(f"{d.day}", m.kind, m.begin, m.length) for d in days for m in d.outages]
    assert marks == [
        ("2026-11-20", "trouble", 75.0, 25.0),
        ("2026-11-21", "trouble", 0.0, 25.0),
    ]


def test_one_of_a_second_is_drawn_all_the_same():
    start = at(20, "12:00")
    days = strip(history(outage(start, start + timedelta(seconds=1))))
    assert [(m.begin, m.length) for d in days for m in d.outages] == [(50.0, 0.1)]


def test_one_that_goes_on_ends_now():
    days = strip(history(outage(at(28, "06:00"), None, "x", "not_running", "")))
    assert [(m.kind, m.begin, m.length) for m in days[-1].outages] == [("off", 25.0, 25.0)]


def test_what_was_not_recorded_is_told_apart_from_what_was_well():
    days = strip(history(shares=(None, 1.0), since=at(26, "12:00"), until=at(28, "12:00")))
    found = {f"{d.day}": ([(m.begin, m.length) for m in d.recorded], d.label) for d in days[-4:]}
    assert found == {
        "2026-11-25": ([], "Wed 25 Nov: not recorded"),
        "2026-11-26": ([], "Thu 26 Nov: not recorded"),
        "2026-11-27": ([(50.0, 50.0)], "Fri 27 Nov: no outage"),
        "2026-11-28": ([(0.0, 50.0)], "Sat 28 Nov: no outage"),
    }


def test_a_day_is_named_with_exact_times_and_the_first_of_many():
    outages = [outage(at(20, f"{hour:02}:15"), at(20, f"{hour:02}:20")) for hour in range(6)]
    [label] = [one.label for one in strip(history(*outages)) if one.outages]
    assert label.replace("\u202f", " ") == (
        "Fri 20 Nov (UTC): 00:15:00 expected restart, 5 min; 01:15:00 expected restart, 5 min; "
        "02:15:00 expected restart, 5 min; 03:15:00 expected restart, 5 min; and 2 more"
    )


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (
            outage(at(19, "23:45"), at(19, "23:47"), cost=(0, 0)),
            "expected restart, 2 min, no bar late or lost",
        ),
        (
            outage(at(1), at(1, "01:00"), cost=(1, 0)),
            "expected restart, 1 h, 1 bar late, no bar lost",
        ),
        (
            outage(at(1), None, "IB's servers were away", "dead", "", (12, 3)),
            "IB's servers were away, ongoing, 12 bars late, 3 of them lost so far",
        ),
        (outage(at(1), at(1, "02:00"), "logged out", kind="log_out"), "expected log-out, 2 h"),
    ],
)
def test_an_outage_is_told_in_a_sentence(one, words):
    assert sentence(one, at(28)).replace("\u202f", " ") == words


@pytest.mark.usefixtures("peers")
def test_each_day_of_the_strip_can_be_focused_and_leads_to_its_diary(client, peers):
    peers.history |= {"until": "2026-11-20T00:00:00+00:00", "since": "2026-10-21T00:00:00+00:00"}
    html = client.get("/connection").text
    days = re.findall(r'<a ([^>]*)aria-label="([^"]*)" data-exact="([^"]*)"', html)
    assert len(days) == 30
    assert all(label == exact and label for _, label, exact in days)
    assert all("href=" in how or 'tabindex="0"' in how for how, _, _ in days)
    [restart] = [how for how, label, _ in days if "restart" in label]
    assert restart.strip() == 'href="#d-2026-11-02"'
    assert 'id="d-2026-11-02"' in html
    assert "Mon 02 Nov (UTC): 04:45:00 expected restart" in unescape(html)


def test_the_diary_is_of_the_state_that_the_connection_is_in(client, peers, wait_for):
    """Not of twenty seconds before, when another outage lasted."""
    assert "the history farm ushmds was broken, ongoing" in client.get("/connection").text
    since = "2026-11-19T22:00:00+00:00"
    peers.connection = replace(
        peers.connection,
        state="waiting",
        connected=False,
        no_data_since=datetime.fromisoformat(since),
    )
    lost = {"start": since, "end": None, "cause": "connection refused", "worst": "waiting"}
    peers.history |= {"outages": [lost]}
    wait_for(lambda: "not connected (waiting)" in client.get("/connection").text)
    html = client.get("/connection").text
    assert "connection refused, ongoing" in html
    assert "was broken, ongoing" not in html


@pytest.mark.usefixtures("peers")
def test_the_pace_is_told(client):
    text = re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", client.get("/connection").text))
    assert "2 in flight, 48 213 answered" in text


def test_a_button_has_it_connected_anew(client, peers):
    assert 'action="/connection/reconnect"' in client.get("/connection").text
    peers.requested.clear()
    answer = client.post("/connection/reconnect")
    assert (answer.status_code, answer.location) == (
        303,
        "/connection?notice=reconnect-requested",
    )
    assert peers.requested == [{"what": "reconnected"}]
    assert "A new connection was requested" in client.get(answer.location).text


def test_a_button_that_did_nothing_says_so(client, peers):
    peers.reconnected = NotConnected("it ends")
    answer = client.post("/connection/reconnect")
    assert "No new connection was requested" in client.get(answer.location).text
