"""What scripts/up does when it is cut short, has no room, or would like a package of the system."""

from __future__ import annotations

import contextlib
import os
import pty
import shutil
import signal
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
        self.requested = threading.Event()
        self._callers = []
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                self._callers.append(self._listener.accept()[0])
                self.requested.set()

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
        self.copy.until(
            lambda: index.requested.is_set() or process.poll() is not None, "it installs"
        )
        index.requested.clear()


@pytest.fixture
def up(copy):
    return Up(copy)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_it_ends_at_once_with_a_line_and_the_next_one_makes_it_anew(
    up, index, number, code
):
    with up.start(PIP_INDEX_URL=index.url) as process:
        up.until_it_installs(index, process)
        process.send_signal(number)
        output = process.communicate(timeout=20)[0]
    assert process.returncode == code
    assert output.splitlines()[-1] == f"Interrupted. {AGAIN}"
    up.copy.until_nothing_is_left(5)

    (up.venv / "half").touch()
    with up.start(PIP_INDEX_URL=index.url) as process:
        up.until_it_installs(index, process)
        process.terminate()
        output = process.communicate(timeout=20)[0]
    assert "The last set-up was interrupted: making .venv again.\n" in output
    assert not (up.venv / "half").exists()


STEPS = {
    "a folder is there": lambda venv: venv.exists(),
    "a Python is in it": lambda venv: (venv / "bin/python").exists(),
    "pip is being put into it": lambda venv: [*venv.glob("lib/*/site-packages/pip")],
}


@pytest.mark.parametrize("step", [*STEPS, "pip asks for packages"])
def test_killed_at_any_step_the_next_one_makes_it_anew(up, index, step):
    with up.start(PIP_INDEX_URL=index.url) as process:
        if step in STEPS:
            up.copy.until(lambda: STEPS[step](up.venv), step)
        else:
            up.until_it_installs(index, process)
        up.copy.end_all()
    half = up.venv / "half"
    half.touch()
    with up.start(PIP_INDEX_URL=index.url) as process:
        up.copy.until(lambda: not half.exists() or process.poll() is not None, "it begins anew")
        up.copy.end_all()
        output = process.communicate(timeout=20)[0]
    assert "The last set-up was interrupted: making .venv again.\n" in output
    assert not half.exists()


@pytest.fixture
def full():
    """`full(FOLDER, KIB)`: what to write before a command, so that FOLDER is a disk that small."""

    def with_disk(folder, kib):
        folder.mkdir(exist_ok=True)
        mount = f'mount -t tmpfs -o size={kib}k none "$0" && exec "$@"'
        before = ["unshare", "--mount", "sh", "-c", mount, str(folder)]
        tried = subprocess.run([*before, "true"], capture_output=True, text=True, check=False)
        if tried.returncode:
            pytest.skip(f"no file system may be mounted: {tried.stderr.strip()}")
        return [shutil.which("unshare"), *before[1:]]

    return with_disk


@pytest.mark.parametrize("what", [".venv", "TMPDIR"])
@pytest.mark.parametrize("kib", [4, 6000])
def test_without_room_it_says_where_and_the_next_one_makes_it_anew(up, index, full, what, kib):
    folder = up.venv if what == ".venv" else up.copy.folder / "scratch"
    code, output = up.run(
        *full(folder, kib), TMPDIR=str(folder), PIP_INDEX_URL="http://127.0.0.1:9"
    )
    assert code == 1
    assert output[-1].startswith("Only ")
    assert output[-1].endswith(
        f" MB are free on the disk of {folder}: make room (.venv takes about 250 MB), then run "
        "./scripts/up again."
    )
    assert not [line for line in output if "Traceback" in line]
    with up.start(PIP_INDEX_URL=index.url) as process:
        up.until_it_installs(index, process)
        process.terminate()
        output = process.communicate(timeout=20)[0]
    assert output.endswith(f"Interrupted. {AGAIN}\n")


def test_where_there_is_room_a_failure_is_no_matter_of_room(up):
    code, output = up.run(PIP_INDEX_URL="http://127.0.0.1:9")
    assert code == 1
    assert output[-1] == (
        "The packages could not be installed: see above. If this machine was offline, connect it; "
        "then run this script again."
    )


def test_a_pip_that_installs_for_its_user_asks_for_packages_all_the_same(up):
    output = up.run(PIP_USER="1", PIP_INDEX_URL="http://127.0.0.1:9")[1]
    assert "No matching distribution found" in "\n".join(output)  # none is there: it has looked


UV = """#!/bin/sh
case "$1" in
venv) exec python3 -m venv --without-pip "$6" ;;
esac
"""
"""One that installs elsewhere, as `UV_TARGET` or `target` in pip.conf has it, and is content."""


def test_packages_that_went_elsewhere_are_no_set_up(up):
    uv = up.copy.folder / "tools/uv"
    uv.write_text(UV)
    uv.chmod(0o755)
    for _ in range(2):
        code, output = up.run()
        assert code == 1
        assert "has no packages: a setting of pip's or uv's puts them elsewhere" in output[-1]
        assert (up.venv / ".unfinished").exists()


def test_nothing_is_downloaded_once_it_is_set_up(copy):
    """The real group gets ready in a network that has nothing but a loopback."""
    alone = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    tried = subprocess.run([*alone, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"no network may be made (root may): {tried.stderr.strip()}")
    copy.take_for_installed()
    reach = "import socket; socket.create_connection(('192.0.2.1', 80), 5)"
    assert "Network is unreachable" in copy.run(*alone, copy.python, "-c", reach)[1]
    code, output = copy.run(*alone, copy.folder / "scripts/up")
    assert code == 0, output
    assert "Ready. The status page:" in output
    code, output = copy.run(copy.folder / "scripts/down")
    assert (code, output.splitlines()[-1]) == (0, "Stopped. Nothing of it is left running.")


# --- socat --------------------------------------------------------------------------------------


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
