"""Who reaches the gateway: containers on any bridge, and nobody from any LAN, by any route.

In network namespaces, with the simulated gateway, the real forwarder and the status page on the
host. Skipped where namespaces cannot be made.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from ktrdr.config.names import IGNORE_ENV_FILE
from tests.forwarder.networks import world

PROJECT = Path(__file__).resolve().parents[2]
FORWARD, SIMULATED, PAGE = 4003, 4102, 8000
HOSTS_ADDRESSES = ["172.17.0.1", "172.31.203.1", "192.168.77.1", "172.20.10.1", "10.66.0.1"]

CALL = """
import socket, sys
TWS = b"API\\0\\0\\0\\0\\x09v157..178"
HTTP = b"GET / HTTP/1.0\\r\\n\\r\\n"
source, *targets = sys.argv[1:]
for target in targets:
    host, port = target.split(":")
    received = b""
    try:
        bound = (source, 0) if source else None
        with socket.create_connection((host, int(port)), 0.7, bound) as call:
            call.sendall(HTTP if port == "8000" else TWS)
            received = call.recv(99)
    except OSError:
        pass
    print(len(received))
"""
HOLD = """
import socket, sys
calls = []
for _ in range(int(sys.argv[2])):
    calls.append(socket.create_connection((sys.argv[1], 4003), 5))
served = 0
for call in calls:
    call.settimeout(5)
    try:
        call.sendall(b"API\\0\\0\\0\\0\\x09v157..178")
        served += bool(call.recv(99))
    except OSError:
        pass
