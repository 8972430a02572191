"""The port-forward program, with socat and with the forwarder that stands in for it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import threading
from pathlib import Path
from types import SimpleNamespace

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

    def report(self):
        return json.loads((self.copy.run_dir / "port-forward.json").read_text())

    def until_none_is_open(self):
        """The connection that checked whether it listens is over, too, and counted."""

        def is_quiet():
            with contextlib.suppress(FileNotFoundError):
                report = self.report()
                return report["open_calls"] == 0 and report["calls"] + sum(
                    report["refused"].values()
                )
            return False

        self.copy.until(is_quiet, "no connection is open")

    def is_requested(self, text):
        with contextlib.suppress(OSError, AssertionError):
            return self.ask(text) == text.upper()
        return False

    def check(self, gateway):
        target = f"127.0.0.1:{gateway.port}"
        return self.copy.run(self.script, "--check", **self.env, KTRDR_FORWARD_TARGET=target)

    def ask(self, text):
        with self.call() as call:
            return received(call, text)


def received(call, text):
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


@pytest.fixture(params=["socat", "our own copying"])
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


def test_it_serves_several_clients_at_a_time(forward, gateway):
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


def test_sigterm_leaves_nothing_though_a_connection_is_open(forward, gateway):
    with forward.started(gateway) as process:
        forward.until_it_listens()
        with forward.call() as call:
            assert received(call, b"hello") == b"HELLO"
            process.terminate()
            assert process.wait(10) == 0
            forward.copy.until_nothing_is_left(10)
        assert forward.copy.is_free(forward.port)
        assert not (forward.copy.run_dir / "port-forward.pid").exists()


def test_sigkill_leaves_nothing_on_the_port(forward, gateway):
    with forward.started(gateway) as process:
        forward.until_it_listens()
        with forward.call() as call:
            assert received(call, b"hello") == b"HELLO"
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


def test_a_gateway_that_is_down_ends_the_connection_and_nothing_else(forward, gateway):
    nobody = f"127.0.0.1:{free_port()}"
    with forward.started(gateway, KTRDR_FORWARD_TARGET=nobody) as process:
        forward.until_it_listens()
        with forward.call() as call:
            assert call.recv(1) == b""
        assert process.poll() is None


def test_a_33rd_connection_of_one_client_is_closed_at_once(forward, gateway):
    with forward.started(gateway) as process, contextlib.ExitStack() as open_calls:
        forward.until_it_listens()
        forward.until_none_is_open()
        for _ in range(32):
            assert received(open_calls.enter_context(forward.call()), b"hello") == b"HELLO"
        with forward.call() as one_too_many:
            assert one_too_many.recv(1) == b""
        process.terminate()
        assert "it has 32 open, the limit for one client" in process.communicate(timeout=20)[0]


def test_a_connection_too_many_is_not_reset_though_it_has_sent_something(forward, gateway):
    with forward.started(gateway), contextlib.ExitStack() as open_calls:
        forward.until_it_listens()
        forward.until_none_is_open()
        for _ in range(32):
            assert received(open_calls.enter_context(forward.call()), b"hello") == b"HELLO"
        for _ in range(50):
            with forward.call() as one_too_many:
                one_too_many.sendall(b"hello")
                assert one_too_many.recv(1) == b""


def test_a_gateway_that_is_down_resets_nobody_who_has_sent_something(forward, gateway):
    nobody = f"127.0.0.1:{free_port()}"
    with forward.started(gateway, KTRDR_FORWARD_TARGET=nobody):
        forward.until_it_listens()
        for _ in range(50):
            with forward.call() as call:
                call.sendall(b"hello")
                assert call.recv(1) == b""


def test_what_a_killed_one_leaves_is_no_listener(copy, gateway):
    """Forwarder and guard were killed: socat serves its connection to the end, and nobody else."""
    needs_socat()
    forward = Forward(copy, os.environ["PATH"])
    with forward.started(gateway) as process:
        forward.until_it_listens()
        forward.until_none_is_open()
        with forward.call() as call:
            assert received(call, b"hello") == b"HELLO"
            left = psutil.Process(process.pid).children()
            guard = next(child for child in left if child.name() != "socat")
            guard.kill()
            process.kill()
            process.wait()
            with forward.started(gateway):
                forward.until_it_listens()
                assert forward.ask(b"again") == b"AGAIN"
                assert received(call, b"still") == b"STILL"
    copy.until(lambda: not any(p.name() == "socat" for p in copy.processes()), "socat has ended")


def test_it_takes_another_guard_when_one_was_killed(copy, gateway):
    needs_socat()
    forward = Forward(copy, os.environ["PATH"])
    with forward.started(gateway) as process:
        forward.until_it_listens()
        assert forward.ask(b"hello") == b"HELLO"
        forward.until_none_is_open()
        copy.until(lambda: len(psutil.Process(process.pid).children()) == 1, "the guard is alone")
        (guard,) = psutil.Process(process.pid).children()
        guard.kill()
        copy.until(lambda: is_dead(guard), "it is killed")
        copy.until(lambda: forward.is_requested(b"again"), "it serves")
        process.kill()
        process.wait()
        copy.until_nothing_is_left(10)


def is_dead(process):
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.status() == psutil.STATUS_ZOMBIE
    return True


# --- what is passed on ---------------------------------------------------------------------------


class Late:
    """Answers only after the client's end, with all that was sent."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                caller, _ = self._listener.accept()
                with caller:
                    received = b""
                    while data := caller.recv(65536):
                        received += data
                    caller.sendall(received.upper())

    def close(self):
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(20)


