"""The record of requests and their outcomes: dicts in memory and JSON lines in a file."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

from ktrdr.sim.gateway.faults import HISTORY, Values
from ktrdr.sim.gateway.limits import Violation
from ktrdr.sim.gateway.request_handlers import Reply
from ktrdr.sim.gateway.summary import Summary
from ktrdr.sim.gateway.wire import Request

_CONNECTION, _GATEWAY = Request("connection"), Request("gateway")


class Record:
    """Two entries for each request: `received`, then `answered`, `cancelled` or `swallowed`.

    Keys: `event`, `time` (ISO 8601, UTC, the gateway's clock), `client_id`, `kind`, `request_id`;
    of a contract `con_id`, `symbol`, `sec_type`, `expiry`, `exchange`, `primary_exchange`,
    `currency`, `multiplier`, `trading_class`, `local_symbol`; of a history request `end`,
    `duration`, `bar_size`, `what_to_show`, `use_rth`. Answered: `bars` (their number),
    `error_code` (None: no error) and `verdict`, the limit or the fault behind the answer, empty
    for none.

    A stream that a fault takes away has another entry, `lost` (`verdict`: the fault).

    Other events: `violation` (`verdict`: the limit), `fault` (`verdict`: its name, `state`: begun
    or ended, `values`), `connected` (`version`) and `disconnected`.
    """

    def __init__(self, path: Path | None = None, *, keep: bool = True) -> None:
        """`path`: also append to this file. `keep`: keep the entries in memory, too."""
        self.events: list[dict[str, Any]] = []
        """All entries."""
        self.entries: list[dict[str, Any]] = []
        """The entries of requests."""
        self._keep = keep
        self._path = path
        self._file: TextIO | None = None
        self._summary = Summary()

    @property
    def summary(self) -> dict[str, Any]:
        """The entries so far in numbers, kept or not."""
        return self._summary.summary()

    def open(self) -> None:
        """Open the file for appending, if there is one."""
        if self._path:
            self._file = self._path.open("a", encoding="utf-8")

    def came_in_a_second(self, messages: int) -> None:
        """Record how many messages one client has sent within the last second."""
        self._summary.most_messages_per_s = max(self._summary.most_messages_per_s, messages)

    def received(self, now: datetime, client_id: int, request: Request) -> None:
        """Record a request on arrival."""
        self._add(_entry("received", now, client_id, request))

    def answered(
        self, now: datetime, client_id: int, request: Request, reply: Reply, verdict: str = ""
    ) -> None:
        """Record the answer to a request."""
        outcome = {"bars": reply.bars, "error_code": reply.error_code, "verdict": verdict}
        self._add(_entry("answered", now, client_id, request) | outcome)

    def cancelled(self, now: datetime, client_id: int, request: Request) -> None:
        """Record that a client cancelled a request."""
        self._add(_entry("cancelled", now, client_id, request) | {"bars": 0, "error_code": None})

    def swallowed(self, now: datetime, client_id: int, request: Request, fault: str) -> None:
        """Record that a fault keeps a request from being answered."""
        self._add(_entry("swallowed", now, client_id, request) | {"verdict": fault})

    def updated(self, count: int) -> None:
        """Count the bars that a stream has sent at a time; none: a fault kept them back."""
        self._summary.updates += count
        self._summary.updates_held += not count

    def lost(self, now: datetime, client_id: int, request: Request, fault: str) -> None:
        """Record that a fault has taken a stream away."""
        self._add(_entry("lost", now, client_id, request) | {"verdict": fault})

    def violation(
        self, now: datetime, client_id: int, violation: Violation, request: Request | None = None
    ) -> None:
        """Record a limit that a client broke."""
        code = violation.refused.code if violation.refused else None
        verdict = {"verdict": violation.limit, "error_code": code, "is_end": violation.is_end}
        self._add(_entry("violation", now, client_id, request or _CONNECTION) | verdict)

    def fault(self, now: datetime, name: str, state: str, values: Values) -> None:
        """Record that a fault has `begun` or `ended`."""
        verdict = {"verdict": name, "state": state, "values": dict(values)}
        self._add(_entry("fault", now, -1, _GATEWAY) | verdict)

    def connected(self, now: datetime, client_id: int, version: int) -> None:
        """Record that a client has logged in."""
        self._add(_entry("connected", now, client_id, _CONNECTION) | {"version": version})

    def disconnected(self, now: datetime, client_id: int) -> None:
        """Record that a client is gone."""
        self._add(_entry("disconnected", now, client_id, _CONNECTION))

    def close(self) -> None:
        """Close the file; the entries stay."""
        if self._file:
            self._file.close()
            self._file = None

    def _add(self, entry: dict[str, Any]) -> None:
        self._summary.add(entry)
        if self._keep:
            self.events.append(entry)
        if self._keep and entry["kind"] not in (_CONNECTION.kind, _GATEWAY.kind):
            self.entries.append(entry)
        if self._file:
            self._file.write(json.dumps(entry) + "\n")
            self._file.flush()


def _entry(event: str, now: datetime, client_id: int, request: Request) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "event": event,
        "time": now.isoformat(),
        "client_id": client_id,
        "kind": request.kind,
        "request_id": request.request_id,
    }
    if query := request.query:
        entry |= {
            "con_id": query.con_id,
            "symbol": query.symbol,
            "sec_type": query.sec_type,
            "expiry": query.expiry,
            "exchange": query.exchange,
            "primary_exchange": query.primary_exchange,
            "currency": query.currency,
            "multiplier": query.multiplier,
            "trading_class": query.trading_class,
            "local_symbol": query.local_symbol,
        }
    if request.kind in HISTORY:
        entry |= {
            "end": request.end,
            "duration": request.duration,
            "bar_size": request.bar_size,
            "what_to_show": request.what_to_show,
            "use_rth": request.use_rth,
        }
    return entry