print(served, flush=True)
sys.stdin.read()
"""
BARS = """
import sys
from ib_insync import IB, Stock
ib = IB()
host, port = sys.argv[1].split(":")
ib.connect(host, int(port), clientId=int(sys.argv[2]), timeout=20)
bars = ib.reqHistoricalData(Stock("AAPL", "SMART", "USD"), "", "1 D", "5 mins", "TRADES", True)
print(len(bars))
ib.disconnect()
"""


class Host:
    """The machine that runs it all."""

    def __init__(self, node):
        self.node = node
        self.folder = Path(tempfile.mkdtemp(prefix="kt"))
        self.run_dir = self.folder / "run"
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("KTRDR_", "IB_"))}
        self.env |= {
            "KTRDR_RUN_DIR": str(self.run_dir),
            "KTRDR_DATA_DIR": str(self.folder / "data"),
            "PYTHONPATH": str(PROJECT),
            IGNORE_ENV_FILE: "1",
        }
        self.processes = {}

    def start(self, name, *words, inside=True, **env):
        log = (self.folder / f"{name}.log").open("ab")
        self.processes[name] = subprocess.Popen(
            self.node.command(*words) if inside else words,
            cwd=PROJECT,
            env=self.env | env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        log.close()

    def start_forwarder(self, **env):
        target = {"KTRDR_FORWARD_TARGET": f"127.0.0.1:{SIMULATED}"}
        self.start("port-forward", "./scripts/ib_port_forward.sh", **target | env)

    def log(self, name="port-forward"):
        return (self.folder / f"{name}.log").read_text()

    def report(self):
        try:
            return json.loads((self.run_dir / "port-forward.json").read_text())
        except FileNotFoundError:
            return {"listening": [], "complaints": [], "notes": []}

    def listens_on(self):
        return {one["name"]: one["whom"] for one in self.report()["listening"]}

    def stop(self, name):
        process = self.processes.pop(name)
        process.terminate()
        assert process.wait(15) == 0, self.log(name)

    def end(self):
        for process in self.processes.values():
            process.kill()
            process.wait()
        shutil.rmtree(self.folder)


def until(condition, timeout_s=20.0, log=lambda: ""):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not in time; {log()}"
        time.sleep(0.05)


def received(node, *targets, source=""):
    """How many bytes of an answer somebody gets at each HOST:PORT."""
    words = node.command(sys.executable, "-ISc", CALL, source, *targets)
    return [int(line) for line in subprocess.check_output(words, text=True).split()]


def is_greeted(node, address):
    return received(node, f"{address}:{FORWARD}")[0] > 0


def bars(node, address, client_id):
    words = node.command(sys.executable, "-c", BARS, address, client_id)
    return int(subprocess.check_output(words, text=True, stderr=subprocess.STDOUT).split()[-1])


@pytest.fixture(scope="module")
def nodes():
    with world() as made:
        yield made


@pytest.fixture(scope="module")
def host(nodes):
    """A host with two bridges, that passes packets on as Docker lets it."""
    node = nodes.node("host")
    node.sysctl("net.ipv4.ip_forward", 1)
    node.bridge("docker0", "172.17.0.1/16")
    node.bridge("br-ktrdr", "172.31.203.1/24")
    made = Host(node)
    made.start("sim", sys.executable, "-m", "ktrdr.sim")
    made.start("page", sys.executable, "-m", "ktrdr.web")
    yield made
    made.end()


@pytest.fixture(scope="module")
def containers(host, nodes):
    return {
        "docker0": nodes.container(host.node, "docker0", "172.17.0.2/16", "172.17.0.1"),
        "br-ktrdr": nodes.container(host.node, "br-ktrdr", "172.31.203.2/24", "172.31.203.1"),
    }


@pytest.fixture(scope="module")
def lans(host, nodes):
    """Machines on LANs, each with a route to every address of the host."""
    made = {}
    for number, (name, own, others) in enumerate(
        [
            ("home", "192.168.77.1/24", "192.168.77.2/24"),
            ("hotspot", "172.20.10.1/28", "172.20.10.2/28"),
            ("office", "10.66.0.1/24", "10.66.0.2/24"),
        ]
    ):
        lan = nodes.node(name)
        host.node.cable(f"lan{number}", lan, "eth0", address=own, others_address=others)
        lan.ip("route", "add", "default", "via", own.partition("/")[0])
        made[name] = lan
    host.node.ip("route", "add", "default", "via", "192.168.77.2")  # the router that may spoof
    for name in ("all", "lan0", "lan1", "lan2", "docker0", "br-ktrdr"):
        host.node.sysctl(f"net.ipv4.conf.{name}.rp_filter", 0)  # the least that a host may do
    return made


@pytest.fixture(scope="module")
def forwarding(host, containers, lans):  # noqa: ARG001  all of the world first
    host.start_forwarder()
    is_ready = lambda: "docker0" in host.listens_on() and host.report()["gateway"] == "reached"  # noqa: E731
    until(is_ready, log=host.log)
    page = [f"127.0.0.1:{PAGE}", f"127.0.0.1:{SIMULATED}", f"127.0.0.1:{FORWARD}"]
    until(lambda: all(received(host.node, *page)))
    return host


@pytest.mark.usefixtures("forwarding")
def test_containers_of_each_bridge_are_greeted_at_docker0s_address(containers):
    """It is what host.docker.internal means in all of Docker's networks."""
    assert is_greeted(containers["docker0"], "172.17.0.1")
    assert is_greeted(containers["br-ktrdr"], "172.17.0.1")
    assert is_greeted(containers["br-ktrdr"], "172.31.203.1")


@pytest.mark.usefixtures("forwarding")
def test_containers_get_as_many_bars_as_the_host_does(host, containers):
    there_are = bars(host.node, f"127.0.0.1:{SIMULATED}", 10)
    assert there_are > 0
    assert bars(containers["docker0"], f"172.17.0.1:{FORWARD}", 11) == there_are
    assert bars(containers["br-ktrdr"], f"172.17.0.1:{FORWARD}", 12) == there_are


@pytest.mark.usefixtures("forwarding")
@pytest.mark.parametrize("lan", ["home", "hotspot", "office"])
def test_no_machine_of_a_lan_gets_a_byte(lans, lan):
    targets = [f"{a}:{p}" for a in HOSTS_ADDRESSES for p in (FORWARD, SIMULATED, PAGE)]
    assert received(lans[lan], *targets) == [0] * len(targets)


