"""How each program stands: whether it is as it should be, and if not, why. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ktrdr.forwarder.report import Report
from ktrdr.health.peers import Answer
from ktrdr.health.programs import RUNNING, Program
from ktrdr.ipc.messages import ConnectionStatus, GapFillerStatus

_CANNOT_START = " cannot start: "
"""How a program reports wrong settings (`process.run`)."""
STARTING = "STARTING"
"""supervisord's state of a program that has run for less than its `startsecs`."""
SET_IT = "set what it names, then ./scripts/up"
_CHECK_IT = "correct what it names; ./scripts/ib_port_forward.sh --check checks again"
_STARTED_IF_WANTED = ("port-forward", "alerts")
"""Programs that are not started in containers, or without targets."""


@dataclass(frozen=True)
class Service:
    """A program, and whether it is as it should be."""

    program: Program
    status: str
    healthy: bool
    why: str = ""
    """Why it is not; empty if it is."""
    next_step: str = ""
    answers: bool = False
    """It reports its own state; what keeps it from working is then a concern of the store."""


def services(
    programs: Mapping[str, Program],
    connection: Answer[ConnectionStatus],
    gap_filler: Answer[GapFillerStatus],
    *,
    is_simulated: bool,
    forwarding: Report | None = None,
) -> dict[str, Service]:
    """Each program's state. One that answers counts as running, whatever supervisord says."""
    answers: dict[str, Answer[ConnectionStatus] | Answer[GapFillerStatus]] = {
        "ib-connection": connection,
        "gap-filler": gap_filler,
    }
    return {
        name: _answering(program, answers[name])
        if name in answers
        else _forwarding(program, forwarding)
        if name == "port-forward" and program.runs and forwarding
        else _standing(program, is_needed=_is_needed(program, is_simulated=is_simulated))
        for name, program in programs.items()
    }


def _is_needed(program: Program, *, is_simulated: bool) -> bool:
    if program.name == "gateway-sim":
        return is_simulated
    return program.name not in _STARTED_IF_WANTED or program.ever_started


def _answering(
    program: Program, answer: Answer[ConnectionStatus] | Answer[GapFillerStatus]
) -> Service:
    if answer.content:
        why, hint = _why_idle(answer.content)
        return Service(program, RUNNING, not why, why, hint, answers=True)
    if program.runs:
        return Service(program, program.status, False, answer.why, answer.hint)
    return _stopped(program)


def _why_idle(status: ConnectionStatus | GapFillerStatus) -> tuple[str, str]:
    """Why it cannot work at all, and what to do; empty: it can."""
    if isinstance(status, ConnectionStatus):
        return "", ""  # that a gateway is away is not its fault
    if status.store_trouble is not None:
        return status.store_trouble.message, status.store_trouble.hint
    return (status.reason, status.hint or SET_IT) if status.state == "refused" else ("", "")


def _standing(program: Program, *, is_needed: bool) -> Service:
    if program.runs or not is_needed:
        return Service(program, program.status, healthy=True)
    return _stopped(program)


def _forwarding(program: Program, report: Report) -> Service:
    """port-forward while it runs and has a recent report."""
    if not report.troubles:
        return Service(program, program.status, healthy=True)
    why = f"port-forward does not listen everywhere: {'; '.join(report.troubles)}"
    return Service(program, program.status, False, why, _CHECK_IT)


def _stopped(program: Program) -> Service:
    if program.status == STARTING:
        return Service(program, program.status, False, f"{program.name} is starting")
    why = f"{program.name} is not running ({program.status})"
    if not program.is_supervised:
        return Service(program, program.status, False, why, "./scripts/up")
    ends_itself = program.status in ("BACKOFF", "FATAL")
    restart = f".venv/bin/supervisorctl restart {program.name}"
    see = f"see why: .venv/bin/supervisorctl tail {program.name}"
    if program.last_log_line:
        why = f"{why}: {program.last_log_line}"
    if _CANNOT_START in program.last_log_line:  # a restart uses the settings of the group's start
        return Service(program, program.status, False, why, "correct that; then ./scripts/up")
    return Service(
        program,
        program.status,
        False,
        why,
        f"{see}; then {restart}" if ends_itself else restart,
    )
