from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html import unescape

import pytest

from ktrdr.errors import RequestFailed
from ktrdr.escapes import visible
from ktrdr.ipc.messages import (
    FarmStatus,
    LastError,
    Problem,
    SeriesStatus,
    SeriesTrouble,
    StoreTrouble,
)
from ktrdr.web.pages.overview import worst_first
from ktrdr.web.pages.site import PAGES as ALL_PAGES
from tests.played_peers import SERIES, pretended

PAGES = [page for page in ALL_PAGES if page.label]
SIMULATED = "SIMULATED GATEWAY – these are not market prices"


@pytest.fixture
def text(client):
    """What a person reads on all pages, without the marks of HTML and with plain spaces."""

    def read():
        html = " ".join(client.get(page.path).text for page in PAGES)
        return re.sub(r"[\s\u202f]+", " ", re.sub(r"<[^>]*>", " ", html))

    return read


PAGE_OF = {"verdict": "/", "connection": "/connection", "filler": "/fills"}


@pytest.fixture
def pills(client):
    """Section → the tones and words of its states."""

    def read(section):
        html = client.get(PAGE_OF[section]).text
        begin = '<p class="verdict' if section == "verdict" else f'labelledby="h-{section}"'
        html = html.partition(begin)[2].partition(
            "</main>" if section == "verdict" else "</section>"
        )[0]
        found = re.findall(r'class="pill (\w+)">([^<]*)<', html)
        return found[:1] if section == "verdict" else found

    return read


NASTY = "a\x1b[2J\x9b31mb\rc\u202ed\u200be"
SPELLED = r"a\x1b[2J\x9b31mb\rc\u202ed\u200be"


@pytest.mark.usefixtures("peers")
def test_what_a_morph_leaves_alone_is_a_list_as_htmx_reads_it(client):
    content = re.search("name=\"htmx-config\" content='([^']*)'", client.get("/").text)[1]
    assert json.loads(content)["morphIgnore"] == ["data-htmx-powered", "open"]


def test_signs_that_nobody_sees_are_spelled_out(client, peers, connected, filling):
    peers.connection = replace(connected, reminder=NASTY)
    trouble = SeriesTrouble("unknown_contract", NASTY, f"{NASTY}\n[AAPL]", (f"{NASTY}_1d",), 1)
    peers.gap_filler = replace(filling, series_troubled=1, troubles=(trouble,))
    peers.coverage = {"scan_time": None, "series": [SERIES | {"symbol": NASTY, "error": NASTY}]}
    for path in ("/", "/live/overview"):
        answer = client.get(path)
        assert answer.status_code == 200
        assert SPELLED in answer.text.replace("\\\\", "\\")
        assert not [c for c in NASTY if visible(c) != c and c in answer.text]


def test_nor_are_they_in_json_whose_letters_stay(client, peers, connected):
    peers.connection = replace(connected, reminder=f"Börse {NASTY}")
    answer = client.get("/api/v1/system/ib-status")
    assert answer.json["reminder"] == f"Börse {NASTY}"
    assert "Börse a" in answer.text
    assert not [c for c in NASTY if visible(c) != c and c in answer.text]


def test_what_the_browser_keeps_is_a_list_as_htmx_needs_it(client):
    content = re.search("name=\"htmx-config\" content='([^']*)'", client.get("/").text)[1]
    assert json.loads(content)["morphIgnore"] == ["data-htmx-powered", "open"]


@pytest.mark.usefixtures("peers")
def test_simulated_prices_are_called_so_in_words(text):
    assert SIMULATED in text()


def test_simulated_prices_are_called_so_when_nothing_else_is_known(text):
    assert SIMULATED in text()


def test_a_real_gateway_is_named(new_client, peers, connected, idle):
    peers.connection = replace(connected, gateway="live")
    peers.gap_filler = replace(idle, source="live")

    html = new_client(ib_host="192.168.1.9").get("/").text

    assert "LIVE gateway" in html
    assert "192.168.1.9:4002" in html
    assert "SIMULATED" not in html


def test_live_and_simulated_at_once_are_a_warning(text, peers, idle):
    peers.gap_filler = replace(idle, source="live")

    assert "LIVE AND SIMULATED programs at once" in text()


