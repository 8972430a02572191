"""Several tabs of one browser: one requests what they all show, whichever is there to do it."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from playwright.sync_api import Browser, BrowserContext, Error, Page, Request, expect

from tests.browser.conftest import NAS
from tests.played_peers import pretended
from tests.ports import free_port
from tests.web.listening import listening

pytestmark = pytest.mark.timeout(120)

EVERY_S = 2.0
LIVE = "/live/overview"
LOST = re.compile("^Not connected")


class Tabs:
    """Tabs of one browser, and who requests the live part of the first page."""

    def __init__(self, context: BrowserContext) -> None:
        self._context = context
        self.open_ones: list[Page] = []
        self.requests: list[tuple[Page, float]] = []

    def open(self, path: str = "/", how_many: int = 1) -> list[Page]:
        """That many more."""
        opened = [self._context.new_page() for _ in range(how_many)]
        for page in opened:
            page.on("request", lambda request, page=page: self._note(page, request))
            page.goto(path)
        self.open_ones += opened
        return opened

    def _note(self, page: Page, request: Request) -> None:
        if LIVE in request.url:
            self.requests.append((page, time.monotonic()))

    def next_ones(self, how_many: int) -> list[Page]:
        """The tabs that make the next requests."""
        known = len(self.requests)
        while len(self.requests) < known + how_many:
            self.open_ones[0].wait_for_timeout(20)
        return [page for page, _ in self.requests[known:]]

    def leader(self) -> Page:
        """The one that requests, when they have settled that."""
        return self.next_ones(3)[-1]


@pytest.fixture
def site(settings):
    port = free_port()
    named = {"ktrdr_status_url": f"http://{NAS}:{port}"}
    return settings.model_copy(update={"ktrdr_status_port": port} | named)


@pytest.fixture
def server(site, peers) -> Iterator[contextlib.ExitStack]:  # noqa: ARG001  the app needs them
    """The status app; closing it ends that."""
    with pretended(site.run_dir, "gateway-sim"), contextlib.ExitStack() as stack:
        stack.enter_context(listening(site))
        yield stack


@pytest.fixture
def tabs(browser: Browser, site, server) -> Iterator[Tabs]:  # noqa: ARG001
    """Their address is one in a network at home, where browsers have no locks."""
    context = browser.new_context(base_url=site.ktrdr_status_url)
    context.set_default_timeout(20_000)
    yield Tabs(context)
    context.close()


@pytest.fixture
def lose(peers, connected) -> Callable[[], None]:
    """Changes what the pages show: their titles begin as LOST says."""

    def change() -> None:
        peers.connection = replace(connected, connected=False, state="waiting")

    return change


@pytest.fixture
def found_again(peers, connected) -> Callable[[], None]:
    """Takes back what `lose` changed."""

    def change() -> None:
        peers.connection = connected

    return change


def hide(page: Page, is_hidden: bool = True) -> None:
    """Have the page believe that nobody sees it: Chromium without windows shows all tabs."""
    page.evaluate(
        "isHidden => { Object.defineProperty(document, 'hidden',"
        " { value: isHidden, configurable: true });"
        " document.dispatchEvent(new Event('visibilitychange')); }",
        is_hidden,
    )


def crash(page: Page) -> None:
    with contextlib.suppress(Error):
        page.goto("chrome://crash")


def freeze(page: Page) -> None:
    """As Chromium does it with tabs that nobody sees: no timer, no message."""
    session = page.context.new_cdp_session(page)
    session.send("Debugger.enable")
    session.send("Debugger.pause")


COUNT_FORMATTERS = """() => {
    window.formatters = 0;
    Intl.DateTimeFormat = new Proxy(Intl.DateTimeFormat, {
      construct(made, given) { window.formatters++; return new made(...given); }
    });
}"""


def test_a_renewed_page_makes_no_more_formatters_of_times(tabs, lose, found_again):
    """A browser frees them late: a tab that made them each time grew by megabytes a second."""
    (page,) = tabs.open()
    page.evaluate(COUNT_FORMATTERS)

    def change() -> int:
        lose()
        expect(page).to_have_title(LOST)
        found_again()
        expect(page).not_to_have_title(LOST)
        return page.evaluate("window.formatters")

    first = change()
    assert page.locator("time[datetime]").count() > 0
    assert change() == first


def test_one_tab_requests_for_all(tabs, lose):
    pages = tabs.open(how_many=4)
    assert not pages[0].evaluate("isSecureContext")
    one = tabs.leader()
    assert tabs.next_ones(4) == [one] * 4

    followers = [page for page in pages if page is not one]
    search = followers[0].get_by_role("searchbox")
    search.fill("AA")
    before = len(tabs.requests)
    lose()
    for page in pages:
        expect(page).to_have_title(LOST)
    assert {page for page, _ in tabs.requests[before:]} == {one}
    expect(search).to_be_focused()
    expect(search).to_have_value("AA")


@pytest.mark.parametrize("end", [Page.close, crash, freeze, hide])
def test_another_goes_on_when_it_is_gone(tabs, lose, end):
    pages = tabs.open(how_many=4)
    one = tabs.leader()
    rest = tabs.open_ones = [page for page in pages if page is not one]
    end(one)
    last = tabs.requests[-1][1]
    assert tabs.next_ones(1)[0] in rest
    assert tabs.requests[-1][1] - last < 2 * EVERY_S
    lose()
    for page in rest:
        expect(page).to_have_title(LOST)


def test_all_say_that_nothing_answers_and_all_recover(tabs, server, site):
    pages = tabs.open(how_many=3)
    tabs.leader()
    server.close()
    for page in pages:
        expect(page.locator("#lost")).to_contain_text("does not answer")
        expect(page).to_have_title(re.compile("^no answer"))
    server.enter_context(listening(site))
    for page in pages:
        expect(page.locator("#lost")).to_be_hidden()
        expect(page).not_to_have_title(re.compile("^no answer"))


def test_a_tab_that_is_looked_at_again_shows_at_once_what_the_others_know(tabs, server, lose):
    """Also if nothing answers any more."""
    pages = tabs.open(how_many=3)
    hidden = next(page for page in pages if page is not tabs.leader())
    title = hidden.title()
    hide(hidden)
    lose()
    for page in pages:
        if page is not hidden:
            expect(page).to_have_title(LOST)
    assert hidden.title() == title
    server.close()
    hide(hidden, False)
    expect(hidden.locator(".verdict")).to_contain_text(LOST.pattern[1:])


def test_a_tab_that_was_frozen_joins_the_others_again(tabs, lose, found_again):
    """A browser freezes what nobody sees, and would keep all messages for it."""
    pages = tabs.open(how_many=3)
    one = tabs.leader()
    frozen = next(page for page in pages if page is not one)
    title = frozen.title()
    hide(frozen)
    frozen.evaluate("document.dispatchEvent(new Event('freeze'))")
    lose()
    for page in pages:
        if page is not frozen:
            expect(page).to_have_title(LOST)
    frozen.evaluate("document.dispatchEvent(new Event('resume'))")
    hide(frozen, False)
    expect(frozen).to_have_title(LOST)
    assert len({*tabs.next_ones(3)}) == 1
    found_again()
    for page in pages:
        expect(page).to_have_title(title)


def test_what_is_filtered_otherwise_is_not_shared(tabs, lose):
    (plain,), (filtered,) = tabs.open("/"), tabs.open("/?q=ZZZ")
    assert {*tabs.next_ones(6)} == {plain, filtered}
    lose()
    for page in (plain, filtered):
        expect(page).to_have_title(LOST)
    expect(plain.get_by_role("row", name=re.compile("^AAPL "))).to_be_visible()
    expect(filtered.get_by_text("No series matches.")).to_be_visible()


def test_without_messages_each_tab_requests_for_itself(tabs, lose):
    tabs._context.add_init_script("delete window.BroadcastChannel")
    pages = tabs.open(how_many=2)
    assert {*tabs.next_ones(6)} == {*pages}
    lose()
    for page in pages:
        expect(page).to_have_title(LOST)
