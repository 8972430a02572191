"""What is shown of the store while the gap filler does not answer."""

from __future__ import annotations

import re

import pytest

from ktrdr.health.recorder import FILE, Recorder
from ktrdr.health.system import System
from tests.played_peers import served

GRID = "/api/v1/data/coverage/grid"
AT = 1_795_000_000


def text_of(html):
    return re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", html))


def loaded(client):
    """It has read what was recorded before."""
    recorder = client.application.extensions["ktrdr.recorder"]
    recorder.load()
    recorder.close()
    return client


@pytest.fixture
def recorded(settings, run_dir, played):
    """The gap filler has answered, and does so no longer."""
    with served(run_dir, played.routes()):
        system = System(settings, run_dir / "supervisor.sock", own="status-app")
        recorder = Recorder(system, run_dir / FILE, lambda: AT)
        recorder.step()
        recorder.close()


@pytest.fixture
def restarted(new_client, recorded):  # noqa: ARG001 - it comes first
    """A client of a status app that was started after that."""
    return loaded(new_client())


def test_the_last_known_series_are_shown_with_their_age_and_marked_as_old(restarted):
    html = restarted.get("/").text
    text = text_of(html)
    assert "OLD: what follows is what the store held 2026-11-18 11:06:40 UTC" in text
    assert "What it holds now is not known: gap-filler is not running" in text
    assert "AAPL 1m was filling 97.4 % 380 of 390" in text
    assert '<div class="is-old">' in html
    assert 'class="pill busy">filling' not in html


def test_the_series_of_another_store_are_not_shown(settings, run_dir, recorded, new_client):  # noqa: ARG001 - it comes first
    other = settings.model_copy(update={"ktrdr_data_dir": run_dir / "other"})
    recorder = Recorder(System(other, run_dir / "supervisor.sock"), run_dir / FILE, lambda: AT)
    recorder.load()
    recorder.close()
    assert recorder.known is None


def test_one_next_step_is_named_for_a_program_that_does_not_run(restarted):
    assert "next step" not in text_of(restarted.get("/").text).partition("OLD:")[2]


def test_they_can_be_searched(restarted):
    assert "No series matches." in restarted.get("/?q=MSFT").text
    assert "was filling" in restarted.get("/?q=AAPL").text


def test_a_series_page_has_its_last_known_facts_marked_as_old(restarted):
    text = text_of(restarted.get("/series/AAPL/1m").text)
    assert "OLD: as it was 2026-11-18 11:06:40 UTC" in text
    assert "State was filling Bars 380 of 390 expected (97.4 %)" in text
    assert "Missing 8 to be fetched, 2 without trades, verified" in text
    assert "OLD" not in restarted.get("/series/MSFT/1m").text


def test_the_last_known_days_are_drawn_with_their_age(restarted, played):
    answer = restarted.get(GRID).json
    assert answer["series"] == played.grid["series"]
    assert answer["known_at"] == "2026-11-18T11:06:40+00:00"
    assert "gap-filler is not running" in answer["reason"]


def test_other_days_are_not_known(restarted):
    assert restarted.get(f"{GRID}?from=2026-01-01").json["series"] is None


def test_where_nothing_was_ever_known_nothing_is_made_up(client):
    assert "What the store holds is not known" in text_of(client.get("/").text)
    assert client.get(GRID).json["series"] is None


@pytest.mark.usefixtures("recorded")
def test_what_is_known_now_is_not_called_old(run_dir, played, new_client):
    client = loaded(new_client())
    with served(run_dir, played.routes()):
        assert "OLD" not in client.get("/").text
        assert "known_at" not in client.get(GRID).json