def test_a_client_that_has_ended_its_side_gets_the_whole_answer(forward, copy):
    late = Late()
    sent = os.urandom(2**20).hex().encode() * 4
    with forward.started(late):
        forward.until_it_listens()
        with forward.call() as call:
            call.sendall(sent)
            call.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: call.recv(65536), b""))
        assert answer == sent.upper()
    copy.end_all()
    late.close()


def test_connections_that_are_reset_leave_nothing_and_no_traceback(forward, gateway):
    with forward.started(gateway) as process:
        forward.until_it_listens()
        for number in range(150):
            with forward.call() as call:
                if number % 3:
                    call.sendall(b"hello")
                if number % 3 == 2:
                    call.recv(5)
                call.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        forward.until_none_is_open()
        assert forward.ask(b"hello") == b"HELLO"
        forward.until_none_is_open()
        process.terminate()
        output = process.communicate(timeout=20)[0]
        assert process.returncode == 0
    assert "Traceback" not in output
    assert "Exception" not in output


def test_a_connection_goes_on_whatever_others_do(forward, gateway):
    """Resets, for which a socat ends with a failure now and then."""
    with forward.started(gateway), contextlib.ExitStack() as open_calls:
        forward.until_it_listens()
        mine = open_calls.enter_context(forward.call())
        for _ in range(20):
            with forward.call() as other:
                other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                other.sendall(b"bars" * 50_000)
                assert other.recv(1) == b"B"
            assert received(mine, b"hello") == b"HELLO"


def test_bursts_of_connections_are_all_answered_and_leave_nothing(forward, gateway):
    with forward.started(gateway) as process:
        forward.until_it_listens()
        forward.until_none_is_open()
        program = psutil.Process(process.pid)
        before = program.num_fds()
        for _ in range(8):
            with contextlib.ExitStack() as burst:
                calls = [burst.enter_context(forward.call()) for _ in range(25)]
                for call in calls:
                    call.sendall(b"hello")
                assert [received(call, b"") or call.recv(5) for call in calls] == [b"HELLO"] * 25
            forward.until_none_is_open()
        forward.copy.until(lambda: program.num_fds() <= before + 1, "its files are closed")
        assert [p.name() for p in program.children() if p.name() == "socat"] == []


def test_of_very_many_connections_most_are_one_line(forward, gateway):
    with forward.started(gateway) as process:
        forward.until_it_listens()
        forward.until_none_is_open()
        before = forward.report()["calls"]
        for _ in range(100):
            assert forward.ask(b"hello") == b"HELLO"
        forward.copy.until(lambda: forward.report()["calls"] == before + 100, "all are counted")
        forward.copy.until(lambda: forward.report()["open_calls"] == 0, "all are over")
        process.terminate()
        output = process.communicate(timeout=20)[0]
    assert output.count(" is connected to ") == 30
    assert output.count(" is disconnected after ") == 30
    assert f"... and {before + 70} more connections in the last minute" in output


