"""A small world of network namespaces: a host with container bridges, containers, LANs, a router.

Needs root and iproute2. Nothing of it touches this machine's own network.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess

import pytest

_numbers = itertools.count()


def needs_namespaces():
    """Skip, and say so, where none can be made."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("network namespaces need root and iproute2")
    name = f"kt{os.getpid():x}probe"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"network namespaces cannot be made here: {made.stderr.strip()}")
    subprocess.run(["ip", "netns", "del", name], check=True)


class Node:
    """One machine: a namespace with a loopback device that is up."""

    def __init__(self, name):
        self.name = f"kt{os.getpid():x}{next(_numbers)}{name}"
        _run("ip", "netns", "add", self.name)
        self.ip("link", "set", "lo", "up")

    def ip(self, *words):
        _run("ip", "-n", self.name, *words)

    def command(self, *words):
        return [shutil.which("ip"), "netns", "exec", self.name, *map(str, words)]

    def sysctl(self, name, value):
        """A setting of the kernel for this namespace."""
        _run(*self.command("sh", "-c", f"echo {value} >/proc/sys/{name.replace('.', '/')}"))

    def bridge(self, name, address):
        self.ip("link", "add", name, "type", "bridge")
        self.ip("addr", "add", address, "dev", name)
        self.ip("link", "set", name, "up")

    def wire(self, name):
        """An interface that is no container's, of a kind that this kernel has; its kind."""
        for kind in ("dummy", "ifb"):
            with contextlib.suppress(AssertionError):
                self.ip("link", "add", name, "type", kind)
                return kind
        pytest.skip("this kernel has neither dummy nor ifb interfaces")

    def cable(self, own, other, others, *, address=None, others_address=None, bridge=None):
        """A cable to another machine: to an interface of ours, or into a bridge of ours."""
        _run("ip", "link", "add", own, "netns", self.name, "type", "veth",
             "peer", "name", others, "netns", other.name)  # fmt: skip
        if bridge:
            self.ip("link", "set", own, "master", bridge)
        if address:
            self.ip("addr", "add", address, "dev", own)
        if others_address:
            other.ip("addr", "add", others_address, "dev", others)
        self.ip("link", "set", own, "up")
        other.ip("link", "set", others, "up")

    def delete(self):
        subprocess.run(["ip", "netns", "del", self.name], check=False)


def _run(*words):
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"


class World:
    """Makes machines, and takes them away again."""

    def __init__(self):
        self.nodes = []

    def node(self, name):
        self.nodes.append(Node(name))
        return self.nodes[-1]

    def container(self, host, bridge, address, gateway):
        """One on a bridge of the host, with its default route there."""
        number = next(_numbers)
        made = self.node("c")
        host.cable(f"v{number}", made, "eth0", others_address=address, bridge=bridge)
        made.ip("route", "add", "default", "via", gateway)
        return made

    def end(self):
        for node in self.nodes:
            node.delete()


@contextlib.contextmanager
def world():
    """A world that is gone afterwards; skips where none can be made."""
    needs_namespaces()
    made = World()
    try:
        yield made
    finally:
        made.end()