@pytest.mark.usefixtures("peers")
def test_it_tells_what_is_filled_and_what_is_left(text):
    shown = text()

    assert "filling AAPL 1m" in shown
    assert "108 gaps to close" in shown
    assert "1 201 of 1 312 gaps filled" in shown.replace("\u202f", " ")
    assert "184 233 bars added" in shown
    assert "14 without trades" in shown
    assert "Done in about 6 to 8 min" in shown
    assert "380 of 390" in shown
    assert "8 to be fetched, 2 without trades" in shown


@pytest.mark.parametrize(
    ("why", "waits_for"),
    [("no data from IB: history down",) * 2, ("the disk with data is full", "")],
)
def test_why_nothing_is_filled_stands_on_its_card(text, peers, filling, why, waits_for):
    waiting = {"state": "waiting", "reason": why, "waits_for": waits_for, "current": ()}
    peers.gap_filler = replace(filling, gaps_remaining=len(waits_for), **waiting)
    shown = text()
    assert shown.count(f"waiting {why}") == 2  # on the card, and on its page
    assert f"waits for {why}" not in shown.lower()


def test_one_of_a_kind_is_told_in_the_singular(text, peers, connected, filling):
    peers.connection = replace(connected, requests_open=1)
    one = {"gaps_remaining": 1, "gaps_detected": 1, "gaps_filled": 0, "bars_added": 1}
    peers.gap_filler = replace(filling, requests_failed=1, **one)
    shown = text()
    assert "1 request open" in shown
    assert shown.count("1 gap to close") == 2  # on its card and on its page
    assert "0 of 1 gap filled, 1 request failed" in shown
    assert "1 bar added" in shown


def test_a_lost_connection_has_a_cause_a_next_step_and_a_next_try(text, peers, pills, connected):
    next_try = datetime.now(UTC) + timedelta(seconds=90)
    peers.connection = replace(
        connected,
        connected=False,
        state="retrying",
        next_retry_time=next_try,
        last_error=LastError(326, "client id 1 is in use", "stop the other program"),
    )

    shown = text()

    assert "client id 1 is in use" in shown
    assert "IB’s code 326" in shown
    assert "Next step: stop the other program" in shown
    assert f"Next attempt {next_try:%Y-%m-%d %H:%M:%S} UTC" in shown
    assert pills("connection") == [("warn", "not connected (retrying)")]


def test_an_outage_is_shown_with_its_own_begin_and_no_try_where_nothing_is_tried(
    text, peers, connected
):
    peers.connection = replace(
        connected,
        connected=False,
        state="upstream_lost",
        last_disconnect_time=datetime(2026, 11, 20, 3, tzinfo=UTC),  # of another one
        no_data_since=datetime(2026, 11, 20, 14, 30, 5, tzinfo=UTC),
    )
    shown = text()
    assert "No data since 2026-11-20 14:30:05 UTC" in shown
    assert "Next attempt" not in shown
    assert "Lost" not in shown


def test_a_try_that_is_under_way_is_shown(text, peers, connected):
    peers.connection = replace(connected, connected=False, state="connecting")
    assert "Next attempt in progress" in text()


def test_a_trouble_that_takes_no_data_away_has_its_time(text, peers, connected):
    since = datetime(2026, 11, 20, 14, 30, tzinfo=UTC)
    broken = LastError(2103, "usfarm is broken", "wait", since)
    peers.connection = replace(connected, state="farm_down", last_error=broken)
    assert "Last error usfarm is broken, 2026-11-20 14:30:00 UTC" in text()


@pytest.mark.usefixtures("peers")
def test_a_living_connection_is_good(pills):
    assert pills("connection") == [("good", "connected")]


def test_a_silent_connection_is_not_good(pills, peers, connected):
    peers.connection = replace(
        connected, last_answer_time=datetime.now(UTC) - timedelta(minutes=10)
    )

    assert pills("connection") == [("warn", "connected, but silent")]
    assert pills("verdict") == [("warn", "degraded")]


@pytest.mark.parametrize(
    "changes",
    [
        {"last_answer_time": datetime(2026, 11, 20, tzinfo=UTC)},
        {"state": "farm_down"},
        {"state": "upstream_lost", "connected": False},
        {"state": "waiting", "connected": False},
    ],
)
def test_the_connections_card_is_no_worse_and_no_better_than_the_headline(
    pills, peers, connected, idle, run_dir, changes
):
    peers.connection, peers.gap_filler = replace(connected, **changes), idle
    with pretended(run_dir, "port-forward", "status-app", "gateway-sim"):
        assert [tone for tone, _ in pills("verdict")] == ["warn"]
        assert [tone for tone, _ in pills("connection")] == ["warn"]


