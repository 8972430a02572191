"""ktrdr/web/verdict_badge.py: the badge in each state, as a picture and as text; icons, robots."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest
from pydantic import SecretStr

from ktrdr.health.system import System
from ktrdr.health.verdict import Concern, Health, Verdict
from ktrdr.web.verdict_badge import badge_of

SVG = "{http://www.w3.org/2000/svg}"


def read(answer):
    """Title, the texts in sight, and the colour behind the second one."""
    picture = ET.fromstring(answer.data)
    texts = [one.text for one in picture.iter(f"{SVG}text")]
    colours = [one.get("fill") for one in picture.iter(f"{SVG}rect") if one.get("fill")]
    return picture.find(f"{SVG}title").text, texts, colours[1]


def contrast_with_white(colour):
    """WCAG's contrast ratio."""
    shares = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return 1.05 / (luminance + 0.05)


@pytest.mark.usefixtures("peers")
def test_it_says_the_verdict_in_words_and_colour(client):
    answer = client.get("/badge.svg")
    title, texts, colour = read(answer)
    verdict = client.get("/api/v1/system/system-status").json

    assert (answer.status_code, answer.mimetype) == (200, "image/svg+xml")
    assert texts == ["ktrdr", f"{verdict['health']}, 0 of 1 series (simulated)"]
    assert title == f"ktrdr: {texts[1]}. {verdict['summary']}"
    assert contrast_with_white(colour) > 4.5


SERIES = Concern("AAPL 1m is being filled", about="series")


@pytest.mark.parametrize(
    ("concerns", "word", "colour"),
    [
        ((), "healthy", "#0f6f3a"),
        ((SERIES,), "degraded", "#1d4f91"),
        ((replace(SERIES, next_step="see it"),), "degraded", "#8a4b00"),
        ((Concern("the disk is full", health=Health.CRITICAL),), "critical", "#ac1f17"),
    ],
)
def test_each_health_has_a_colour_and_a_word(settings, concerns, word, colour):
    snapshot = System(settings, settings.run_dir / "none.sock", own="status-app").snapshot()
    snapshot = replace(snapshot, verdict=Verdict("In one sentence.", concerns))

    badge = badge_of(snapshot, "store", is_simulated=False)
    assert (badge.message, badge.colour) == (word, colour)
    assert badge.title == f"store: {word}. In one sentence."
    assert contrast_with_white(colour) > 4.5


@pytest.mark.usefixtures("peers")
def test_its_label_may_be_another_one(client):
    _, texts, _ = read(client.get("/badge.svg?label=bars+%3C%26%22%E2%80%AE"))

    assert texts[0] == 'bars <&"\\u202e'


@pytest.mark.parametrize("path", ["/badge.svg", "/badge.json"])
@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("?lable=x", "unknown parameter 'lable': expected label"),
        (f"?label={'x' * 41}", "label: expected at most 40 characters, not 41"),
    ],
)
@pytest.mark.usefixtures("peers")
def test_what_it_does_not_know_is_refused(client, path, query, detail):
    answer = client.get(path + query)

    assert (answer.status_code, answer.json["detail"]) == (400, detail)


@pytest.mark.usefixtures("peers")
def test_as_json_it_is_what_shields_reads(client):
    title, texts, colour = read(client.get("/badge.svg?label=store"))

    assert client.get("/badge.json?label=store").json == {
        "schemaVersion": 1,
        "label": "store",
        "message": texts[1],
        "color": colour,
    }
    assert title


@pytest.mark.usefixtures("peers")
def test_pages_of_others_may_show_it_and_it_is_sent_once(client):
    answer = client.get("/badge.svg")

    assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert len(answer.data) < 1500
    tag = {"If-None-Match": answer.headers["ETag"]}
    assert client.get("/badge.svg", headers=tag).status_code == 304
    assert client.get("/").headers["Cross-Origin-Resource-Policy"] == "same-origin"


def test_with_a_token_it_needs_it(new_client):
    client = new_client(ktrdr_status_token=SecretStr("k7Hq2pZx9Lm0vBn3"))

    assert client.get("/badge.svg").status_code == 401


def test_a_browser_finds_an_icon_and_a_robot_the_door(client):
    icon, robots = client.get("/favicon.ico"), client.get("/robots.txt")

    assert (icon.status_code, icon.mimetype) == (200, "image/svg+xml")
    assert b"<svg" in icon.data
    assert (robots.status_code, robots.mimetype) == (200, "text/plain")
    assert robots.text.splitlines() == ["User-agent: *", "Disallow: /"]
