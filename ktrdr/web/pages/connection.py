"""The page of the connection to IB: its state and pace, the last 30 days, a diary of outages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date
from typing import Any

from flask import Blueprint, redirect, url_for
from flask.typing import ResponseReturnValue

from ktrdr.errors import KtrdrError
from ktrdr.health.peers import Answer, Peers
from ktrdr.health.system import Snapshot, System
from ktrdr.health.usage import Pace
from ktrdr.health.verdict import ANSWERING
from ktrdr.ib.diagnosis import CLOCK_S
from ktrdr.ipc.messages import ConnectionHistory, ConnectionStatus, Outage
from ktrdr.web.pages.outage_strip import DAYS, StripDay, kind_of, sentence, strip
from ktrdr.web.pages.page import Page, Site, Values
from ktrdr.web.pages.programs import UPLOT

NOTICES = {
    "reconnect-requested": "A new connection was requested; requests in flight are sent again.",
    "reconnect-failed": "No new connection was requested: ib-connection did not answer.",
}
_OUTAGES = 200


@dataclass(frozen=True)
class Timeline:
    """The connection over 24 hours, as runs of equal time slices of one tone."""

    uptime: float | None
    slices: int
    runs: tuple[tuple[int, int, str], ...]
    """First slice, length, and tone: `good`, `warn` (partly), `bad` or `idle` (not known)."""


@dataclass(frozen=True)
class Entry:
    """One outage in the diary."""

    outage: Outage
    kind: str
    words: str
    anchor: str
    """The id of its day, if it is the first that is listed of it; else empty."""


@dataclass(frozen=True)
class Month:
    """The connection over the last 30 days."""

    uptime: float | None
    days: tuple[StripDay, ...]
    diary: tuple[Entry, ...]
    """The newest first."""


def timeline(history: ConnectionHistory) -> Timeline:
    """The connection in slices of time."""
    runs: list[tuple[int, int, str]] = []
    for place, share in enumerate(history.shares):
        tone = "idle" if share is None else "good" if share == 1 else "warn" if share else "bad"
        if runs and runs[-1][2] == tone:
            first, length, _ = runs[-1]
            runs[-1] = (first, length + 1, tone)
        else:
            runs.append((place, 1, tone))
    return Timeline(history.uptime, len(history.shares), tuple(runs))


def month(history: ConnectionHistory) -> Month:
    """The strip and the diary."""
    seen: set[date] = set()
    entries = []
    for one in reversed(history.outages[-_OUTAGES:]):
        day = one.start.astimezone(UTC).date()
        anchor = "" if day in seen else f"d-{day}"
        seen.add(day)
        entries.append(Entry(one, kind_of(one), sentence(one, history.until), anchor))
    return Month(history.uptime, tuple(strip(history)), tuple(entries))


def _histories(
    system: System, connection: Answer[ConnectionStatus]
) -> tuple[ConnectionHistory | None, ConnectionHistory | None]:
    """Of one day and of 30; None if ib-connection does not answer."""
    if connection.content is None:
        return None, None
    return system.peers.history(1).content, system.peers.history(DAYS).content


def _view(site: Site, snapshot: Snapshot, _: Values) -> dict[str, Any]:
    samples = site.recorder.usage.samples
    day, days = _histories(site.system, snapshot.connection)
    return {
        "timeline": timeline(day) if day else None,
        "month": month(days) if days else None,
        "pace": samples[-1].pace if samples else Pace(),
        "clock_s": CLOCK_S,
        "answering": ANSWERING,
    }


CONNECTION = Page(
    "connection",
    "/connection",
    "Connection",
    _view,
    scripts=(f"{UPLOT}.js", "usage.js"),
    styles=(f"{UPLOT}.css",),
)


def add_connection_forms(bp: Blueprint, peers: Peers, changed: Callable[[], None]) -> None:
    """`/connection/reconnect`. `changed`: pages are to be rendered anew."""

    @bp.post("/connection/reconnect")
    def reconnect() -> ResponseReturnValue:
        notice = "reconnect-requested"
        try:
            peers.reconnect()
        except KtrdrError:
            notice = "reconnect-failed"
        changed()
        return redirect(url_for("page.connection", notice=notice), 303)
