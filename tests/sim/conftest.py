"""Fixtures: a real client of the API, connected to a gateway that runs on this loop."""

import asyncio
import importlib
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from filelock import FileLock

from ktrdr.sim.gateway.server import SimulatedGateway
from tests.sim.streaming import SetClock, Watched

MONDAY = datetime(2026, 11, 23, 15, 30, 25, tzinfo=UTC)  # 10:30:25 in New York
REPOSITORY = Path(__file__).resolve().parents[2]
SHARED_DATA = REPOSITORY.parent / "shared" / "data"
CLIENTS = Path(__file__).parent / "clients"


def import_client():
    """ib_insync, whose eventkit needs a loop at its import; Python 3.14 creates none by itself."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        return importlib.import_module("ib_insync")
    finally:
        asyncio.set_event_loop(None)
        loop.close()


IB = import_client().IB


@pytest.fixture(scope="session")
def monday():
    return MONDAY


@pytest.fixture
def shared_data():
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real market data: {SHARED_DATA} is absent")
    return SHARED_DATA


@pytest.fixture
def with_client():
    """`with_client(work, **options)`: the result of `await work(client, gateway)`, on one loop."""

    async def run(work, *, now=MONDAY, client_id=1, **options):
        async with SimulatedGateway(now=lambda: now, **options) as gateway:
            client = IB()
            client.RaiseRequestErrors = True
            await client.connectAsync("127.0.0.1", gateway.port, clientId=client_id)
            try:
                return await work(client, gateway)
            finally:
                client.disconnect()

    return lambda work, **options: asyncio.run(run(work, **options))


@pytest.fixture
def with_clock():
    """`with_clock(work, now)`: what `await work(client, gateway, clock)` returns."""

    async def run(work, now, options):
        clock = SetClock(now)
        async with SimulatedGateway(now=clock, **options) as gateway:
            client = IB()
            client.RaiseRequestErrors = True
            await client.connectAsync("127.0.0.1", gateway.port, clientId=1)
            try:
                return await work(client, gateway, clock)
            finally:
                client.disconnect()

    return lambda work, now=MONDAY, **options: asyncio.run(run(work, now, options))


@pytest.fixture
def watched(with_clock):
    """`watched(work)`: what `await work(watched, gateway)` returns."""

    def run(work, **options):
        async def begin(client, gateway, clock):
            return await work(await Watched(client, gateway, clock).open(), gateway)

        return with_clock(begin, MONDAY, **options)

    return run


@pytest.fixture
def bars(with_client):
    """`bars(contract, end, duration, size)`: historical bars as a real client gets them."""

    def get(contract, end, duration, size, what=None, rth=True, fmt=2, **options):
        usual = {"CASH": "MIDPOINT", "CRYPTO": "AGGTRADES"}.get(contract.secType, "TRADES")

        async def work(client, _):
            return await client.reqHistoricalDataAsync(
                contract, end, duration, size, what or usual, rth, fmt
            )

        return list(with_client(work, **options))

    return get


@pytest.fixture(scope="session")
def python_with():
    """`python_with("ibapi")`: an interpreter in which that client of the API is installed.

    ib_insync is a dependency of ours; the others want packages that do not go together with it,
    so each gets an environment of its own below `.venv-clients`, made once, from hashed names.
    """

    def python(client):
        if client == "ib_insync":
            return Path(sys.executable)
        requirements = CLIENTS / f"requirements-{client}.txt"
        wanted = f"{sys.version}\n{requirements.read_text()}"
        folder = REPOSITORY / ".venv-clients" / client
        folder.parent.mkdir(exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            made_of = folder / "made-of.txt"
            if not (made_of.exists() and made_of.read_text() == wanted):
                make_environment(folder, requirements)
                made_of.write_text(wanted)
        return folder / "bin" / "python"

    return python


def make_environment(folder, requirements):
    """With uv where it is, else with pip. Skips the test when the packages cannot be had."""
    shutil.rmtree(folder, ignore_errors=True)
    python = folder / "bin" / "python"
    if shutil.which("uv"):
        make = ["uv", "venv", "--quiet", "--python", sys.executable, folder]
        install = ["uv", "pip", "install", "--quiet", "--python", python]
    else:
        make = [sys.executable, "-m", "venv", folder]
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run(make, check=True)
    install += ["--require-hashes", "--requirement", requirements]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"{requirements.name} cannot be installed: {done.stderr.strip()[-300:]}")
