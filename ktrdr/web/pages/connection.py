"""The page of the connection to IB: its state, the last 30 days, and a diary of outages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ktrdr.health.peers import HISTORY_DAYS, Answer
from ktrdr.health.system import Snapshot, System
from ktrdr.ib.diagnosis import CLOCK_S
from ktrdr.ipc.messages import ConnectionHistory, ConnectionStatus, Outage
from ktrdr.web.pages.page import Page, Site, Values

_OUTAGES = 200


@dataclass(frozen=True)
class Timeline:
    """The connection over some days, as runs of equal time slices of one tone."""

    title: str
    uptime: float | None
    slices: int
    runs: tuple[tuple[int, int, str], ...]
    """First slice, length, and tone: `good`, `warn` (partly), `bad` or `idle` (not known)."""
    outages: tuple[tuple[Outage, float | None], ...]
    """The newest first, each with its length in seconds; None: it continues."""


def timelines(system: System, connection: Answer[ConnectionStatus]) -> list[Timeline]:
    """One for each of HISTORY_DAYS; none if ib-connection does not answer."""
    if connection.content is None:
        return []
    found = []
    for days in HISTORY_DAYS:
        history = system.peers.history(days).content
        if history is not None:
            title = "24 hours" if days == 1 else f"{days} days"
            found.append(_timeline(title, history))
    return found


def _timeline(title: str, history: ConnectionHistory) -> Timeline:
    runs: list[tuple[int, int, str]] = []
    for place, share in enumerate(history.shares):
        tone = "idle" if share is None else "good" if share == 1 else "warn" if share else "bad"
        if runs and runs[-1][2] == tone:
            first, length, _ = runs[-1]
            runs[-1] = (first, length + 1, tone)
        else:
            runs.append((place, 1, tone))
    newest = tuple(
        (one, (one.end - one.start).total_seconds() if one.end else None)
        for one in reversed(history.outages[-_OUTAGES:])
    )
    return Timeline(title, history.uptime, len(history.shares), tuple(runs), newest)


def _view(site: Site, snapshot: Snapshot, _: Values) -> dict[str, Any]:
    return {"timelines": timelines(site.system, snapshot.connection), "clock_s": CLOCK_S}


CONNECTION = Page("connection", "/connection", "Connection", _view)