@pytest.mark.parametrize(
    ("changes", "pill"),
    [
        ({"state": "idle", "gaps_remaining": 0, "series_current": 1}, ("good", "idle")),
        ({"state": "idle", "gaps_remaining": 0, "series_current": 0}, ("warn", "idle")),
        ({"state": "idle"}, ("warn", "idle")),
        ({"state": "waiting", "store_trouble": StoreTrouble("full", "")}, ("bad", "waiting")),
        ({"state": "waiting"}, ("warn", "waiting")),
        ({"state": "refused"}, ("bad", "refused")),
        ({"state": "scanning"}, ("busy", "scanning")),
        ({"state": "idle", "gaps_remaining": 0, "running": False}, ("bad", "idle")),
    ],
)
def test_the_gap_filler_is_good_only_when_nothing_is_left(pills, peers, filling, changes, pill):
    peers.gap_filler = replace(filling, **changes)

    assert pills("filler") == [pill]


def test_nothing_is_green_but_the_page_when_all_else_is_down(client, text):
    html, shown = "".join(client.get(page.path).text for page in PAGES), text()

    assert re.findall(r'class="pill good">([^<]*)<', html) == ["running"]
    assert "critical" in shown
    assert "ib-connection is not running" in shown
    assert "What the store holds is not known" in shown


def test_every_program_has_the_line_that_restarts_it(text):
    shown = text()

    for name in ("port-forward", "ib-connection", "gap-filler", "status-app", "gateway-sim"):
        assert f"supervisorctl restart {name}" in shown


def test_an_empty_store_says_how_to_add_a_series(text, peers, tmp_path):
    peers.coverage = {"scan_time": None, "series": []}

    shown = text()

    assert "AAPL_1m.csv" in shown
    command = f'echo timestamp,open,high,low,close,volume &gt;&gt; "{tmp_path}/store/AAPL_1m.csv"'
    assert command in shown


def test_a_store_that_is_left_alone_is_not_called_empty(text, peers):
    peers.coverage = {"scan_time": None, "series": []}
    peers.gap_filler = replace(peers.gap_filler, state="refused", reason="it holds live bars")

    shown = text()

    assert "leaves this store alone: it holds live bars" in shown
    assert "echo timestamp" not in shown


def test_a_store_that_was_not_looked_at_is_not_called_empty(text, peers):
    peers.coverage = {"scan_time": None, "series": []}
    peers.gap_filler = replace(peers.gap_filler, last_scan_time=None)

    assert "The store has not been scanned yet" in text()


def test_coverage_that_cannot_be_read_is_reported(text, peers):
    peers.coverage = {"scan_time": None, "series": [{"symbol": 5}]}

    assert "What the store holds is not known: gap-filler gave an answer" in text()


def test_a_series_that_is_not_assessed_yet_is_reported(text, peers):
    peers.coverage["series"] = [
        {"symbol": "MSFT", "timeframe": "1d", "file": "MSFT_1d.csv", "state": "waiting"}
        | {"expected": None, "present": None, "holes": None, "missing": {}}
    ]

    assert "not assessed yet" in text()


def test_a_failure_is_shown_with_ibs_code(text, peers):
    failed = {"state": "failed", "error": "no permissions", "error_code": 354}
    peers.coverage["series"] = [peers.coverage["series"][0] | failed | {"missing": {"failed": 8}}]

    assert "no permissions (IB’s code 354) ; 8 failed, tried again later" in text()


def test_what_is_not_expected_is_remarked(text, peers):
    facts = {"from": "2026-10-21T00:00:00+00:00", "listed": "2026-11-02T14:30:00+00:00"}
    peers.coverage["series"] = [
        peers.coverage["series"][0] | facts | {"expires": None, "sessions_from": "rules"}
    ]

    assert "listed on 2026-11-02, nothing is expected before" in text()
    assert "IB gives no sessions: the usual ones" in text()


def test_a_series_that_is_pulled_again_says_why_and_is_no_trouble(text, client, peers):
    peers.coverage["series"] = [peers.coverage["series"][0] | {"state": "renewed"}]

    assert "as after a split: the whole series is rebuilt" in text()
    assert '<span class="pill busy">renewed' in client.get("/").text


