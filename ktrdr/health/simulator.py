"""The simulated gateway's faults: which there are, which are in force; begins and ends them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import quote, urlencode

from ktrdr.config.settings import Settings
from ktrdr.errors import KtrdrError
from ktrdr.health.latest import Latest
from ktrdr.health.peers import REQUEST_TIMEOUT_S, Answer
from ktrdr.ipc.client import LocalClient
from ktrdr.ipc.text import expect_text

Value = str | int | float
"""A parameter of a fault."""

_FRESH_S = 0.5


@dataclass(frozen=True)
class Fault:
    """A fault that the gateway can have."""

    says: str
    """What it does; names and values in backquotes."""
    values: dict[str, Value] = field(default_factory=dict)
    """Its parameters with their defaults."""
    choices: dict[str, list[Value]] = field(default_factory=dict)
    """The values that a parameter may have; empty: any."""
    momentary: bool = False
    """It happens once, and is never in force."""


@dataclass(frozen=True)
class FaultPeriod:
    """When a fault began, and when it ends by itself; None: it does not."""

    since: datetime
    until: datetime | None = None


@dataclass(frozen=True)
class FaultsInForce:
    """The gateway's status, as far as its faults are concerned."""

    faults: dict[str, dict[str, Value]]
    """The parameters of each."""
    periods: dict[str, FaultPeriod] = field(default_factory=dict)


@dataclass(frozen=True)
class FaultBoard:
    """All faults by name, and those in force."""

    known: dict[str, Fault]
    in_force: FaultsInForce


class Simulator:
    """gateway-sim at its socket. What it says is requested at most twice a second."""

    def __init__(self, settings: Settings) -> None:
        self._client = LocalClient(settings.sim_socket, "gateway-sim")
        self._board = Latest(self._fetched, _FRESH_S)

    def board(self) -> Answer[FaultBoard]:
        """The faults; None: the simulated gateway does not answer."""
        return self._board.get()

    def begin(self, name: str, values: Mapping[str, str], for_s: str = "") -> None:
        """Begin a fault. `for_s`: seconds after which it ends by itself; empty: it does not.

        InvalidRequest: the gateway has no such fault, parameter or value. PeerDown: no answer.
        """
        given = dict(values) | ({"for_s": for_s} if for_s else {})
        expect_text({"fault": name} | given)
        self._client.post(f"{_path(name)}?{urlencode(given)}", REQUEST_TIMEOUT_S)
        self._board.forget()

    def end(self, name: str) -> bool:
        """End a fault; False: it was not in force. Raises as `begin`."""
        expect_text({"fault": name})
        answer = self._client.delete(_path(name), REQUEST_TIMEOUT_S)
        self._board.forget()
        return bool(answer.get("was_in_force"))

    def end_all(self) -> int:
        """End the faults that are in force; returns how many there were. PeerDown: no answer."""
        return sum(map(self.end, self._in_force().faults))

    def _in_force(self) -> FaultsInForce:
        return self._client.request(FaultsInForce, "GET", "/status", REQUEST_TIMEOUT_S)

    def _fetched(self) -> Answer[FaultBoard]:
        try:
            known = self._client.request(dict[str, Fault], "GET", "/faults", REQUEST_TIMEOUT_S)
            return Answer(FaultBoard(known, self._in_force()))
        except KtrdrError as error:
            return Answer(None, error.message, error.hint)


def _path(name: str) -> str:
    return f"/fault/{quote(name, safe='')}"
