"""The revisions of a series on the status API."""

from __future__ import annotations

import pytest

from ktrdr.errors import RequestFailed, UnknownSeries
from tests.played_peers import REVISIONS

PATH = "/api/v1/data/AAPL/1m/revisions"
CORRECTED = {"is_left": False, "last": None, "bars": 1}
ASKED = {"what": "revisions", "symbol": "AAPL", "timeframe": "1m"}


@pytest.mark.usefixtures("peers")
def test_each_has_its_values_before_and_after(client):
    answer = client.get(PATH)
    assert answer.status_code == 200
    assert answer.json == {
        "symbol": "AAPL",
        "timeframe": "1m",
        "revisions": [
            REVISIONS[0] | CORRECTED | {"bars": 0},
            REVISIONS[1] | CORRECTED | {"why": "", "old_file": None},
        ],
        "reason": None,
        "total": 2,
        "next": None,
    }
    assert "Link" not in answer.headers


def test_a_hundred_are_requested_or_as_many_as_are_wanted(client, peers):
    client.get(PATH)
    client.get(f"{PATH}?start=2026-11-20&end=2026-11-20T21:00:00-05:00&limit=1000&before=7")
    client.get("/api/v1/data/BRK B/1d/revisions?start=")
    assert peers.requested == [
        ASKED | {"limit": "100"},
        ASKED
        | {"start": "2026-11-20T00:00:00+00:00", "end": "2026-11-21T02:00:00+00:00"}
        | {"limit": "1000", "before": "7"},
        ASKED | {"symbol": "BRK B", "timeframe": "1d", "limit": "100"},
    ]


def test_where_there_are_more_the_next_page_begins_below_the_last_one(client, peers):
    peers.revisions |= {"has_more": True, "total": 40}
    following = f"{PATH}?limit=2&start=2026-11-01&before=7"
    answer = client.get(f"{PATH}?limit=2&start=2026-11-01&before=13")
    assert (answer.json["next"], answer.json["total"]) == (
        f"{PATH}?limit=2&start=2026-11-01&before=7",
        40,
    )
    assert answer.headers["Link"] == f'<{following}>; rel="next"'


@pytest.mark.usefixtures("peers")
def test_what_the_client_has_already_is_not_sent_again(client):
    tag = client.get(PATH).headers["ETag"]
    assert client.get(PATH, headers={"If-None-Match": tag}).status_code == 304


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        (f"{PATH}?limit=0", 400, "limit='0': expected a whole number from 1 to 1000"),
        (f"{PATH}?limit=1001", 400, "limit='1001': expected a whole number from 1 to 1000"),
        (f"{PATH}?before=x", 400, "before='x': expected a whole number from 1 to 999999999"),
        (f"{PATH}?start=soon", 400, "start='soon': expected a date or time"),
        (f"{PATH}?form=2020-01-01", 400, "unknown parameter 'form'"),
        (
            f"{PATH}?start=2026-11-21&end=2026-11-20",
            400,
            "start=2026-11-21T00:00:00+00:00: expected a time before end=2026-11-20T00:00:00+00:00",
        ),
        ("/api/v1/data/AAPL/2m/revisions", 400, "2m"),
        ("/api/v1/data/..%00/1m/revisions", 400, "symbol"),
    ],
)
def test_what_is_wrong_is_named_and_nobody_asked(client, peers, path, status, words):
    answer = client.get(path)
    assert answer.status_code == status
    assert words in answer.json["detail"]
    assert peers.requested == []


@pytest.mark.usefixtures("peers")
@pytest.mark.parametrize("time", ["0001-01-01T00:00:00%2B14:00", "9999-12-31T23:59:59.9-12:00"])
def test_the_ends_of_the_calendar_are_times_too(client, time):
    assert client.get(f"{PATH}?start={time}").status_code == 200
    assert client.get(f"{PATH}?end={time}").status_code == 200


def test_a_series_that_the_store_does_not_have_is_404(client, peers):
    peers.revisions = UnknownSeries("AAPL_1m.csv is not in the store", hint="look")
    answer = client.get(PATH)
    assert (answer.status_code, answer.json["outcome"]) == (404, "unknown_series")
    assert (answer.json["detail"], answer.json["hint"]) == (
        "AAPL_1m.csv is not in the store",
        "look",
    )


def test_without_the_gap_filler_they_are_null_with_the_reason(client):
    answer = client.get(PATH)
    assert answer.status_code == 200
    assert (answer.json["revisions"], answer.json["total"]) == (None, None)
    assert "gap-filler is not running" in answer.json["reason"]


def test_a_ledger_that_cannot_be_read_now_is_a_reason_too(client, peers):
    peers.revisions = RequestFailed("ledger.sqlite cannot be read now", hint="try again")
    answer = client.get(PATH)
    assert answer.json["revisions"] is None
    assert answer.json["reason"] == "ledger.sqlite cannot be read now – next step: try again"