def test_a_lan_that_is_routed_to_loopback_addresses_gets_no_byte(forwarding, nodes):
    """`route_localnet` is set on an interface by some recipes for NAT, and by Kubernetes."""
    node, lan = forwarding.node, nodes.node("l")
    node.cable("lan6", lan, "eth0", address="10.92.0.1/24", others_address="10.92.0.2/24")
    for one, interface in ((node, "lan6"), (lan, "eth0")):
        one.sysctl(f"net.ipv4.conf.{interface}.route_localnet", 1)
    lan.ip("addr", "del", "127.0.0.1/8", "dev", "lo")
    lan.ip("route", "add", "127.0.0.0/8", "via", "10.92.0.1", "src", "10.92.0.2")
    targets = [f"127.0.0.1:{port}" for port in (FORWARD, SIMULATED, PAGE)]
    assert received(lan, *targets) == [0, 0, 0]
    until(lambda: "a connection from 10.92.0.2 was closed" in forwarding.log("page"))
    lan.ip("route", "del", "127.0.0.0/8")
    node.ip("link", "del", "lan6")


def test_a_containers_page_answers_its_own_network_and_no_lan_that_is_routed_there(
    forwarding, containers, lans, nodes
):
    """As in docker/docker-compose.yml, on a host that passes everything on."""
    page = nodes.container(forwarding.node, "br-ktrdr", "172.31.203.8/24", "172.31.203.1")
    inside = Host(page)
    try:
        others = {"KTRDR_STATUS_HOST": "0.0.0.0", "KTRDR_STATUS_CALLERS": "own-networks"}
        inside.start("page", sys.executable, "-m", "ktrdr.web", **others)
        until(lambda: received(page, f"127.0.0.1:{PAGE}") != [0], log=lambda: inside.log("page"))
        at = f"172.31.203.8:{PAGE}"
        assert received(containers["br-ktrdr"], at) != [0]
        assert received(forwarding.node, at) != [0], "as what Docker publishes calls it"
        for lan in lans.values():
            assert received(lan, at) == [0]
        assert "a connection from 10.66.0.2 was closed" in inside.log("page"), "it did get there"
        router = lans["home"]
        router.ip("addr", "add", "172.31.203.9/32", "dev", "lo")
        assert received(router, at, source="172.31.203.9") == [0]
        router.ip("addr", "del", "172.31.203.9/32", "dev", "lo")
    finally:
        inside.end()


@pytest.mark.usefixtures("forwarding")
@pytest.mark.parametrize("source", ["172.17.0.9", "172.31.203.9", "172.25.0.5", "172.17.0.1"])
def test_a_router_that_takes_a_containers_address_gets_no_byte(lans, source):
    router = lans["home"]
    router.ip("addr", "add", f"{source}/32", "dev", "lo")
    try:
        targets = [f"{a}:{FORWARD}" for a in HOSTS_ADDRESSES if a != source]
        assert received(router, *targets, source=source) == [0] * len(targets)
    finally:
        router.ip("addr", "del", f"{source}/32", "dev", "lo")


@pytest.mark.usefixtures("forwarding")
def test_somebody_on_a_bridge_with_an_address_of_another_network_gets_no_byte(containers):
    stranger = containers["br-ktrdr"]
    stranger.ip("addr", "add", "172.20.10.9/28", "dev", "eth0")
    try:
        assert received(stranger, f"172.31.203.1:{FORWARD}", source="172.20.10.9") == [0]
    finally:
        stranger.ip("addr", "del", "172.20.10.9/28", "dev", "eth0")


def test_this_machine_is_served_at_each_of_its_addresses(forwarding):
    """Containers in the host's network connect to host.docker.internal, too."""
    targets = [f"{a}:{FORWARD}" for a in ("127.0.0.1", "172.17.0.1", "172.31.203.1")]
    assert all(received(forwarding.node, *targets))


def test_one_client_that_takes_all_it_may_shuts_nobody_out(forwarding, containers):
    words = containers["docker0"].command(sys.executable, "-ISc", HOLD, "172.17.0.1", 40)
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as hog:
        assert hog.stdout.readline() == "32\n"
        assert is_greeted(containers["br-ktrdr"], "172.17.0.1")
        hog.stdin.close()
    until(lambda: forwarding.report()["refused"].get("too_many_of_one") == 8)
    until(lambda: forwarding.report()["open_calls"] == 0)


