from __future__ import annotations

import re
from html import unescape

import pytest

from ktrdr.errors import InvalidRequest, RequestFailed
from ktrdr.ipc.messages import DayStatus
from ktrdr.web.pages.day import neighbours, runs_of
from tests.played_peers import SERIES

DAY = "/series/AAPL/1m/2026-11-20"
FIRST = 1795185000  # 2026-11-20 14:30 UTC
BARS = {
    "day": "2026-11-20",
    "state": "open",
    "bars": [
        *([FIRST + 60 * n, "present"] for n in range(3)),
        *([FIRST + 60 * n, "no_trades"] for n in (3, 4)),
        [FIRST + 300, "present"],
        [FIRST + 360, "failed"],
        [FIRST + 420, "not_due"],
    ],
}
EVIDENCE = {
    "day": "2026-11-20",
    "requests": [
        {
            "requested_at": "2026-11-20T22:00:00+00:00",
            "start": "2026-11-20T14:30:00+00:00",
            "end": "2026-11-20T21:00:00+00:00",
            "outcome": "bars",
            "code": None,
            "bars": 388,
            "absent": 2,
            "late": 0,
        },
        {
            "requested_at": "2026-11-20T21:55:00+00:00",
            "start": "2026-11-20T14:36:00+00:00",
            "end": "2026-11-20T14:37:00+00:00",
            "outcome": "failed",
            "code": 162,
            "bars": 0,
        },
    ],
    "absences": [
        {
            "first": "2026-11-20T14:33:00+00:00",
            "last": "2026-11-20T14:34:00+00:00",
            "bars": 2,
            "reason": "no_trades",
            "since": "2026-11-20T22:00:00+00:00",
            "times": None,
            "again_at": "2026-11-21T22:00:00+00:00",
        }
    ],
}


@pytest.fixture
def known(peers):
    """A day of which the gap filler knows everything."""
    days = [
        {"date": f"2026-11-{day}", "expected": 390, "present": 390, "missing": {}}
        for day in (19, 20, 23)
    ]
    peers.coverage = {"series": [SERIES | {"days": days}]}
    peers.day, peers.evidence = BARS, EVIDENCE
    return peers


@pytest.fixture
def read(client):
    """What a person reads, with plain spaces."""

    def text(path=DAY):
        html = client.get(path).text
        return unescape(re.sub(r"[\s\u202f]+", " ", re.sub(r"<[^>]*>", " ", html)))

    return text


@pytest.mark.usefixtures("known")
def test_the_bars_of_a_day_are_shown_in_runs_with_their_reasons(read):
    text = read()
    assert "State a trading day" in text
    assert "Bars 4 of 7 expected (57.1 %)" in text
    assert (
        "2026-11-20 14:30 UTC 2026-11-20 14:32 UTC 3 there "
        "2026-11-20 14:33 UTC 2026-11-20 14:34 UTC 2 without trades, verified "
        "2026-11-20 14:35 UTC 2026-11-20 14:35 UTC 1 there "
        "2026-11-20 14:36 UTC 2026-11-20 14:36 UTC 1 failed, tried again later "
        "2026-11-20 14:37 UTC 2026-11-20 14:37 UTC 1 not due yet"
    ) in text


@pytest.mark.usefixtures("known")
def test_each_absence_has_the_request_that_proves_it(read):
    text = read()
    assert (
        "2026-11-20 14:33 UTC 2026-11-20 14:34 UTC 2 without trades, verified "
        "2026-11-20 22:00:00 UTC 2026-11-21 22:00:00 UTC"
    ) in text
    assert (
        "2026-11-20 22:00:00 UTC 2026-11-20 14:30 UTC 2026-11-20 21:00 UTC "
        "answered with bars 388 2 without trades, verified"
    ) in text
    assert "failed (IB’s code 162) 0 no absence" in text


@pytest.mark.parametrize(
    ("state", "words", "can_be_filled"),
    [
        ("closed", "No bar is expected on this day, so there is nothing to be proven.", False),
        ("expired", "No bar is expected on this day, so there is nothing to be proven.", False),
        ("not_looked_at", "Nothing is known of this day yet.", True),
    ],
)
def test_a_day_without_bars_has_nothing_to_be_proven(client, peers, state, words, can_be_filled):
    peers.day = {"day": "2026-11-21", "state": state, "bars": []}
    html = client.get("/series/AAPL/1m/2026-11-21").text
    assert words in html
    assert "no request of the last 30 days" not in html
    assert ("Fill now" in html) is can_be_filled


def test_each_time_can_be_shown_in_the_exchanges_zone(client, known):
    known.coverage["series"][0]["zone"] = "America/New_York"
    times = re.findall(r"<time [^>]*>(?=2026-11-2[01])", client.get(DAY).text)
    shown = [time for time in times if 'data-zone="America/New_York"' in time]
    assert len(shown) == 5 * 2 + 4 + 2 * 3  # five runs, an absence, two requests
    outside = set(times) - set(shown)
    assert not outside


def test_a_daily_bar_is_named_by_its_day_whatever_the_zone(known, read):
    daily = {"timeframe": "1d", "zone": "America/New_York"}
    known.coverage["series"][0] |= daily
    known.day = BARS | {"bars": [[FIRST - FIRST % 86400, "failed"]]}
    known.evidence = EVIDENCE | {"requests": []}
    assert "2026-11-20 2026-11-20 1 failed, tried again later" in read("/series/AAPL/1d/2026-11-20")


