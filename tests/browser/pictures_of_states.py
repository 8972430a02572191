"""Takes pictures of the pages in each state, to be looked at. It is run by its name:

`PICTURES=/tmp/pictures python -m pytest tests/browser/pictures_of_states.py -k disk_full`

A real group is brought into each state, and the pages that show it are pictured on a desk and on a
phone, light and dark. The pictures are not kept in git. It mounts a small disk for the store, so it
must run as root.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import urllib.error
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from flask import Flask
from playwright.sync_api import Browser, Page
from werkzeug.serving import make_server

from ktrdr.config.settings import load_settings
from ktrdr.web import create_app
from tests.browser.conftest import COINS
from tests.test_group_fills_the_store import HEADER
from tests.test_one_verdict import IS_ROOT, OBEYING, ShownGroup, unmount

WIDTHS = {"desk": (1280, 900), "phone": (400, 800)}
SCHEMES = ("light", "dark")
PORTS = ("KTRDR_SIM_PORT", "KTRDR_STATUS_PORT", "KTRDR_FORWARD_PORT")
WAIT_S = 90.0

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(not IS_ROOT, reason="a disk is mounted for it"),
]

State = Callable[["Stage"], Iterator[tuple[str, str]]]
STATES: dict[str, State] = {}
"""Each brings its state about, yields pictures' names and paths, and ends the state."""


def state(function: State) -> State:
    """Enter a state by its function's name."""
    STATES[function.__name__] = function
    return function


class Stage:
    """The group, and what is done to it."""

    def __init__(self, group: ShownGroup) -> None:
        self.group = group

    def until(self, *words: str) -> None:
        """Wait until the verdict, or what is said beside it, has one of these words."""
        deadline = time.monotonic() + WAIT_S
        said = ""
        while time.monotonic() < deadline:
            with contextlib.suppress(urllib.error.URLError):
                said = self.group.fetch("/api/v1/system/system-status")[1]
                if any(word in said for word in words):
                    return
            time.sleep(0.2)
        raise TimeoutError(f"none of {words} in {said}")

    def until_series(self, name: str, *states: str) -> None:
        """Wait until a series is in one of these states."""
        deadline = time.monotonic() + WAIT_S
        path = f"/api/v1/data/coverage?symbol={name.rpartition('_')[0].replace(' ', '%20')}"
        said = ""
        while time.monotonic() < deadline:
            said = self.group.fetch(path)[1]
            if any(f'"state":"{one}"' in said for one in states):
                return
            time.sleep(0.2)
        raise TimeoutError(f"{name} is not {states}: {said[:500]}")

    @contextlib.contextmanager
    def fault(self, name: str, **values: str) -> Iterator[None]:
        """A fault of the simulated gateway."""
        self.group.fault(name, **values)
        try:
            yield
        finally:
            self.group.end_fault(name)

    @contextlib.contextmanager
    def files(self, *names: str, text: str = HEADER) -> Iterator[None]:
        """Series that are there for a time."""
        paths = [self.group.data / f"{name}.csv" for name in names]
        for path in paths:
            path.write_text(text)
        try:
            yield
        finally:
            for path in paths:
                path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def restarted(self, name: str, **settings: str) -> Iterator[None]:
        """A program with other settings."""
        before = self.group._environment
        self.group._environment = before | settings
        self.group.end(name)
        self.group.start(name)
        try:
            yield
        finally:
            self.group._environment = before
            self.group.end(name)
            self.group.start(name)


@state
def complete(stage: Stage) -> Iterator[tuple[str, str]]:
    stage.until("All 4 series are complete")
    for name in ("", "add", "connection", "fills", "programs", "simulator"):
        yield name or "overview", f"/{name}"
    yield "log", "/programs/gap-filler/log"
    yield "series-currency", "/series/EURUSD/1h"
    yield "series-future", "/series/ESZ6/1h"
    yield "add-candidates", "/add?words=AAPL+TWIN+XYZQ+1d"
    yield "404", "/nothing"
    yield "404-series", "/series/NONE/1d"
    yield "405", "/scan"
    yield "problem", "/api/v1/problems/unknown_series"
    yield "notice", "/?notice=scan-requested"
    yield "nothing-found", "/?q=ZZZ"
    yield "no-such-state", "/?state=broken"
    saturday = datetime.now(UTC).date() - timedelta((datetime.now(UTC).weekday() - 5) % 7)
    yield "day-closed", f"/series/EURUSD/1h/{saturday}"