def test_the_same_refusal_is_one_line_and_the_rest_another(forward, gateway):
    with forward.started(gateway) as process, contextlib.ExitStack() as open_calls:
        forward.until_it_listens()
        forward.until_none_is_open()
        for _ in range(32):
            assert received(open_calls.enter_context(forward.call()), b"hello") == b"HELLO"
        for _ in range(5):
            with forward.call() as one_too_many:
                assert one_too_many.recv(1) == b""
        process.terminate()
        output = process.communicate(timeout=20)[0]
    assert output.count("127.0.0.1: refused a connection: it has 32 open") == 1
    assert "... and 4 more refused connections in the last minute" in output


def test_of_very_many_resets_most_are_one_line(copy, gateway):
    """Without socat, which takes a reset for an end."""
    forward = Forward(copy, copy.path_with_tools_only())
    with forward.started(gateway) as process:
        forward.until_it_listens()
        for _ in range(120):
            with forward.call() as call:
                assert received(call, b"hello") == b"HELLO"
                call.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        forward.until_none_is_open()
        process.terminate()
        output = process.communicate(timeout=20)[0]
    assert 30 <= output.count("reset by peer") <= 60
    assert re.search(r"\.\.\. and \d+ more broken connections in the last minute", output)


def test_where_no_more_files_may_be_opened_it_goes_on_with_what_it_can(forward, gateway):
    few = ["bash", "-c", 'ulimit -n 24; exec "$0"']
    with forward.started(gateway, *few) as process:
        forward.until_it_listens()
        with contextlib.ExitStack() as held:
            for _ in range(40):
                held.enter_context(forward.call())
        forward.until_none_is_open()
        forward.copy.until(lambda: forward.is_requested(b"hello"), "it serves again")
        assert process.poll() is None


def test_it_reports_what_it_has_done(forward, gateway):
    with forward.started(gateway) as process:
        forward.until_it_listens()
        forward.until_none_is_open()
        before = forward.report()
        assert forward.ask(b"hello") == b"HELLO"
        forward.copy.until(lambda: forward.report()["calls"] == before["calls"] + 1, "it counts")
        forward.until_none_is_open()
        report = forward.report()
        assert report["bytes"] == before["bytes"] + 10
        assert report["pid"] == process.pid
        assert report["gateway"] == "reached"
        assert [one["whom"] for one in report["listening"]] == ["this machine"]
        process.terminate()
        assert process.wait(10) == 0
        assert not (forward.copy.run_dir / "port-forward.json").exists()


def test_a_gateway_with_an_ipv6_address_alone_is_reached(forward):
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        target = f"[::1]:{listener.getsockname()[1]}"
        with forward.started(listener_of(listener), KTRDR_FORWARD_TARGET=target):
            forward.until_it_listens()
            with forward.call() as call:
                call.sendall(b"hello")
                while True:  # the first ones that called looked whether it listens
                    taken, _ = listener.accept()
                    with taken:
                        if taken.recv(5) == b"hello":
                            taken.sendall(b"HELLO")
                            break
                assert call.recv(5) == b"HELLO"


def listener_of(listener):
    return SimpleNamespace(port=listener.getsockname()[1])


def test_a_host_that_is_none_is_one_line_a_minute(forward, gateway):
    with forward.started(gateway, KTRDR_FORWARD_TARGET="no-such-host.invalid:4002") as process:
        forward.until_it_listens()
        for _ in range(3):
            with forward.call() as call:
                assert call.recv(1) == b""
        assert process.poll() is None
        process.terminate()
        output = process.communicate(timeout=20)[0]
    warnings = [line for line in output.splitlines() if "WARNING" in line]
    assert len(warnings) == 2, output
    assert "no-such-host.invalid:4002 cannot be reached: no such host" in warnings[0]
    assert "127.0.0.1: connected, but no-such-host.invalid:4002 cannot be reached" in warnings[1]


def test_a_socat_that_cannot_do_it_is_done_without(copy, gateway):
    tools = Path(copy.path_with_tools_only())
    (tools / "socat").write_text("#!/bin/sh\necho 'unknown option FD' >&2\nexit 1\n")
    (tools / "socat").chmod(0o755)
    forward = Forward(copy, str(tools))
    with forward.started(gateway) as process:
        forward.until_it_listens()
        assert forward.ask(b"hello") == b"HELLO"
        process.terminate()
        output = process.communicate(timeout=20)[0]
    assert "cannot copy between two sockets" in output
    assert "with our own copying" in output


