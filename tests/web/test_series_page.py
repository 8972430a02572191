from __future__ import annotations

import json
import re
from dataclasses import replace
from html import unescape

import pytest
from pydantic import SecretStr

from ktrdr.errors import InvalidRequest, RequestFailed, UnknownSeries
from ktrdr.ipc.messages import DayStatus
from ktrdr.web.pages.bar_rows import begin_of_newest
from tests.played_peers import REVISIONS, SERIES

IMPORT = "from ktrdr.data.data_manager import DataManager"
PAGE = "/series/AAPL/1m"
FIRST = 1795185000  # 2026-11-20 14:30 UTC
GAPS = [[FIRST, FIRST + 60, 2, "no_trades"], [FIRST + 600, FIRST + 1020, 8, "open"]]


@pytest.fixture
def one(peers):
    """The series that the gap filler has; to be changed."""
    peers.coverage["series"] = [found := SERIES | {"gaps": GAPS}]
    return found


@pytest.fixture
def read(client):
    """What a person reads, with plain spaces."""

    def text(path=PAGE):
        html = client.get(path).text
        return unescape(re.sub(r"[\s\u202f]+", " ", re.sub(r"<[^>]*>", " ", html)))

    return text


@pytest.fixture
def stored(tmp_path):
    """A file of the series with three bars."""
    folder = tmp_path / "store"
    folder.mkdir(exist_ok=True)
    rows = [f"2026-11-20T14:3{n}:00+00:00,1{n}.5,20,9.25,1{n},100{n}" for n in range(3)]
    (folder / "AAPL_1m.csv").write_text(
        "timestamp,open,high,low,close,volume\n" + "".join(f"{row}\n" for row in rows)
    )


@pytest.mark.usefixtures("one")
def test_its_state_is_told_in_figures(read):
    text = read()
    assert "AAPL 1m filling" in text
    assert "Bars 380 of 390 expected (97.4 %)" in text
    assert "Missing 8 to be fetched, 2 without trades, verified" in text
    assert "First bar 2026-11-20 14:30 UTC" in text
    assert "by a scan every 5 min, and when the file changes" in text
    assert "/store/AAPL_1m.csv" in text


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("stream", "by a stream of IB’s: a bar is stored as soon as it has ended, the next one"),
        ("requests", "by a request for each bar when it is due, the next one"),
    ],
)
def test_it_says_how_its_newest_bars_come(read, one, how, said):
    one |= {"kept_new_by": how, "next_due": "2026-11-20T21:31:01+00:00"}
    assert f"Kept new {said} 2026-11-20 21:31:01 UTC ; and by a scan every 5 min" in read()


@pytest.mark.usefixtures("one")
def test_each_gap_has_its_reason_and_leads_to_its_proof(client, read):
    assert (
        "2026-11-20 14:40 UTC 2026-11-20 14:47 UTC 8 to be fetched requests of 2026-11-20 "
        "2026-11-20 14:30 UTC 2026-11-20 14:31 UTC 2 without trades, verified requests"
    ) in read()
    assert 'href="/series/AAPL/1m/2026-11-20#h-evidence"' in client.get(PAGE).text


def test_a_gap_of_an_evening_leads_to_the_trading_day_that_lacks_it(client, one):
    evening = FIRST + 9 * 3600  # 23:30 UTC, Friday
    one |= {"gaps": [[evening, evening, 1, "open"]]}
    one["days"] = [
        {"date": "2026-11-20", "expected": 9, "present": 9, "missing": {}},
        {"date": "2026-11-23", "expected": 9, "present": 8, "missing": {"open": 1}},
    ]
    assert 'href="/series/AAPL/1m/2026-11-23#h-evidence"' in client.get(PAGE).text


def test_of_many_gaps_the_newest_are_shown(client, read, one):
    one["gaps"] = [[FIRST + 600 * n, FIRST + 600 * n, 1, "open"] for n in range(150)]
    assert "The newest 100 of 150." in read()
    assert client.get(PAGE).text.count("#h-evidence") == 100


@pytest.mark.usefixtures("one")
def test_the_live_part_is_of_the_same_series(client):
    assert 'data-live="/live/series?symbol=AAPL&amp;timeframe=1m"' in client.get(PAGE).text
    live = client.get("/live/series?symbol=AAPL&timeframe=1m")
    assert "2 without trades, verified" in live.text
    again = client.get(
        "/live/series?symbol=AAPL&timeframe=1m", headers={"If-None-Match": live.headers["ETag"]}
    )
    assert again.status_code == 304


