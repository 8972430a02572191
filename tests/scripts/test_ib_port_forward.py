"""The port-forward program, with socat and with the forwarder that stands in for it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
from pathlib import Path

import psutil
import pytest
from dotenv import dotenv_values

from tests.ports import free_port

MISCONFIGURED = 78
SCRIPT = "scripts/ib_port_forward.sh"


class Forward:
    """The script with a port of its own, and ways to start it."""

    def __init__(self, copy, path):
        self.copy = copy
        self.port = free_port()
        self.script = copy.folder / SCRIPT
        self.env = {"PATH": path, "KTRDR_FORWARD_PORT": self.port}
        self.env["KTRDR_FORWARD_BIND"] = "127.0.0.1"

    @contextlib.contextmanager
    def started(self, gateway, *command, **env):
        """The running script; killed when the test does not end it."""
        target = f"127.0.0.1:{gateway.port}"
        env = self.env | {"KTRDR_FORWARD_TARGET": target} | env
        with self.copy.start(*command, self.script, **env) as process:
            try:
                yield process
            finally:
                process.kill()

    def until_it_listens(self):
        self.copy.until(lambda: self.copy.answers(self.port), "it listens")

    def call(self):
        return socket.create_connection(("127.0.0.1", self.port), 10)

    def ask(self, text):
        with self.call() as call:
            return told(call, text)


def told(call, text):
    call.sendall(text)
    answer = b""
    while len(answer) < len(text):
        more = call.recv(65536)
        assert more, "hung up"
        answer += more
    return answer


def needs_socat():
    if shutil.which("socat") is None:
        pytest.skip("socat is not installed")


@pytest.fixture(params=["socat", "our own forwarder"])
def forward(request, copy):
    if request.param == "socat":
        needs_socat()
        return Forward(copy, os.environ["PATH"])
    return Forward(copy, copy.path_with_tools_only())


def test_it_passes_bytes_both_ways(forward, gateway):
    with forward.started(gateway):
        forward.until_it_listens()
        assert forward.ask(b"hello") == b"HELLO"
        assert forward.ask(b"bars" * 10_000) == b"BARS" * 10_000


def test_it_serves_several_callers_at_a_time(forward, gateway):
    with forward.started(gateway), contextlib.ExitStack() as open_calls:
        forward.until_it_listens()
        calls = [open_calls.enter_context(forward.call()) for _ in range(5)]
        for number, call in enumerate(calls):
            call.sendall(b"call %d" % number)
        assert [call.recv(99) for call in calls] == [b"CALL %d" % n for n in range(5)]


def test_its_pid_file_names_it(forward, gateway):
    with forward.started(gateway) as process:
        forward.until_it_listens()
        assert int((forward.copy.run_dir / "port-forward.pid").read_text()) == process.pid


def test_sigterm_leaves_nothing_though_a_call_is_open(forward, gateway):
    with forward.started(gateway) as process:
        forward.until_it_listens()
        with forward.call() as call:
            assert told(call, b"hello") == b"HELLO"
            process.terminate()
            assert process.wait(10) == 0
            forward.copy.until_nothing_is_left(10)
        assert forward.copy.is_free(forward.port)
        assert not (forward.copy.run_dir / "port-forward.pid").exists()


def test_sigterm_is_heard_though_the_line_about_it_takes_a_while(copy, gateway):
    """bash gives a trap up that outlasts the `read` in which it was called."""
    needs_socat()
    tools = copy.path_with_tools_only("socat")
    date = Path(tools) / "date"
    date.unlink()
    date.write_text(f'#!/bin/sh\nsleep 1.2\nexec {shutil.which("date")} "$@"\n')
    date.chmod(0o755)
    forward = Forward(copy, tools)
    with forward.started(gateway) as process:
        forward.until_it_listens()
        process.terminate()
        assert process.wait(10) == 0


def test_told_to_stop_beside_socat_it_ends_well(copy, gateway):
    """As when the machine is shut down, which tells every process."""
    needs_socat()
    forward = Forward(copy, os.environ["PATH"])
    with forward.started(gateway) as process:
        forward.until_it_listens()
        socat = next(p for p in copy.processes() if p.name() == "socat")
        process.send_signal(signal.SIGSTOP)
        process.terminate()
        socat.terminate()
        process.send_signal(signal.SIGCONT)
        output = process.communicate(timeout=10)[0]
    assert process.returncode == 0
    assert "told to stop" in output


def test_sigkill_leaves_nothing_on_the_port(forward, gateway):
    with forward.started(gateway) as process:
        forward.until_it_listens()
        with forward.call() as call:
            assert told(call, b"hello") == b"HELLO"
            process.kill()
            process.wait()
            forward.copy.until_nothing_is_left(10)
    with forward.started(gateway):
        forward.until_it_listens()
        assert forward.ask(b"again") == b"AGAIN"


def test_it_ends_when_supervisord_is_killed(forward, gateway):
    """A shell plays supervisord: the end of the parent is what counts."""
    command = ["bash", "-c", '"$0"; true']
    with forward.started(gateway, *command, SUPERVISOR_ENABLED="1") as parent:
        forward.until_it_listens()
        parent.kill()
        parent.wait()
        forward.copy.until_nothing_is_left(10)
        assert forward.copy.is_free(forward.port)


def test_a_taken_port_is_named_with_its_holder(forward, gateway):
    with (
        socket.create_server(("127.0.0.1", forward.port)),
        forward.started(gateway) as process,
    ):
        output = process.communicate(timeout=20)[0]
        assert process.returncode == 1
    assert f"port {forward.port} " in output
    assert "taken" in output
    assert str(os.getpid()) in output
    assert "KTRDR_FORWARD_PORT" in output


def test_a_second_one_is_refused(forward, gateway):
    with forward.started(gateway) as first:
        forward.until_it_listens()
        with forward.started(gateway) as second:
            output = second.communicate(timeout=20)[0]
            assert second.returncode == MISCONFIGURED
        assert f"(pid {first.pid})" in output
        assert forward.ask(b"hello") == b"HELLO"


def test_a_gateway_that_is_down_ends_the_call_and_nothing_else(forward, gateway):
    nobody = f"127.0.0.1:{free_port()}"
    with forward.started(gateway, KTRDR_FORWARD_TARGET=nobody) as process:
        forward.until_it_listens()
        with forward.call() as call:
            assert call.recv(1) == b""
        assert process.poll() is None


def test_our_own_forwarder_refuses_a_33rd_caller_at_once(copy, gateway):
    forward = Forward(copy, copy.path_with_tools_only())
    with forward.started(gateway), contextlib.ExitStack() as open_calls:
        forward.until_it_listens()
        for _ in range(32):
            assert told(open_calls.enter_context(forward.call()), b"hello") == b"HELLO"
        with forward.call() as one_too_many:
            assert one_too_many.recv(1) == b""


def test_a_predecessors_socat_is_found_and_ended(copy, gateway):
    """The script and its guard were killed: nobody is left to end socat but the next one."""
    needs_socat()
    forward = Forward(copy, os.environ["PATH"])
    with forward.started(gateway) as process:
        forward.until_it_listens()
        script = psutil.Process(process.pid)
        children = []

        def are_two():
            children[:] = script.children(recursive=True)
            names = [child.name() for child in children]
            return group.exists() and len(names) == 2 and names.count("socat") == 1

        group = copy.run_dir / "port-forward.group"
        copy.until(are_two, "the probe's call is over")
        socat, guard = sorted(children, key=lambda child: child.name() != "socat")
        guard.kill()
        process.kill()
        process.wait()
        assert socat.is_running()
    with forward.started(gateway):
        copy.until(lambda: socat not in copy.processes(), "the old one is ended")
        forward.until_it_listens()
        assert forward.ask(b"hello") == b"HELLO"


def test_a_stranger_with_a_noted_process_group_is_left_alone(copy, gateway):
    needs_socat()
    forward = Forward(copy, os.environ["PATH"])
    copy.run_dir.parent.mkdir()
    copy.run_dir.mkdir(0o700)
    with copy.start("sleep", "60") as stranger:
        group = os.getpgid(stranger.pid)
        (copy.run_dir / "port-forward.group").write_text(f"{group}\n")
        (copy.run_dir / "port-forward.pid").write_text(f"{stranger.pid}\n")
        with forward.started(gateway):
            forward.until_it_listens()
            assert psutil.pid_exists(stranger.pid)
            assert stranger.poll() is None
        stranger.kill()


# --- wrong settings ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("KTRDR_FORWARD_PORT", "70000", "a port from 1 to 65535"),
        ("KTRDR_FORWARD_PORT", "4003,reuseport", "a port from 1 to 65535"),
        ("KTRDR_FORWARD_PORT", "$(id)", "a port from 1 to 65535"),
        ("KTRDR_FORWARD_TARGET", "127.0.0.1", "HOST:PORT"),
        ("KTRDR_FORWARD_TARGET", "127.0.0.1:0", "HOST:PORT"),
        ("KTRDR_FORWARD_TARGET", "a b:1", "HOST:PORT"),
        ("KTRDR_FORWARD_TARGET", "h,fork:1", "HOST:PORT"),
        ("KTRDR_FORWARD_BIND", "everywhere", "an IPv4 address"),
        ("KTRDR_FORWARD_BIND", "127.0.0.256", "an IPv4 address"),
        ("IB_PORT", "none", "a port from 1 to 65535"),
        ("IB_HOST", "x;y", "a host name or address"),
    ],
)
def test_a_wrong_value_is_one_line(copy, name, value, expected):
    code, output = copy.run(copy.folder / SCRIPT, **{name: value})
    assert code == MISCONFIGURED
    assert output.count("\n") == 1
    assert f"{name}={value}: expected {expected}" in output


def test_it_does_not_call_itself(copy):
    env = {"KTRDR_FORWARD_PORT": "4999", "KTRDR_FORWARD_TARGET": "localhost:4999"}
    code, output = copy.run(copy.folder / SCRIPT, **env)
    assert code == MISCONFIGURED
    assert "another port than that of the gateway" in output


def test_without_a_venv_it_says_what_to_do(copy):
    (copy.folder / ".venv").unlink()
    env = {"PATH": copy.path_with_tools_only("socat"), "KTRDR_FORWARD_PORT": free_port()}
    code, output = copy.run(copy.folder / SCRIPT, **env)
    assert code == 1
    assert output.count("\n") == 1
    assert "./scripts/up" in output


@pytest.mark.parametrize("word", ["--help", "-h", "4003", ""])
def test_a_word_behind_it_starts_nothing(copy, word):
    code, output = copy.run(copy.folder / SCRIPT, word, KTRDR_FORWARD_PORT=free_port())
    assert code == 64
    assert output.startswith("usage: ./scripts/ib_port_forward.sh")
    assert not copy.run_dir.exists()


def test_an_unknown_setting_is_one_line(copy):
    code, output = copy.run(copy.folder / SCRIPT, KTRDR_FORWARD_PROT="4003")
    assert code == MISCONFIGURED
    assert output.count("\n") == 1
    assert "did you mean KTRDR_FORWARD_PORT?" in output


# --- files of others -----------------------------------------------------------------------------


def test_a_run_folder_of_others_is_refused_and_left_alone(forward, gateway):
    forward.copy.run_dir.mkdir(0o755, parents=True)
    with forward.started(gateway) as process:
        output = process.communicate(timeout=20)[0]
    assert process.returncode == MISCONFIGURED
    assert output.count("\n") == 1
    assert f"KTRDR_RUN_DIR={forward.copy.run_dir}: expected a folder of its own" in output
    assert not list(forward.copy.run_dir.iterdir())


def test_nothing_is_written_through_a_link(forward, gateway):
    run_dir = forward.copy.run_dir
    run_dir.mkdir(0o700, parents=True)
    victim = forward.copy.folder / "victim"
    victim.write_text("precious")
    for name in ("port-forward.pid", "port-forward.group"):
        (run_dir / name).symlink_to(victim)
    with forward.started(gateway) as process:
        forward.until_it_listens()
        assert victim.read_text() == "precious"
        assert int((run_dir / "port-forward.pid").read_text()) == process.pid
        process.terminate()
        assert process.wait(10) == 0
    assert victim.read_text() == "precious"


# --- where it goes, told by a socat that only repeats what it is to do ---------------------------


def what_socat_is_told(copy, **env):
    fake = copy.folder / "fake"
    fake.mkdir(exist_ok=True)
    (fake / "socat").write_text('#!/bin/sh\n[ "$1" = -hh ] || printf "told %s\\n" "$@"\n')
    (fake / "socat").chmod(0o755)
    _, output = copy.run(copy.folder / SCRIPT, PATH=f"{fake}:{os.environ['PATH']}", **env)
    return [line.removeprefix("told ") for line in output.splitlines() if line.startswith("told ")]


def target(copy, **env):
    return what_socat_is_told(copy, **env)[-1].split(",")[0]


def test_by_hand_it_goes_to_ib_gateway_on_this_machine(copy):
    assert target(copy) == "TCP:127.0.0.1:4002"
    assert target(copy, IB_PORT="7497") == "TCP:127.0.0.1:7497"


def test_in_a_simulated_group_it_goes_to_the_simulator(copy):
    assert target(copy, SUPERVISOR_ENABLED="1") == "TCP:127.0.0.1:4102"
    assert target(copy, KTRDR_SIM_PORT="4555") == "TCP:127.0.0.1:4555"


def test_it_goes_to_the_configured_gateway(copy):
    assert target(copy, IB_HOST="gw.example", IB_PORT="4001") == "TCP:gw.example:4001"
    assert target(copy, IB_HOST="0::1") == "TCP:[0::1]:4002"
    assert target(copy, KTRDR_FORWARD_TARGET="[::1]:4001") == "TCP:[::1]:4001"
    elsewhere = {"IB_HOST": "gw.example", "KTRDR_FORWARD_TARGET": "other:4444"}
    assert target(copy, **elsewhere) == "TCP:other:4444"


def test_an_address_that_others_reach_takes_calls_from_docker_only(copy):
    wide = what_socat_is_told(copy, KTRDR_FORWARD_BIND="0.0.0.0")
    local = what_socat_is_told(copy, KTRDR_FORWARD_BIND="127.0.0.1")
    assert any("range=172.16.0.0/12" in part for part in wide)
    assert not any("range=" in part for part in local)


def test_silence_is_borne_and_a_vanished_peer_is_not(copy):
    parts = what_socat_is_told(copy)
    assert "-T" not in parts
    assert all("keepalive" in part for part in parts if part.startswith("TCP"))
    assert any("max-children=32" in part for part in parts)


ENV_FILES = {
    "plain": "KTRDR_FORWARD_TARGET=host:1",
    "exported": "export KTRDR_FORWARD_TARGET=host:2",
    "spaced": "  KTRDR_FORWARD_TARGET = host:3  ",
    "double quotes": 'KTRDR_FORWARD_TARGET="host:4"',
    "single quotes": "KTRDR_FORWARD_TARGET='host:5' # that one",
    "a comment behind": "KTRDR_FORWARD_TARGET=host:6 # that one",
    "commented out": "KTRDR_FORWARD_TARGET=host:7\n#KTRDR_FORWARD_TARGET=other:7",
    "the last one counts": "KTRDR_FORWARD_TARGET=other:8\nKTRDR_FORWARD_TARGET=host:8",
    "a longer name": "KTRDR_FORWARD_TARGET=host:9\nOLD_KTRDR_FORWARD_TARGET=other:9",
    "lines as Windows ends them": "KTRDR_FORWARD_TARGET=host:10\r\nIB_PORT=4001\r\n",
    "another variable": "GW=host\nKTRDR_FORWARD_TARGET=${GW}:11",
    "a default": "KTRDR_FORWARD_TARGET=${NOWHERE:-host}:12",
}


@pytest.mark.parametrize("text", ENV_FILES.values(), ids=ENV_FILES.keys())
def test_it_reads_env_files_as_the_other_programs_do(copy, text):
    file = copy.folder / ".env"
    file.write_bytes(text.encode())
    expected = dotenv_values(file)["KTRDR_FORWARD_TARGET"]
    assert expected.startswith("host:")
    assert target(copy) == f"TCP:{expected}"


def test_the_environment_wins_over_the_env_file(copy):
    (copy.folder / ".env").write_text("KTRDR_FORWARD_TARGET=file:1\n")
    assert target(copy, KTRDR_FORWARD_TARGET="given:2") == "TCP:given:2"
    assert target(copy, KTRDR_FORWARD_TARGET="") == "TCP:file:1"


def test_the_env_file_is_not_executed(copy):
    trap = Path(copy.folder, "executed")
    (copy.folder / ".env").write_text(
        f'touch "{trap}"\nIB_PORT=$(touch "{trap}")\nIB_HOST=`touch "{trap}"`\n'
    )
    code, _ = copy.run(copy.folder / SCRIPT)
    assert code == MISCONFIGURED
    assert not trap.exists()
