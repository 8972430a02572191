from __future__ import annotations

import os
import re
from xmlrpc.client import Fault

import pytest

from tests.played_peers import pretended, supervised


@pytest.fixture
def supervisor(run_dir):
    """supervisord, played: what was called, and which fault is raised."""
    states = {
        "ib-connection": ("RUNNING", os.getpid()),
        "gap-filler": ("FATAL", 0),
        "status-app": ("RUNNING", os.getpid()),
    }
    with supervised(run_dir / "supervisor.sock", states) as played:
        yield played


@pytest.fixture
def buttons(client, run_dir):
    """The targets of the page's forms."""

    def read():
        with pretended(run_dir, "port-forward"):
            html = client.get("/programs").text
        return re.findall('action="/programs/([^"]*)"', html)

    return read


@pytest.mark.usefixtures("peers", "supervisor")
def test_each_program_has_the_buttons_that_make_sense(buttons):
    assert buttons() == [
        "ib-connection/restart",
        "ib-connection/stop",
        "gap-filler/start",
        "status-app/restart",
    ]


@pytest.mark.usefixtures("peers")
def test_without_supervisord_there_are_none(buttons):
    assert buttons() == []


@pytest.mark.parametrize(
    ("action", "called"),
    [
        ("restart", ("signalProcess", "gap-filler", "TERM")),
        ("stop", ("stopProcess", "gap-filler", False)),
        ("start", ("startProcess", "gap-filler", False)),
    ],
)
def test_a_button_does_it_and_comes_back(client, supervisor, action, called):
    answer = client.post(f"/programs/gap-filler/{action}")
    assert (answer.status_code, answer.location) == (303, f"/programs?notice=program-{action}")
    assert supervisor.called == [called]
    assert f"Its {action} was requested" in client.get(answer.location).text


def test_what_supervisord_refuses_is_told(client, supervisor):
    supervisor.fault = Fault(70, "NOT_RUNNING")
    answer = client.post("/programs/gap-filler/restart")
    assert answer.location == "/programs?notice=program-refused"
    assert "Nothing was done" in client.get(answer.location).text


@pytest.mark.parametrize(
    "path", ["/programs/nobody/start", "/programs/gap-filler/kill", "/programs/supervisord/stop"]
)
def test_nothing_else_can_be_done(client, supervisor, path):
    assert client.post(path).status_code == 404
    assert supervisor.called == []


def test_another_site_stops_nothing(client, supervisor):
    answer = client.post("/programs/gap-filler/stop", headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 403
    assert supervisor.called == []