@pytest.mark.usefixtures("one")
def test_each_revision_has_its_bar_its_time_and_its_values_before_and_after(read):
    assert (
        "Bar Corrected Old → new "
        "all bars 2026-11-20 21:10:00 UTC rebuilt: IB revised all prices by a split ratio (4:1, 10 "
        "of 10 bars); the old file is .ktrdr/replaced/AAPL_1m.20261120T211000Z.csv "
        "2026-11-20 14:31 UTC 2026-11-20 21:00:00 UTC close 11 → 12.75 , volume 1001 → 1234 Gaps"
    ) in read()


LEFT = REVISIONS[1] | {"id": 14, "is_left": True}
BEFORE_A_SPLIT = LEFT | {
    "id": 13,
    "why": "IB has all prices times 0.25 (a split, 4:1?)",
    "last": "2026-11-20T15:30:00+00:00",
    "bars": 60,
}


@pytest.mark.usefixtures("one")
def test_bars_that_were_left_have_the_values_of_the_file_and_of_ib(peers, read):
    peers.revisions |= {"revisions": [LEFT, BEFORE_A_SPLIT]}
    text = read()
    assert "IB revised these bars" not in text
    assert "the file keeps its values, on the left of the arrow." in text
    assert (
        "2026-11-20 14:31 UTC left, compared 2026-11-20 21:00:00 UTC close 11 → 12.75 , volume "
        "1001 → 1234 2026-11-20 14:31 UTC to 2026-11-20 15:30 UTC , 60 bars left, compared "
        "2026-11-20 21:00:00 UTC IB has all prices times 0.25 (a split, 4:1?); the first: close 11"
    ) in text


def test_how_many_bars_differ_is_said_among_the_facts(one, read):
    one |= {"comparison": {"differ": 1011}}
    assert "1,011 bars differ from IB’s" in read()


@pytest.mark.usefixtures("one")
def test_the_newest_twenty_are_requested_and_nothing_more_is_said_if_these_are_all(peers, read):
    assert "all as JSON" not in read()
    asked = {"what": "revisions", "symbol": "AAPL", "timeframe": "1m", "limit": "20"}
    assert asked in peers.requested


def test_of_many_revisions_the_others_are_linked(client, peers, one):
    one["symbol"] = "BRK B"
    peers.revisions |= {"total": 1000, "has_more": True}
    url = "/api/v1/data/BRK%20B/1m/revisions"
    html = client.get("/series/BRK B/1m").text
    assert f'The newest 2 of 1\u202f000: <a href="{url}?limit=1000">all as JSON</a>' in html
    assert f'data-revisions="{url}" data-revised="12"' in html


@pytest.mark.usefixtures("one")
def test_without_revisions_the_page_says_so(client, peers, read):
    peers.revisions |= {"total": 0, "revisions": []}
    assert "No stored bar was corrected in the last year." in read()
    assert 'data-revised=""' in client.get(PAGE).text


@pytest.mark.usefixtures("one")
@pytest.mark.parametrize("error", [RequestFailed("it is locked"), UnknownSeries("it is gone")])
def test_revisions_that_cannot_be_had_cost_nothing_else(peers, read, error):
    peers.revisions = error
    text = read()
    assert f"Revisions They are not known: {error.message}" in text
    assert "8 to be fetched requests of 2026-11-20" in text


@pytest.mark.usefixtures("peers")
def test_a_daily_bar_that_was_revised_is_named_by_its_day_alone(one, peers, read):
    one |= {"timeframe": "1d", "zone": "America/New_York"}
    peers.revisions["revisions"] = [REVISIONS[1] | {"timestamp": "2026-11-20T00:00:00+00:00"}]
    assert "new 2026-11-20 2026-11-20 21:00:00 UTC close 11" in read("/series/AAPL/1d")


def test_days_lead_to_their_pages_the_newest_first_and_sixty_at_most(client, one):
    one["days"] = [
        {"date": f"2026-{month:02}-{day:02}", "expected": 9, "present": 9, "missing": {}}
        for month in (8, 9, 10)
        for day in range(1, 31)
    ]
    found = re.findall(r'<a href="/series/AAPL/1m/([\d-]{10})">', client.get(PAGE).text)
    assert (found[0], found[-1], len(found)) == ("2026-10-30", "2026-09-01", 60)


@pytest.mark.usefixtures("one", "stored")
def test_the_newest_bars_are_a_table_too(read):
    assert "2026-11-20 14:32 12.5 20 9.25 12 1002 2026-11-20 14:31 11.5 20 9.25 11 1001" in read()


@pytest.mark.usefixtures("one")
def test_without_its_file_the_rest_is_shown(read):
    text = read()
    assert re.search("The newest bars as a table .*AAPL_1m.csv.* Gaps First missing bar", text)
    assert "380 of 390" in text