def test_it_asks_for_the_day_of_its_address(client, known):
    client.get(DAY)
    asked = {"symbol": "AAPL", "timeframe": "1m", "day": "2026-11-20"}
    assert {"what": "day", **asked} in known.requested
    assert {"what": "evidence", **asked} in known.requested


@pytest.mark.usefixtures("known")
def test_it_leads_to_the_trading_days_beside_it(client):
    html = client.get(DAY).text
    assert '<a rel="prev" href="/series/AAPL/1m/2026-11-19">' in html
    assert '<a rel="next" href="/series/AAPL/1m/2026-11-23">' in html
    assert 'rel="next"' not in client.get("/series/AAPL/1m/2026-11-23").text
    assert 'rel="prev"' not in client.get("/series/AAPL/1m/2026-11-19").text


def test_a_day_that_is_no_trading_day_has_neighbours_too():
    days = [DayStatus(date, 1, 1, {}) for date in ("2026-11-20", "2026-11-23")]
    assert neighbours(days, "2026-11-21") == ("2026-11-20", "2026-11-23")
    assert neighbours([], "2026-11-21") == (None, None)


def test_runs_keep_their_order_and_count_their_bars():
    runs = runs_of([(0, "present"), (60, "present"), (120, "open"), (180, "present")])
    assert [(run.first.timestamp(), run.last.timestamp(), run.bars, run.state) for run in runs] == [
        (0, 60, 2, "present"),
        (120, 120, 1, "open"),
        (180, 180, 1, "present"),
    ]
    assert runs_of([]) == []


def test_a_closed_day_says_so_and_asks_for_no_proof(read, known):
    known.day = {"day": "2026-11-20", "state": "closed", "bars": []}
    text = read()
    assert "State the market was closed" in text
    assert "No bar is expected on this day" in text
    assert "evidence" not in {query["what"] for query in known.requested}


@pytest.mark.parametrize("error", [InvalidRequest("not assessed yet"), RequestFailed("no ledger")])
def test_what_cannot_be_had_is_said_and_the_rest_is_shown(read, known, error):
    known.evidence = error
    assert f"The requests are not known: {error.message}" in read()
    assert "Bars 4 of 7 expected" in read()


def test_a_gap_filler_that_knows_no_evidence_is_named(read, known):
    known.evidence = {"nonsense": True}
    assert "The requests are not known: gap-filler gave an answer that cannot be read" in read()


def test_bars_that_cannot_be_had_are_said_to_be_unknown(read, known):
    known.day = InvalidRequest("AAPL_1m: its bars have not been assessed yet")
    assert "Its bars are not known: AAPL_1m: its bars have not been assessed yet" in read()


@pytest.mark.usefixtures("known")
def test_the_prices_of_the_day_are_a_table(read, tmp_path):
    folder = tmp_path / "store"
    folder.mkdir(exist_ok=True)
    (folder / "AAPL_1m.csv").write_text(
        "timestamp,open,high,low,close,volume\n"
        "2026-11-19T20:59:00+00:00,1,2,0.5,1,7\n"
        "2026-11-20T14:30:00+00:00,10.25,11,9.5,10,1200\n"
        "2026-11-20T14:35:00+00:00,10,10,10,10,1\n"
    )
    text = read()
    assert "2 bars Start (UTC)" in text
    assert "2026-11-20 14:30 10.25 11 9.5 10 1200 2026-11-20 14:35 10 10 10 10 1" in text


@pytest.mark.parametrize("day", ["soon", "2026-13-01", "%3Cb%3E", "9" * 300])
@pytest.mark.usefixtures("known")
def test_what_is_no_day_is_404(client, day):
    answer = client.get(f"/series/AAPL/1m/{day}")
    assert answer.status_code == 404
    assert "expected one such as 2026-11-20" in answer.text


def test_fill_now_requests_a_fill_and_a_scan_and_comes_back(client, known):
    answer = client.post(f"{DAY}/fill")
    assert (answer.status_code, answer.location) == (303, f"{DAY}?notice=fill-requested")
    requested = {"what": "fill", "symbol": "AAPL", "timeframe": "1m", "from": "2026-11-20"}
    assert known.requested == [requested, {"what": "scan"}]
    assert "Fill requested" in client.get(answer.location).text


def test_nothing_is_scanned_for_a_fill_that_was_refused(client, known):
    known.fill = InvalidRequest("in the future")
    assert client.post(f"{DAY}/fill").location == f"{DAY}?notice=fill-not-requested"
    assert [query["what"] for query in known.requested] == ["fill"]


def test_what_comes_from_others_is_text(client, known):
    nasty = "<script>alert('x')</script>"
    known.day = BARS | {"state": nasty, "bars": [[FIRST, nasty]]}
    request = EVIDENCE["requests"][1] | {"outcome": nasty}
    absence = EVIDENCE["absences"][0] | {"reason": nasty}
    known.evidence = EVIDENCE | {"requests": [request], "absences": [absence]}
    html = client.get(DAY).text
    assert html.count("&lt;script&gt;alert") >= 4
    assert "<script>alert" not in html
