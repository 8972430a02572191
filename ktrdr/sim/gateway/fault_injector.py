"""Begins and ends faults, and applies those of the port and of whole connections."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ktrdr.errors import InvalidRequest, Misconfigured
from ktrdr.sim.gateway import answer_damage, notices
from ktrdr.sim.gateway.connection import Connection
from ktrdr.sim.gateway.faults import Faults, Value, Values, known
from ktrdr.sim.gateway.listener import Listener
from ktrdr.sim.gateway.record import Record
from ktrdr.sim.gateway.refusals import Refusal
from ktrdr.sim.gateway.stream_losses import loss_of

_CLOSED_PORT = ("refuse", "restart", "logged_out")
_LONGEST_S = 1e9

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Period:
    """When a fault began, and when it ends by itself; None: it does not. In real time."""

    since: datetime
    until: datetime | None


class FaultInjector:
    """Begins and ends faults. Every method is for the event loop's thread."""

    def __init__(
        self,
        faults: Faults,
        listener: Listener,
        connections: Callable[[], Iterable[Connection]],
        record: Record,
        now: Callable[[], datetime],
    ) -> None:
        self._faults = faults
        self._listener = listener
        self._connections = connections
        self._record = record
        self._now = now
        self._ends: dict[str, asyncio.TimerHandle] = {}
        self._periods: dict[str, Period] = {}

    @property
    def periods(self) -> dict[str, Period]:
        """The periods of the faults in force, by name."""
        return {name: self._periods[name] for name in self._faults.active}

    def begin(self, name: str, given: Values) -> None:
        """Begin a fault. Parameter `for_s`: it ends by itself after that many seconds.

        InvalidRequest: no such fault, or no such parameter.
        """
        for_s, own = _duration(given)
        if name == "notice":
            notices.notice(int(known(name).read(own)["code"]))
        values = self._faults.begin(name, own)
        self._forget_end(name)
        self._periods[name] = _period(for_s)
        if for_s is not None:
            loop = asyncio.get_running_loop()
            self._ends[name] = loop.call_later(for_s, self._end_by_itself, name)
        log.warning("fault %s begins%s", name, f", {values}" if values else "")
        self._record.fault(self._now(), name, "begun", values)
        self._apply(name, values)
        self._lose_streams(name, values)

    def end(self, name: str) -> bool:
        """End a fault; False: it was not in force. Misconfigured: the port cannot be reopened."""
        self._forget_end(name)
        values = self._faults.end(name)
        if values is None:
            return False
        log.warning("fault %s ends", name)
        self._record.fault(self._now(), name, "ended", values)
        self._restore(name, values)
        return True

    def forget_ends(self) -> None:
        """Cancel the automatic ends of all faults."""
        for name in list(self._ends):
            self._forget_end(name)

    def _apply(self, name: str, values: Values) -> None:
        if name in _CLOSED_PORT:
            self._listener.close()
        match name:
            case "drop":
                self._drop(is_reset=values["how"] == "rst")
            case "restart" | "logged_out":
                self._drop(is_reset=False)
            case "half_open":
                self._set_unresponsive(is_unresponsive=True)
            case "garbage":
                for connection in self._connections():
                    connection.send_raw(answer_damage.garbage(int(values["bytes"])))
            case "connectivity_lost":
                self._send_notice(notices.notice(1100))
            case "notice":
                self._send_notice(notices.notice(int(values["code"])))
            case "farm_broken" if values["told"] != "no":
                self._send_notice(notices.farm_broken(str(values["farm"])))

    def _lose_streams(self, name: str, values: Values) -> None:
        if loss := loss_of(name, values):
            for connection in self._connections():
                connection.lose_streams(loss)

    def _restore(self, name: str, values: Values) -> None:
        if name in _CLOSED_PORT and not any(map(self._faults.has, _CLOSED_PORT)):
            self._listener.open()
        match name:
            case "half_open":
                self._set_unresponsive(is_unresponsive=False)
            case "connectivity_lost":
                self._send_notice(notices.notice(int(values["back"])))
            case "farm_broken" if values["told"] == "yes":
                self._send_notice(notices.farm_back(str(values["farm"])))

    def _drop(self, *, is_reset: bool) -> None:
        for connection in self._connections():
            connection.abort(is_reset=is_reset)

    def _set_unresponsive(self, *, is_unresponsive: bool) -> None:
        for connection in self._connections():
            connection.set_unresponsive(is_unresponsive)

    def _send_notice(self, notice: Refusal) -> None:
        for connection in self._connections():
            connection.send_notice(notice)

    def _end_by_itself(self, name: str) -> None:
        try:
            self.end(name)
        except Misconfigured as error:
            log.error("fault %s cannot end: %s", name, error)

    def _forget_end(self, name: str) -> None:
        if timer := self._ends.pop(name, None):
            timer.cancel()


def _period(for_s: float | None) -> Period:
    since = datetime.now(UTC)  # timers run in real time, whatever the gateway's clock does
    return Period(since, None if for_s is None else since + timedelta(seconds=for_s))


def _duration(given: Values) -> tuple[float | None, dict[str, Value]]:
    """`for_s` in seconds, and the fault's own parameters."""
    own = dict(given)
    text = own.pop("for_s", None)
    if text is None:
        return None, own
    try:
        for_s = float(text)
    except ValueError:
        for_s = -1.0
    if not 0 <= for_s <= _LONGEST_S:
        raise InvalidRequest(f"for_s={text!r}, expected seconds")
    return for_s, own
