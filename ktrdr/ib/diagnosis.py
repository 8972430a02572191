"""Diagnose the connection to IB: causes and next steps from facts gathered elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

CLOCK_S = 5.0
"""A clock that is further off counts as wrong: it decides whether a bar is finished."""

_MENU = "Configure, Settings, API, Settings"


@dataclass(frozen=True)
class Refused:
    """A contract whose data IB refuses."""

    symbol: str
    outcome: str
    message: str
    hint: str


@dataclass(frozen=True)
class Facts:
    """The facts gathered, in the words of `port_probe.PortState` and of the local API."""

    host: str
    port: int
    is_simulated: bool
    is_this_machine: bool
    """The host is a loopback address, which a gateway always trusts."""
    is_forwarded: bool
    """Between here and the gateway there is a port forwarder."""
    seen: str
    """The state of the port: `closed`, `greeted` …"""
    seen_why: str = ""
    version: int | None = None
    oldest_version: int = 157
    """The oldest protocol that IB's library speaks."""
    why_silent: str = ""
    """Why ib-connection does not respond; empty: it responds."""
    state: str = ""
    expected: str = ""
    expected_kind: str = ""
    reminder: str = ""
    client_id: int | None = None
    first_client_id: int = 1
    error_code: int | None = None
    error: str = ""
    hint: str = ""
    foreign_text: str = ""
    """The gateway's last text in another language than English."""
    broken_farms: tuple[str, ...] = ()
    refused: tuple[Refused, ...] = ()
    clock_offset_s: float | None = None
    is_read_only: bool | None = None
    forwarding: str = ""
    """The addresses on which this machine's port-forward listens; empty: it does not run."""
    forwarding_troubles: tuple[str, ...] = ()
    """Where it fails to listen, and why; or that it is full, or cannot reach the gateway."""
    data: str = ""
    """The outcome of a request for bars, such as `answered`; empty: none was sent."""
    data_why: str = ""

    @property
    def where(self) -> str:
        """The gateway's address."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True)
class Finding:
    """A cause with its next step, or useful information that needs none."""

    cause: str
    what: str
    next_step: str = ""
    is_trouble: bool = True


def diagnose(facts: Facts) -> list[Finding]:
    """All findings from the facts, those that block data first; never empty."""
    found = [*_of_the_program(facts)]
    if facts.expected:
        found.append(_awaited(facts))
    else:
        found += _of_the_port(facts)
    found += _of_the_session(facts)
    found += _of_the_data(facts)
    found += _of_the_forwarder(facts)
    found += _worth_knowing(facts)
    if any(finding.is_trouble for finding in found) or facts.expected:
        return found
    if facts.state in ("connected", "farm_down") and facts.data == "answered":
        well = f"{facts.where} answers, and bars are available"
        return [Finding("well", well, is_trouble=False), *found]
    why = facts.data_why or facts.error or "nothing was answered yet"
    state = f"no data yet ({facts.state}): {why}"
    return [Finding("not_connected", state, "check again in a minute"), *found]


def _of_the_program(facts: Facts) -> Iterator[Finding]:
    if facts.why_silent:
        yield Finding(
            "program_down",
            f"ib-connection does not respond: {facts.why_silent}",
            ".venv/bin/supervisorctl restart ib-connection, or ./scripts/up",
        )


def _awaited(facts: Facts) -> Finding:
    if facts.expected_kind == "log_out":
        return Finding(
            "logged_out",
            "the gateway's weekly log-in has ended",
            "log in to the gateway, with the second factor",
        )
    return Finding("expected_restart", facts.expected, "wait", is_trouble=False)


def _of_the_port(facts: Facts) -> Iterator[Finding]:
    """Findings from the port's state, from the network inwards."""
    match facts.seen:
        case "closed":
            yield _closed(facts)
        case "unreachable":
            yield Finding(
                "unreachable",
                f"{facts.where} does not answer at all",
                "is that machine up, does a firewall let this through?",
            )
        case "mute":
            yield Finding(
                "mute",
                f"{facts.where} accepts connections but does not respond",
                "restart the gateway, and log in if it waits for that",
            )
        case "hung_up":
            yield _hung_up(facts)
        case "foreign":
            yield Finding(
                "not_a_gateway",
                f"what listens at {facts.where} is no IB Gateway: it sent {facts.seen_why}",
                "set IB_PORT: 4001 and 4002 are IB Gateway's, 7496 and 7497 TWS's",
            )
        case "greeted" if facts.version is not None and facts.version < facts.oldest_version:
            yield Finding(
                "version_too_old",
                f"{facts.where} speaks protocol {facts.version}; at least "
                f"{facts.oldest_version} is needed",
                "install a current IB Gateway or TWS",
            )