@pytest.mark.parametrize("limit", ["ulimit -n 30", "ulimit -s 262144; ulimit -v 1500000"])
def test_it_goes_on_when_no_more_files_or_threads_may_be_had(copy, gateway, limit):
    """A thread's stack is as large as the limit says: then a few threads are all."""
    forward = Forward(copy, copy.path_with_tools_only())
    command = ["bash", "-c", f'{limit}; exec "$0"']
    with forward.started(gateway, *command) as process:
        forward.until_it_listens()
        with contextlib.ExitStack() as held:
            for _ in range(32):
                held.enter_context(forward.call()).sendall(b"hello")
            received = next(
                line for line in process.stdout if "connections could not be accepted: " in line
            )
            assert "Too many open files" in received or "can't start new thread" in received
        copy.until(lambda: forward.is_requested(b"again"), "it serves again")
        process.terminate()
        output = process.communicate(timeout=20)[0]
        assert process.returncode == 0
    assert "Traceback" not in output
    assert "connections could not be accepted" not in output, "it says so once a minute"


def test_a_socat_that_is_gone_meanwhile_is_done_without(copy, gateway):
    needs_socat()
    tools = Path(copy.path_with_tools_only())
    shutil.copy(shutil.which("socat"), tools / "socat")
    forward = Forward(copy, str(tools))
    with forward.started(gateway) as process:
        forward.until_it_listens()
        assert forward.ask(b"hello") == b"HELLO"
        (tools / "socat").unlink()
        assert [forward.ask(b"again") for _ in range(3)] == [b"AGAIN"] * 3
        process.terminate()
        output = process.communicate(timeout=20)[0]
    assert "with socat" in output
    assert output.count("copying without socat, which cannot be started: ") == 1


def test_a_socat_that_does_not_work_any_more_is_done_without(copy, gateway):
    """As after an upgrade that took a library away: it starts, complains and ends."""
    needs_socat()
    tools = Path(copy.path_with_tools_only())
    shutil.copy(shutil.which("socat"), tools / "socat")
    forward = Forward(copy, str(tools))
    with forward.started(gateway) as process:
        forward.until_it_listens()
        assert forward.ask(b"hello") == b"HELLO"
        (tools / "socat").unlink()
        (tools / "socat").write_text("#!/bin/sh\necho 'libwrap.so.0: not found' >&2\nexit 127\n")
        (tools / "socat").chmod(0o755)
        copy.until(lambda: forward.is_requested(b"again"), "it serves again")
        assert [forward.ask(b"more") for _ in range(3)] == [b"MORE"] * 3
        process.terminate()
        output = process.communicate(timeout=20)[0]
    assert output.count("copying without socat, which no longer works: ") == 1
    assert "libwrap.so.0: not found" in output


@pytest.mark.parametrize(
    "text", ["\x7fELF", "#!/no/such/shell\n", "#!/bin/sh\ntrap '' TERM\nsleep 9\n"]
)
def test_a_socat_that_is_broken_leaves_no_traceback(copy, gateway, text):
    tools = Path(copy.path_with_tools_only())
    (tools / "socat").write_text(text)
    (tools / "socat").chmod(0o755)
    forward = Forward(copy, str(tools))
    with forward.started(gateway) as process:
        copy.until(lambda: forward.is_requested(b"hello"), "it serves")
        process.terminate()
        output = process.communicate(timeout=20)[0]
    assert "Traceback" not in output
    assert "with our own copying" in output


def with_another_socat(copy, does):
    """One that does this at each connection, and works when tried; `$socat` is the real one."""
    needs_socat()
    tools = Path(copy.path_with_tools_only("yes"))
    mark = tools / "was tried"
    (tools / "socat").write_text(
        f"""#!/bin/sh
        socat={shutil.which("socat")}
        [ -e '{mark}' ] || {{ : >'{mark}'; exec $socat "$@"; }}
        {does}
        """
    )
    (tools / "socat").chmod(0o755)
    return Forward(copy, str(tools))


def test_a_socat_that_talks_a_lot_takes_no_memory(copy, gateway):
    forward = with_another_socat(copy, 'head -c 300000000 /dev/zero >&2; exec $socat "$@"')
    with forward.started(gateway) as process:
        forward.until_it_listens()
        with forward.call() as call:
            call.settimeout(60)
            assert received(call, b"hello") == b"HELLO"
            assert psutil.Process(process.pid).memory_info().rss < 150e6