@state
def illiquid(stage: Stage) -> Iterator[tuple[str, str]]:
    with stage.files("ILLIQ_5m"):
        stage.until("1 being filled", "waiting", "5 series")
        stage.until_series("ILLIQ_5m", "complete", "unproven")
        yield "overview", "/"
        yield "series", "/series/ILLIQ/5m"


@state
def filling(stage: Stage) -> Iterator[tuple[str, str]]:
    with stage.files("LTC_1m", "BTC_5m"):
        stage.until("being filled")
        time.sleep(3)
        yield "overview", "/"
        yield "fills", "/fills"
        yield "series", "/series/LTC/1m"


@state
def fill_paused(stage: Stage) -> Iterator[tuple[str, str]]:
    stage.group.command("fill", "ETH", "1h", "--from", "2026-06-01", "--no-wait")
    fill = stage.group.gap_filler.get("/fills")["fills"][0]
    stage.group.gap_filler.post("/fills/pause", id=str(fill["id"]))
    yield "fills", "/fills"
    yield "overview", "/"
    stage.group.command("fill", "--cancel", "ETH", "1h")
    yield "cancelled", "/fills"


@state
def needs_person(stage: Stage) -> Iterator[tuple[str, str]]:
    broken = stage.group.data / "ETH_1h.csv"
    whole = broken.read_text()
    with stage.files("XYZQ_1d", "TWIN_1d", "NOPERM_1d", "BTC_1min"):
        broken.write_text(whole.replace("\n", "\noops\n", 1))
        stage.until("oops")
        stage.until_series("NOPERM_1d", "failed", "refused")
        stage.until_series("TWIN_1d", "failed", "refused")
        yield "overview", "/"
        yield "series-unknown", "/series/XYZQ/1d"
        yield "series-ambiguous", "/series/TWIN/1d"
        yield "series-not-entitled", "/series/NOPERM/1d"
        yield "series-broken", "/series/ETH/1h"
        yield "contracts", "/series/TWIN/1d/contracts"
        broken.write_text(whole)


@state
def red_day(stage: Stage) -> Iterator[tuple[str, str]]:
    day = datetime.fromtimestamp(time.time() - 2 * 86400, UTC).date().isoformat()
    with (
        stage.fault("refused", kind="historical_data", symbol="LTC"),
        stage.files("LTC_1h"),
    ):
        stage.until_series("LTC_1h", "failed")
        yield "overview", "/?state=failed"
        yield "day", f"/series/LTC/1h/{day}"
        yield "series", "/series/LTC/1h"
    yield "green", f"/series/BTC/1h/{day}"


@state
def gateway_lost(stage: Stage) -> Iterator[tuple[str, str]]:
    stage.group.end("gateway-sim", signal.SIGKILL)
    stage.until("not connected", "Not connected")
    yield "overview", "/"
    yield "connection", "/connection"
    yield "add", "/add?words=AAPL+1d"
    yield "simulator", "/simulator"
    stage.group.start("gateway-sim")


@state
def logged_out(stage: Stage) -> Iterator[tuple[str, str]]:
    with stage.fault("logged_out"):
        stage.until("ot connected")
        yield "overview", "/"
        yield "connection", "/connection"
        yield "simulator", "/simulator"


@state
def expected_restart(stage: Stage) -> Iterator[tuple[str, str]]:
    hour = datetime.now().astimezone().strftime("%H:%M")
    with stage.restarted("ib-connection", KTRDR_IB_RESTART_AT=hour):
        stage.until("series are complete")
        with stage.fault("restart"):
            stage.until("expected restart")
            yield "overview", "/"
            yield "connection", "/connection"


