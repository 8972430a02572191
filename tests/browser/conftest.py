"""Chromium, a real group whose pages it looks at, and peers to play."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
import urllib.error
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    expect,
    sync_playwright,
)

from tests.played_peers import *  # noqa: F403  fixtures
from tests.test_group_fills_the_store import HEADER
from tests.test_one_verdict import GREEN, IS_ROOT, OBEYING, ShownGroup, mount, unmount

NAS = "nas.lan"
NAMES = ("chromium", "chromium-browser", "google-chrome")
COINS = "".join(f'[{name}]\nsec_type = "CRYPTO"\n' for name in ("BTC", "ETH", "LTC"))
expect.set_options(timeout=30_000)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for a file, since its event loop must not be there while other tests run theirs."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("there is no Chromium")
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", f"--host-resolver-rules=MAP {NAS} 127.0.0.1"]
        browser = playwright.chromium.launch(executable_path=found, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def running_group(browser: Browser) -> Iterator[ShownGroup]:  # noqa: ARG001  none without
    """A store of BTC and ETH by the hour, on a disk of its own where we may mount one."""
    folder = Path(tempfile.mkdtemp(prefix="ktrdr-"))
    group = ShownGroup(folder, "--latency-ms", "20", "--bars-per-second", "200")
    group._environment |= {"KTRDR_GAP_CHECK_INTERVAL_S": "2", "KTRDR_GAP_MAX_AGE_DAYS": "5"}
    group.data.mkdir()
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        if IS_ROOT:
            group.prefix = OBEYING
            mount(group.data)
            stack.callback(unmount, group.data)
        (group.data / "instruments.toml").write_text(COINS)
        for name in ("BTC_1h", "ETH_1h"):
            (group.data / f"{name}.csv").write_text(HEADER)
        stack.callback(group.end_all)
        group.start()
        yield group


@pytest.fixture
def group(running_group: ShownGroup) -> ShownGroup:
    """The group while all is well; each test leaves it so."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(urllib.error.URLError):
            if running_group.verdict()["health"] == GREEN:
                return running_group
        time.sleep(0.2)
    raise AssertionError(running_group.verdict()["summary"])


@pytest.fixture
def open_page(browser: Browser, group: ShownGroup) -> Iterator[Callable[..., Page]]:
    """Opens a tab; fails in the end if one of them has put a message into the console."""
    contexts: list[BrowserContext] = []
    messages: list[str] = []

    def note(message: ConsoleMessage) -> None:
        """Failed requests are expected while a program is away, and so is one blocked style."""
        is_failed_request = "Failed to load" in message.text or "Failed to fetch" in message.text
        is_of_charts = "lightweight-charts" in message.location["url"]
        if message.type in ("error", "warning") and not (is_failed_request or is_of_charts):
            messages.append(f"{message.location['url']}: {message.text}")

    def open_it(path: str = "/", **options: object) -> Page:
        context = browser.new_context(base_url=group.address, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.on("console", note)
        page.goto(path)
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert messages == []
