"""Badges: how the states of verdict, connection and gap filler are shown. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ktrdr.config.settings import Settings
from ktrdr.health.peers import Answer
from ktrdr.health.verdict import ANSWERING, LOGGED_OUT, Health, Verdict, is_stale
from ktrdr.ipc.messages import ConnectionStatus, GapFillerStatus
from ktrdr.web import words


@dataclass(frozen=True)
class Badge:
    """How a state is shown: its tone (`good`, `busy`, `warn`, `bad`, `idle`) and its words."""

    tone: str
    words: str


def verdict_tone(verdict: Verdict) -> str:
    """`good` only if healthy; `busy` if the only concerns are series that are being completed."""
    if verdict.health is not Health.DEGRADED:
        return "good" if verdict.health is Health.HEALTHY else "bad"
    is_on_its_way = all(c.about == "series" and not c.next_step for c in verdict.concerns)
    return "busy" if is_on_its_way else "warn"


def connection_badge(answer: Answer[ConnectionStatus], settings: Settings, now: datetime) -> Badge:
    """`good` only while real requests are answered."""
    status = answer.content
    if status is None:
        return Badge("bad", "unknown")
    state = words.spoken(status.state)
    if not status.connected:
        return _badge_without_data(status, state)
    if is_stale(status, settings, now):
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
