"""ktrdr/forwarder/places.py: where it listens and for whom, as values."""

from __future__ import annotations

import itertools
from dataclasses import replace
from ipaddress import IPv4Interface, IPv4Network

import pytest

from ktrdr.errors import Misconfigured
from ktrdr.forwarder.interfaces import Interface
from ktrdr.forwarder.places import places_for

LO = Interface("lo", 1, (IPv4Interface("127.0.0.1/8"),))
LAN = Interface("eth0", 2, (IPv4Interface("172.20.10.2/28"),), "e1000e", has_default_route=True)
VETH = ("veth1a2b", "veth")
INDEXES = itertools.count(3)


def bridge(name, *addresses, ports=(VETH,), **more):
    subnets = tuple(map(IPv4Interface, addresses))
    return Interface(name, next(INDEXES), subnets, "bridge", tuple(ports), **more)


DOCKER0 = bridge("docker0", "172.17.0.1/16")


def listened_on(*found, bind=None, callers=(), is_linux=True):
    plan = places_for(bind, callers, found, is_linux=is_linux)
    return {place.name: place.whom for place in plan.places}


def test_without_bridges_only_this_machine_can_connect():
    assert listened_on(LO, LAN) == {"lo": "this machine"}


def test_each_container_bridge_accepts_connections_from_its_own_subnets():
    more = bridge("br-1f2e3d4c5b6a", "192.168.16.1/20", "10.99.0.1/24")
    assert listened_on(LO, LAN, DOCKER0, more) == {
        "lo": "this machine",
        "docker0": "172.17.0.0/16",
        "br-1f2e3d4c5b6a": "192.168.16.0/20, 10.99.0.0/24",
    }


@pytest.mark.parametrize(
    "name", ["docker_gwbridge", "podman0", "podman12", "cni-podman0", "nerdctl0", "br-ktrdr"]
)
def test_other_makers_of_containers_are_known(name):
    assert name in listened_on(LO, bridge(name, "10.88.0.1/16"))


def test_every_listener_answers_at_every_address_of_the_machine():
    """host.docker.internal is docker0's address in every network."""
    plan = places_for(None, (), [LO, DOCKER0])
    assert {place.address for place in plan.places} == {"0.0.0.0"}
    assert all(place.device for place in plan.places)


@pytest.mark.parametrize("name", ["virbr0", "br0", "bridge0", "eth0", "wlan0", "docker1x"])
def test_other_bridges_are_left_alone(name):
    assert listened_on(LO, bridge(name, "192.168.122.1/24")) == {"lo": "this machine"}


def test_a_bridge_of_another_name_is_noted_with_the_settings_that_would_serve_it():
    """`com.docker.network.bridge.name` may be anything."""
    found = [LO, bridge("mynet0", "10.20.0.1/24")]
    (note,) = places_for(None, (), found).notes
    assert note.startswith("not listening on mynet0: its name is not one that Docker")
    assert "KTRDR_FORWARD_BIND=10.20.0.1 with KTRDR_FORWARD_CALLERS=10.20.0.0/24" in note
    assert listened_on(*found, bind="10.20.0.1", callers=[IPv4Network("10.20.0.0/24")]) == {
        "mynet0": "10.20.0.0/24"
    }


@pytest.mark.parametrize(
    "found",
    [
        bridge("virbr0", "192.168.122.1/24", ports=[("vnet0", "tun")]),
        bridge("virbr0", "192.168.122.1/24", ports=[]),
        bridge("br0", "192.168.1.5/24", ports=[("eth1", "r8169")]),
        bridge("lxcbr0"),
    ],
    ids=str,
)
def test_there_is_no_note_on_bridges_without_containers(found):
    assert places_for(None, (), [LO, found]).notes == ()


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (bridge("br-lan", "192.168.1.5/24", ports=[VETH, ("eth1", "r8169")]), "eth1 (r8169)"),
        (bridge("br-lan", "192.168.1.5/24", ports=[("wlan0", "")]), "wlan0 (of an unknown kind)"),
        (
            bridge("br-lan", "192.168.1.5/24", has_default_route=True),
            "a default route leads",
        ),
        (replace(DOCKER0, driver="openvswitch"), "no bridge of the kernel (openvswitch)"),
        (bridge("br-6"), "it has no IPv4 address"),
    ],
)
def test_a_bridge_that_others_are_on_or_nobody_can_use_is_left_out_with_a_note(found, why):
    plan = places_for(None, (), [LO, found])
    assert [place.name for place in plan.places] == ["lo"]
    assert plan.notes[0].startswith(f"not listening on {found.name}: ")
    assert why in plan.notes[0]
    assert not plan.complaints


def test_a_bridge_that_is_made_anew_is_another_listener_and_one_that_moves_is_not():
    before = places_for(None, (), [DOCKER0]).places[-1]
    anew = places_for(None, (), [replace(DOCKER0, index=77)]).places[-1]
    moved = places_for(None, (), [replace(DOCKER0, addresses=(IPv4Interface("10.1.0.1/24"),))])
    assert before.key != anew.key
    assert before.key == moved.places[-1].key
    assert moved.places[-1].accepts("10.1.0.9")
    assert not moved.places[-1].accepts("172.17.0.9")


def test_on_a_desktop_containers_connect_to_127_0_0_1():
    plan = places_for(None, (), [], is_linux=False)
    assert [(p.device, p.address, p.callers) for p in plan.places] == [("", "127.0.0.1", None)]


# --- as it is told -------------------------------------------------------------------------------


def test_a_loopback_address_is_this_machines_alone():
    assert listened_on(LO, DOCKER0, bind="127.0.0.2") == {"lo": "this machine"}


def test_a_bridges_address_accepts_connections_from_its_subnets_on_that_device():
    place = places_for("172.17.0.1", (), [LO, DOCKER0]).places[0]
    assert (place.device, place.address, place.whom) == ("docker0", "172.17.0.1", "172.17.0.0/16")


@pytest.mark.parametrize("address", ["0.0.0.0", "172.20.10.2"])
@pytest.mark.parametrize("is_linux", [True, False])
def test_an_address_that_others_reach_needs_the_subnets_named(address, is_linux):
    with pytest.raises(Misconfigured, match="expected also KTRDR_FORWARD_CALLERS"):
        places_for(address, (), [LO, LAN], is_linux=is_linux)
    named = [IPv4Network("172.18.0.0/16")]
    assert set(listened_on(LO, LAN, bind=address, callers=named, is_linux=is_linux).values()) == {
        "172.18.0.0/16"
    }


def test_a_bridge_with_a_lan_on_it_needs_the_subnets_named_though_its_address_is_given():
    lan = bridge("br-lan", "192.168.1.5/24", ports=[("eth1", "r8169")])
    with pytest.raises(Misconfigured, match="expected also KTRDR_FORWARD_CALLERS"):
        places_for("192.168.1.5", (), [LO, lan])


def test_subnets_alone_are_not_enough():
    with pytest.raises(Misconfigured, match="expected together with KTRDR_FORWARD_BIND"):
        places_for(None, [IPv4Network("172.18.0.0/16")], [LO])


def test_an_address_that_is_gone_is_a_complaint():
    plan = places_for("10.9.9.9", (), [LO, LAN])
    assert not plan.places
    assert plan.complaints == ("10.9.9.9 is no address of this machine now (KTRDR_FORWARD_BIND)",)
