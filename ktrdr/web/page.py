"""The status page: rendered whole, or section by section for the JavaScript that refreshes it.

A section is a block of the template, so both show the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from flask import Blueprint, current_app, redirect, render_template, request
from flask.typing import ResponseReturnValue

from ktrdr.config.settings import Settings
from ktrdr.errors import KtrdrError
from ktrdr.health.peers import HISTORY_DAYS, Answer
from ktrdr.health.programs import NAMES
from ktrdr.health.system import Snapshot, System
from ktrdr.health.verdict import ANSWERING, LOGGED_OUT, Health, Verdict, is_stale, sources
from ktrdr.ib.diagnosis import CLOCK_S
from ktrdr.ipc.messages import (
    ConnectionHistory,
    ConnectionStatus,
    GapFillerStatus,
    Outage,
    SeriesStatus,
)
from ktrdr.ipc.wording import because, remarks
from ktrdr.web import words
from ktrdr.web.logs import tail
from ktrdr.web.page_access import page_is_for

SECTIONS = (
    "banner",
    "verdict",
    "connection",
    "filler",
    "programs",
    "series",
    "fills",
    "errors",
    "logs",
)

_LOG_LINES = 15
_ROWS = 200
_ERRORS = 10
_OUTAGES = 200
_WORST_FIRST = ("refused", "failed", "renewed", "filling", "unproven", "waiting", "complete")
_TIMEFRAMES = ("1m", "5m", "15m", "30m", "1h", "4h", "1d")
_SCAN_RESULTS = {
    "requested": "Scan requested.",
    "failed": "The gap filler could not be reached; its card says why.",
}
_FILL_RESULTS = {
    "cancelled": "The fill was cancelled; what was fetched stays.",
    "failed": "The fill was not cancelled: the gap filler did not do it.",
}


@dataclass(frozen=True)
class Badge:
    """How a state is shown: its tone (`good`, `busy`, `warn`, `bad`, `idle`) and its words."""

    tone: str
    words: str


def page(system: System, log_dir: Path) -> Blueprint:
    """`/`, `/live`, which it polls, and the targets of its forms, `/scan` and `/fills/cancel`."""
    bp = Blueprint("page", __name__)
    for name in ("absolute", "count", "duration", "moment", "size", "percent", "spoken"):
        bp.add_app_template_filter(getattr(words, name), name)
    bp.add_app_template_filter(because, "because")
    bp.add_app_template_filter(remarks_on, "remarks")

    @bp.get("/")
    def index() -> ResponseReturnValue:
        return render_template(
            "page.html",
            scan_result=_SCAN_RESULTS.get(request.args.get("scan", ""), ""),
            fill_result=_FILL_RESULTS.get(request.args.get("fill", ""), ""),
            **view(system, log_dir),
        )

    @bp.get("/live")
    def live() -> ResponseReturnValue:
        context = view(system, log_dir)
        template = current_app.jinja_env.get_template("page.html")
        shared = template.new_context(context)
        sections = {name: "".join(template.blocks[name](shared)) for name in SECTIONS}
        return {"time": context["now"].isoformat(), "title": context["title"], "sections": sections}

    @bp.post("/scan")
    def scan() -> ResponseReturnValue:
        requested = system.peers.scan().content is not None
        return redirect(f"/?scan={'requested' if requested else 'failed'}", 303)

    @bp.post("/fills/cancel")
    def cancel_fill() -> ResponseReturnValue:
        try:
            system.peers.cancel_fill(request.form.get("id", ""))
        except KtrdrError:
            return redirect("/?fill=failed#fills", 303)
        return redirect("/?fill=cancelled#fills", 303)

    return bp


def view(system: System, log_dir: Path) -> dict[str, Any]:
    """Everything that the template shows."""
    snapshot, settings = system.snapshot(), system.settings
    connection, gap_filler = snapshot.connection, snapshot.gap_filler
    series = system.series(snapshot)
    return {
        "now": snapshot.time,
        "title": f"{snapshot.verdict.health} – ktrdr ({settings.source})",
        "settings": settings,
        "is_for": page_is_for(settings),
        "verdict": snapshot.verdict,
        "verdict_tone": verdict_tone(snapshot.verdict),
        "sources": sources(settings, connection.content, gap_filler.content),
        "connection": connection,
        "connection_badge": connection_badge(connection, settings, snapshot),
        "clock_s": CLOCK_S,
        "timelines": timelines(system, connection),
        "filler": gap_filler,
        "filler_badge": filler_badge(gap_filler, snapshot.verdict),
        "services": snapshot.services,
        "forwarding": snapshot.forwarding,
        "series": series,
        "rows": worst_first(series.content or [])[:_ROWS],
        "fills": system.open_fills(snapshot),
        "recent_errors": _newest_errors(gap_filler.content),
        "logs": {name: tail(log_dir / f"{name}.log", _LOG_LINES) for name in NAMES},
    }


def verdict_tone(verdict: Verdict) -> str:
    """`good` only if healthy; `busy` if the only concerns are series that are being completed."""
    if verdict.health is not Health.DEGRADED:
        return "good" if verdict.health is Health.HEALTHY else "bad"
    is_on_its_way = all(c.about == "series" and not c.next_step for c in verdict.concerns)
    return "busy" if is_on_its_way else "warn"


def connection_badge(
    answer: Answer[ConnectionStatus], settings: Settings, snapshot: Snapshot
) -> Badge:
    """`good` only while real requests are answered."""
    status = answer.content
    if status is None:
        return Badge("bad", "unknown")
    state = words.spoken(status.state)
    if not status.connected:
        return _badge_without_data(status, state)
    if is_stale(status, settings, snapshot.time):
        return Badge("warn", "connected, but silent")
    return (
        Badge("good", "connected")
        if state == "connected"
        else Badge("warn", f"connected ({state})")
    )


def _badge_without_data(status: ConnectionStatus, state: str) -> Badge:
    if status.expected and status.state != LOGGED_OUT:
        return Badge("busy", status.expected)
    return Badge("warn", f"{'no data' if status.state in ANSWERING else 'not connected'} ({state})")


@dataclass(frozen=True)
class Timeline:
    """The connection over some days, as runs of equal time slices of one tone."""

    title: str
    uptime: float | None
    slices: int
    runs: tuple[tuple[int, int, str], ...]
    """First slice, length, and tone: `good`, `warn` (partly), `bad` or `idle` (not known)."""
    outages: tuple[tuple[Outage, float], ...]
    """The newest first, each with its length so far in seconds."""


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
        (one, ((one.end or history.until) - one.start).total_seconds())
        for one in reversed(history.outages[-_OUTAGES:])
    )
    return Timeline(title, history.uptime, len(history.shares), tuple(runs), newest)


def filler_badge(answer: Answer[GapFillerStatus], verdict: Verdict) -> Badge:
    """`good` only if all series are complete."""
    status = answer.content
    if status is None:
        return Badge("bad", "unknown")
    if not status.running or status.state == "refused" or status.store_trouble:
        return Badge("bad", status.state)
    if status.state == "idle" and status.series_current == status.series:
        return Badge("good", status.state)
    is_at_work = status.state in ("starting", "scanning", "filling")
    return Badge("busy" if is_at_work and not verdict.obstacles else "warn", status.state)


def remarks_on(series: SeriesStatus, now: datetime) -> list[str]:
    """Remarks on a series: why it expects no more bars, or that it is being rebuilt."""
    found = remarks(now, series.looked_from, series.listed, series.expires, series.sessions_from)
    if series.state == "renewed":
        found.append("IB revised its bars, as after a split: the whole series is rebuilt")
    return found


def worst_first(series: list[SeriesStatus]) -> list[SeriesStatus]:
    """Series that need attention first, then by symbol and timeframe."""

    def rank(one: SeriesStatus) -> tuple[int, str, int]:
        return _place(_WORST_FIRST, one.state), one.symbol, _place(_TIMEFRAMES, one.timeframe)

    return sorted(series, key=rank)


def _place(order: tuple[str, ...], name: str) -> int:
    return order.index(name) if name in order else -1


def _newest_errors(status: GapFillerStatus | None) -> list[Any]:
    errors = status.recent_errors if status else ()
    return sorted(errors, key=lambda problem: problem.time, reverse=True)[:_ERRORS]
