"""Judges the group: what is well, what is not, and one sentence about it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from ktrdr.config import Settings
from ktrdr.data.local_api import ConnectionStatus, GapFillerStatus
from ktrdr.web.peers import Answer
from ktrdr.web.programs import RUNNING, Program

HEALTHY = "healthy"
DEGRADED = "degraded"
CRITICAL = "critical"

NO_DATA = ("upstream_lost", "competing_session", "connected", "farm_down", "history_down")
"""States in which a gateway answers."""
LOGGED_OUT = "logged_out"
CLOCK_S = 5.0
"""A gateway's clock that is further off than this is worth a word."""

_STALE_HEARTBEATS = 3


@dataclass(frozen=True)
class Service:
    """A program, and whether it is as it should be."""

    program: Program
    status: str
    healthy: bool
    why: str = ""
    """Why it is not healthy; else empty."""


@dataclass(frozen=True)
class Verdict:
    """The group's health, and the reasons that a person would want to hear first."""

    health: str
    summary: str
    problems: tuple[str, ...]


def services(
    programs: Mapping[str, Program],
    connection: Answer[ConnectionStatus],
    gap_filler: Answer[GapFillerStatus],
    *,
    is_simulated: bool,
) -> dict[str, Service]:
    """Each program's state. One that answers runs, whatever else is known of it."""
    answers: dict[str, Answer[ConnectionStatus] | Answer[GapFillerStatus]] = {
        "ib-connection": connection,
        "gap-filler": gap_filler,
    }
    return {
        name: _answering(program, answers[name])
        if name in answers
        else _standing(program, is_needed=_is_needed(program, is_simulated=is_simulated))
        for name, program in programs.items()
    }


def judge(
    found: Mapping[str, Service],
    connection: Answer[ConnectionStatus],
    gap_filler: Answer[GapFillerStatus],
    settings: Settings,
    now: datetime,
) -> Verdict:
    """The group's health: critical without one of the two programs that keep the store."""
    down = [s.why for name, s in found.items() if _is_vital(name) and not s.healthy]
    if down:
        return Verdict(CRITICAL, _summary("The store is not kept complete", down), tuple(down))
    problems = [s.why for s in found.values() if not s.healthy]
    if not _is_expected(connection.said):
        problems += _not_connected(connection.said)
    problems += _silent(connection.said, settings, now) + _clock(connection.said)
    problems += _jumped(gap_filler.said)
    problems += _refused(gap_filler.said)
    problems += _blocked(gap_filler.said)
    problems += _mixed(sources(settings, connection.said, gap_filler.said))
    if problems:
        return Verdict(DEGRADED, _summary("Something is amiss", problems), tuple(problems))
    if connection.said and _is_expected(connection.said):
        return Verdict(HEALTHY, f"The gateway is away: {connection.said.expected}.", ())
    return Verdict(HEALTHY, _work(gap_filler.said), ())


def not_ready(
    connection: Answer[ConnectionStatus], gap_filler: Answer[GapFillerStatus]
) -> list[str]:
    """Why the group cannot do its work yet; empty when it can."""
    reasons = [] if connection.said else [connection.reason]
    reasons += _not_connected(connection.said)
    reasons += [] if gap_filler.said else [gap_filler.reason]
    reasons += _refused(gap_filler.said)
    return reasons


def sources(
    settings: Settings, connection: ConnectionStatus | None, gap_filler: GapFillerStatus | None
) -> list[str]:
    """`live` and `simulated`, as far as anybody claims them: both is a problem of its own."""
    claims = {settings.source}
    claims |= {connection.gateway} if connection else set()
    claims |= {gap_filler.source} if gap_filler else set()
    return sorted(claims)


def is_stale(status: ConnectionStatus, settings: Settings, now: datetime) -> bool:
    """True when the last real answer is older than a living connection's can be."""
    if status.last_answer_time is None:
        return True
    age_s = (now - status.last_answer_time).total_seconds()
    return age_s > _STALE_HEARTBEATS * settings.ktrdr_ib_heartbeat_s


