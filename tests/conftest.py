"""What tests of more than one part need: a scratch folder, settings, a store."""

from __future__ import annotations

import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from ktrdr.config.settings import Settings, load_settings

settings.register_profile("ktrdr", deadline=None)  # how long something takes depends on the machine
settings.load_profile("ktrdr")

HEADER = "timestamp,open,high,low,close,volume\n"


def pytest_configure() -> None:
    """Let what is started heed Ctrl-C, also where the suite runs in a shell's background.

    Shells have their background jobs ignore it, and whoever ignores a signal hands that on.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser) -> None:
    parser.addoption(
        "--sequences",
        type=int,
        default=8,
        help="How many random sequences of faults to try.",
    )
    parser.addoption(
        "--kills",
        type=int,
        default=15,
        help="How many writers of bar files to kill.",
    )
    parser.addoption(
        "--lies",
        type=int,
        default=40,
        help="How many false answers of the gateway to go through.",
    )


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder with a short path, as Unix sockets need."""
    folder = Path(tempfile.mkdtemp(prefix="ktrdr-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def data_dir(scratch) -> Path:
    folder = scratch / "data"
    folder.mkdir()
    return folder


@pytest.fixture
def bare_environment(monkeypatch) -> None:
    """No variable of ours is set."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def make_settings(scratch, data_dir, bare_environment) -> Callable[..., Settings]:  # noqa: ARG001
    """Settings of a scratch group, whatever the environment says."""

    def make(**given: object) -> Settings:
        defaults = {
            "ktrdr_run_dir": scratch / "run",
            "ktrdr_data_dir": data_dir,
            "ktrdr_ib_retry_delays_s": (0.05, 0.1),
            "_env_file": None,
        }
        return load_settings(**(defaults | given))

    return make


def wait_for(what: Callable[[], object], timeout_s: float = 20.0) -> object:
    """What `what` answers as soon as it is true; fails when that takes too long."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = what()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"nothing within {timeout_s:g} s, last {found!r}")
        time.sleep(0.02)


@pytest.fixture(name="wait_for")
def _wait_for() -> Callable[..., object]:
    return wait_for
