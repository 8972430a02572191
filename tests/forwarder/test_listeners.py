"""ktrdr/forwarder/listeners.py: real sockets at two loopback addresses, by a plan of ours."""

from __future__ import annotations

import contextlib
import errno
import socket
import sys

import pytest

from ktrdr.forwarder.listeners import Listeners
from ktrdr.forwarder.places import Place, Plan
from tests.ports import free_port

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="all of 127.0.0.0/8 is Linux's")

PLACES = tuple(Place("", 0, address, None, "a test") for address in ("127.0.0.2", "127.0.0.3"))


def test_a_refresh_before_each_connection_opens_nothing_and_looks_up_no_holder():
    """To look up who has a port takes longer than 100 connections; only `follow` does, once."""
    port = free_port()
    listeners = Listeners(port, lambda: Plan(PLACES))
    with contextlib.closing(listeners):
        with socket.create_server(("127.0.0.3", port)):
            listeners.follow()
            troubles = {one.name: one.trouble for one in listeners.listening}
            assert troubles["127.0.0.2"] == ""
            assert f"port {port} is taken by" in troubles["127.0.0.3"]
        listeners.refresh()
        assert {one.name: one.trouble for one in listeners.listening} == troubles
        listeners.follow()
        assert {one.name: one.trouble for one in listeners.listening} == dict.fromkeys(troubles, "")


def test_a_look_closes_what_is_gone():
    port = free_port()
    places = [*PLACES]
    with contextlib.closing(Listeners(port, lambda: Plan(tuple(places)))) as listeners:
        listeners.follow()
        places.pop()
        listeners.refresh()
        assert [one.name for one in listeners.listening] == ["127.0.0.2"]
        with socket.socket() as call:
            assert call.connect_ex(("127.0.0.3", port)) == errno.ECONNREFUSED