def test_it_ends_at_once_though_a_socat_talks_without_end(copy, gateway):
    forward = with_another_socat(copy, 'yes >&2 & exec $socat "$@"')
    with forward.started(gateway) as process, contextlib.ExitStack() as open_calls:
        forward.until_it_listens()
        for _ in range(3):
            assert received(open_calls.enter_context(forward.call()), b"hello") == b"HELLO"
        process.terminate()
        assert process.wait(5) == 0
        copy.until_nothing_is_left()


def test_the_last_error_of_socat_is_why_a_connection_broke(copy, gateway):
    words = "2026/11/28 12:00:00 socat[7] E no luck"
    forward = with_another_socat(copy, f"yes | head -c 99999 >&2; echo '{words}' >&2; exit 1")
    with forward.started(gateway) as process:
        forward.until_it_listens()
        with forward.call() as call:
            assert call.recv(1) == b""
        forward.until_none_is_open()
        process.terminate()
        output = process.communicate(timeout=20)[0]
    assert " bytes: no luck\n" in output


# --- --check -------------------------------------------------------------------------------------


def test_a_check_says_that_nothing_runs_and_what_one_would_do(copy):
    nobody = f"127.0.0.1:{free_port()}"
    env = {"KTRDR_FORWARD_BIND": "127.0.0.1", "KTRDR_FORWARD_TARGET": nobody}
    code, output = copy.run(copy.folder / SCRIPT, "--check", **env)
    assert code == 1
    assert "NO  nothing forwards port 4003 here" in output
    assert "would listen on lo for this machine" in output
    assert f"NO  no connection at {nobody}" in output


def test_a_check_greets_through_the_one_that_runs(forward):
    greeting = b"\0\0\0\x1a176\x0020261127 10:00:00 UTC\0"
    with Greeting(greeting) as gateway, forward.started(gateway):
        forward.until_it_listens()
        forward.until_none_is_open()
        code, output = forward.check(gateway)
        assert code == 0, output
        assert f"a TWS greeting came back through 127.0.0.1:{forward.port}: protocol 176" in output
        assert "ok  listening on lo: accepts connections from this machine" in output


def test_a_check_says_that_it_is_full_and_opens_no_connection_for_that(forward, gateway):
    with forward.started(gateway), contextlib.ExitStack() as open_calls:
        forward.until_it_listens()
        forward.until_none_is_open()
        for _ in range(32):
            assert received(open_calls.enter_context(forward.call()), b"hello") == b"HELLO"
        forward.copy.until(lambda: forward.report()["open_calls"] == 32, "it has counted")
        with Greeting(b"\0\0\0\x1a176\x0020261127 10:00:00 UTC\0") as other:
            code, output = forward.check(other)
        assert code == 1, output
        assert "NO  it accepts no more connections: 127.0.0.1 has 32 connections open" in output
        assert f"ok  a TWS greeting came back at 127.0.0.1:{other.port}" in output
        assert "too_many_of_one" not in forward.report()["refused"]


@pytest.mark.parametrize("name", ["KTRDR_FORWARD_PORT", "KTRDR_FORWARD_TARGET"])
def test_a_check_says_that_something_else_is_set_by_now(forward, name):
    """Else all would be well, and containers connect to a port where nobody listens."""
    greeting = b"\0\0\0\x1a176\x0020261127 10:00:00 UTC\0"
    with Greeting(greeting) as gateway, Greeting(greeting) as other, forward.started(gateway):
        forward.until_it_listens()
        forward.until_none_is_open()
        env = forward.env | {"KTRDR_FORWARD_TARGET": f"127.0.0.1:{gateway.port}"}
        values = {
            "KTRDR_FORWARD_PORT": free_port(),
            "KTRDR_FORWARD_TARGET": f"127.0.0.1:{other.port}",
        }
        code, output = forward.copy.run(forward.script, "--check", **env | {name: values[name]})
        assert code == 1, output
        assert f" is set to {values[name]} now, but it runs with " in output


@pytest.mark.parametrize(
    ("says", "expected"),
    [(b"", "no TWS greeting comes back"), (b"SSH-2.0-x\r\n", "is not IB Gateway: it sent b'SSH")],
)
def test_a_check_says_what_is_no_gateway(forward, says, expected):
    with Greeting(says) as gateway, forward.started(gateway):
        forward.until_it_listens()
        forward.until_none_is_open()
        code, output = forward.check(gateway)
        assert code == 1
        assert expected in output