def test_a_bridge_that_comes_late_is_listened_on_and_followed_and_left(forwarding, nodes):
    node = forwarding.node
    node.bridge("br-late", "10.99.0.1/24")
    until(lambda: forwarding.listens_on().get("br-late") == "10.99.0.0/24", 5)
    container = nodes.container(node, "br-late", "10.99.0.2/24", "10.99.0.1")
    assert is_greeted(container, "10.99.0.1")

    node.ip("addr", "add", "10.98.0.1/24", "dev", "br-late")
    node.ip("addr", "del", "10.99.0.1/24", "dev", "br-late")
    assert not is_greeted(container, "172.17.0.1"), "its address is none of the bridge's any more"
    container.ip("addr", "add", "10.98.0.2/24", "dev", "eth0")
    until(lambda: forwarding.listens_on().get("br-late") == "10.98.0.0/24", 5)
    assert is_greeted(container, "10.98.0.1")

    node.ip("link", "del", "br-late")
    until(lambda: "br-late" not in forwarding.listens_on(), 5)
    assert "no longer listening on br-late" in forwarding.log()


def test_docker0_that_is_made_anew_is_listened_on_again(forwarding, nodes):
    node = forwarding.node
    node.ip("link", "del", "docker0")
    node.bridge("docker0", "172.17.0.1/16")
    container = nodes.container(node, "docker0", "172.17.0.7/16", "172.17.0.1")
    until(lambda: is_greeted(container, "172.17.0.1"), 5)


def test_a_bridge_that_a_lan_is_attached_to_is_not_listened_on(forwarding):
    node = forwarding.node
    node.bridge("br-lan", "192.168.9.1/24")
    until(lambda: "br-lan" in forwarding.listens_on(), 5)
    kind = node.wire("wire")
    node.ip("link", "set", "wire", "master", "br-lan")
    until(lambda: "br-lan" not in forwarding.listens_on(), 5)
    assert f"not listening on br-lan: wire ({kind}) is attached to it" in forwarding.log()
    node.ip("link", "del", "wire")
    node.ip("link", "del", "br-lan")


def test_a_bridge_that_is_the_way_out_is_not_listened_on(forwarding):
    node = forwarding.node
    node.bridge("br-wan", "192.168.10.1/24")
    node.ip("route", "add", "default", "via", "192.168.10.2", "metric", "5")
    until(lambda: any("br-wan" in one for one in forwarding.report()["notes"]), 5)
    assert "br-wan" not in forwarding.listens_on()
    node.ip("link", "del", "br-wan")


def test_a_lan_that_a_cable_of_this_machine_leads_to_is_not_served(forwarding, nodes):
    """Two bridges joined by a `veth`: a machine on the one is on the other as well."""
    node, lan = forwarding.node, nodes.node("l")
    node.ip("link", "add", "switch", "type", "bridge")
    node.ip("link", "set", "switch", "up")
    node.cable("lan7", lan, "eth0", others_address="10.96.0.9/24", bridge="switch")
    kind = node.wire("card")
    node.ip("link", "set", "card", "master", "switch")
    node.bridge("br-joined", "10.96.0.1/24")
    until(lambda: "br-joined" in forwarding.listens_on(), 5)
    node.ip("link", "add", "here", "type", "veth", "peer", "name", "there")
    for end, bridge in (("here", "br-joined"), ("there", "switch")):
        node.ip("link", "set", end, "master", bridge)
        node.ip("link", "set", end, "up")
    assert not is_greeted(lan, "10.96.0.1")
    until(lambda: "br-joined" not in forwarding.listens_on(), 5)
    assert f"not listening on br-joined: card ({kind}) is attached to it" in forwarding.log()
    for name in ("br-joined", "switch", "card", "here"):
        node.ip("link", "del", name)


@pytest.mark.parametrize(
    "route",
    [
        ["0.0.0.0/1"],
        ["default", "via", "10.95.0.2", "table", "100"],
        ["default", "nexthop", "via", "10.95.0.2", "nexthop", "via", "10.95.0.3"],
        ["default", "via", "fd95::2"],
    ],
    ids=" ".join,
)
def test_each_way_out_counts(forwarding, route):
    node, family = forwarding.node, "-6" if "fd95::2" in route else "-4"
    node.bridge("br-out", "10.95.0.1/24")
    until(lambda: "br-out" in forwarding.listens_on(), 5)
    node.ip("addr", "add", "fd95::1/64", "dev", "br-out", "nodad")
    through = [] if "nexthop" in route else ["dev", "br-out"]
    node.ip(family, "route", "add", route[0], "metric", "7", *route[1:], *through)
    why = "not listening on br-out: a default route leads through it"
    until(lambda: why in " ".join(forwarding.report()["notes"]), 5)
    assert "br-out" not in forwarding.listens_on()
    node.ip("link", "del", "br-out")