def _is_vital(name: str) -> bool:
    return name in ("ib-connection", "gap-filler")


def _is_needed(program: Program, *, is_simulated: bool) -> bool:
    if program.name == "gateway-sim":
        return is_simulated
    return program.name != "port-forward" or program.ever_started  # in a container nobody starts it


def _answering(
    program: Program, answer: Answer[ConnectionStatus] | Answer[GapFillerStatus]
) -> Service:
    if answer.said:
        return Service(program, RUNNING, healthy=True)
    if program.runs:
        return Service(program, program.status, healthy=False, why=answer.reason)
    return Service(program, program.status, healthy=False, why=_stopped(program))


def _standing(program: Program, *, is_needed: bool) -> Service:
    if program.runs or program.name == "status-app" or not is_needed:  # it is we who ask
        return Service(program, program.status, healthy=True)
    return Service(program, program.status, healthy=False, why=_stopped(program))


def _stopped(program: Program) -> str:
    return (
        f"{program.name} is not running ({program.status}) – "
        f"next step: .venv/bin/supervisorctl restart {program.name}"
    )


def _not_connected(status: ConnectionStatus | None) -> list[str]:
    if status is None or status.connected:
        return []
    cause = f": {status.last_error.message}" if status.last_error else ""
    lost = "connected, but no data come from" if status.state in NO_DATA else "not connected to"
    return [f"{lost} the {status.gateway} gateway ({status.state}){cause}"]


def _is_expected(status: ConnectionStatus | None) -> bool:
    """It is the hour of the gateway's restart. A log-in, though expected, wants somebody."""
    return bool(status and status.expected and not status.connected and status.state != LOGGED_OUT)


def _clock(status: ConnectionStatus | None) -> list[str]:
    offset_s = status.clock_offset_s if status and status.connected else None
    if offset_s is None or abs(offset_s) < CLOCK_S:
        return []
    apart = f"the gateway's clock and this machine's are {abs(offset_s):.0f} s apart"
    return [f"{apart} – next step: set both by the network's time"]


def _jumped(status: GapFillerStatus | None) -> list[str]:
    if status is None or not status.clock_jump_s:
        return []
    way = "ahead" if status.clock_jump_s > 0 else "back"
    jump = f"this machine's clock has jumped by {abs(status.clock_jump_s):.0f} s, {way}"
    wait = "until it has stayed there for five minutes nothing is taken for complete"
    return [f"{jump}: {wait} – next step: set it by the network's time, unless it is right now"]


def _silent(status: ConnectionStatus | None, settings: Settings, now: datetime) -> list[str]:
    if status is None or not status.connected or not is_stale(status, settings, now):
        return []
    return ["connected, but no real request was answered lately"]


def _blocked(status: GapFillerStatus | None) -> list[str]:
    if status is None or not status.series_blocked:
        return []
    count = status.series_blocked
    return [f"{count} series cannot be kept: a file or an entry is broken, see Recent errors"]


def _mixed(claims: list[str]) -> list[str]:
    if len(claims) == 1:
        return []
    return [f"{' and '.join(claims)} programs at once – next step: ./scripts/down, ./scripts/up"]


def _refused(status: GapFillerStatus | None) -> list[str]:
    if status is None or status.state != "refused":
        return []
    return [f"gap-filler refuses to work: {status.reason}"]


def _summary(claim: str, problems: list[str]) -> str:
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{claim}: {problems[0]}{more}"


def _work(status: GapFillerStatus | None) -> str:
    if status is None or not status.gaps_remaining:
        return "Everything runs, and no hole is known that could be closed."
    holes = "1 hole is" if status.gaps_remaining == 1 else f"{status.gaps_remaining} holes are"
    return f"Everything runs; {holes} still to be closed."
