"""The pages as a person uses them: a real group, real Chromium, a click, a key, a phone."""

from __future__ import annotations

import contextlib
import itertools
import re
import time

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

from tests.test_group_fills_the_store import HEADER
from tests.test_one_verdict import IS_ROOT

pytestmark = pytest.mark.timeout(180)

ALL_COMPLETE = re.compile(r"^All \d+ series are complete")
PHONE = {"width": 320, "height": 800}
PATHS = ("/", "/add", "/connection", "/fills", "/programs", "/series/BTC/1h", "/simulator")


CAUGHT_CHART = """
let library;
Object.defineProperty(window, "LightweightCharts", {
  get: () => library,
  set(made) {
    library = { ...made, createChart: (...given) => (window.chart = made.createChart(...given)) };
  },
});
"""


def row_of(page: Page, series: str) -> Locator:
    return page.get_by_role("row", name=re.compile(f"^{series} "))


def move_to(page: Page, state: str) -> str:
    """Move over the heat map with the keys until it names a day in that state; returns its words.

    It goes back and forth over ten days, for the map is requested anew every three seconds.
    """
    canvas, said = page.locator("#heatmap .spacer canvas"), page.locator("#heatmap-cell")
    expect(canvas).to_be_visible()
    canvas.focus()
    deadline = time.monotonic() + 30
    words = ""
    for key in itertools.cycle(["ArrowLeft"] * 10 + ["ArrowRight"] * 10):
        page.keyboard.press(key)
        words = said.inner_text()
        if state in words:
            return words
        assert time.monotonic() < deadline, f"none is {state}, the last one is {words}"
    raise AssertionError("unreachable")


def test_a_store_fills_before_ones_eyes(group, open_page):
    """Nothing is loaded anew: the figures change under a mark that a reload would lose."""
    page = open_page("/?q=LTC")
    page.evaluate("window.mark = 1")
    path, row = group.data / "LTC_5m.csv", row_of(page, "LTC 5m")
    expect(row).to_have_count(0)
    path.write_text(HEADER)
    expect(row).to_contain_text("filling")
    expect(page).to_have_title(re.compile("1 being filled"))
    expect(row).to_contain_text("complete")
    expect(page).to_have_title(ALL_COMPLETE)
    move_to(page, "complete")
    assert page.evaluate("window.mark") == 1
    path.unlink()
    expect(row).to_have_count(0)


def test_a_red_day_is_clicked_to_green(group, open_page):
    group.fault("refused", kind="historical_data", symbol="LTC")
    (group.data / "LTC_1h.csv").write_text(HEADER)
    page = open_page("/?q=LTC")
    expect(row_of(page, "LTC 1h")).to_contain_text("failed")
    day = move_to(page, "failed")
    page.keyboard.press("Enter")
    page.wait_for_url("**/series/LTC/1h/*")
    expect(page.locator("tr.is-missing").first).to_be_visible()

    group.end_fault("refused")
    page.get_by_role("button", name="Fill now").click()
    expect(page.locator("#notice")).to_be_visible()
    expect(page.locator("tr.is-missing")).to_have_count(0)
    expect(page.locator("main dd .pill")).to_have_text("complete")
    page.goto("/?q=LTC")
    assert move_to(page, "complete").split(":")[0] == day.split(":")[0]


def test_a_program_that_stops_is_named_until_it_is_back(group, open_page):
    page = open_page()
    expect(page).to_have_title(ALL_COMPLETE)
    icon = page.locator("#icon").get_attribute("href")
    group.end("gap-filler")
    expect(page).to_have_title(re.compile("gap-filler is not running"))
    expect(page.locator("#icon")).not_to_have_attribute("href", icon or "")
    needed = page.get_by_role("region", name="Needs you")
    expect(needed).to_contain_text("./scripts/up")
    expect(row_of(page, "BTC 1h")).to_be_visible()  # as it was last known
    group.start("gap-filler")
    expect(page).to_have_title(ALL_COMPLETE)
    expect(needed).to_be_hidden()


def test_a_chart_has_as_many_decimals_as_its_prices(group, open_page, wait_for):
    """Two do not tell one price of a currency from another."""
    path = group.data / "EURUSD_1h.csv"
    path.write_text(f"{HEADER}2026-11-20 14:00:00+00:00,1.0912,1.0921,1.0905,1.09135,-1\n")
    page = open_page("/")
    page.add_init_script(CAUGHT_CHART)
    expect(row_of(page, "EURUSD 1h")).to_be_visible()
    page.goto("/series/EURUSD/1h")
    shown = "window.chart?.panes()[0].getSeries()[0].priceFormatter().format(1.09135)"
    wait_for(lambda: page.evaluate(shown) == "1.09135")
    path.unlink()


@pytest.mark.usefixtures("group")
def test_what_is_to_come_is_never_said_to_be_past(open_page):
    page = open_page("/fills")
    next_scan = page.locator("dt:text-is('Next scan') + dd time")
    last_scan = page.locator("dt:text-is('Last scan') + dd time")
    page.clock.install()
    page.clock.fast_forward("01:00:00")
    expect(last_scan).to_contain_text("h ago")
    expect(next_scan).to_have_text("due")


