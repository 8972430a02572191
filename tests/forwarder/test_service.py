"""Which connections are accepted, the forwarder's report, and the interfaces there are."""

from __future__ import annotations

import json
import socket
import sys
from collections import Counter
from dataclasses import replace
from ipaddress import IPv4Network

import psutil
import pytest

from ktrdr.forwarder import report
from ktrdr.forwarder.connections import full, refusal
from ktrdr.forwarder.interfaces import interfaces
from ktrdr.forwarder.places import Place
from ktrdr.forwarder.report import Listening, Report
from ktrdr.forwarder.service import keep_alive

DOCKER0 = Place("docker0", 3, "0.0.0.0", (IPv4Network("172.17.0.0/16"),), "a container bridge")


def reason(caller, place=DOCKER0, reached="172.17.0.1", **open_calls):
    why = refusal(place, caller, reached, Counter(open_calls))
    return why and why.reason


def test_a_container_of_the_bridge_is_served():
    assert reason("172.17.0.2") is None


@pytest.mark.parametrize("caller", ["172.18.0.2", "172.16.255.255", "192.168.1.2", "8.8.8.8"])
def test_anybody_else_is_foreign(caller):
    assert reason(caller) == "foreign"


@pytest.mark.parametrize("place", [Place("", 0, "127.0.0.1", None, "as told"), DOCKER0])
def test_who_connects_to_a_loopback_address_from_elsewhere_is_foreign(place):
    """A network's interface with `route_localnet` lets its machines get there."""
    assert reason("192.168.1.2", place, reached="127.0.0.1") == "foreign"
    assert reason("172.17.0.2", place, reached="127.0.0.9") == "foreign"


def test_this_machine_is_served_at_its_loopback_addresses():
    here = Place("", 0, "127.0.0.1", None, "as told")
    assert reason("127.0.0.1", here, reached="127.0.0.1") is None
    assert reason("127.0.0.5", here, reached="127.0.0.1") is None


def test_whoever_comes_by_a_bridge_that_is_gone_is_foreign():
    assert reason("172.17.0.2", place=None) == "foreign"


def test_one_client_may_have_32_and_shuts_nobody_out():
    assert reason("172.17.0.2", **{"172.17.0.2": 31}) is None
    assert reason("172.17.0.2", **{"172.17.0.2": 32}) == "too_many_of_one"
    assert reason("172.17.0.3", **{"172.17.0.2": 32}) is None


def test_all_together_may_have_64():
    assert reason("172.17.0.4", **{"172.17.0.2": 32, "172.17.0.3": 31}) is None
    assert reason("172.17.0.4", **{"172.17.0.2": 32, "172.17.0.3": 32}) == "too_many"


def test_who_may_open_no_more_is_named():
    assert full(Counter({"172.17.0.2": 31, "172.17.0.3": 31})) == ()
    assert full(Counter({"172.17.0.2": 32, "172.17.0.3": 2})) == (
        "172.17.0.2 has 32 connections open, the limit for one client",
    )
    assert full(Counter({"172.17.0.2": 32, "172.17.0.3": 31, "172.17.0.4": 1})) == (
        "64 connections are open, the limit for all clients",
    )


def test_what_an_earlier_version_wrote_is_read(tmp_path):
    report.write(tmp_path, REPORT)
    file = tmp_path / "port-forward.json"
    values = json.loads(file.read_text())
    del values["full"]
    file.write_text(json.dumps(values))
    assert report.read(tmp_path, 1000.0).full == ()


# --- who vanished --------------------------------------------------------------------------------


@pytest.fixture
def kept():
    """One end of a connection, made ready as the forwarder does."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as connection,
    ):
        keep_alive(connection)
        yield connection


def option(connection, number):
    return connection.getsockopt(socket.IPPROTO_TCP, number)


needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="these are Linux's options")


@needs_linux
def test_who_vanished_while_nothing_was_sent_is_noticed_within_two_minutes(kept):
    assert kept.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    attempts = option(kept, socket.TCP_KEEPINTVL) * option(kept, socket.TCP_KEEPCNT)
    assert option(kept, socket.TCP_KEEPIDLE) + attempts == 120


@needs_linux
def test_who_vanished_with_data_on_their_way_is_noticed_within_two_minutes(kept):
    """Linux sends 15 times again, after 0.2 s and then twice as long each time, up to a limit."""
    try:
        longest_s = option(kept, 44) / 1000
    except OSError:
        pytest.skip("TCP_RTO_MAX_MS came with Linux 6.15")
    assert 105 <= sum(min(0.2 * 2**n, longest_s) for n in range(16)) <= 125


@needs_linux
def test_who_lives_and_does_not_read_is_not_cut(kept):
    """TCP_USER_TIMEOUT does that, whatever is acknowledged."""
    assert option(kept, socket.TCP_USER_TIMEOUT) == 0


# --- the report ----------------------------------------------------------------------------------

REPORT = Report(
    time=1000.0,
    started=900.0,
    pid=4711,
    copying="socat",
    port=4003,
    target="127.0.0.1:4002",
    listening=(Listening("lo", "this machine"), Listening("br-x", "10.1.0.0/24", "it is taken")),
    complaints=("10.9.9.9 is no address of this machine now",),
    full=("64 connections are open, the limit for all clients",),
    refused={"foreign": 2},
)


def test_what_is_written_is_read_again(tmp_path):
    report.write(tmp_path, REPORT)
    assert report.read(tmp_path, 1001.0) == REPORT
    assert [one.name for one in tmp_path.iterdir()] == ["port-forward.json"]


@pytest.mark.parametrize("now", [1016.0, 980.0])
def test_what_is_old_or_of_the_future_counts_as_nothing(tmp_path, now):
    report.write(tmp_path, REPORT)
    assert report.read(tmp_path, now) is None


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "null", "\x00", '{"listening": 3}', '{"listening": [], "pid": 1}']
)
def test_what_is_no_report_counts_as_nothing(tmp_path, text):
    (tmp_path / "port-forward.json").write_text(text)
    assert report.read(tmp_path, 1000.0) is None


@pytest.mark.parametrize("name", ["pid", "bytes", "refused", "time"])
def test_a_value_of_another_kind_counts_as_nothing(tmp_path, name):
    report.write(tmp_path, REPORT)
    file = tmp_path / "port-forward.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {name: "<b>"}))
    assert report.read(tmp_path, 1000.0) is None


def test_troubles_are_all_that_keeps_clients_away():
    assert REPORT.troubles == (
        "br-x: it is taken",
        "10.9.9.9 is no address of this machine now",
    )
    assert REPORT.takes == "lo (this machine)"
    assert replace(REPORT, listening=()).takes == "nowhere"


# --- the interfaces ------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux")
def test_the_interfaces_are_those_that_psutil_knows():
    found = {
        one.name: {(str(own.ip), str(own.netmask)) for own in one.addresses}
        for one in interfaces()
        if one.addresses
    }
    known = {
        name: {(a.address, a.netmask) for a in addresses if a.family.name == "AF_INET"}
        for name, addresses in psutil.net_if_addrs().items()
    }
    assert found == {name: addresses for name, addresses in known.items() if addresses}
