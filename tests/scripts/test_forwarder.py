"""ktrdr/forwarder.py: where it listens and whose calls it takes, as values."""

from __future__ import annotations

import pytest

from ktrdr.config import Settings, load_settings
from ktrdr.errors import Misconfigured
from ktrdr.forwarder import bind_for, target_of


def test_without_docker_only_this_machine_can_call():
    bind = bind_for(None, {})
    assert (bind.address, bind.callers) == ("127.0.0.1", None)


def test_with_docker_only_its_networks_can_call():
    bind = bind_for(None, {"docker0": [("172.17.0.1", "255.255.0.0")]})
    assert (bind.address, str(bind.callers)) == ("172.17.0.1", "172.16.0.0/12")


def test_a_bridge_that_was_moved_takes_calls_from_its_own_network():
    bind = bind_for(None, {"docker0": [("10.99.0.1", "255.255.255.0")]})
    assert (bind.address, str(bind.callers)) == ("10.99.0.1", "10.99.0.0/24")


def test_a_bridge_without_an_ipv4_address_counts_as_none():
    bridge = [("fe80::1%docker0", "ffff:ffff:ffff:ffff::"), ("02:42:ac:11:00:01", None)]
    assert bind_for(None, {"docker0": bridge}).address == "127.0.0.1"


@pytest.mark.parametrize("address", ["0.0.0.0", "192.168.1.5"])
def test_a_given_address_that_others_reach_takes_calls_from_docker_only(address):
    assert str(bind_for(address, {}).callers) == "172.16.0.0/12"


def test_a_given_address_wins_over_the_bridge():
    bind = bind_for("127.0.0.2", {"docker0": [("172.17.0.1", "255.255.0.0")]})
    assert (bind.address, bind.callers) == ("127.0.0.2", None)


@pytest.mark.parametrize("address", ["everywhere", "::1", "127.0.0.256"])
def test_an_address_that_is_none_is_refused(address):
    with pytest.raises(Misconfigured, match=f"KTRDR_FORWARD_BIND={address}: expected an IPv4"):
        bind_for(address, {})


@pytest.mark.parametrize("target", ["gw:0", "gw:65536"])
def test_a_target_port_that_is_none_is_refused(target):
    with pytest.raises(Misconfigured, match=r"KTRDR_FORWARD_TARGET=gw:.*a port from 1 to 65535"):
        load_settings(ktrdr_forward_target=target, _env_file=None)


@pytest.mark.usefixtures("bare_environment")
def test_it_does_not_call_itself():
    settings = Settings(ktrdr_forward_target="localhost:4003", _env_file=None)
    with pytest.raises(Misconfigured, match="another port than that of the gateway"):
        target_of(settings)
