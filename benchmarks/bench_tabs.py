"""What open tabs of one browser cost the status app: one, fifty, and fifty clients on their own.

The tabs are real ones, of one Chromium, and all are visible; the page shows 500 series. The clients
are those of `bench_status_app.py tabs`: each requests what a tab alone does. Prints a table and a
line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field

import psutil
from bench_status_app import open_tabs, status_app
from playwright.sync_api import BrowserContext, Request, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
SETTLE_S = 8


@dataclass
class Cost:
    """What the status app has used in how many seconds, and what it was requested for."""

    seconds: float
    cpu_s: float = 0
    before_mib: float = 0
    after_mib: float = 0
    requests: collections.Counter[str] = field(default_factory=collections.Counter)

    @property
    def share(self) -> float:
        """CPU seconds a second."""
        return self.cpu_s / self.seconds

    @contextlib.contextmanager
    def of(self, process: psutil.Process) -> Iterator[None]:
        """Measure the process while the block lasts."""
        before, self.before_mib = process.cpu_times(), process.memory_info().rss / 2**20
        yield
        after, self.after_mib = process.cpu_times(), process.memory_info().rss / 2**20
        self.cpu_s = after.user + after.system - before.user - before.system


def cost_of_tabs(context: BrowserContext, process: psutil.Process, seconds: float) -> Cost:
    """Of the tabs that are open, when they have settled who requests."""
    cost = Cost(seconds)

    def note(request: Request) -> None:
        cost.requests[request.url.split("/", 3)[3].partition("?")[0]] += 1

    context.pages[0].wait_for_timeout(1000 * SETTLE_S)
    context.on("request", note)
    with cost.of(process):
        context.pages[0].wait_for_timeout(1000 * seconds)
    context.remove_listener("request", note)
    return cost


def measured(how_many: int, seconds: float, least_s: float) -> Iterator[tuple[str, Cost]]:
    """One tab, many tabs, and the one again; then as many clients on their own.

    The many tabs for `seconds`, the others for `least_s`.
    """
    found = next(filter(None, map(shutil.which, NAMES)))
    with status_app() as (port, process):
        asyncio.run(open_tabs(port, how_many, 6))  # everything is imported and rendered once
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
            context = browser.new_context(base_url=f"http://127.0.0.1:{port}")
            open_tab(context)
            yield "1 tab", cost_of_tabs(context, process, least_s)
            for _ in range(how_many - 1):
                open_tab(context)
            yield f"{how_many} tabs", cost_of_tabs(context, process, seconds)
            for page in context.pages[1:]:
                page.close()
            yield "1 tab again", cost_of_tabs(context, process, least_s)
            browser.close()
        cost = Cost(least_s)
        with cost.of(process):
            cost.requests["all"] = asyncio.run(open_tabs(port, how_many, least_s))
        yield f"{how_many} clients", cost


def open_tab(context: BrowserContext) -> None:
    """One more, which has drawn its heat map."""
    page = context.new_page()
    page.goto("/")
    page.locator("#heatmap .spacer canvas").wait_for()


def main() -> None:
    """Measure, and print each as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tabs", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60, help="of all; the target is for 600")
    parser.add_argument("--least-seconds", type=float, default=60, help="of each of the others")
    given = parser.parse_args()
    print("target: CPU of all <= 1.3 x that of one, memory flat")
    print(f"{'':14}{'s':>6}{'CPU ms/s':>10}{'x one':>8}{'MiB':>8}{'then':>8}  requests")
    costs: dict[str, Cost] = {}
    for name, cost in measured(given.tabs, given.seconds, given.least_seconds):
        costs[name] = cost
        memory = f"{cost.before_mib:8.1f}{cost.after_mib:8.1f}"
        requests = ", ".join(f"{count} {path}" for path, count in cost.requests.items())
        times = f"{1000 * cost.share:10.2f}{cost.share / costs['1 tab'].share:8.2f}"
        print(f"{name:14}{cost.seconds:6.0f}{times}{memory}  {requests}", flush=True)
    print(json.dumps({name: vars(cost) for name, cost in costs.items()}))


if __name__ == "__main__":
    main()