@state
def competing(stage: Stage) -> Iterator[tuple[str, str]]:
    with stage.fault("competing_session"), stage.files("LTC_1h"):
        stage.until("competing")
        yield "overview", "/"
        yield "connection", "/connection"


@state
def farm_broken(stage: Stage) -> Iterator[tuple[str, str]]:
    with stage.fault("farm_broken", farm="ushmds"), stage.files("AAPL_1h"):
        stage.until("ushmds")
        yield "overview", "/"
        yield "connection", "/connection"


@state
def upstream_lost(stage: Stage) -> Iterator[tuple[str, str]]:
    with stage.fault("connectivity_lost"), stage.files("LTC_1h"):
        stage.until("no data come")
        yield "overview", "/"
        yield "connection", "/connection"


@state
def half_open(stage: Stage) -> Iterator[tuple[str, str]]:
    with stage.fault("stall"):
        stage.until("answered nothing", "does not respond")
        yield "overview", "/"
        yield "connection", "/connection"


@state
def gap_filler_stopped(stage: Stage) -> Iterator[tuple[str, str]]:
    stage.group.end("gap-filler")
    stage.until("gap-filler is not running")
    for name in ("", "fills", "programs", "series/BTC/1h", "add?words=AAPL+1d"):
        yield name.partition("?")[0].replace("/", "-") or "overview", f"/{name}"
    stage.group.start("gap-filler")


@state
def gap_filler_frozen(stage: Stage) -> Iterator[tuple[str, str]]:
    process = stage.group.running["gap-filler"]
    process.send_signal(signal.SIGSTOP)
    stage.until("does not answer", "not answer", "unresponsive")
    yield "overview", "/"
    yield "programs", "/programs"
    process.send_signal(signal.SIGCONT)


@state
def connection_stopped(stage: Stage) -> Iterator[tuple[str, str]]:
    stage.group.end("ib-connection")
    stage.until("ib-connection is not running")
    for name in ("", "connection", "fills", "programs"):
        yield name or "overview", f"/{name}"
    stage.group.start("ib-connection")


@state
def disk_full(stage: Stage) -> Iterator[tuple[str, str]]:
    ballast = stage.group.data / "ballast"
    with contextlib.suppress(OSError):
        ballast.write_bytes(bytes(2**26))
    stage.until("is full")
    yield "overview", "/"
    yield "fills", "/fills"
    ballast.unlink()


@state
def wrong_clock(stage: Stage) -> Iterator[tuple[str, str]]:
    with stage.fault("wrong_clock", seconds="-3600"):
        stage.until("clock and this machine")
        yield "overview", "/"
        yield "connection", "/connection"


@state
def mixed_sources(stage: Stage) -> Iterator[tuple[str, str]]:
    port = stage.group._environment["KTRDR_SIM_PORT"]
    with stage.restarted("status-app", IB_HOST="127.0.0.1", IB_PORT=port):
        stage.until("Live and simulated")
        yield "overview", "/"


@state
def store_empty(stage: Stage) -> Iterator[tuple[str, str]]:
    kept = stage.group.folder / "kept"
    kept.mkdir()
    files = list(stage.group.data.glob("*.csv"))
    for path in files:
        shutil.move(path, kept)
    stage.until("empty", "no series", "No series")
    yield "overview", "/"
    for path in files:
        shutil.move(kept / path.name, path)
    kept.rmdir()


@state
def many_series(stage: Stage) -> Iterator[tuple[str, str]]:
    names = [f"{a}{b}Q_1d" for a in "ABCDEFGHIJKLMNOPQRSTUVWX" for b in "ABCDEFGHIJKLMNOPQRST"][
        :447
    ]
    with stage.files(*names):
        stage.until("of 451")
        time.sleep(5)
        yield "overview", "/"
        yield "page-2", "/?page=2"
        yield "fills", "/fills"


