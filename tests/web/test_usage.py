from __future__ import annotations

import re

import pytest

from ktrdr.health.usage import Load, Pace, Sample, Usage
from ktrdr.web import RECORDER, create_app
from tests.played_peers import pretended

T = 1_795_000_000


@pytest.fixture
def app(settings, log_dir):
    app = create_app(settings, log_dir=log_dir)
    loads = {"gap-filler": Load(4.0, 100 * 2**20)}
    samples = [Sample(T, loads), Sample(T + 60, loads, Pace(3, 0.25, 120.4))]
    starts = {"gap-filler": (T - 900, T - 60)}
    app.extensions[RECORDER].usage = Usage(tuple(samples), starts)
    return app.test_client()


def text_of(html):
    return re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", html))


@pytest.mark.usefixtures("peers")
def test_the_figures_stand_in_the_table_for_those_without_scripts(app):
    html = app.get("/programs").text
    row = text_of(html.partition(">gap-filler")[2].partition("</tr>")[0])
    assert "4.0 % most 4.0 %" in row
    assert "most 100 MiB" in row
    assert "1 last 2026-11-18 11:05:40 UTC" in row
    assert 'data-usage="/usage"' in html


def test_the_most_of_24_hours_is_no_less_than_what_is_used_now(settings, log_dir, run_dir):
    """The measurement of a minute ago had less."""
    with pretended(run_dir, "status-app"):
        app = create_app(settings, log_dir=log_dir)
        loads = {"status-app": Load(4.0, 1000)}
        app.extensions[RECORDER].usage = Usage((Sample(T, loads), Sample(T + 60, loads)), {})
        html = app.test_client().get("/programs").text
    row = text_of(html.partition(">status-app")[2].partition("</tr>")[0]).replace("\u202f", " ")
    now, most = re.findall(r"(\d+) MiB", row)
    assert int(now) == int(most) > 0


@pytest.mark.usefixtures("peers")
def test_the_pace_stands_on_the_page_of_the_connection(app, client):
    assert "120.4 bars/s, 0.25 requests/s" in text_of(app.get("/connection").text)
    assert "not measured yet" in client.get("/connection").text


@pytest.mark.usefixtures("peers")
@pytest.mark.parametrize(
    ("pace", "said"),
    [
        (Pace(50, None, 12_793.8), "Pace 12 794 bars/s in the last minute"),
        (Pace(1, 0.25, None), "Pace 0.25 requests/s in the last minute"),
    ],
)
def test_of_the_pace_only_what_was_measured_is_told(app, pace, said):
    usage = Usage((Sample(T, {}, pace),), {})
    app.application.extensions[RECORDER].usage = usage
    assert said in text_of(app.get("/connection").text).replace("\u202f", " ")


def test_the_charts_are_small_and_the_same_is_not_sent_twice(app):
    answer = app.get("/usage")
    assert answer.json["times"] == [T, T + 60]
    assert answer.json["programs"]["gap-filler"]["restarts"] == [T - 60]
    assert answer.json["pace"]["bars"] == [None, 120.4]
    assert b" " not in answer.data
    again = app.get("/usage", headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
