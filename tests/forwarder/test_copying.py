"""Copying by our own threads: what the program's tests would take too long for, or cannot see."""

from __future__ import annotations

import contextlib
import random
import resource
import socket
import threading
import time

import pytest

from ktrdr.forwarder.copying import Threads


@contextlib.contextmanager
def connected():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname(), 10)
        other, _ = listener.accept()
    with one, other:
        yield one, other


@contextlib.contextmanager
def no_more_files():
    """Nothing more can be opened: no pipe, either."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


class Copied:
    """A client and a gateway, and the copying between them."""

    def __init__(self, caller, gateway, thread, result):
        self.caller = caller
        self.gateway = gateway
        self.thread = thread
        self.result = result


@contextlib.contextmanager
def copying(quiet_s=60.0, around=contextlib.nullcontext):
    """Under way: a byte has gone each way. `around` is about the start."""
    result = []
    with connected() as (caller, near), connected() as (far, gateway):
        far.settimeout(None)
        way = Threads(quiet_s)
        thread = threading.Thread(target=lambda: result.extend(way.between(near, far)))
        try:
            with around():
                thread.start()
                caller.sendall(b"?")
                assert gateway.recv(1) == b"?"
                gateway.sendall(b"!")
                assert caller.recv(1) == b"!"
            yield Copied(caller, gateway, thread, result)
        finally:
            way.end()
            thread.join(10)
            assert not thread.is_alive()


def received(sock, count):
    text = b""
    while len(text) < count and (more := sock.recv(2**16)):
        text += more
    return text


@pytest.mark.parametrize("around", [contextlib.nullcontext, no_more_files], ids=["pipe", "none"])
def test_all_bytes_arrive_both_ways_with_a_pipe_in_the_kernel_and_without(around):
    question, answer = random.Random(1).randbytes(3_000_000), random.Random(2).randbytes(5_000_000)
    with copying(around=around) as copied:
        sent = [
            threading.Thread(target=copied.caller.sendall, args=(question,)),
            threading.Thread(target=copied.gateway.sendall, args=(answer,)),
        ]
        arrived = {}
        sent.append(
            threading.Thread(
                target=lambda: arrived.update(q=received(copied.gateway, len(question)))
            )
        )
        for one in sent:
            one.start()
        arrived["a"] = received(copied.caller, len(answer))
        for one in sent:
            one.join()
        copied.caller.close()
        copied.gateway.close()
        copied.thread.join(10)
    assert arrived == {"q": question, "a": answer}
    assert copied.result == [len(question) + len(answer) + 2, ""]


def test_one_direction_alone_goes_on_while_something_comes():
    with copying(quiet_s=2.0) as copied:
        copied.caller.shutdown(socket.SHUT_WR)
        assert copied.gateway.recv(9) == b""
        until = time.monotonic() + 4.5
        while time.monotonic() < until:
            copied.thread.join(0.1)
            copied.gateway.sendall(b"bar")
            assert copied.caller.recv(9) == b"bar"


def test_one_direction_alone_that_is_silent_is_ended():
    with copying(quiet_s=0.2) as copied:
        copied.caller.shutdown(socket.SHUT_WR)
        assert copied.gateway.recv(9) == b""
        copied.thread.join(10)
        assert copied.result == [2, "nothing came for 0 s after the other side's end"]


def test_what_is_sent_as_urgent_ends_nothing():
    with copying() as copied:
        for text, flags in ((b"one", 0), (b"!", socket.MSG_OOB), (b"two", 0)):
            copied.caller.send(text, flags)
        copied.caller.shutdown(socket.SHUT_WR)
        assert received(copied.gateway, 99) == b"onetwo"


def test_both_directions_may_be_silent_for_long():
    with copying(quiet_s=0.1) as copied:
        copied.thread.join(0.5)
        copied.caller.sendall(b"bars?")
        assert copied.gateway.recv(9) == b"bars?"