@state
def alone(stage: Stage) -> Iterator[tuple[str, str]]:
    """The status app of a real gateway, of which nothing else runs, with logs and a mistake."""
    folder = stage.group.folder / "alone"
    folder.mkdir()
    stamp = "2026-11-20T14:30"
    lines = [f"{stamp}:{n:02}.000Z INFO    gap-filler: AAPL_1m: {n} bars" for n in range(10, 40)]
    lines += [f"{stamp}:41.000Z WARNING gap-filler: no data", f"{stamp}:42.000Z ERROR   x: broken"]
    (folder / "gap-filler.log").write_text("\n".join(lines) + "\n")
    given = {"ktrdr_run_dir": folder / "run", "ktrdr_data_dir": folder / "data"}
    settings = load_settings(_env_file=None, ib_host="127.0.0.1", **given)
    app = create_app(settings, log_dir=folder)

    @app.get("/mistake")
    def mistake() -> None:
        raise ZeroDivisionError

    with served(app) as address:
        for name in ("", "connection", "fills", "programs", "programs/gap-filler/log"):
            yield name.replace("/", "-") or "overview", f"{address}/{name}"
        yield "500", f"{address}/mistake"
    shutil.rmtree(folder)


@contextlib.contextmanager
def served(app: Flask) -> Iterator[str]:
    """An app at an address."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@state
def status_app_away(stage: Stage) -> Iterator[tuple[str, str]]:
    yield "overview", "AWAY"
    stage.group.start("status-app")


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """A group with four series, on a disk of its own."""
    folder = Path(tempfile.mkdtemp(prefix="ktrdr-"))
    group = ShownGroup(folder, "--latency-ms", "20", "--bars-per-second", "250")
    group._environment |= {"KTRDR_GAP_CHECK_INTERVAL_S": "2", "KTRDR_GAP_MAX_AGE_DAYS": "15"}
    group._environment |= {name: os.environ[name] for name in PORTS if name in os.environ}
    group.prefix = OBEYING
    group.data.mkdir()
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "none", group.data], check=True)
        stack.callback(unmount, group.data)
        (group.data / "instruments.toml").write_text(COINS)
        for name in ("BTC_1h", "ETH_1h", "EURUSD_1h", "ESZ6_1h"):
            (group.data / f"{name}.csv").write_text(HEADER)
        stack.callback(group.end_all)
        group.start()
        yield Stage(group)


@pytest.mark.parametrize("name", STATES)
def test_the_pages_in_a_state(browser: Browser, stage: Stage, name: str) -> None:
    """Nothing scrolls sideways; the rest is for a person to see."""
    folder = Path(os.environ.get("PICTURES", tempfile.gettempdir()))
    folder.mkdir(parents=True, exist_ok=True)
    stage.until("All 4 series are complete")
    wide: list[str] = []
    for part, path in STATES[name](stage):
        wide += take(browser, stage.group, folder / f"{name}_{part}", path)
    assert wide == []


def take(browser: Browser, group: ShownGroup, stem: Path, path: str) -> list[str]:
    """Picture a page in both widths and both schemes; which of them scroll sideways."""
    found: list[str] = []
    for width, (across, down) in WIDTHS.items():
        for scheme in SCHEMES:
            context = browser.new_context(
                base_url=group.address,
                viewport={"width": across, "height": down},
                color_scheme=scheme,
            )
            page = context.new_page()
            show(page, group, path)
            name = f"{stem.name}_{width}_{scheme}.png"
            page.screenshot(path=stem.with_name(name), full_page=True)
            wide = page.evaluate("document.documentElement.scrollWidth")
            if wide > across:
                found.append(f"{name}: {wide} px wide")
            context.close()
    return found


def show(page: Page, group: ShownGroup, path: str) -> None:
    """Open it, and wait until its canvases are drawn."""
    if path == "AWAY":
        if "status-app" not in group.running:
            group.start("status-app")
            time.sleep(3)
        page.goto("/")
        page.wait_for_timeout(1500)
        group.end("status-app")
        page.locator("#lost").wait_for(state="visible")
        return
    page.goto(path)
    page.wait_for_timeout(1200)