def test_many_series_are_counted_and_not_all_shown(client, text, peers):
    one = peers.coverage["series"][0]
    peers.coverage = {"series": [one | {"symbol": f"S{n:04}"} for n in range(1234)]}

    shown = text()
    assert "all 1 234 filling 1 234" in shown
    assert "1 234 series: 1 2 3 " in shown
    assert " S0000 1m " in shown
    assert " S0039 1m " in shown
    assert " S0040 1m " not in shown
    assert len(client.get("/").data) < 30_000


@pytest.fixture
def listed(client, peers):
    """`listed(query)`: the names of the series that the first page shows."""
    one = peers.coverage["series"][0]
    peers.coverage["series"] = [
        one | {"symbol": "AAPL", "timeframe": "1m", "state": "complete"},
        one | {"symbol": "AAPL", "timeframe": "1h", "state": "failed"},
        one | {"symbol": "BRK B", "timeframe": "1m", "state": "failed"},
        *(one | {"symbol": f"X{n:02}", "timeframe": "5m", "state": "waiting"} for n in range(60)),
    ]

    def read(query):
        html = client.get(f"/{query}").text
        return re.findall(
            r'<th scope="row"><a href="[^"]*">([^<]*) <span class="muted">([^<]*)</span>', html
        )

    return read


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("?state=failed", [("AAPL", "1h"), ("BRK B", "1m")]),
        ("?state=failed&timeframe=1m", [("BRK B", "1m")]),
        ("?q=aapl", [("AAPL", "1h"), ("AAPL", "1m")]),
        ("?q=brk_b_1m", [("BRK B", "1m")]),
        ("?q=L+1h", [("AAPL", "1h")]),
        ("?q=%3Cb%3E", []),
    ],
)
def test_series_are_chosen_by_plain_links(listed, query, names):
    assert listed(query) == names


@pytest.mark.parametrize(
    ("page", "first", "number"),
    [("", "AAPL", 40), ("2", "X38", 23), ("99", "X38", 23)],
)
def test_many_series_are_shown_a_screen_at_a_time(listed, page, first, number):
    shown = listed(f"?page={page}")

    assert shown[0][0] == first
    assert len(shown) == number


@pytest.mark.parametrize("page", ["0", "x", "-1", "1.5", "01", "\u0662", f"{10**30}", 5000 * "9"])
@pytest.mark.parametrize("path", ["/", "/live/overview"])
def test_what_is_no_number_of_a_screen_is_refused(client, path, page):
    answer = client.get(path, query_string={"page": page}, headers={"Accept": "text/html"})

    assert answer.status_code == 400
    assert "expected a whole number from 1 to 999999" in answer.text


@pytest.mark.usefixtures("listed")
def test_what_was_searched_for_stays_in_the_live_part(client):
    html = client.get("/?q=A%26B+%22c&state=failed").text

    assert 'data-live="/live/overview?state=failed&amp;q=A%26B+%22c"' in html
    assert 'value="A&amp;B &#34;c"' in html
    assert "No series matches." in client.get("/live/overview?state=failed&q=A%26B+%22c").text


def test_what_comes_from_others_is_text_and_not_html(client, peers, connected, filling, log_dir):
    nasty = "<script>alert('x')</script>"
    peers.connection = replace(
        connected, connected=False, state=nasty, host=nasty, last_error=LastError(1, nasty, nasty)
    )
    peers.gap_filler = replace(
        filling,
        reason=nasty,
        current=(nasty,),
        unfillable={nasty: 1},
        recent_errors=(Problem(datetime.now(UTC), nasty, nasty, nasty),),
    )
    peers.coverage["series"] = [
        peers.coverage["series"][0] | {"symbol": nasty, "file": nasty, "error": nasty}
    ]
    (log_dir / "gap-filler.log").write_text(nasty)

    for page in PAGES:
        is_of_simulator = page.name == "simulator"  # it shows nothing of these
        assert is_of_simulator or "&lt;script&gt;alert" in client.get(page.path).text
        assert "<script>alert" not in client.get(page.path).text
        assert "<script>alert" not in client.get(f"/live/{page.name}").text


