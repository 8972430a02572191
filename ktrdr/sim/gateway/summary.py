"""The record in numbers: adds up its entries one by one. Uses no files and no clock."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ktrdr.sim.gateway.faults import HISTORY

Entry = dict[str, Any]

_IDENTITY = (
    "kind", "con_id", "symbol", "sec_type", "expiry", "exchange", "primary_exchange", "currency",
    "multiplier", "trading_class", "local_symbol", "end", "duration", "bar_size", "what_to_show",
    "use_rth",
)  # fmt: skip
"""The fields of an entry that are equal for two identical requests."""

_COUNTED = ("requests", "errors", "violations", "swallowed", "lost", "faults", "verdicts")
"""The sums that are kept by name."""


class Summary:
    """Sums over all entries so far; memory grows only with requests not seen before."""

    def __init__(self) -> None:
        self._counts: dict[str, Counter[str]] = {name: Counter() for name in _COUNTED}
        self._totals: Counter[str] = Counter()
        self._connects: Counter[int] = Counter()
        self._requested: set[int] = set()
        self._open: set[tuple[int, int, str]] = set()
        self._most_open = 0
        self._most_clients = self._clients = 0
        self.most_messages_per_s = 0
        """The maximum number of messages of one client within a second."""
        self.updates = 0
        """The number of bars that streams have sent."""
        self.updates_held = 0
        """How often a fault kept those of a stream back."""
        self._newest: tuple[int, int, str] | None = None
        """The last request, which a violation may still refuse; else it is in flight."""

    def add(self, entry: Entry) -> None:
        """Count an entry of the record."""
        self._settle_newest(entry)
        match entry["event"]:
            case "received":
                self._receive(entry)
            case "answered":
                self._answer(entry)
            case "cancelled":
                self._open.discard(_key(entry))
            case "swallowed" | "lost" as event:
                self._counts[event][entry["verdict"]] += 1
            case "violation":
                self._counts["violations"][entry["verdict"]] += 1
            case "fault":
                self._counts["faults"][entry["verdict"]] += entry["state"] == "begun"
            case "connected":
                self._connects[entry["client_id"]] += 1
                self._clients += 1
                self._most_clients = max(self._most_clients, self._clients)
            case "disconnected":
                self._clients -= 1
                self._open = {key for key in self._open if key[0] != entry["client_id"]}

    def _settle_newest(self, entry: Entry) -> None:
        """Settle the last request: a violation right after it refuses it; else it is in flight."""
        if entry["event"] == "violation" and self._newest == _key(entry):
            self._open.discard(_key(entry))
        self._newest = None
        self._most_open = max(self._most_open, len(self._open))

    def _answer(self, entry: Entry) -> None:
        self._totals["answers"] += 1
        self._totals["bars"] += entry["bars"]
        if entry["error_code"] is not None:
            self._counts["errors"][str(entry["error_code"])] += 1
        if entry["verdict"]:
            self._counts["verdicts"][entry["verdict"]] += 1
        if entry["verdict"] != "duplicate_id":  # the first request with that id is still open
            self._open.discard(_key(entry))

    def _receive(self, entry: Entry) -> None:
        self._counts["requests"][entry["kind"]] += 1
        if entry["kind"] not in HISTORY:
            return
        identity = hash(tuple(entry.get(name) for name in _IDENTITY))
        self._totals["repeats"] += identity in self._requested
        self._requested.add(identity)
        if _key(entry) not in self._open:
            self._newest = _key(entry)
            self._open.add(self._newest)

    def summary(self) -> dict[str, Any]:
        """The sums as JSON values, documented in `docs/simulator.md`."""
        return {
            "requests": dict(self._counts["requests"]),
            "history_requests": sum(self._counts["requests"][kind] for kind in HISTORY),
            "answers": self._totals["answers"],
            "bars": self._totals["bars"],
            "updates": self.updates,
            "updates_held": self.updates_held,
            "streams_lost": dict(self._counts["lost"]),
            "errors": dict(self._counts["errors"]),
            "violations": dict(self._counts["violations"]),
            "swallowed": dict(self._counts["swallowed"]),
            "faults": dict(self._counts["faults"]),
            "verdicts": dict(self._counts["verdicts"]),
            "most_in_flight": max(self._most_open, len(self._open)),
            "in_flight": len(self._open),
            "most_messages_per_s": self.most_messages_per_s,
            "repeats": self._totals["repeats"],
            "connects": sum(self._connects.values()),
            "connects_by_id": {str(i): n for i, n in sorted(self._connects.items())},
            "most_clients": self._most_clients,
        }


def _key(entry: Entry) -> tuple[int, int, str]:
    return entry["client_id"], entry.get("request_id", -1), entry.get("kind", "")