def test_everywhere_accepts_connections_from_the_subnets_that_are_named_and_no_others(
    forwarding, lans
):
    forwarding.stop("port-forward")
    env = {"KTRDR_FORWARD_BIND": "0.0.0.0", "KTRDR_FORWARD_CALLERS": "10.66.0.0/24,10.7.0.0/16"}
    forwarding.start_forwarder(**env)
    until(lambda: forwarding.listens_on() == {"0.0.0.0": "10.66.0.0/24, 10.7.0.0/16"})
    assert is_greeted(lans["office"], "10.66.0.1")
    targets = [f"{a}:{FORWARD}" for a in HOSTS_ADDRESSES]
    assert received(lans["hotspot"], *targets) == [0] * 5
    assert received(lans["home"], *targets) == [0] * 5
    forwarding.stop("port-forward")


def test_what_is_attached_to_a_bridge_is_seen_where_sysfs_is_another_namespaces(forwarding, nodes):
    """`nsenter --net` leaves /sys as it was; a systemd unit or a chroot may have none at all."""
    node, lan = forwarding.node, nodes.node("l")
    node.bridge("br-seen", "10.94.0.1/24")
    node.cable("lan8", lan, "eth0", others_address="10.94.0.9/24", bridge="br-seen")
    node.wire("seen")
    node.ip("link", "set", "seen", "master", "br-seen")
    entered = ["nsenter", f"--net=/run/netns/{node.name}", "./scripts/ib_port_forward.sh"]
    target = {"KTRDR_FORWARD_TARGET": f"127.0.0.1:{SIMULATED}"}
    forwarding.start("port-forward", *entered, inside=False, **target)
    until(lambda: forwarding.report().get("gateway") == "reached", log=forwarding.log)
    assert "br-seen" not in forwarding.listens_on()
    assert not is_greeted(lan, "10.94.0.1")
    forwarding.stop("port-forward")
    node.ip("link", "del", "br-seen")
    node.ip("link", "del", "seen")


def test_a_lan_whose_interface_is_called_lo_is_not_this_machine(nodes):
    node, lan = nodes.node("renamed"), nodes.node("l")
    node.ip("link", "set", "lo", "down")
    node.ip("link", "set", "lo", "name", "mine")
    node.ip("link", "set", "mine", "up")
    node.cable("lo", lan, "eth0", address="10.93.0.1/24", others_address="10.93.0.2/24")
    host = Host(node)
    try:
        host.start("sim", sys.executable, "-m", "ktrdr.sim")
        host.start_forwarder()
        until(lambda: host.report().get("gateway") == "reached", log=host.log)
        assert received(node, f"127.0.0.1:{FORWARD}")[0] > 0
        assert not is_greeted(lan, "10.93.0.1")
    finally:
        host.end()


def test_an_address_of_a_lan_needs_the_subnets_named_too(forwarding):
    forwarding.start_forwarder(KTRDR_FORWARD_BIND="192.168.77.1")
    assert forwarding.processes.pop("port-forward").wait(15) == 78
    last = forwarding.log().splitlines()[-1]
    assert "KTRDR_FORWARD_BIND=192.168.77.1: expected also KTRDR_FORWARD_CALLERS" in last


def test_an_address_that_is_not_there_yet_is_waited_for(forwarding, nodes):
    node = forwarding.node
    forwarding.start_forwarder(KTRDR_FORWARD_BIND="10.97.0.1")
    until(lambda: "10.97.0.1 is no address" in " ".join(forwarding.report()["complaints"]))
    node.bridge("br-given", "10.97.0.1/24")
    container = nodes.container(node, "br-given", "10.97.0.2/24", "10.97.0.1")
    until(lambda: is_greeted(container, "10.97.0.1"), 5)
    forwarding.stop("port-forward")