def _closed(facts: Facts) -> Finding:
    """The port refuses connections, or its host is unknown."""
    if facts.is_simulated:
        step = ".venv/bin/supervisorctl start gateway-sim"
        return Finding("port_closed", f"no simulated gateway at {facts.where}", step)
    if facts.is_forwarded:
        return Finding(
            "forwarder_down",
            f"no port forwarder at {facts.where} ({facts.seen_why})",
            "on the gateway's machine: ./scripts/ib_port_forward.sh",
        )
    return Finding(
        "port_closed",
        f"cannot connect to {facts.where} ({facts.seen_why})",
        "start IB Gateway or TWS and log in; is its socket port this one "
        f"({_MENU}), is IB_HOST right?",
    )


def _hung_up(facts: Facts) -> Finding:
    if facts.is_forwarded and facts.seen_why == "reset":
        return Finding(
            "forwarder_refuses",
            f"the forwarder at {facts.where} refuses connections from here: it serves the "
            "containers of its own machine",
            "on its machine ./scripts/ib_port_forward.sh --check tells whom, and its log why not",
        )
    if facts.is_forwarded:
        return Finding(
            "forwarder_alone",
            f"the forwarder at {facts.where} closes the connection: there is no gateway "
            "behind it, or as many connections are open as it accepts",
            "start IB Gateway and log in; does the forwarder go to its port "
            "(KTRDR_FORWARD_TARGET)? On its machine ./scripts/ib_port_forward.sh --check tells",
        )
    if not facts.is_this_machine:
        return Finding(
            "trusted_ip",
            f"{facts.where} closes the connection during the handshake: it does not trust this "
            "machine's address",
            f"add it to the gateway's Trusted IPs ({_MENU}), and take away "
            '"Allow connections from localhost only"',
        )
    return Finding(
        "handshake_refused",
        f"{facts.where} closes the connection during the handshake",
        f'enable "ActiveX and Socket Clients" ({_MENU}), or restart the gateway',
    )


def _of_the_session(facts: Facts) -> Iterator[Finding]:
    """Problems of the connection itself."""
    if facts.error_code == 326 and facts.state in ("waiting", "connecting"):
        yield Finding("id_in_use", facts.error, facts.hint)
    elif facts.seen == "greeted" and facts.state in ("waiting", "dead") and facts.error:
        yield Finding("not_connected", facts.error, facts.hint or "wait for the next attempt")
    if facts.state == "upstream_lost":
        yield Finding(
            "upstream_lost",
            "the gateway has lost IB's servers",
            "wait: it goes on trying; is its machine's own internet connection up?",
        )
    if facts.state == "competing_session" or facts.data == "competing_session":
        yield Finding(
            "competing_session",
            "IB gives the data to another session of the same user",
            "log out there, or use a second user for this gateway",
        )


def _of_the_data(facts: Facts) -> Iterator[Finding]:
    """Problems that keep a working connection from receiving bars."""
    if facts.broken_farms:
        broken = f"data farms of IB's are broken: {', '.join(facts.broken_farms)}"
        yield Finding("farm_down", broken, "wait: they come back by themselves")
    elif facts.state == "history_down":
        yield Finding("farm_down", facts.error, "wait: farms come back by themselves")
    if facts.foreign_text:
        yield Finding(
            "not_english",
            f"the gateway's texts are not in English: “{facts.foreign_text}”",
            f'switch on "Show API error messages in English" ({_MENU}): the texts decide what an '
            "error means",
        )
    for one in facts.refused:
        cause = "no_permission" if one.outcome == "not_entitled" else one.outcome
        yield Finding(cause, f"{one.symbol}: {one.message}", one.hint)
    if facts.data not in ("", "answered", "competing_session", "not_connected"):
        step = "restart the gateway when this stays so"
        yield Finding("no_data", f"a historical-data request failed: {facts.data_why}", step)
    if facts.clock_offset_s is not None and abs(facts.clock_offset_s) >= CLOCK_S:
        yield Finding(
            "clock_wrong",
            f"the gateway's clock and this machine's are {abs(facts.clock_offset_s):.0f} s apart",
            "set both by the network's time, such as: timedatectl set-ntp true",
        )


def _of_the_forwarder(facts: Facts) -> Iterator[Finding]:
    """Problems that keep this machine's containers from the gateway."""
    for trouble in facts.forwarding_troubles:
        yield Finding(
            "forwarder_trouble",
            f"port-forward: {trouble}",
            "fix what it names, then run ./scripts/ib_port_forward.sh --check",
        )
    if facts.forwarding:
        yield Finding(
            "forwarding",
            f"port-forward accepts connections for {facts.forwarding}",
            is_trouble=False,
        )


def _worth_knowing(facts: Facts) -> Iterator[Finding]:
    if facts.reminder:
        yield Finding("reminder", facts.reminder, is_trouble=False)
    if facts.is_read_only:
        yield Finding(
            "read_only_api",
            'the gateway\'s "Read-Only API" is on, which is right for this program; others wait '
            "for their orders in vain",
            is_trouble=False,
        )
    moved = facts.client_id is not None and facts.client_id != facts.first_client_id
    if moved and facts.state not in ("waiting", "connecting", "dead", "logged_out"):
        yield Finding(
            "id_moved",
            f"client id {facts.first_client_id} is in use, so {facts.client_id} is used",
            is_trouble=False,
        )
