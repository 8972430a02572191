"""ktrdr/forwarder/closing.py: real connections, and a clock of ours."""

from __future__ import annotations

import contextlib
import socket
import time

import pytest

from ktrdr.forwarder.closing import Closing


@pytest.fixture
def closing():
    made = Closing()
    yield made
    made.end()


@pytest.fixture
def connect():
    """`connect()`: a client, and the end that is to be closed."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

        def connect():
            caller = stack.enter_context(socket.create_connection(listener.getsockname(), 5))
            return caller, stack.enter_context(listener.accept()[0])

        yield connect


def say(caller):
    caller.sendall(b"hello")


def until_closed(caller):
    """A socket that is closed answers with a reset, which may take a moment."""
    deadline = time.monotonic() + 10
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        while time.monotonic() < deadline:
            caller.sendall(b"?")
        pytest.fail("what the caller says is still taken")


def until_none_is_left(closing, now_s):
    """What the other side does arrives in a moment."""
    deadline = time.monotonic() + 10
    while closing.count:
        assert time.monotonic() < deadline
        closing.go_on(now_s)


def test_who_has_sent_much_sees_an_end_and_no_reset(closing, connect):
    caller, end = connect()
    caller.sendall(b"x" * 100_000)
    closing.add(end, 0.0)
    assert caller.recv(1) == b""
    caller.sendall(b"more")
    closing.go_on(0.5)
    assert caller.recv(1) == b""
    say(caller)
    say(caller)


def test_it_is_closed_when_the_other_side_has_ended(closing, connect):
    caller, end = connect()
    closing.add(end, 0.0)
    caller.shutdown(socket.SHUT_WR)
    assert caller.recv(1) == b""
    until_none_is_left(closing, 0.1)


def test_who_goes_on_talking_is_closed_after_a_second(closing, connect):
    caller, end = connect()
    closing.add(end, 0.0)
    for now_s in (0.3, 0.6, 0.9):
        say(caller)
        closing.go_on(now_s)
        assert closing.count == 1
    closing.go_on(1.0)
    until_closed(caller)


def test_of_more_than_32_the_oldest_is_closed_at_once_and_not_reset(closing, connect):
    callers = []
    for _ in range(40):
        caller, end = connect()
        caller.sendall(b"hello")
        closing.add(end, 0.0)
        callers.append(caller)
    assert [caller.recv(1) for caller in callers] == [b""] * 40
    assert [caller.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) for caller in callers] == [0] * 40
    assert closing.count == 32
    for caller in callers[:8]:
        until_closed(caller)
    for caller in callers[8:]:
        say(caller)
        say(caller)


def test_who_is_gone_already_is_no_trouble(closing, connect):
    caller, end = connect()
    caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    caller.close()
    closing.add(end, 0.0)
    until_none_is_left(closing, 0.1)