@pytest.mark.usefixtures("one")
def test_the_same_range_can_be_had_in_python_the_shell_and_by_curl(client):
    html = client.get(PAGE).text
    lines = [unescape(line) for line in re.findall(r'<dd><code class="copy">([^<]*)<', html)]
    assert lines == [
        f"{IMPORT}; DataManager().load('AAPL', '1m', start='2026-11-20', end='2026-11-21')",
        ".venv/bin/ktrdr show AAPL 1m --start 2026-11-20 --end 2026-11-21",
        "curl 'http://127.0.0.1:8000/api/v1/data/AAPL/1m?start=2026-11-20&end=2026-11-21'",
    ]
    for name in ("csv", "parquet", "json"):
        assert f'href="/api/v1/data/AAPL/1m?format={name}" download' in html


@pytest.mark.usefixtures("peers")
def test_a_symbol_with_a_space_is_quoted_where_it_must_be(client, one):
    one["symbol"] = "BRK B"
    html = unescape(client.get("/series/BRK B/1m").text)
    assert ".venv/bin/ktrdr show 'BRK B' 1m" in html
    assert "/api/v1/data/BRK%20B/1m?start=" in html
    assert 'action="/series/BRK%20B/1m/fill"' in html
    assert 'href="/series/BRK%20B/1m"' in client.get("/").text


@pytest.mark.usefixtures("one")
def test_the_token_is_named_and_not_shown(new_client):
    secret = "s3cret-token-of-the-page"
    client = new_client(ktrdr_status_token=SecretStr(secret))
    html = client.get(PAGE, headers={"Authorization": f"Bearer {secret}"}).text
    assert "Bearer $KTRDR_STATUS_TOKEN" in html
    assert secret not in html


def test_what_is_wrong_has_a_next_step_and_lines_to_copy(client, read, one):
    lines = '[TWIN]\nprimary_exchange = "NYSE"'
    error = {"state": "failed", "error": "2 contracts", "error_code": 200}
    one |= error | {"hint": f"choose one:\n{lines}"}
    assert "It is not kept complete 2 contracts (IB’s code 200) Next step: choose one:" in read()
    assert f'<pre><code class="copy">{lines}</code></pre>' in unescape(client.get(PAGE).text)


CHOICE = "Show the contracts that AAPL may be"


@pytest.mark.parametrize(
    ("trouble", "has_choice"),
    [
        ({"error_code": 200, "hint": "check the symbol"}, True),
        ({"error_code": None, "hint": "choose", "missing": {"other_contract": 3}}, True),
        ({"error_code": None, "hint": "correct the file", "missing": {"broken_file": 3}}, False),
        ({"error_code": 162, "hint": "subscribe", "missing": {"not_entitled": 3}}, False),
    ],
)
def test_contracts_are_offered_where_another_one_may_help(read, one, trouble, has_choice):
    one |= {"state": "failed", "error": "no", **trouble}
    text = read()
    assert "It is not kept complete no" in text
    assert (CHOICE in text) is has_choice


def test_what_is_tried_again_by_itself_is_a_warning_that_says_so(client, read, one):
    one |= {"state": "failed", "error": "refused", "error_code": 162, "missing": {"failed": 8}}
    text = read()
    assert "It is not complete yet refused (IB’s code 162) It is requested again by itself" in text
    assert CHOICE not in text
    assert '<section class="notice warn"' in client.get(PAGE).text


def test_an_unknown_series_is_404_with_the_nearest_names(client, peers):
    listed = [("AAPL", "1m"), ("AAPL", "1d"), ("BRK B", "1d"), ("MSFT", "1h")]
    coverage = [SERIES | {"symbol": s, "timeframe": t} for s, t in listed]
    peers.coverage = {"series": coverage}
    client.get("/")  # they are known from the first page
    peers.coverage = {"series": []}
    for path, hint in (
        ("/series/aapl/1h", "there is /series/AAPL/1m, /series/AAPL/1d"),
        ("/series/MSTF/1h", "did you mean /series/MSFT/1h?"),
        ("/series/BRK B/1m", "there is /series/BRK%20B/1d"),
        ("/series/%3Cb%3E/9", "the first page lists all series, and adds others"),
    ):
        for url in (path, f"{path}/2026-11-20"):
            answer = client.get(url)
            assert answer.status_code == 404
            assert hint in answer.text


def test_without_a_gap_filler_the_page_says_so(client, read):
    assert client.get(PAGE).status_code == 200
    assert "cannot be shown: gap-filler is not running" in read()


def test_an_answer_that_cannot_be_read_is_named(peers, read):
    peers.coverage = {"series": [{"symbol": 5}]}
    assert "cannot be shown: gap-filler gave an answer that cannot be read" in read()