def test_a_page_that_goes_blind_says_so(group, open_page):
    page = open_page()
    group.end("status-app")
    expect(page.locator("#lost")).to_be_visible()
    group.start("status-app")
    expect(page.locator("#lost")).to_be_hidden()


@pytest.mark.usefixtures("group")
def test_a_gateway_is_lost_and_found_at_a_click(open_page):
    """By the panel of the simulated gateway, as a visitor would."""
    page = open_page("/simulator")
    page.get_by_role("button", name="Begin: Logged out").click()
    expect(page).to_have_title(re.compile("^Not connected"))
    page.goto("/connection")
    expect(page.locator("#live")).to_contain_text("cannot connect")
    page.goto("/simulator")
    page.get_by_role("button", name="End: Logged out").click()
    expect(page).to_have_title(ALL_COMPLETE)


def test_no_empty_chart_is_shown_of_a_file_that_cannot_be_read(group, open_page):
    path = group.data / "ETH_1h.csv"
    whole = path.read_text()
    path.write_text(whole.replace("\n", "\noops\n", 1))
    try:
        page = open_page("/series/ETH/1h")
        expect(page.locator("#chart-trouble")).to_contain_text("oops")
        expect(page.locator("#chart")).to_be_hidden()
    finally:
        path.write_text(whole)
    page.goto("/series/BTC/1h")
    expect(page.locator("#chart")).to_be_visible()


@pytest.mark.skipif(not IS_ROOT, reason="a disk is mounted for it")
def test_a_disk_that_fills_up_is_the_first_thing_to_be_read(group, open_page):
    page = open_page()
    ballast = group.data / "ballast"
    try:
        for _ in range(100):  # the ledger may give up some pages again
            with contextlib.suppress(OSError), ballast.open("ab") as file:
                while True:
                    file.write(bytes(4096))
                    file.flush()
            if re.search("disk .* is full", page.title()):
                break
            page.wait_for_timeout(300)
        expect(page).to_have_title(re.compile("disk .* is full"))
        expect(page.get_by_role("region", name="Needs you")).to_contain_text("free some space")
    finally:
        ballast.unlink()
    expect(page).to_have_title(ALL_COMPLETE)


@pytest.mark.usefixtures("group")
def test_a_symbol_is_added_when_its_candidates_were_seen(group, open_page):
    page = open_page("/add")
    page.get_by_label("Symbols, timeframes, and since when").fill("LTC BTC 1d")
    page.get_by_role("button", name="Look them up").click()
    added = group.data / "LTC_1d.csv"
    expect(page.get_by_role("row", name=re.compile("LTC"))).to_be_visible()
    assert not added.exists()
    page.get_by_role("button", name=re.compile("^Add them")).click()
    expect(page.locator("#notice")).to_be_visible()
    page.goto("/")
    expect(row_of(page, "LTC 1d")).to_contain_text("complete")
    for name in ("LTC_1d", "BTC_1d"):
        (group.data / f"{name}.csv").unlink()


@pytest.mark.usefixtures("group")
def test_no_page_scrolls_sideways_on_a_small_phone(open_page):
    page = open_page(viewport=PHONE)
    widths = {}
    for path in PATHS:
        page.goto(path)
        page.wait_for_load_state("networkidle")
        widths[path] = page.evaluate("document.documentElement.scrollWidth")
    assert widths == dict.fromkeys(PATHS, PHONE["width"])


@pytest.mark.usefixtures("group")
def test_without_javascript_all_can_be_read_and_done(open_page):
    page = open_page(java_script_enabled=False)
    expect(row_of(page, "BTC 1h")).to_contain_text("complete")
    page.get_by_role("searchbox").fill("ETH")
    page.get_by_role("button", name="Search").click()
    expect(row_of(page, "ETH 1h")).to_be_visible()
    expect(row_of(page, "BTC 1h")).to_have_count(0)
    row_of(page, "ETH 1h").get_by_role("link").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("ETH")
    page.get_by_role("link", name=re.compile("Fills")).first.click()
    page.get_by_role("button", name="Scan now").click()
    expect(page.locator("#notice")).to_be_visible()


@pytest.mark.usefixtures("group")
def test_the_keyboard_alone_leads_to_a_day(open_page):
    page = open_page()
    expect(page.locator("#heatmap .spacer canvas")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.type("BTC")
    page.keyboard.press("Enter")
    page.wait_for_url("**/?q=BTC*")
    move_to(page, "complete")
    page.keyboard.press("Enter")
    page.wait_for_url("**/series/BTC/1h/*")
    expect(page.get_by_role("heading", level=1)).to_contain_text("BTC")


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize(
    "options",
    [{}, {"color_scheme": "dark"}, {"viewport": PHONE}, {"forced_colors": "active"}],
    ids=["light", "dark", "phone", "forced colours"],
)
def test_axe_finds_nothing(open_page, options):
    page = open_page(bypass_csp=True, reduced_motion="reduce", **options)
    found = {}
    for path in PATHS:
        page.goto(path)
        page.wait_for_load_state("networkidle")
        violations = Axe().run(page).response["violations"]
        found[path] = [(one["id"], one["nodes"][0]["html"][:120]) for one in violations]
    assert found == {path: [] for path in PATHS}
