"""A browser's own EventSource at /api/v1/stream, while the page is restarted."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser

from ktrdr.market.instruments import Series
from ktrdr.market.timeframes import Timeframe
from ktrdr.store.csv_store import CsvStore
from tests.fake_connection import price, utc
from tests.ports import free_port
from tests.web.listening import listening

pytestmark = pytest.mark.timeout(120)

FIRST = utc("2026-11-18 10:00")
AAPL = Series("AAPL", Timeframe.M1)
FOLLOW = """() => {
  window.given = [];
  window.problems = [];
  const stream = new EventSource("/api/v1/stream?series=AAPL_1m&start=2026-11-18");
  stream.onmessage = (event) => window.given.push(JSON.parse(event.data).timestamp.slice(14, 16));
  stream.addEventListener("problem", (event) => window.problems.push(event.data));
}"""


def add(store, *numbers):
    store.add(AAPL, [price(FIRST + 60 * number) for number in numbers])


def test_it_comes_back_by_itself_and_misses_nothing(browser: Browser, settings, wait_for):
    site = settings.model_copy(update={"ktrdr_status_port": free_port()})
    store = CsvStore(settings.data_dir)
    store.create(AAPL)
    add(store, 0)
    page = browser.new_page()
    with listening(site):
        page.goto(f"http://127.0.0.1:{site.ktrdr_status_port}/api/v1")
        page.evaluate(FOLLOW)
        wait_for(lambda: len(page.evaluate("window.given")) == 1)
        add(store, 1)
        wait_for(lambda: len(page.evaluate("window.given")) == 2)
    add(store, 2, 3)
    with listening(site):
        wait_for(lambda: len(page.evaluate("window.given")) == 4)
        add(store, 4)
        wait_for(lambda: len(page.evaluate("window.given")) == 5)
        assert page.evaluate("window.given") == ["00", "01", "02", "03", "04"]
        assert page.evaluate("window.problems") == []
        page.close()
