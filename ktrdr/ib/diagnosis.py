"""Diagnose the connection to IB: causes and next steps from facts gathered elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ktrdr.errors import CompetingSession, NotConnected, PeerDown
from ktrdr.ib.port_state import OLDEST_VERSION, RESET, PortProbe, PortState
from ktrdr.ib.states import RETRYING, WITH_DATA, State
from ktrdr.ipc.messages import ConnectionStatus, TrialResult

CLOCK_S = 5.0
"""A clock that is further off counts as wrong: it decides whether a bar is finished."""

_MENU = "Configure, Settings, API, Settings"
_RESTART = ".venv/bin/supervisorctl restart ib-connection, or ./scripts/up"
"""The oldest protocol that IB's library speaks."""
_ID_IN_USE = 326


@dataclass(frozen=True)
class Facts:
    """The facts about the gateway's port, ib-connection, and this machine's port-forward."""

    host: str
    port: int
    is_simulated: bool
    is_this_machine: bool
    """The host is a loopback address, which a gateway always trusts."""
    is_forwarded: bool
    """Between here and the gateway there is a port forwarder."""
    first_client_id: int
    probe: PortProbe
    status: ConnectionStatus | None
    """None: ib-connection gives none."""
    why_silent: str
    """Why not; else empty."""
    trial: TrialResult
    forwarding: str
    """The addresses on which this machine's port-forward listens; empty: it does not run."""
    forwarding_troubles: tuple[str, ...]
    """Where it fails to listen, and why; or that it is full, or cannot reach the gateway."""
    steps: Mapping[str, str] = field(default_factory=dict)
    """Program that does not run → what starts it, where that is known."""

    @property
    def where(self) -> str:
        """The gateway's address."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True)
class Finding:
    """A problem with its next step, or useful information that needs none."""

    what: str
    next_step: str = ""
    is_trouble: bool = True


def diagnose(facts: Facts) -> list[Finding]:
    """All findings from the facts, those that block data first; never empty."""
    status, trial = facts.status, facts.trial
    if status is None:
        step = facts.steps.get("ib-connection") or _RESTART
        silent = Finding(f"no status from ib-connection: {facts.why_silent}", step)
        return [silent, *_of_the_port(facts), *_of_the_forwarder(facts)]
    found = [
        *([_awaited(status)] if status.expected else _of_the_port(facts)),
        *_of_the_session(facts, status),
        *_of_the_data(status, trial),
        *_of_the_forwarder(facts),
        *_worth_knowing(facts, status),
    ]
    if any(finding.is_trouble for finding in found) or status.expected:
        return found
    if status.state in WITH_DATA and trial.data == "answered":
        return [Finding(f"{facts.where} answers, and bars are available", is_trouble=False), *found]
    error = status.last_error.message if status.last_error else ""
    why = trial.message or error or "nothing was answered yet"
    return [Finding(f"no data yet ({status.state}): {why}", "check again in a minute"), *found]


def diagnose_port(facts: Facts) -> list[Finding]:
    """The findings from the port alone, before there is a group; never empty."""
    return [*_of_the_port(facts)] or [
        Finding(
            f"{facts.where} answers as a gateway does (protocol {facts.probe.version})",
            is_trouble=False,
        )
    ]


def _awaited(status: ConnectionStatus) -> Finding:
    if status.expected_kind == "log_out":
        return Finding(
            "the gateway's weekly log-in has ended",
            "log in to the gateway, with the second factor",
        )
    return Finding(status.expected, "wait", is_trouble=False)


def _of_the_port(facts: Facts) -> Iterator[Finding]:
    """Findings from the port's state, from the network inwards."""
    match facts.probe.state:
        case PortState.CLOSED:
            yield _closed(facts)
        case PortState.UNREACHABLE:
            yield Finding(
                f"{facts.where} does not answer at all",
                "is that machine up, does a firewall let this through?",
            )
        case PortState.UNRESPONSIVE:
            yield Finding(
                f"{facts.where} accepts connections but does not respond",
                "restart the gateway, and log in if it waits for that",
            )
        case PortState.CLOSES:
            yield _closes(facts)
        case PortState.FOREIGN:
            yield Finding(
                f"what listens at {facts.where} is no IB Gateway: it sent {facts.probe.why}",
                "set IB_PORT: 4001 and 4002 are IB Gateway's, 7496 and 7497 TWS's",
            )
        case PortState.OUTDATED:
            yield Finding(
                f"{facts.where} speaks protocol {facts.probe.version}; at least "
                f"{OLDEST_VERSION} is needed",
                "install a current IB Gateway or TWS",
            )


