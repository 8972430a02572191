"""The gateways of a host: which of the usual ports answer, and what each is by its port."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ktrdr.config.settings import REAL_GATEWAY_PORTS
from ktrdr.ib.diagnosis import Finding, diagnose_port
from ktrdr.ib.doctor import facts_of_port, probe_ports
from ktrdr.ib.port_state import PortState

KINDS = {
    4001: "IB Gateway, live",
    4002: "IB Gateway, paper",
    7496: "TWS, live",
    7497: "TWS, paper",
}
"""What listens at each of the usual ports, unless somebody has changed it."""
_USUAL = 4002


@dataclass(frozen=True)
class Gateway:
    """A port, and what one handshake with it showed."""

    host: str
    port: int
    findings: tuple[Finding, ...]
    """As `ktrdr doctor` would have them."""
    is_silent: bool
    """Nothing listens there."""

    @property
    def answers(self) -> bool:
        """It is a gateway that can be used."""
        return not any(finding.is_trouble for finding in self.findings)

    @property
    def kind(self) -> str:
        """What it is by its port."""
        return KINDS.get(self.port, "live or paper is not known from this port")


def find_gateways(host: str, further: Sequence[int] = (), forward_port: int = 0) -> list[Gateway]:
    """The usual ports of a host, and further ones, each tried once, all at the same time."""
    ports = list(dict.fromkeys((*further, *REAL_GATEWAY_PORTS)))
    found = []
    for port, probe in probe_ports(host, ports).items():
        facts = facts_of_port(host, port, probe, is_forwarded=port == forward_port)
        is_silent = probe.state in (PortState.CLOSED, PortState.UNREACHABLE)
        found.append(Gateway(host, port, tuple(diagnose_port(facts)), is_silent))
    return found


def likely(found: Sequence[Gateway]) -> int:
    """The port that is most likely meant: one that answers, paper before live, else the usual."""
    answering = [one.port for one in found if one.answers]
    paper_first = sorted(answering, key=lambda port: "paper" not in KINDS.get(port, ""))
    return next(iter(paper_first), _USUAL)
