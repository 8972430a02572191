"""The page that breaks the simulated gateway, against a real one with its controls."""

from __future__ import annotations

import asyncio
import re
import threading
from html import unescape
from pathlib import Path

import pytest

from ktrdr.sim.gateway.control import control_of
from ktrdr.sim.gateway.faults import FAULTS
from ktrdr.sim.gateway.server import SimulatedGateway
from ktrdr.web.pages.fault_words import FAULT_WORDS, GROUPS
from tests.played_peers import served

DOCS = (Path(__file__).parents[2] / "docs/simulator.md").read_text()
PAGE = "/simulator"


@pytest.fixture
def gateway(run_dir):
    """A gateway in a thread, with its controls where the status app looks for them."""
    begun, stop = threading.Event(), threading.Event()
    gateway = SimulatedGateway()

    async def serve():
        async with gateway, control_of(gateway, run_dir / "gateway-sim.sock"):
            begun.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert begun.wait(10)
    yield gateway
    stop.set()
    thread.join(10)


@pytest.fixture
def send(client):
    """`send(action, fault, …)`: the answer to a form of the page."""

    def send(action, fault="", for_s="", **values):
        form = {"action": action, "fault": fault, "for_s": for_s}
        return client.post(PAGE, data=form | {f"value.{k}": v for k, v in values.items()})

    return send


def text_of(html):
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", html)).split())


def shown_in_force(client):
    """The list of the faults in force, as the page has it at once."""
    html = client.get(PAGE).text
    return text_of(html.partition('id="h-force"')[2].partition("</section>")[0])


@pytest.mark.usefixtures("gateway")
def test_every_fault_has_a_form_with_its_parameters_and_their_defaults(client):
    html = client.get(PAGE).text
    forms = dict(re.findall(r'<form id="begin-(\w+)"(.*?)</form>', html, re.DOTALL))
    assert set(forms) == set(FAULTS)
    for name, fault in FAULTS.items():
        fields = re.findall(r'name="value\.(\w+)"', forms[name])
        assert fields == list(fault.values), name
        assert ('name="for_s"' in forms[name]) is not fault.is_momentary, name
    assert 'type="number" step="any" value="5.0"' in forms["late"]
    assert 'type="number" step="1" value="3"' in forms["missing_bars"]
    assert re.findall(r"<option( selected)?>(\w+)", forms["drop"]) == [
        ("", "fin"),
        (" selected", "rst"),
    ]


@pytest.mark.usefixtures("gateway")
def test_what_a_fault_does_and_what_ktrdr_says_stand_beside_it(client):
    text = text_of(client.get(PAGE).text)
    assert "responses are this many seconds late" in text
    for group in {words.group for words in FAULT_WORDS.values()}:
        assert group in text
    assert "the gateway has answered nothing for 30 s" in text


def test_a_fault_is_begun_with_the_values_of_its_form(gateway, send, client):
    answer = send("begin", "late", seconds="2.5", rate="1.0")

    assert answer.status_code == 303
    assert gateway.faults == {"late": {"seconds": 2.5, "rate": 1.0}}
    page = client.get(answer.headers["Location"]).text
    assert "Late answers: begun." in page
    assert "Late answers seconds=2.5 rate=1.0 began" in shown_in_force(client)
    assert "ends" not in shown_in_force(client)


def test_it_ends_by_itself_after_the_time_that_was_chosen(gateway, send, client):
    send("begin", "wedged", for_s="120")

    assert gateway.faults == {"wedged": {}}
    begun, ended = re.search(r"began (.*?), ends (.*?) UTC", shown_in_force(client)).groups()
    assert begun < ended


def test_it_is_ended_and_so_are_all(gateway, send, client):
    for name in ("late", "wedged", "stall"):
        send("begin", name)

    assert send("end", "late").headers["Location"] == f"{PAGE}?notice=fault-ended"
    assert set(gateway.faults) == {"wedged", "stall"}
    assert send("end-all").headers["Location"] == f"{PAGE}?notice=faults-ended"
    assert gateway.faults == {}
    assert "None." in shown_in_force(client)