class Greeting(Late):
    """Sends one thing to each client that has sent something, and closes."""

    def __init__(self, says):
        self._says = says
        super().__init__()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                caller, _ = self._listener.accept()
                with caller, contextlib.suppress(OSError):
                    if caller.recv(99):
                        caller.sendall(self._says)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


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
        ("KTRDR_FORWARD_BIND", "::1", "an IPv4 address"),
        ("KTRDR_FORWARD_CALLERS", "docker0", "subnets such as"),
        ("KTRDR_FORWARD_CALLERS", "172.18.0.1/16", "subnets such as"),
        ("KTRDR_FORWARD_CALLERS", "0.0.0.0/0", "subnets such as"),
        ("IB_PORT", "none", "a port from 1 to 65535"),
        ("IB_HOST", "x;y", "a host name or address"),
    ],
)
def test_a_wrong_value_is_one_line(copy, name, value, expected):
    code, output = copy.run(copy.folder / SCRIPT, **{name: value})
    assert code == MISCONFIGURED
    assert output.count("\n") == 1
    assert f"{name}={value}: expected {expected}" in output


def test_it_does_not_connect_to_itself(copy):
    env = {"KTRDR_FORWARD_PORT": "4999", "KTRDR_FORWARD_TARGET": "localhost:4999"}
    code, output = copy.run(copy.folder / SCRIPT, **env)
    assert code == MISCONFIGURED
    assert "another port than that of the gateway" in output


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("KTRDR_FORWARD_BIND", "0.0.0.0", "expected also KTRDR_FORWARD_CALLERS"),
        ("KTRDR_FORWARD_CALLERS", "172.18.0.0/16", "expected together with KTRDR_FORWARD_BIND"),
    ],
)
def test_half_of_what_opens_it_to_others_is_refused(copy, name, value, expected):
    code, output = copy.run(copy.folder / SCRIPT, **{name: value})
    assert code == MISCONFIGURED
    assert f"{name}={value}: {expected}" in output


@pytest.mark.parametrize("word", ["-x", "4003", "", "--check=1", "--settings"])
def test_a_word_that_is_none_of_its_own_starts_nothing(copy, word):
    code, output = copy.run(copy.folder / SCRIPT, word, KTRDR_FORWARD_PORT=free_port())
    assert code == 64
    assert output.startswith("usage: ./scripts/ib_port_forward.sh")
    assert not copy.run_dir.exists()


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_help_is_given_and_starts_nothing(copy, word):
    code, output = copy.run(copy.folder / SCRIPT, word, KTRDR_FORWARD_PORT=free_port())
    assert code == 0
    assert output.startswith("usage: ./scripts/ib_port_forward.sh")
    assert not copy.run_dir.exists()


# --- without a .venv -----------------------------------------------------------------------------


def pythons_with_nothing_installed():
    """The oldest that it runs with, as far as this machine has them."""
    versions = ("3.9", "3.10", "3.11", "3.12", "3.13", "3.14")
    for version in versions:
        yield from Path.home().glob(f".pyenv/versions/{version}.*/bin/python{version}")
        candidate = shutil.which(f"python{version}")
        if candidate and subprocess.run([candidate, "-c", ""], check=False).returncode == 0:
            yield candidate


def test_it_runs_with_nothing_but_a_python(copy, gateway):
    (copy.folder / ".venv").unlink()
    tools = Path(copy.path_with_tools_only())
    (tools / "python3").write_text(
        f'#!/bin/sh\nexec "{next(pythons_with_nothing_installed())}" -S "$@"\n'
    )
    (tools / "python3").chmod(0o755)
    (copy.folder / ".env").write_text(f"KTRDR_FORWARD_TARGET='127.0.0.1:{gateway.port}' # that\n")
    forward = Forward(copy, str(tools))
    with forward.started(gateway, KTRDR_FORWARD_TARGET="") as process:
        forward.until_it_listens()
        assert forward.ask(b"hello") == b"HELLO"
        code, output = forward.check(gateway)
        assert code == 1, "the gateway of this test does not greet"
        assert "ok  listening on lo" in output
        process.terminate()
        assert process.wait(10) == 0
        copy.until_nothing_is_left()


@pytest.fixture
def wrong(copy):
    """A copy whose own `.env`, and no other, is wrong: so it is seen that this one was found."""
    (copy.folder / ".env").write_text("KTRDR_FORWARD_PORT=mine\n")
    copy.env["PYTHONPATH"] = ""
    return copy