@pytest.mark.usefixtures("peers")
def test_the_last_log_lines_are_shown_under_their_files_name(text, log_dir):
    (log_dir / "gap-filler.log").write_text("".join(f"line {n};\n" for n in range(40)))

    shown = text()

    assert f"{log_dir}/gap-filler.log" in shown
    assert "line 25; line 26;" in shown
    assert "line 24;" not in shown
    assert "No lines: there is no such file yet." in shown


def test_recent_errors_are_newest_first_with_their_next_step(text, peers, filling):
    now = datetime.now(UTC)
    peers.gap_filler = replace(
        filling,
        recent_errors=(
            Problem(now - timedelta(hours=2), "B_1m.csv", "line 17 is broken"),
            Problem(now, "TSLA 1d", "no permission", "subscribe"),
        ),
    )

    shown = text()

    assert shown.index("TSLA 1d") < shown.index("B_1m.csv")
    assert "no permission Next step: subscribe" in shown


@pytest.mark.usefixtures("peers")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_is_its_live_part_in_a_frame(client, page):
    html, live = client.get(page.path).text, client.get(f"/live/{page.name}").text

    title, _, rest = live.partition("</title>")
    assert f"{title}</title>" in html.partition("</head>")[0]
    assert rest in html.partition("<body>")[2]
    assert f'data-live="/live/{page.name}"' in html
    have = {"If-None-Match": unescape(re.search('data-tag="([^"]*)"', html)[1])}
    assert client.get(f"/live/{page.name}", headers=have).status_code == 304
    assert re.findall('<a href="([^"]*)" aria-current="page">', html) == [page.path]


@pytest.mark.usefixtures("peers")
def test_it_needs_no_script_and_nothing_from_elsewhere(client):
    for page in PAGES:
        html = client.get(page.path).text

        assert '<noscript><meta http-equiv="refresh"' in html
        assert re.findall(r'(?:src|href|action)="(?![/#])[^"]*"', html) == []
        assert " style=" not in html
        assert not re.search(r"\bon[a-z]+=|hx-on|javascript:|<script>", html)


def test_the_form_requests_a_scan_and_comes_back(client, peers):
    answer = client.post("/scan")

    assert (answer.status_code, answer.location) == (303, "/?notice=scan-requested")
    assert peers.requested == [{"what": "scan"}]
    assert "Scan requested." in client.get(answer.location).text


def test_the_form_says_when_it_did_not_work(client):
    answer = client.post("/scan")

    assert answer.location == "/?notice=scan-failed"
    assert "could not be reached" in client.get(answer.location).text


@pytest.mark.parametrize("path", ["/", "/series/AAPL/1m"])
def test_a_file_that_is_not_understood_is_called_that_and_not_failed(client, peers, path):
    trouble = {"state": "not_understood", "error": "AAPL_1m.csv is not understood: in UTC"}
    one = peers.coverage["series"][0]
    peers.coverage["series"] = [one | trouble | {"missing": {"not_understood": 8}}]
    html = client.get(path).text
    assert re.findall(r'<span class="pill bad">([^<]*)</span>', html)[-1] == "not understood"
    assert '">failed' not in html


def test_an_address_cannot_put_words_into_the_page(client):
    assert "gotcha" not in client.get("/?notice=gotcha").text


def test_what_needs_eyes_is_on_top():
    def one(symbol, timeframe, state):
        return SeriesStatus(symbol=symbol, timeframe=timeframe, file="", state=state)

    listed = [
        one("B", "1d", "complete"),
        one("B", "5m", "complete"),
        one("A", "1m", "complete"),
        one("C", "1m", "waiting"),
        one("D", "1m", "failed"),
        one("E", "1m", "never heard of"),
        one("F", "1m", "incomplete_row"),
        one("G", "1m", "not_understood"),
    ]

    assert [f"{s.symbol} {s.timeframe}" for s in worst_first(listed)] == [
        "E 1m",
        "D 1m",
        "G 1m",
        "F 1m",
        "C 1m",
        "A 1m",
        "B 5m",
        "B 1d",
    ]


NOW = datetime.now(UTC)


def test_an_expected_restart_is_no_alarm(text, pills, peers, connected):
    lost = LastError(502, "cannot connect to 127.0.0.1:4102", "is it running?")
    peers.connection = replace(
        connected,
        connected=False,
        state="waiting",
        last_error=lost,
        expected="expected restart, back at about 23:47",
    )
    assert pills("connection") == [("busy", "expected restart, back at about 23:47")]
    assert "is it running?" not in text()