def test_one_that_happens_once_says_what_to_expect(gateway, send, client):
    answer = send("begin", "drop", how="fin")

    assert gateway.faults == {}
    assert gateway.summary()["faults"] == {"drop": 1}
    assert "Close all connections: begun." in client.get(answer.headers["Location"]).text


@pytest.mark.parametrize(
    ("form", "words"),
    [
        (
            {"action": "begin", "fault": "late", "value.seconds": "x"},
            "seconds='x', expected a number",
        ),
        ({"action": "begin", "fault": "late", "value.nonsense": "1"}, "no parameter 'nonsense'"),
        ({"action": "begin", "fault": "late", "for_s": "-1"}, "for_s='-1', expected seconds"),
        ({"action": "begin", "fault": "<b>"}, "no fault '<b>' (there is: drop, refuse,"),
        ({"action": "end", "fault": "../status"}, "no fault '../status'"),
        ({"action": "explode"}, "action='explode', expected begin, end or end-all"),
        ({}, "action='', expected begin, end or end-all"),
        ({"action": "begin", "fault": "late", "value.seconds": "\x00"}, "late"),
    ],
)
def test_what_the_gateway_refuses_is_explained_on_the_page(gateway, client, form, words):
    answer = client.post(PAGE, data=form)

    assert answer.status_code == 400
    assert words in text_of(answer.text.partition('id="notice"')[2].partition("</p>")[0])
    assert "<b>" not in answer.text
    assert 'id="begin-late"' in answer.text
    assert gateway.faults == {}


def test_without_the_gateway_there_is_a_next_step(client, send):
    answer = client.get(PAGE)

    assert answer.status_code == 200
    assert "gateway-sim is not running" in text_of(answer.text)
    assert ".venv/bin/supervisorctl status gateway-sim" in answer.text
    assert "<form" not in answer.text.partition("<main")[2].partition("</main>")[0]
    refused = send("begin", "late")
    assert refused.status_code == 503
    assert "Not done: gateway-sim is not running" in refused.text


@pytest.mark.usefixtures("peers")
def test_a_live_group_has_no_such_page(new_client):
    live = new_client(ib_host="192.168.1.9")

    assert live.get(PAGE).status_code == 404
    assert live.get("/live/simulator").status_code == 404
    assert live.post(PAGE, data={"action": "end-all"}).status_code == 404
    assert "Break something" not in live.get("/").text
    assert "Break something" in new_client().get("/").text


def test_another_site_begins_no_fault(gateway, client):
    form = {"action": "begin", "fault": "late"}
    answer = client.post(PAGE, data=form, headers={"Origin": "http://evil.example"})

    assert answer.status_code == 403
    assert gateway.faults == {}


def test_a_fault_of_a_newer_gateway_is_shown_by_its_name_and_as_text(run_dir, client):
    async def faults(_):
        return {"melt_down": {"says": "<script>alert(1)</script> `x`", "values": {"how": "<i>"}}}

    async def status(_):
        return {"faults": {"melt_down": {"how": "<i>"}}, "periods": {}}

    routes = {("GET", "/faults"): faults, ("GET", "/status"): status}
    with served(run_dir, {"gateway-sim.sock": routes}):
        html = client.get(PAGE).text

    assert "melt down" in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt; <code>x</code>" in html
    assert "<i>" not in html


def test_an_answer_that_is_none_is_explained(run_dir, client):
    async def nonsense(_):
        return {"late": {"says": 5}}

    routes = {("GET", "/faults"): nonsense, ("GET", "/status"): nonsense}
    with served(run_dir, {"gateway-sim.sock": routes}):
        answer = client.get(PAGE)

    assert answer.status_code == 200
    assert "gateway-sim gave an answer that cannot be read" in text_of(answer.text)


def test_every_fault_has_words_and_a_row_in_the_documentation():
    assert set(FAULT_WORDS) == set(FAULTS)
    table = DOCS.partition("## What ktrdr says and does about each")[2]
    rows = {
        name: (says, does)
        for name, says, does in re.findall(r"^\| `(\w+)` \| (.+) \| (.+) \|$", table, re.MULTILINE)
    }
    assert rows == {name: (words.says, words.does) for name, words in FAULT_WORDS.items()}
    assert all(words.group in GROUPS and words.title for words in FAULT_WORDS.values())