def test_what_comes_from_others_is_text(client, one, peers):
    nasty = "<script>alert('x')</script>"
    one |= {"symbol": nasty, "file": nasty, "error": nasty, "hint": f"{nasty}\n[{nasty}]"}
    one |= {"missing": {nasty: 1}, "gaps": [[FIRST, FIRST, 1, nasty]]}
    peers.revisions["revisions"][0] |= {"why": nasty, "old_file": nasty}
    for path in (PAGE, "/live/series?symbol=AAPL&timeframe=1m"):
        html = client.get(path).text
        assert "&lt;script&gt;alert" in html
        assert "<script>alert" not in html


@pytest.mark.usefixtures("one")
def test_a_fill_is_requested_from_a_day_on(client, peers):
    answer = client.post(f"{PAGE}/fill", data={"from": "2020-01-31"})
    assert (answer.status_code, answer.location) == (303, f"{PAGE}?notice=fill-requested")
    requested = {"what": "fill", "symbol": "AAPL", "timeframe": "1m", "from": "2020-01-31"}
    assert peers.requested == [requested]
    assert "Fill requested" in client.get(answer.location).text


@pytest.mark.parametrize("day", ["", "soon", "2020-01-32", "20" * 5000])
def test_a_fill_needs_a_day(client, peers, day):
    answer = client.post(f"{PAGE}/fill", data={"from": day})
    assert answer.location == f"{PAGE}?notice=fill-needs-day"
    assert peers.requested == []


@pytest.mark.parametrize("error", [InvalidRequest("in the future"), RequestFailed("no")])
def test_a_fill_that_is_refused_is_not_called_requested(client, peers, error):
    peers.fill = error
    answer = client.post(f"{PAGE}/fill", data={"from": "2030-01-01"})
    assert answer.location == f"{PAGE}?notice=fill-not-requested"


def test_another_site_cannot_fill(client, peers):
    answer = client.post(
        f"{PAGE}/fill", data={"from": "2020-01-31"}, headers={"Origin": "http://evil.example"}
    )
    assert answer.status_code == 403
    assert peers.requested == []


def test_a_scan_comes_back_to_the_series(client, peers):
    assert client.post(f"{PAGE}/scan").location == f"{PAGE}?notice=scan-requested"
    assert peers.requested == [{"what": "scan"}]
    peers.scan = RequestFailed("no")
    assert client.post(f"{PAGE}/scan").location == f"{PAGE}?notice=scan-failed"


@pytest.mark.usefixtures("one")
def test_the_chart_gets_the_gaps_of_its_range(client):
    def gaps(start, end):
        return client.get(f"{PAGE}/gaps?start={start}&end={end}").json["gaps"]

    both = [[*GAPS[0][:3], "without trades, verified"], [*GAPS[1][:3], "to be fetched"]]
    assert gaps("2026-11-20", "2026-11-21T00:00:00.000Z") == both
    assert gaps("2026-11-20T14:42:00Z", "2026-11-21") == both[1:]
    assert gaps("2026-11-19", "2026-11-20T14:40:00Z") == both[:1]


@pytest.mark.usefixtures("one")
def test_a_wrong_range_is_named(client):
    answer = client.get(f"{PAGE}/gaps?start=soon&end=2026-11-21")
    assert answer.status_code == 400
    assert answer.json["detail"].startswith("start='soon'")


@pytest.mark.usefixtures("one")
def test_the_chart_is_left_alone_by_the_live_part(client):
    html = client.get(PAGE).text
    skipped = re.search(r"<div hx-morph-skip>(.*?)\n  </div>", html, re.DOTALL)[1]
    assert 'id="chart"' in skipped
    assert 'data-start="2026-11-20"' not in skipped
    assert "vendor/lightweight-charts-5.2.1.min.js" in html
    assert "lightweight-charts" not in client.get("/").text


@pytest.mark.parametrize(
    ("wanted", "first"), [(1, "2026-11-20"), (390, "2026-11-20"), (391, "2026-11-19")]
)
def test_the_chart_begins_at_the_day_from_which_on_there_are_enough_bars(wanted, first):
    days = [DayStatus(f"2026-11-{day}", 390, 390, {}) for day in (18, 19, 20)]
    assert begin_of_newest(days, wanted) == first
    assert begin_of_newest(days, 9999) == "2026-11-18"
    assert begin_of_newest([], 1) is None


def test_a_series_that_is_new_says_that_nothing_is_known_yet(peers, read, filling):
    peers.gap_filler = replace(filling, state="scanning")
    known = {"symbol": "AAPL", "timeframe": "1m", "file": "AAPL_1m.csv", "state": "waiting"}
    peers.coverage = json.loads(json.dumps({"series": [known]}))
    text = read()
    assert "Bars not assessed yet" in text
    assert "First bar none yet" in text
    assert "No bar is stored yet." in text
    assert "There are none yet." in text