def says_so(copy, *command, **env):
    code, output = copy.run(*command, **env)
    assert code == MISCONFIGURED, output
    return "KTRDR_FORWARD_PORT=mine" in output


def test_it_finds_the_project_by_a_link_from_elsewhere(wrong):
    elsewhere = wrong.folder.parent / "my programs"
    elsewhere.mkdir()
    (elsewhere / "there").symlink_to(wrong.folder / SCRIPT)
    (elsewhere / "forward").symlink_to("there")
    assert says_so(wrong, elsewhere / "forward", "--check")
    assert says_so(wrong, "bash", "-c", 'cd "$0" && bash forward --check', elsewhere)


@pytest.mark.parametrize("name", ["CDPATH", "PYTHONSAFEPATH"])
def test_it_finds_the_project_whatever_a_shell_is_set_to(wrong, name):
    elsewhere = wrong.folder.parent / "elsewhere"
    (elsewhere / "scripts").mkdir(parents=True)
    command = ["bash", "-c", f'cd "$0" && bash {SCRIPT} --check', wrong.folder]
    assert says_so(wrong, *command, **{name: elsewhere})


def test_it_needs_no_tool_but_bash(copy):
    tools = copy.folder / "bash alone"
    tools.mkdir()
    (tools / "bash").symlink_to(shutil.which("bash"))
    code, output = copy.run(copy.folder / SCRIPT, PATH=tools, KTRDR_FORWARD_PORT="none")
    assert code == MISCONFIGURED, output


def test_without_any_python_it_says_what_to_do(copy):
    (copy.folder / ".venv").unlink()
    env = {"PATH": copy.path_with_tools_only("socat"), "KTRDR_FORWARD_PORT": free_port()}
    code, output = copy.run(copy.folder / SCRIPT, **env)
    assert code == 1
    assert output.count("\n") == 1
    assert "./scripts/up" in output


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
    for name in ("port-forward.pid", "port-forward.json"):
        (run_dir / name).symlink_to(victim)
    with forward.started(gateway) as process:
        forward.until_it_listens()
        assert victim.read_text() == "precious"
        assert int((run_dir / "port-forward.pid").read_text()) == process.pid
        process.terminate()
        assert process.wait(10) == 0
    assert victim.read_text() == "precious"


# --- where it goes, as a check of it says --------------------------------------------------------


def target(copy, **env):
    _, output = copy.run(copy.folder / SCRIPT, "--check", **env)
    return re.search(r"(?:no connection|comes back|what answers|came back) at (\S+):", output)[1]


def test_by_hand_it_goes_to_ib_gateway_on_this_machine(copy):
    assert target(copy) == "127.0.0.1:4002"
    assert target(copy, IB_PORT="7497") == "127.0.0.1:7497"


def test_in_a_simulated_group_it_goes_to_the_simulator(copy):
    assert target(copy, SUPERVISOR_ENABLED="1") == "127.0.0.1:4102"
    assert target(copy, KTRDR_SIM_PORT="4555") == "127.0.0.1:4555"


def test_it_goes_to_the_configured_gateway(copy):
    assert target(copy, IB_HOST="gw.invalid", IB_PORT="4001") == "gw.invalid:4001"
    assert target(copy, IB_HOST="0::1") == "[0::1]:4002"
    assert target(copy, KTRDR_FORWARD_TARGET="[::1]:4001") == "[::1]:4001"
    elsewhere = {"IB_HOST": "gw.invalid", "KTRDR_FORWARD_TARGET": "localhost:4444"}
    assert target(copy, **elsewhere) == "localhost:4444"


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
    assert target(copy) == expected


def test_the_environment_wins_over_the_env_file(copy):
    (copy.folder / ".env").write_text("KTRDR_FORWARD_TARGET=file:1\n")
    assert target(copy, KTRDR_FORWARD_TARGET="given:2") == "given:2"
    assert target(copy, KTRDR_FORWARD_TARGET="") == "file:1"


def test_the_env_file_is_not_executed(copy):
    trap = Path(copy.folder, "executed")
    (copy.folder / ".env").write_text(
        f'touch "{trap}"\nIB_PORT=$(touch "{trap}")\nIB_HOST=`touch "{trap}"`\n'
    )
    code, _ = copy.run(copy.folder / SCRIPT)
    assert code == MISCONFIGURED
    assert not trap.exists()
