"""A copy of the project to start programs in, and a gateway for them that answers in capitals."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import pytest

PROJECT = Path(__file__).resolve().parents[1]
PATIENCE_S = 60
TOOLS = """awk bash cat chmod cksum cp date dirname env grep head id ip lsof mkdir mkfifo mv ps rm
           seq sh sleep ss tail tr uname""".split()


class Copy:
    """The project's scripts and programs in a folder of their own, with settings of their own."""

    def __init__(self, folder):
        self.folder = folder
        self.run_dir = folder / "var/run"
        unwanted = ("IB_", "KTRDR_", "SUPERVISOR_")
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(unwanted)}
        self.env |= {"KTRDR_TEST_COPY": str(folder), "PYTHONPATH": str(folder)}
        for name in ("scripts", "etc", "ktrdr"):
            shutil.copytree(PROJECT / name, folder / name)  # with what is compiled of it
        for name in ("pyproject.toml", "requirements.txt", "requirements-dev.txt"):
            shutil.copy(PROJECT / name, folder)
        (folder / ".venv").symlink_to(sys.prefix)
        self.python = folder / ".venv/bin/python"

    def start(self, *command, **env):
        """A program of the copy, its output to be read. Who starts it ends it."""
        return subprocess.Popen(
            [str(part) for part in command],
            env=self.env | {name: str(value) for name, value in env.items()},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *command, **env):
        """Exit code and output of a program that ends by itself."""
        with self.start(*command, **env) as process:
            output = process.communicate(timeout=100)[0]
        return process.returncode, output

    def processes(self):
        """All that run for this copy: its folder is in their environment."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("KTRDR_TEST_COPY") == str(self.folder):
                    found.append(process)
        return found

    def end_all(self):
        """End also what is only being started."""
        deadline = time.monotonic() + PATIENCE_S
        while left := self.processes():
            assert time.monotonic() < deadline, f"left after {PATIENCE_S} s: {left}"
            for process in left:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            time.sleep(0.02)

    def take_for_installed(self):
        """A .venv of its own, so that scripts/up finds nothing to set up."""
        venv = self.folder / ".venv"
        venv.unlink()
        venv.mkdir()
        for part in ("bin", "lib", "pyvenv.cfg"):
            (venv / part).symlink_to(f"{sys.prefix}/{part}")
        mark = f'. "{self.folder}/scripts/setup" && fingerprint base >"$venv/.base"'
        assert self.run("bash", "-c", mark) == (0, "")

    def path_with_tools_only(self, *more):
        """A PATH that lacks socat, uv and every Python."""
        folder = self.folder / "tools"
        folder.mkdir()
        for tool in [*TOOLS, *more]:
            if found := shutil.which(tool):
                (folder / tool).symlink_to(found)
        return str(folder)

    @staticmethod
    def until(condition, what, timeout_s=PATIENCE_S):
        """Half of the time is left to those that are looked at: a look may start a program."""
        looks = began = time.monotonic()
        while not condition():
            looked = time.monotonic()
            assert looked - began < timeout_s, f"not in {timeout_s} s: {what}"
            time.sleep(max(0.02, looked - looks))
            looks = time.monotonic()

    def until_nothing_is_left(self, timeout_s=PATIENCE_S):
        deadline = time.monotonic() + timeout_s
        while left := self.processes():
            assert time.monotonic() < deadline, f"left after {timeout_s} s: {left}"
            time.sleep(0.02)

    @staticmethod
    def answers(port):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        return False

    @staticmethod
    def is_free(port):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return True
        return False


@pytest.fixture
def copy():
    """In a short path, for the sockets, with a space and an umlaut as in people's folders."""
    top = Path(tempfile.mkdtemp(prefix="kt"))
    project = Copy(top / "mein träder")
    yield project
    project.end_all()
    shutil.rmtree(top)


class Gateway:
    """Listens like a gateway, and answers with what it was sent, in capitals."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._threads = []
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                caller, _ = self._listener.accept()
                thread = threading.Thread(target=self._answer, args=[caller])
                thread.start()
                self._threads.append(thread)

    @staticmethod
    def _answer(caller):
        with caller, contextlib.suppress(OSError):
            while data := caller.recv(65536):
                caller.sendall(data.upper())

    def close(self):
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in [self._accepting, *self._threads]:
            thread.join(PATIENCE_S)


@pytest.fixture
def gateway(copy):
    """Its clients, the copy's programs, end first: its threads wait for them."""
    listening = Gateway()
    yield listening
    copy.end_all()
    listening.close()