def _closed(facts: Facts) -> Finding:
    """The port refuses connections, or its host is unknown."""
    if facts.is_simulated:
        step = facts.steps.get("gateway-sim") or ".venv/bin/supervisorctl restart gateway-sim"
        return Finding(f"no simulated gateway at {facts.where}", step)
    if facts.is_forwarded:
        return Finding(
            f"no port forwarder at {facts.where} ({facts.probe.why})",
            "on the gateway's machine: ./scripts/ib_port_forward.sh",
        )
    return Finding(
        f"cannot connect to {facts.where} ({facts.probe.why})",
        "start IB Gateway or TWS and log in; is its socket port this one "
        f"({_MENU}), is IB_HOST right?",
    )


def _closes(facts: Facts) -> Finding:
    if facts.is_forwarded and facts.probe.why == RESET:
        return Finding(
            f"the forwarder at {facts.where} refuses connections from here: it serves the "
            "containers of its own machine",
            "on its machine ./scripts/ib_port_forward.sh --check tells whom, and its log why not",
        )
    if facts.is_forwarded:
        return Finding(
            f"the forwarder at {facts.where} closes the connection: there is no gateway "
            "behind it, or as many connections are open as it accepts",
            "start IB Gateway and log in; does the forwarder go to its port "
            "(KTRDR_FORWARD_TARGET)? On its machine ./scripts/ib_port_forward.sh --check tells",
        )
    if not facts.is_this_machine:
        return Finding(
            f"{facts.where} closes the connection during the handshake: it does not trust this "
            "machine's address",
            f"add it to the gateway's Trusted IPs ({_MENU}), and take away "
            '"Allow connections from localhost only"',
        )
    return Finding(
        f"{facts.where} closes the connection during the handshake",
        f'enable "ActiveX and Socket Clients" ({_MENU}), or restart the gateway',
    )


def _of_the_session(facts: Facts, status: ConnectionStatus) -> Iterator[Finding]:
    """Problems of the connection itself."""
    error, state = status.last_error, status.state
    if error and error.code == _ID_IN_USE and state in (State.WAITING, State.CONNECTING):
        yield Finding(error.message, error.hint)
    elif error and facts.probe.state is PortState.GREETED and state in (State.WAITING, State.DEAD):
        yield Finding(error.message, error.hint or "wait for the next attempt")
    if state == State.UPSTREAM_LOST:
        yield Finding(
            "the gateway has lost IB's servers",
            "wait: it goes on trying; is its machine's own internet connection up?",
        )
    if state == State.COMPETING_SESSION or facts.trial.data == CompetingSession.outcome:
        yield Finding(
            "IB gives the data to another session of the same user",
            "log out there, or use a second user for this gateway",
        )


def _of_the_data(status: ConnectionStatus, trial: TrialResult) -> Iterator[Finding]:
    """Problems that keep a working connection from receiving bars."""
    if broken := [farm.name for farm in status.farms if not farm.up]:
        what = f"data farms of IB's are broken: {', '.join(broken)}"
        yield Finding(what, "wait: they come back by themselves")
    elif status.state == State.HISTORY_DOWN:
        error = status.last_error.message if status.last_error else "IB delivers no bars"
        yield Finding(error, "wait: farms come back by themselves")
    if status.foreign_text:
        yield Finding(
            f"the gateway's texts are not in English: “{status.foreign_text}”",
            f'switch on "Show API error messages in English" ({_MENU}): the texts decide what an '
            "error means",
        )
    for one in status.refused:
        yield Finding(f"{one.symbol}: {one.message}", one.hint)
    if trial.data == PeerDown.outcome:
        yield Finding(f"ib-connection tried no request: {trial.message}", _RESTART)
    elif trial.data not in ("answered", CompetingSession.outcome, NotConnected.outcome):
        step = "restart the gateway when this stays so"
        yield Finding(f"a historical-data request failed: {trial.message}", step)
    offset_s = abs(trial.clock_offset_s or 0)
    if offset_s >= CLOCK_S:
        yield Finding(
            f"the gateway's clock and this machine's are {offset_s:.0f} s apart",
            "set both by the network's time, such as: timedatectl set-ntp true",
        )


def _of_the_forwarder(facts: Facts) -> Iterator[Finding]:
    """Problems that keep this machine's containers from the gateway."""
    for trouble in facts.forwarding_troubles:
        yield Finding(
            f"port-forward: {trouble}",
            "fix what it names, then run ./scripts/ib_port_forward.sh --check",
        )
    if facts.forwarding:
        what = f"port-forward accepts connections for {facts.forwarding}"
        yield Finding(what, is_trouble=False)


def _worth_knowing(facts: Facts, status: ConnectionStatus) -> Iterator[Finding]:
    if status.reminder:
        yield Finding(status.reminder, is_trouble=False)
    if facts.trial.is_read_only:
        yield Finding(
            'the gateway\'s "Read-Only API" is on, which is right for this program; others wait '
            "for their orders in vain",
            is_trouble=False,
        )
    used, first = status.client_id, facts.first_client_id
    if used not in (None, first) and status.state not in (*RETRYING, State.CONNECTING):
        yield Finding(f"client id {first} is in use, so {used} is used", is_trouble=False)
