"""ktrdr/config/callers.py: who may connect."""

from ipaddress import ip_network

import pytest

from ktrdr.config.callers import is_loopback, may_connect, network_of, parse_callers

METADATA_DIR = [ip_network("192.168.1.0/24"), ip_network("fd00:1::/64")]


@pytest.mark.parametrize(
    ("text", "named", "with_own"),
    [
        ("192.168.1.0/24", ["192.168.1.0/24"], False),
        (" 10.0.0.0/8 ,fd00::/64", ["10.0.0.0/8", "fd00::/64"], False),
        ("192.168.1.5", ["192.168.1.5/32"], False),
        ("own-networks", [], True),
        ("own-networks,100.64.0.0/10", ["100.64.0.0/10"], True),
        ("0.0.0.0/0", ["0.0.0.0/0"], False),
    ],
)
def test_callers_are_subnets_or_a_word(text, named, with_own):
    found = parse_callers(text)
    assert [str(network) for network in found.named] == named
    assert found.with_own == with_own


@pytest.mark.parametrize(
    "text",
    ["", ",", "10.0.0.0/8,", "10.0.0.0/33", "192.168.1.5/24", "box.lan", "own_networks", "*"],
)
def test_what_is_neither_is_refused(text):
    with pytest.raises(ValueError, match=r"^subnets such as 192.168.1.0/24, .* or own-networks$"):
        parse_callers(text)


@pytest.mark.parametrize(
    ("text", "caller", "taken"),
    [
        ("192.168.1.0/24", "192.168.1.77", True),
        ("192.168.1.0/24", "::ffff:192.168.1.77", True),
        ("192.168.1.0/24", "192.168.2.77", False),
        ("192.168.1.0/24", "fd00:1::9", False),
        ("fd00:1::/64", "fd00:1::9", True),
        ("fe80::/64", "fe80::9%eth0", True),
        ("own-networks", "192.168.1.77", True),
        ("own-networks", "fd00:1::9", True),
        ("own-networks", "10.0.0.9", False),
        ("own-networks,10.0.0.0/8", "10.0.0.9", True),
        ("172.16.0.0/12", "127.0.0.1", True),  # this machine's own
        ("172.16.0.0/12", "::1", True),
        ("172.16.0.0/12", "192.168.1.9", True),
        ("172.16.0.0/12", "::ffff:192.168.1.9", True),
    ],
)
def test_a_client_may_connect_from_them_and_from_this_machine(text, caller, taken):
    assert may_connect(parse_callers(text), caller, "192.168.1.9", METADATA_DIR) == taken


def test_networks_of_ours_count_only_where_the_word_is_given():
    assert not may_connect(parse_callers("10.0.0.0/8"), "192.168.1.77", "192.168.1.9", METADATA_DIR)


@pytest.mark.parametrize(
    ("address", "mask", "network"),
    [
        ("192.168.1.9", "255.255.255.0", "192.168.1.0/24"),
        ("172.20.10.1", "255.255.255.240", "172.20.10.0/28"),
        ("fd00:1::9", "ffff:ffff:ffff:ffff::", "fd00:1::/64"),
        ("fe80::1%eth0", "ffff:ffff:ffff:ffff::", "fe80::/64"),
        ("10.8.0.2", None, "10.8.0.2/32"),
        ("10.8.0.2", "0.0.0.0", "None"),
        ("02:42:ac:11:00:02", "ff:ff:ff:ff:ff:ff", "None"),
    ],
)
def test_an_interface_is_in_one_subnet(address, mask, network):
    assert str(network_of(address, mask)) == network


def test_only_this_machine_connects_to_its_loopback():
    assert all(map(is_loopback, ["127.0.0.1", "127.9.9.9", "::1", "localhost", "LocalHost"]))
    assert not any(
        map(is_loopback, ["0.0.0.0", "::", "192.168.1.9", "box.lan", "127.1", "fe80::1"])
    )
