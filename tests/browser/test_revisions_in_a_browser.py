"""Revised bars in the chart of a series' page, drawn by Chromium from played programs."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect
from werkzeug.serving import make_server

from ktrdr.web import create_app
from tests.played_peers import *  # noqa: F403  fixtures
from tests.played_peers import REVISIONS

ROWS = [f"2026-11-20T14:3{n}:00+00:00,1{n}.5,20,9.25,1{n},100{n}\n" for n in range(3)]
DOT = """() => {
  const isDot = (data, at) => data[at] === 27 && data[at + 1] === 95 && data[at + 2] === 193;
  return [...document.querySelectorAll('#chart canvas')].some((canvas) => {
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    for (let at = 0; at < data.length; at += 4) if (isDot(data, at)) return true;
    return false;
  });
}"""
"""Whether the chart has a pixel in the colour of the dots, which nothing else in it has."""
ANOTHER = REVISIONS[1] | {"id": 13, "timestamp": "2026-11-20T14:32:00+00:00"}


@pytest.fixture
def page(browser: Browser, settings, log_dir, peers) -> Iterator[Page]:
    """The page of a series with three bars, none of which was revised."""
    text = "timestamp,open,high,low,close,volume\n" + "".join(ROWS)
    (settings.data_dir / "AAPL_1m.csv").write_text(text)
    last = {"last": "2026-11-20T14:32:00+00:00", "zone": "America/New_York"}
    peers.coverage["series"] = [peers.coverage["series"][0] | last]
    peers.revisions |= {"total": 0, "revisions": []}
    server = make_server("127.0.0.1", 0, create_app(settings, log_dir=log_dir), threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    context = browser.new_context(viewport={"width": 1000, "height": 1600})
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"http://127.0.0.1:{server.server_port}/series/AAPL/1m")
    yield page
    context.close()
    server.shutdown()
    thread.join()
    server.server_close()
    assert errors == []


def point_at(page: Page, words: str) -> None:
    """Move the pointer over the newest bars until the line below the chart has these words."""
    expect(page.locator("#chart")).to_be_visible()
    box = page.locator("#chart").bounding_box()
    line = page.locator("#chart-bar")
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for left in range(50, 150, 2):
            page.mouse.move(box["x"] + box["width"] - left, box["y"] + box["height"] / 2)
            if line.is_visible() and words in line.inner_text():
                return
    raise AssertionError(f"no bar says {words!r}, the last one {line.text_content()!r}")


def test_a_dot_is_drawn_on_a_bar_once_it_was_corrected_and_its_words_are_told(page, peers):
    expect(page.locator("#h-revisions ~ p")).to_have_text(
        "No stored bar was corrected in the last year."
    )
    point_at(page, "2026-11-20 14:31 UTC: open 11.5")
    assert not page.evaluate(DOT)
    assert "corrected" not in page.locator("#chart-bar").inner_text()

    peers.revisions |= {"total": 2, "revisions": [*REVISIONS]}

    expect(page.get_by_role("row", name="2026-11-20 14:31 UTC")).to_contain_text("close 11 → 12.75")
    page.wait_for_function(DOT)
    point_at(
        page, "volume 1001; corrected 2026-11-20 21:00 UTC: close 11 → 12.75, volume 1001 → 1234"
    )


def test_a_corrected_bar_is_loaded_anew_while_the_page_is_open(page, peers, settings):
    peers.revisions |= {"total": 2, "revisions": [*REVISIONS]}
    page.wait_for_function(DOT)
    path = settings.data_dir / "AAPL_1m.csv"
    path.write_text(path.read_text().replace(",12,1002\n", ",12.75,1234\n"))
    peers.revisions |= {"total": 3, "revisions": [ANOTHER, *REVISIONS]}
    expect(page.get_by_role("row", name="2026-11-20 14:32 UTC")).to_contain_text("close 11 → 12.75")
    page.wait_for_function("() => document.getElementById('chart-data').dataset.revised === '13'")
    point_at(page, "14:32 UTC: open 12.5, high 20, low 9.25, close 12.75, volume 1234; corrected")