def test_a_log_in_that_somebody_must_do_is_an_alarm(text, pills, peers, connected, run_dir):
    peers.connection = replace(
        connected,
        connected=False,
        state="logged_out",
        last_error=LastError(502, "cannot connect", "log in to the gateway"),
        expected="the weekly log-out: somebody has to log in to the gateway",
    )
    assert pills("connection") == [("warn", "not connected (logged out)")]
    with pretended(run_dir, "gateway-sim"):
        shown = text()
    assert "not connected to the simulated gateway (logged out)" in shown
    assert "Next step: log in to the gateway" in shown


def test_a_reminder_is_shown(text, peers, connected):
    peers.connection = replace(connected, reminder="the log-in ends on Sunday, in 3 h 10 min")
    assert "the log-in ends on Sunday, in 3 h 10 min" in text()


def test_a_connection_without_data_says_so(text, pills, peers, connected):
    peers.connection = replace(
        connected,
        connected=False,
        state="competing_session",
        last_error=LastError(
            10197, "No market data during competing live session", "log out there"
        ),
    )
    assert pills("connection") == [("warn", "no data (competing session)")]
    assert "connected, but no data come from the simulated gateway" in text()
    assert "Next step: log out there" in text()


def test_a_broken_farm_is_a_warning_with_its_name(text, pills, peers, connected):
    broken = FarmStatus("ushmds", "history", up=False, since=NOW, breaks=2, last_break_s=40)
    mended = FarmStatus("usfarm", "market data", up=True, since=NOW, breaks=1, last_break_s=62)
    idle = FarmStatus("cashfarm", "market data", up=True, since=NOW, breaks=0, last_break_s=None)
    peers.connection = replace(connected, state="farm_down", farms=(broken, mended, idle))
    assert pills("connection") == [("warn", "connected (farm down)")]
    assert re.search(
        "broken ushmds .history. broke .* UTC , broke 2 × since the start, last for 40 s", text()
    )
    assert "up usfarm (market data) broke 1 × since the start, last for 1 min 2 s" in text()
    assert "up cashfarm (market data) Last 30 days" in text()


LINES = 'say so:\n["BRK.B"]\nlocal_symbol = "BRK B"'


def test_what_needs_somebody_is_named_with_what_to_do(client, text, peers, filling):
    trouble = SeriesTrouble("unknown_contract", "IB knows no BRK.B", LINES, ("BRK.B_1d",), 1)
    problem = Problem(NOW, "BRK.B_1d", "none", LINES)
    peers.gap_filler = replace(
        filling, series_troubled=1, troubles=(trouble,), series_states={}, recent_errors=(problem,)
    )

    assert "0 of 1 series are complete, 1 needs you: BRK.B" in text()
    assert "Needs you" in text()
    assert "BRK.B_1d : IB knows no BRK.B it is not kept complete" in text()
    html = client.get("/").text + client.get("/fills").text
    shown = re.findall(r'<code class="copy block">([^<]*)</code>', html)
    lines = LINES.partition("\n")[2]
    assert [unescape(hint) for hint in shown] == [lines, lines]  # to be pasted as they are
    style = client.get("/static/page.css").text
    assert re.search(r"\.copy\.block {[^}]*white-space: pre-wrap", style)


def test_a_series_that_needs_somebody_leads_to_its_page(client, peers, filling):
    troubles = tuple(
        SeriesTrouble("broken_file", "line 2", "correct it", (name,), 1)
        for name in ("AAPL_1m", "GONE_1d")  # one is listed
    )
    peers.gap_filler = replace(filling, series_troubled=2, troubles=troubles, series_states={})
    needed = client.get("/").text.partition('id="h-needs"')[2].partition("</section>")[0]
    assert re.findall(r'<a href="([^"]*)">([^<]*)</a>', needed) == [("/series/AAPL/1m", "AAPL_1m")]
    assert "GONE_1d" in needed


