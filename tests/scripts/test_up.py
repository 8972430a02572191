"""What scripts/up does when it is cut short, has no room, or would like a package of the system."""

from __future__ import annotations

import contextlib
import os
import pty
import socket
import subprocess
import sys
import threading

import pytest

AGAIN = "Run ./scripts/up again: it makes .venv anew."


class MuteIndex:
    """Takes calls for packages, and answers none: a set-up that lasts."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/simple"
        self.asked = threading.Event()
        self._callers = []
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                self._callers.append(self._listener.accept()[0])
                self.asked.set()

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        for caller in self._callers:
            caller.close()


@pytest.fixture
def index():
    listening = MuteIndex()
    yield listening
    listening.close()


class Up:
    """scripts/up where nothing is installed but this Python, without socat and uv."""

    def __init__(self, copy):
        self.copy = copy
        (copy.folder / ".venv").unlink()
        path = copy.path_with_tools_only("df", "find", "mount", "unshare")
        (copy.folder / "tools/python3").symlink_to(os.path.realpath(sys.executable))
        self.env = copy.env | {"PATH": path, "PYTHONPATH": "", "PIP_RETRIES": "0"}
        self.env |= {"PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": ""}
        self.venv = copy.folder / ".venv"

    def start(self, *before, **env):
        """Whoever starts it reads its output and ends it."""
        return subprocess.Popen(
            [*before, self.copy.folder / "scripts/up"],
            env=self.env | env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *before, **env):
        with self.start(*before, **env) as process:
            output = process.communicate(timeout=100)[0]
        return process.returncode, output.splitlines()

    def until_it_installs(self, index, process):
        self.copy.until(lambda: index.asked.is_set() or process.poll() is not None, "it installs")
        index.asked.clear()


@pytest.fixture
def up(copy):
    return Up(copy)


@pytest.fixture
def asks(up):
    """`asks(ANSWER)`: what scripts/up says on a terminal, and what it installed of the system.

    It ends soon, as it finds no Python.
    """
    (up.copy.folder / "tools/python3").unlink()
    got = up.copy.folder / "got"
    for name in ("apt-get", "sudo"):
        tool = up.copy.folder / "tools" / name
        tool.write_text(f'#!/bin/sh\necho "{name} $*" >>"{got}"\n')
        tool.chmod(0o755)

    def ask(answer, **env):
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [up.copy.folder / "scripts/up"],
            env={k: v for k, v in up.env.items() if k != "CI"} | env,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        os.write(ours, answer)
        said = b""
        with contextlib.suppress(OSError), process:  # the terminal is gone with the last of them
            while more := os.read(ours, 10_000):
                said += more
        os.close(ours)
        assert b"No Python" in said
        return said.decode(), got.read_text() if got.exists() else ""

    return ask


@pytest.mark.parametrize("answer", [b"\n", b"n\n", b"\x04"])
def test_on_a_terminal_it_asks_once_whether_to_install_socat_and_goes_on_without(asks, answer):
    said, got = asks(answer)
    assert 'apt-get install socat"? [y/N]' in said
    assert "Not installed, and not asked again" in said
    assert got == ""
    said, got = asks(b"")
    assert "socat" not in said
    assert got == ""


def test_with_a_yes_it_installs_socat_as_the_question_says(asks):
    said, got = asks(b"y\n")
    assert got in {"apt-get install socat\n", "sudo apt-get install socat\n"}
    assert f'with "{got.strip()}"? [y/N]' in said


def test_in_ci_it_does_not_ask_on_a_terminal_either(asks):
    said, got = asks(b"y\n", CI="true")
    assert "[y/N]" not in said
    assert got == ""


@pytest.mark.usefixtures("asks")
def test_without_a_terminal_nobody_is_asked_and_nothing_is_installed(up):
    code, output = up.run()
    assert code == 1
    assert output[0].startswith("socat is not installed: the project's own forwarder is used")
    assert not (up.copy.folder / "got").exists()