def test_many_that_need_somebody_do_not_push_the_rest_away(client, peers, filling):
    troubles = tuple(
        SeriesTrouble("unknown_contract", "unknown", "check it", (f"X{n:02}_1d",), 1)
        for n in range(12)
    )
    peers.gap_filler = replace(filling, series_troubled=12, troubles=troubles, series_states={})
    needed = client.get("/").text.partition('id="h-needs"')[2].partition("</section>")[0]
    first, _, more = needed.partition('<details id="needs-more">')
    assert first.count("<li>") == 8
    assert re.match(rf"<summary>{more.partition('</details>')[0].count('<li>')} more<", more)
    assert re.findall(r"X\d\d_1d", needed) == [f"X{n:02}_1d" for n in range(12)]
    assert first.count("<ul") == first.count("</ul>") == 1


@pytest.mark.parametrize(("state", "is_old"), [("waiting", True), ("upstream_lost", False)])
def test_farms_are_not_called_up_while_the_gateway_is_away(text, peers, connected, state, is_old):
    farms = tuple(
        FarmStatus(name, "history", up=is_up, since=NOW, breaks=0, last_break_s=None)
        for name, is_up in (("ushmds", True), ("euhmds", False))
    )
    peers.connection = replace(connected, connected=False, state=state, farms=farms)
    assert ("As the gateway said last" in text()) is is_old
    assert ("was up ushmds" in text()) is is_old
    assert ("was broken euhmds" in text()) is is_old
    assert re.search("up ushmds .*broken euhmds", text())


def test_an_error_that_is_over_is_shown_as_over(text, peers, filling):
    over = Problem(NOW, "NVDA_1d", "it timed out", is_over=True)
    peers.gap_filler = replace(filling, recent_errors=(over, Problem(NOW, "IBM_1d", "it failed")))

    assert re.search("NVDA_1d [0-9: -]{19} UTC , over it timed out", text())
    assert re.search("IBM_1d [0-9: -]{19} UTC it failed", text())


def test_a_clock_that_is_minutes_off_is_shown(text, peers, connected):
    peers.connection = replace(connected, clock_offset_s=-200.0)
    assert "Clock the gateway’s is 3 min 20 s behind" in text()


@pytest.mark.usefixtures("peers")
def test_an_outage_says_what_it_has_cost(text):
    assert "expected restart, 1 min 30 s, 12 bars late, no bar lost (at worst waiting)" in text()


def test_an_outage_of_unknown_cost_says_nothing_of_it(text, peers):
    peers.cost = RequestFailed("not known")
    shown = text()
    assert "at worst waiting" in shown
    assert "bars late" not in shown


def test_the_last_days_are_shown_as_a_line_and_in_words(client, text, peers):
    assert "Last 24 hours: data available 99.8 % of the recorded time" in text()
    html = client.get("/connection").text
    runs = re.findall(r'<rect class="(\w+)" x="(\d+)" width="(\d+)"', html)
    assert runs == [
        ("idle", "0", "1"),
        ("good", "1", "2"),
        ("warn", "3", "1"),
        ("bad", "4", "1"),
        ("good", "5", "1"),
    ]
    assert {q["days"] for q in peers.requested if q["what"] == "history"} == {"1", "30"}


@pytest.mark.usefixtures("peers")
def test_each_time_without_data_is_one_row_with_its_hour_the_newest_first(text):
    shown = text()
    restart = "Mon 02 Nov, 04:45 UTC expected restart, 1 min 30 s, 12 bars late, no bar lost"
    still = "Thu 19 Nov, 21:00 UTC the history farm ushmds was broken, ongoing, 12 bars late"
    assert restart in shown
    assert shown.index(still) < shown.index(restart)


def test_without_a_history_the_page_is_whole(client, peers):
    peers.history = {"nonsense": True}
    assert client.get("/").status_code == 200


def test_it_shows_whom_it_is_for(client, new_client):
    assert "This page is for this machine alone." in client.get("/").text
    wider = new_client(ktrdr_status_host="0.0.0.0", ktrdr_status_callers="192.168.1.0/24")
    assert "This page is for this machine, 192.168.1.0/24." in wider.get("/").text


@pytest.mark.usefixtures("peers")
def test_a_filter_that_names_no_state_says_so(client):
    answer = client.get("/?state=faild").text
    assert "No series can have the state “faild”; expected " in answer
    assert "No series matches" not in answer
    assert (
        "No series can have the timeframe “2m”; expected 1m, 5m,"
        in client.get("/?timeframe=2m").text
    )
    assert "No series matches" in client.get("/?state=failed&timeframe=1m&q=none").text
